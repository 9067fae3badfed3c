"""`ray start` without what the hub does not use. Run as `python -m infra.runtime.head_process start --head …`.

Ray Client would be one more port that runs code, and each dashboard module one more Python process: on two cores they
are half of the time a restart takes. Only the job API stays, which `ray job submit` needs; it starts beside the rest,
not before it. Workers start by worker_start.py, which imports Ray once instead of twice.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

# Sub-commands of `ray` that import a second's worth of modules; Ray goes on without them.
for _unused in ("ray.serve.scripts", "ray.util.state.state_cli", "ray.dashboard.modules.job.cli"):
    sys.modules[_unused] = None  # type: ignore[assignment]

from ray._private import ray_constants, services  # noqa: E402 - after the lines above, which is their point
from ray._private.node import Node  # noqa: E402
from ray.scripts import scripts  # noqa: E402

WORKER_START = Path(__file__).with_name("worker_start.py")
_WORKER = re.compile(r"(--python_worker_command=\S+ )\S+/setup_worker\.py(?= )")

# Not --disable-frontend too: that takes the whole HTTP server away, and the job API with it.
# After the doors: nobody submits a job to a hub that is not ready.
_NICE = 10
JOB_API_ONLY = "--modules-to-load=JobHead"


def with_own_worker_start(command: list[str]) -> list[str]:
    """The raylet's command line, with worker_start.py where Ray's setup_worker.py stands."""
    return [_WORKER.sub(lambda found: f"{found[1]}{WORKER_START}", word) for word in command]


def main() -> None:
    launch = services.start_ray_process

    def start_ray_process(command: list[str], process_type: str, *rest: Any, **options: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_DASHBOARD:
            command = [*command, JOB_API_ONLY]
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            # Workers made in advance lack the hub's hook, so none of its actors could use them.
            # And of those that are asked for, more may start at once than there are cores: they wait for each other.
            for name, value in (("num_prestart_python_workers", 0), ("maximum_startup_concurrency", 8)):
                command = [re.sub(rf"^(--{name}=)\d+$", rf"\g<1>{value}", word) for word in command]
            command = with_own_worker_start(command)
        started = launch(command, process_type, *rest, **options)
        if process_type == ray_constants.PROCESS_TYPE_DASHBOARD:
            os.setpriority(os.PRIO_PROCESS, started.process.pid, _NICE)
        return started

    services.start_ray_process = start_ray_process
    _start_job_api_beside_the_rest()
    # The answer "not installed" is the only way to have no Ray Client server.
    scripts.get_ray_client_dependency_error = lambda: ImportError("switched off")  # type: ignore[attr-defined]
    sys.argv[0] = "ray"
    scripts.main()


def _start_job_api_beside_the_rest() -> None:
    """Nothing of the head's start waits for the job API; the supervisor does, once the doors are open."""
    start_api_server, start_ray_processes = Node.start_api_server, Node.start_ray_processes

    def start(node: Any, options: dict[str, Any]) -> None:
        try:
            start_api_server(node, **options)
        except BaseException:
            traceback.print_exc()
            # A head without it is no head; the supervisor sees the end and tells of it.
            os.kill(os.getpid(), signal.SIGTERM)
        # For ever: the kernel would end the job API together with the thread that started it.
        threading.Event().wait()

    def begin(self: Any, **options: Any) -> None:
        # The raylet is told the address before it is there; the port is given, so it is known.
        self._webui_url = f"{self._ray_params.dashboard_host}:{self._ray_params.dashboard_port}"
        threading.Thread(target=start, args=(self, options), name="job-api", daemon=True).start()

    def start_both(self: Any) -> None:
        # What the dashboard's module of nodes would write; the job API looks for its node there.
        head = (ray_constants.KV_HEAD_NODE_ID_KEY, self.node_id.encode(), True, ray_constants.KV_NAMESPACE_JOB)
        self.get_gcs_client().internal_kv_put(*head)
        start_ray_processes(self)

    Node.start_api_server = begin  # type: ignore[method-assign]
    Node.start_ray_processes = start_both  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
