"""The hub starts, loses its head, comes back and is stopped; nothing of it is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.runtime import ports, processes, sockets
from infra.runtime.layout import HubState, Layout

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

# On two idle cores; a machine that shares them with others needs a multiple.
RECOVERY_TARGET_S = 25.0
RECOVERY_LIMIT_S = float(os.environ.get("JOURNEY_RECOVERY_LIMIT_S", "120"))


@dataclass(frozen=True)
class Hub:
    """A running hub and how to talk to it."""

    layout: Layout
    environment: dict[str, str]

    @property
    def state(self) -> HubState:
        state = HubState.load(self.layout)
        assert state is not None
        return state

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infra.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, check=False)

    def status_of(self, path: str, body: bytes | None = None) -> int:
        """HTTP status of a request with the admin key; 0 when nothing answers."""
        key = self.layout.admin_key.read_text()
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.state.url + path, body, headers), timeout=10
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (urllib.error.URLError, OSError):
            return 0

    def sessions(self) -> list[int]:
        return [one for one in (self.state.ray_pid, self.state.mlflow_pid) if one]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HUB_")}
    chosen = {"HUB_PORT": ports.free(), "HUB_OTLP_PORT": ports.free(), "HUB_MLFLOW_PORT": ports.free()}
    environment |= {key: str(value) for key, value in chosen.items()} | {"HUB_DATA": str(tmp_path / "data")}
    hub = Hub(Layout((tmp_path / "data").resolve()), environment)
    started = hub.command("up", "--detach")
    try:
        assert started.returncode == 0, started.stderr
        assert "is ready" in started.stdout
        yield hub
    finally:
        hub.command("down")


def test_up_kill_the_head_and_down(hub: Hub) -> None:
    first = hub.state
    assert hub.status_of("/api/v1/health") == 200
    assert hub.layout.admin_key.stat().st_mode & 0o777 == 0o600
    everything = [one.pid for one in processes.members(hub.sessions())]
    assert not [one for one in sockets.listeners_of(everything) if not one.is_local]
    assert hub.command("up").returncode == 1  # a second one over the same folder is refused
    body = json.dumps(
        {"occurred_at": "2026-01-01T00:00:00Z", "module": "gateway", "kind": "gateway.request", "event_id": "before"}
    ).encode()
    assert hub.status_of("/api/v1/events", body) == 202

    processes.send(processes.members([first.ray_pid]), signal.SIGKILL)

    assert processes.wait_until(lambda: hub.state.recoveries == 1, deadline_s=RECOVERY_LIMIT_S, every_s=0.2)
    print(f"recovered in {hub.state.last_recovery_s} s, target {RECOVERY_TARGET_S} s")
    assert hub.state.phase == "ready"
    assert hub.state.ray_pid != first.ray_pid
    assert hub.status_of("/api/v1/events", body) == 202
    status = json.loads(hub.command("status", "--json").stdout)
    assert status["phase"] == "ready"
    assert status["health"]["status"] == "ok"

    sessions = [*hub.sessions(), first.ray_pid]
    assert hub.command("down").returncode == 0
    assert not processes.members(sessions)
    assert not processes.is_alive(first.supervisor_pid, first.supervisor_start)
    assert not hub.layout.sockets.exists()
    assert hub.state.phase == "stopped"
