"""The driver that puts the hub on a cluster: `python -m infra.runtime.deploy < ADDRESS`; drain.py takes it off.

A process of its own, because a Ray driver does not survive the head it was connected to. It reads the cluster's
address from its first input line, so that its imports overlap the start of the head.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from infra.runtime import imports

_BEGAN = time.monotonic()
imports.hide(*imports.UNUSED)

import ray  # noqa: E402 - after the lines above
from ray import serve  # noqa: E402
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE  # noqa: E402
from ray.serve.schema import ApplicationStatus  # noqa: E402

from actors import pool  # noqa: E402
from cluster.settings import Settings  # noqa: E402
from infra.runtime import edge  # noqa: E402
from infra.runtime.joining import JOINED, connect  # noqa: E402
from serving.app import hub  # noqa: E402

APPLICATION = "hub"
_LOOK_EVERY_S = 0.1


def put_up(settings: Settings, *, joined: bool) -> None:
    """Actors and doors; returns when both are ready."""
    doors = _Beside(lambda: _open_doors(settings, joined=joined))
    actors = _Beside(lambda: pool.start(settings))
    doors.wait_for(_controller_runs)
    actors.join()
    _tell("actors")
    # The replicas start beside the edge; it finds them when both are there.
    target = serve.RunTarget(target=hub, name=APPLICATION, route_prefix="/")
    # Not waiting in there: it looks once a second, and for the spare proxy too, which comes later (worker_hook.py).
    serve.run_many([target], wait_for_applications_running=False)
    _wait_running()
    _tell("application")
    doors.join()
    # After the doors: it takes a second of a core to import, and nobody waits for it.
    pool.start_detector(settings)


def _wait_running() -> None:
    """Wait until every replica of the application was made.

    Raises:
        RuntimeError: it cannot be.
    """
    while (state := serve.status().applications[APPLICATION]).status != ApplicationStatus.RUNNING:
        if state.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
            raise RuntimeError(f"the application did not start: {state.message}")
        time.sleep(_LOOK_EVERY_S)


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


def main() -> int:
    settings = Settings.from_environment()
    joined = os.environ.get(JOINED) == "1"
    _tell("imports")
    address = sys.stdin.readline().strip()
    if not address:
        return 1
    connect(settings, address, joined=joined)
    _tell("connected")
    put_up(settings, joined=joined)
    _tell("up")
    return 0


if __name__ == "__main__":
    sys.exit(main())
