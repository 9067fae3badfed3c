"""The hub starts, loses its head, comes back and is stopped; nothing of it is left behind."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from infra.runtime import processes, sockets
from tests.journeys.local_hub import LocalHub, local_hub

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

# On two idle cores; a machine that shares them with others needs a multiple.
RECOVERY_TARGET_S = 25.0
RECOVERY_LIMIT_S = float(os.environ.get("JOURNEY_RECOVERY_LIMIT_S", "120"))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """A hub of its own, since it is hurt."""
    with local_hub(tmp_path / "data") as running:
        yield running


def test_up_kill_the_head_and_down(hub: LocalHub) -> None:
    first = hub.state
    assert hub.status_of("/api/v1/health") == 200
    assert hub.layout.admin_key.stat().st_mode & 0o777 == 0o600
    everything = [one.pid for one in processes.members(hub.sessions())]
    assert not [one for one in sockets.listeners_of(everything) if not one.is_local]
    assert hub.command("up").returncode == 1  # a second one over the same folder is refused
    assert hub.status_of("/api/v1/events", _event("before")) == 202

    processes.send(processes.members([first.ray_pid]), signal.SIGKILL)

    assert processes.wait_until(lambda: hub.state.recoveries == 1, deadline_s=RECOVERY_LIMIT_S, every_s=0.2)
    print(f"recovered in {hub.state.last_recovery_s} s, target {RECOVERY_TARGET_S} s")
    assert hub.state.phase == "ready"
    assert hub.state.ray_pid != first.ray_pid
    assert hub.status_of("/api/v1/events", _event("before")) == 202
    status = json.loads(hub.command("status", "--json").stdout)
    assert status["phase"] == "ready"
    assert status["health"]["status"] == "ok"

    # A question as a job: Ray's job API, Ray Data, the committer, and the table of answers.
    words = (
        "aggregate",
        "event_count",
        "--group-by",
        "attributes.team",
        "--from",
        "2025-12-31T00:00:00Z",
        "--to",
        "-1d",
    )
    wanted = [{"group": {"attributes.team": None}, "values": {"event_count": 1}}]

    def told(*how: str) -> list[object]:
        asked = hub.command("query", "--json", *how, *words)
        assert asked.returncode == 0, asked.stderr
        rows: list[object] = json.loads(asked.stdout)["rows"]
        return rows

    # A job reads the version that the engine knows when it is asked.
    assert processes.wait_until(lambda: told() == wanted, deadline_s=RECOVERY_LIMIT_S, every_s=0.2)
    assert told("--job") == wanted

    # Acknowledged an instant before the stop: it has to be in the table all the same.
    assert hub.status_of("/api/v1/events", _event("last")) == 202
    sessions = [*hub.sessions(), first.ray_pid]
    assert hub.command("down").returncode == 0
    assert not processes.members(sessions)
    assert not processes.is_alive(first.supervisor_pid, first.supervisor_start)
    assert not hub.layout.sockets.exists()
    assert hub.state.phase == "stopped"
    events = DeltaTable(hub.layout.data / "lake" / "local" / "events").to_pyarrow_table(columns=["event_id"])
    assert sorted(events["event_id"].to_pylist()) == ["before", "last"]


def _event(name: str) -> bytes:
    row = {"occurred_at": "2026-01-01T00:00:00Z", "module": "gateway", "kind": "gateway.request", "event_id": name}
    return json.dumps(row).encode()
