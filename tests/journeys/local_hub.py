"""A real hub for journeys and measurements: started by `llmhub up`, found by its state file, stopped by `down`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.sdk.client import HubClient
from infra.runtime import ports, processes
from infra.runtime.layout import HubState, Layout

# Titles Ray gives the processes of the hub's parts.
TITLES: Mapping[str, str] = {
    "shard": "ray::ShardHost",
    "committer": "ray::CommitterHost",
    "replica": "ray::ServeReplica:hub:ingress",
    "query": "ray::ServeReplica:hub:query",
    "trainer": "ray::RayTrainWorker",
}


@dataclass(frozen=True)
class LocalHub:
    """A running hub over a data folder."""

    layout: Layout
    environment: Mapping[str, str]

    @property
    def state(self) -> HubState:
        state = HubState.load(self.layout)
        assert state is not None, f"no hub over {self.layout.data}"
        return state

    @property
    def url(self) -> str:
        return self.state.url

    @property
    def otlp_endpoint(self) -> str:
        """For gRPC exporters, http://HOST:PORT."""
        return self.state.otlp_grpc

    @property
    def key(self) -> str:
        return self.layout.admin_key.read_text().strip()

    def client(self, *, deadline_s: float = 120.0) -> HubClient:
        return HubClient(self.url, self.key, compression="none", deadline_s=deadline_s, timeout_s=20.0)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `llmhub` against this hub."""
        environment = (
            {**self.environment, "HUB_URL": self.url, "HUB_API_KEY": self.key} if self._ready() else self.environment
        )
        command = [sys.executable, "-m", "infra.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, env=dict(environment), check=False)

    def status_of(self, path: str, body: bytes | None = None) -> int:
        """HTTP status of a request with the admin key, once and without any patience; 0 when nothing answers."""
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (urllib.error.URLError, OSError):
            return 0

    def sessions(self) -> list[int]:
        """Pids of the sessions that hold every process of the hub but its supervisor."""
        return [one for one in (self.state.ray_pid, self.state.mlflow_pid) if one]

    def _ready(self) -> bool:
        return self.layout.state.exists() and self.layout.admin_key.exists()

    def pids(self, part: str) -> list[int]:
        """Processes of a part: a key of TITLES, or `head` for GCS and raylet."""
        found = []
        for process in processes.members([self.state.ray_pid]):
            if part == "head":
                if process.name.startswith(("gcs_server", "raylet")):
                    found.append(process.pid)
                continue
            try:
                title = Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if title.startswith(TITLES[part]):
                found.append(process.pid)
        return sorted(found)

    def kill(self, part: str) -> int:
        """kill -9 one process of a part, or for `head` all of Ray's own; how many were killed."""
        victims = self.pids(part) if part == "head" else self.pids(part)[:1]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        return len(victims)


@contextmanager
def local_hub(data: Path, **settings: object) -> Iterator[LocalHub]:
    """Start a hub on free ports, stop it at the end; keywords are HUB_* settings in small letters."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HUB_")}
    chosen = {"port": ports.free(), "otlp_port": ports.free(), "mlflow_port": ports.free(), **settings}
    environment |= {f"HUB_{key.upper()}": str(value) for key, value in chosen.items()}
    environment["HUB_DATA"] = str(data.resolve())
    hub = LocalHub(Layout(data.resolve()), environment)
    started = hub.command("up", "--detach")
    try:
        assert started.returncode == 0, started.stderr
        assert "is ready" in started.stdout
        yield hub
    finally:
        stopped = hub.command("down")
        assert stopped.returncode == 0, stopped.stderr
