"""The driver that puts the hub on a cluster, and takes it off: `python -m infra.runtime.deploy up|down`.

A process of its own, because a Ray driver does not survive the head it was connected to. It reads the cluster's
address from its first input line, so that its imports overlap the start of the head.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import serve
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

from actors import pool
from cluster.settings import Settings
from infra.runtime import edge
from infra.runtime.loopback import HOOK

APPLICATION = "hub"
# Set by the supervisor when the cluster was not started by this hub.
JOINED = "HUBRUN_JOINED"
_LOOK_EVERY_S = 0.05
_BEGAN = time.monotonic()


def connect(settings: Settings, address: str, *, joined: bool) -> None:
    """Connect as a driver; every worker of this job binds its servers to its node's address."""
    environment: dict[str, Any] = {"worker_process_setup_hook": HOOK}
    if joined:
        # A cluster that runs already was not started with the hub's variables.
        wanted = ("HUB_", "RAY_SERVE_")
        environment["env_vars"] = {key: value for key, value in os.environ.items() if key.startswith(wanted)}
    ray.init(address=address, namespace=settings.namespace, runtime_env=environment, log_to_driver=False)


def put_up(settings: Settings, hub: Any, *, joined: bool) -> None:
    """Actors and doors; returns when both are ready."""
    doors = _Beside(lambda: _open_doors(settings, joined=joined))
    actors = _Beside(lambda: pool.start(settings))
    doors.wait_for(_controller_runs)
    actors.join()
    _tell("actors")
    # The replicas start beside the edge; it finds them when both are there.
    serve.run(hub, name=APPLICATION, route_prefix="/", blocking=False)
    _tell("application")
    doors.join()


def _open_doors(settings: Settings, *, joined: bool) -> None:
    serve.start(http_options=edge.http_options(settings, joined=joined), grpc_options=edge.grpc_options(settings))
    _tell("doors")


def _controller_runs() -> bool:
    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    return True


def _tell(part: str) -> None:
    """One line of the timeline in deploy.log."""
    print(f"{part} after {time.monotonic() - _BEGAN:.1f} s", flush=True)


def take_down(settings: Settings) -> None:
    """Close the doors first, then let the shards seal and the committer commit what was acknowledged."""
    serve.shutdown()
    pool.drain(settings)


class _Beside:
    """A call in a thread whose failure is raised where it is joined."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._failure: BaseException | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run, name="actors", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as failure:
            self._failure = failure

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for something the call brings about on its way; raises what the call raised before that."""
        while not condition():
            if not self._thread.is_alive():
                self.join()
            time.sleep(_LOOK_EVERY_S)

    def join(self) -> None:
        self._thread.join()
        if self._failure is not None:
            raise self._failure


def main(arguments: list[str]) -> int:
    if arguments not in (["up"], ["down"]):
        print("usage: python -m infra.runtime.deploy up|down < ADDRESS", file=sys.stderr)
        return 2
    settings = Settings.from_environment()
    if arguments == ["up"]:
        # Only here: to take the hub down, nothing of it need be imported.
        from serving.app import hub  # noqa: PLC0415
    joined = os.environ.get(JOINED) == "1"
    _tell("imports")
    address = sys.stdin.readline().strip()
    if not address:
        return 1
    connect(settings, address, joined=joined)
    _tell("connected")
    if arguments == ["up"]:
        put_up(settings, hub, joined=joined)
    else:
        take_down(settings)
    _tell(arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
