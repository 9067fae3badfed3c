"""What survives: a hub that goes and comes, a kill, a fork, the end of the program; and what an import costs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.sdk.client import HubClient, Recording
from cluster.sdk.spool import SpoolInUse
from tests.cluster.sdk import hub_door
from tests.cluster.sdk.events import KEY, event
from tests.cluster.sdk.hub_door import Door

ROOT = Path(__file__).parents[3]
COUNT = 400


@pytest.fixture
def door() -> Iterator[Door]:
    with Door() as open_door:
        yield open_door


def client_of(door: Door, spool: Path, **how: Any) -> HubClient:
    recording = Recording(
        **{"batch_events": 50, "batch_age_s": 0.01, "spool": spool, "spool_after_s": 0.0, "close_s": 0.05, **how}
    )
    return HubClient(door.url, KEY, recording=recording, chance=lambda: 0.05)


def program(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "tests.cluster.sdk.recording_program", *words]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def killed_once_it_says(process: subprocess.Popen[str], word: str, *, sent: Door | None = None) -> None:
    assert process.stdout is not None and process.stdin is not None
    with process.stdout, process.stdin:
        assert process.stdout.readline() == f"{word}\n"
        if sent is not None:
            sent.wait_for_requests(1)
        process.kill()
        process.wait()


def segments(spool: Path) -> list[Path]:
    return sorted(spool.glob("*.spool"))


def test_a_hub_that_is_away_gets_everything_when_it_is_back(door: Door, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    door.shut()
    with client_of(door, spool) as client:
        for number in range(COUNT):
            client.record(event(number))
        while (counts := client.flush(0.05)).spooled < COUNT:
            assert counts.recorded == counts.accounted
        assert segments(spool)
        door.open()
        counts = client.flush(60.0)
    assert (counts.acknowledged, counts.spooled, counts.dropped) == (COUNT, 0, 0)
    assert [one for body in door.bodies for one in body] == [f"e-{number}" for number in range(COUNT)]
    assert segments(spool) == []


def test_what_a_killed_process_spooled_arrives_once(door: Door, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    door.always = hub_door.unavailable()
    killed_once_it_says(program("spool", door.url, str(spool), str(COUNT)), "spooled")
    assert not door.ids
    door.always = None
    with client_of(door, spool) as client:
        counts = client.flush(60.0)
        client.record(event(COUNT))
        client.flush(60.0)
    assert (counts.recovered, counts.acknowledged, counts.dropped) == (COUNT, COUNT, 0)
    assert [one for body in door.bodies for one in body] == [f"e-{number}" for number in range(COUNT + 1)]


def test_a_kill_between_taking_and_telling_doubles_nothing(door: Door, tmp_path: Path) -> None:
    """Every answer is cut: the hub has all rows, and the process never learns it."""
    spool = tmp_path / "spool"
    door.always = hub_door.cut
    killed_once_it_says(program("spool", door.url, str(spool), str(COUNT)), "spooled", sent=door)
    with door.turn:
        door.always = None
        before = len(door.ids)
    with client_of(door, spool) as client:
        counts = client.flush(60.0)
    assert before > 0
    assert (counts.acknowledged, counts.repeated) == (COUNT - before, before)
    assert len(door.rows) == len(door.ids) == COUNT


def test_damage_costs_what_it_hit_and_is_told(door: Door, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    door.always = hub_door.unavailable()
    killed_once_it_says(program("spool", door.url, str(spool), str(COUNT)), "spooled")
    door.always = None
    (path,) = segments(spool)
    content = bytearray(path.read_bytes())
    content[60] ^= 4
    path.write_bytes(content[:-3])
    drops: list[tuple[int, str]] = []
    with client_of(door, spool, on_dropped=lambda *told: drops.append(told)) as client:
        counts = client.flush(60.0)
    assert counts.recorded == counts.accounted
    assert drops == [(counts.dropped, "spool_damaged")]
    assert 0 < counts.acknowledged == len(door.ids) < COUNT


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_a_full_spool_drops_what_was_chosen(door: Door, tmp_path: Path, policy: Any) -> None:
    door.shut()
    drops: list[tuple[int, str]] = []
    how = {"when_full": policy, "spool_bytes": 4_000, "batch_events": 5, "queue_events": 50, "spool_sync": "never"}
    client = client_of(door, tmp_path / "spool", **how, on_dropped=lambda *told: drops.append(told))
    for number in range(2_000):
        client.record(event(number))
        if number % 50 == 49:
            client.flush(0.01)
    counts = client.counts
    assert counts.recorded == counts.accounted == 2_000
    assert sum(path.stat().st_size for path in segments(tmp_path / "spool")) <= 4_000
    assert counts.dropped > 0 and set(counts.dropped_for) <= {"queue_full", "spool_full"}
    door.open()
    client.flush(60.0)
    counts = client.close()
    # Counted first, told right after: once the client is closed both have happened.
    assert counts.dropped == sum(rows for rows, _ in drops)
    assert counts.settled and counts.acknowledged == len(door.ids)
    assert ("e-0" in door.ids, "e-1999" in door.ids) == (policy == "drop_newest", policy == "drop_oldest")


def test_close_spools_what_the_hub_did_not_take(door: Door, tmp_path: Path) -> None:
    door.shut()
    client = client_of(door, tmp_path / "spool", batch_age_s=60.0)
    for number in range(7):
        client.record(event(number))
    counts = client.close()
    assert (counts.spooled, counts.pending, counts.dropped) == (7, 0, 0)
    door.open()
    with client_of(door, tmp_path / "spool") as client:
        assert client.flush(60.0).acknowledged == 7


def test_two_clients_do_not_share_a_spool(door: Door, tmp_path: Path) -> None:
    with client_of(door, tmp_path / "spool"), pytest.raises(SpoolInUse):
        client_of(door, tmp_path / "spool")


def test_the_end_of_the_program_sends_what_is_left(door: Door) -> None:
    process = program("end", door.url, "", str(COUNT))
    process.communicate()
    assert process.returncode == 0
    assert len(door.ids) == COUNT and set(door.ids.values()) == {1}


def test_a_forked_child_sends_its_own_and_only_its_own(door: Door) -> None:
    process = program("fork", door.url, "", str(COUNT))
    process.communicate()
    assert process.returncode == 0
    assert len(door.ids) == COUNT + 20 and set(door.ids.values()) == {1}


def test_a_forked_child_is_told_that_the_spool_is_not_its_own(door: Door, tmp_path: Path) -> None:
    process = program("fork", door.url, str(tmp_path / "spool"), str(COUNT))
    out, _ = process.communicate()
    assert (process.returncode, out) == (0, "client_forked\n")
    assert len(door.ids) == COUNT + 10 and set(door.ids.values()) == {1}


HEAVY = ("ray", "pyarrow", "numba", "numpy", "duckdb", "deltalake", "fastapi", "torch")


def test_the_import_brings_nothing_heavy(door: Door) -> None:
    code = f"""
import json, sys
from cluster.sdk.client import HubClient
first = sorted(sys.modules)
with HubClient({door.url!r}, {KEY!r}) as client:
    client.record({{"module": "gateway", "kind": "gateway.request"}})
    client.flush()
print(json.dumps([first, sorted(sys.modules)]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    first, last = json.loads(done.stdout)
    assert not set(first) & {*HEAVY, "httpx2", "asyncio", "zstandard"}
    assert not set(last) & set(HEAVY)
    assert len(door.ids) == 1


def test_a_client_without_an_end_is_forgotten() -> None:
    """Only clients that recorded are kept until the program ends."""
    import gc
    import weakref

    client = HubClient("http://127.0.0.1:1", KEY)
    gone = weakref.ref(client)
    with contextlib.suppress(NameError):
        del client
    gc.collect()
    assert gone() is None
