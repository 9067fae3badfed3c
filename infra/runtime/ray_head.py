"""The local Ray head: one process group of its own, on loopback, behind a token; started, watched and ended by pid."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.settings import Settings
from infra.runtime import ports, processes
from infra.runtime.edge import ROOT
from infra.runtime.layout import Layout, StartFailed, StartRefused
from infra.runtime.ports import Ports

START_DEADLINE_S = 90.0
# The processes whose end means that the cluster is gone.
_VITAL = ("gcs_server", "raylet")
# What the hub's processes need to carry batches of megabytes cheaply, and not to wait for what should wait for them.
TUNING = {
    # Such memory comes and goes all the time. Arrow's own pool and glibc's defaults hand it back to the kernel at once,
    # which then clears it page by page for the next batch: two thirds of the committer's time.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
    "MALLOC_ARENA_MAX": "4",
    # A batch of thousands of events travels inside its call; through the object store it takes twice as long. Room for
    # what the doors carry in one call (`actors.lanes.GROUP_BYTES_MAX`) and its envelope.
    "RAY_max_direct_call_object_size": str(10 * 1024 * 1024),
    # Ray starts workers at nice 15: doors and shards would stand behind everything beside them that says it steps back.
    "RAY_worker_niceness": "0",
}


def environment(settings: Settings, layout: Layout) -> dict[str, str]:
    """Variables of every Ray process and every client of this cluster."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(layout.token),
        # On Linux, "0" means a cluster of this machine only: Ray then binds its servers to loopback.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Idle workers without the hub's hook could not be used by it.
        "RAY_prestart_worker_first_driver": "0",
        "RAY_enable_metrics_collection": "1",
        **{name: os.environ.get(name, value) for name, value in TUNING.items()},
        "PYTHONPATH": str(ROOT),
        # A job's entrypoint says `python` and means this one.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        **settings.environment(),
        "HUB_DATA": str(layout.data),
    }


def refuse_without_token(variables: dict[str, str]) -> None:
    """Without a token anybody who reaches a port of Ray runs code here; there is no switch for that.

    Raises:
        StartRefused: token authentication is not on, or its token cannot be read.
    """
    if variables.get("RAY_AUTH_MODE") != "token":
        raise StartRefused("Ray's token authentication is off", hint="Unset RAY_AUTH_MODE, or set it to 'token'.")
    path = variables.get("RAY_AUTH_TOKEN_PATH", "")
    if not variables.get("RAY_AUTH_TOKEN") and not (path and Path(path).is_file()):
        raise StartRefused("Ray's token cannot be found", hint="Set RAY_AUTH_TOKEN_PATH to the cluster's token file.")


@dataclass(frozen=True, slots=True)
class RayHead:
    """A started head. Its pid is also the session of everything it started."""

    pid: int
    address: str
    jobs_url: str

    def vital(self) -> list[processes.Process]:
        """GCS and raylet, whose death ends the cluster."""
        return [one for one in processes.members([self.pid]) if one.name.startswith(_VITAL)]

    def pids(self) -> list[int]:
        return [one.pid for one in processes.members([self.pid])]

    def stop(self, *, grace_s: float) -> list[str]:
        """End every process of the session; returns the names of those that had to be killed."""
        return processes.end_sessions([self.pid], grace_s=grace_s)


def launch(settings: Settings, layout: Layout, chosen: Ports, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the head's processes without waiting for them."""
    refuse_without_token(variables)
    temporary = layout.sockets / "ray"
    # What a killed head left; its logs are of the last run and go with it.
    shutil.rmtree(temporary, ignore_errors=True)
    options = {
        "node-ip-address": "127.0.0.1",
        "port": chosen.gcs,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "dashboard-agent-listen-port": chosen.agent_http,
        "dashboard-agent-grpc-port": chosen.agent_grpc,
        "metrics-export-port": chosen.agent_metrics,
        "runtime-env-agent-port": chosen.runtime_environments,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": chosen.jobs,
        "temp-dir": temporary,
        "object-store-memory": settings.object_store_bytes,
        # Workers' output stays in files; nothing reads the stream.
        "include-log-monitor": "false",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "infra.runtime.head_process", "start", "--head", "--block", "--no-monitor"]
    with open(layout.logs / "ray-head.log", "wb") as log:
        return subprocess.Popen(
            [*command, "--disable-usage-stats", *words],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_started(process: subprocess.Popen[bytes], layout: Layout, chosen: Ports) -> RayHead:
    """Wait until raylet and GCS run.

    Raises:
        StartFailed: the head ended or did not come up in time; the message ends with its last lines.
    """
    log = layout.logs / "ray-head.log"
    end = time.monotonic() + START_DEADLINE_S
    while b"Ray runtime started" not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > end:
            stop_session(process.pid)
            raise StartFailed(f"the Ray head did not start: {last_lines(log)}")
        time.sleep(0.05)
    return RayHead(process.pid, f"127.0.0.1:{chosen.gcs}", f"http://127.0.0.1:{chosen.jobs}")


def wait_jobs(head: RayHead) -> None:
    """Wait until the job API takes connections.

    Raises:
        StartFailed: it does not in time, or the head ended.
    """
    host, _, port = head.jobs_url.removeprefix("http://").partition(":")

    def settled() -> bool:
        return not head.pids() or ports.is_open(host, int(port))

    if not processes.wait_until(settled, deadline_s=START_DEADLINE_S) or not head.pids():
        raise StartFailed("Ray's job API did not start", hint="Its log is dashboard.log in Ray's session folder.")


def stop_session(pid: int) -> None:
    """Kill what a failed or abandoned start left, at once."""
    processes.end_sessions([pid], grace_s=0)


def reap(process: subprocess.Popen[bytes]) -> None:
    """Collect the exit status, so that no zombie stays while the supervisor lives."""
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log, for an error message."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "no log"
    return " | ".join(line.strip() for line in lines[-count:]) or "empty log"
