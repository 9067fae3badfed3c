"""The faults of a chaos run. Each proves that it happened, and tells from when on recovery is counted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable

from actors.journal import EVENTS, Record, encode, segment_path, sequences
from cluster.sdk.client import HubClient, utc
from infra.runtime import processes
from tests.journeys.chaos_senders import Senders, line
from tests.journeys.local_hub import LocalHub

# How long a stalled process, a stalled disk, a full disk and a second committer last, seconds.
STALL_S: Final = 2.5
FULL_S: Final = 2.0
SECOND_COMMITTER_S: Final = 4.0
HOUR_S: Final = 3_600.0
NOISY_TENANT: Final = "noisy"


@dataclass
class Ground:
    """What faults act on.

    Attributes:
        disk: mount point of the small disk the data folder lies on, None where this machine lets nobody mount one.
    """

    hub: LocalHub
    senders: Senders
    random: Random
    disk: Path | None


Fault = Callable[[Ground], float]


def kill(part: str) -> Fault:
    """kill -9 of one process of a part, or of all that `LocalHub.pids` finds for "head"."""

    def fault(ground: Ground) -> float:
        victims = _wait_pids(ground.hub, part)
        began_s = time.monotonic()
        for pid in victims if part == "head" else victims[:1]:
            os.kill(pid, signal.SIGKILL)
        return began_s

    return fault


def kill_named(name: str) -> Fault:
    """kill -9 of the process of the hub's head with this name."""

    def fault(ground: Ground) -> float:
        (victim,) = [one for one in processes.members([ground.hub.state.ray_pid]) if one.name.startswith(name)][:1]
        os.kill(victim.pid, signal.SIGKILL)
        return time.monotonic()

    return fault


def kill_supervisor(ground: Ground) -> float:
    """kill -9 of the supervisor, then `llmhub up` as a person would."""
    began_s = time.monotonic()
    victim = processes.look_up(ground.hub.state.supervisor_pid)
    assert victim is not None
    os.kill(victim.pid, signal.SIGKILL)
    processes.wait_gone([victim], deadline_s=10.0)
    again = ground.hub.command("up", "--detach")
    assert again.returncode == 0, again.stderr
    return began_s


def kill_sql(ground: Ground) -> float:
    """kill -9 of a process that runs SQL of callers, in the middle of a statement; the statement is run again."""
    statement = b'{"sql": "SELECT count(*) FROM events a JOIN events b ON a.model = b.model"}'
    assert ground.hub.status_of("/api/v1/sql", b'{"sql": "SELECT 1"}') == 200
    # Run again, it takes longer than anybody would wait before the next account.
    threading.Thread(target=ground.hub.status_of, args=("/api/v1/sql", statement), daemon=True).start()
    victims = [
        one.pid for one in processes.members([ground.hub.state.ray_pid]) if processes.mentions(one.pid, "sql_worker")
    ]
    assert victims, "no process for SQL runs"
    began_s = time.monotonic()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    return began_s


def stall(part: str) -> Fault:
    """SIGSTOP of a part and SIGCONT: what a machine that swaps, or a very slow disk, does to it."""

    def fault(ground: Ground) -> float:
        victim = _wait_pids(ground.hub, part)[0]
        with stopped(victim):
            time.sleep(STALL_S)
        return time.monotonic()

    return fault


def tear_tail(ground: Ground) -> float:
    """kill -9 of a shard in the middle of an append: half a record ends its journal."""
    return _damage_tail(ground, lambda record: record[: len(record) // 2])


def flip_tail(ground: Ground) -> float:
    """kill -9 of a shard whose last record, never acknowledged, has one bit wrong."""

    def flipped(record: bytes) -> bytes:
        bit = ground.random.randrange(len(record) * 8)
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    return _damage_tail(ground, flipped)


def flip_committed(ground: Ground) -> float:
    """kill -9 of a shard and one bit of a segment whose rows are in the tables already."""
    # Each commit so far held rows of every shard; three of them leave a segment to damage.
    processes.wait_until(lambda: _version(ground) >= 3, deadline_s=60.0)
    with _stopped_shard(ground) as (pid, folder):
        events = DeltaTable(str(ground.hub.layout.data / "lake" / "local" / "events"))
        last = int(events.transaction_version(folder.name) or 0)
        committed = [sequence for sequence in sequences(folder) if sequence <= last]
        assert committed, "no committed segment lies on the disk"
        path = segment_path(folder, ground.random.choice(committed[-5:]))
        bit = ground.random.randrange(path.stat().st_size * 8)
        with path.open("r+b") as file:
            file.seek(bit // 8)
            (byte,) = file.read(1)
            file.seek(bit // 8)
            file.write(bytes([byte ^ 1 << bit % 8]))
        os.kill(pid, signal.SIGKILL)
        return time.monotonic()


def fill_disk(ground: Ground) -> float:
    """The data folder's disk is full for some seconds; recovery counts from when there is room again."""
    assert ground.disk is not None
    filler = ground.disk / "filler"
    # Sometimes below the reserve, where intake refuses politely, sometimes to the last byte.
    left = ground.random.choice((0, 0, 24 * 1024 * 1024))
    before = ground.senders.unanswered()
    with filler.open("wb") as file:
        room = os.statvfs(ground.disk)
        os.posix_fallocate(file.fileno(), 0, max(room.f_bavail * room.f_frsize - left - (1 << 20), 1))
        with contextlib.suppress(OSError):
            while left == 0:
                file.write(bytes(1 << 16))
                file.flush()
    try:
        fired = ground.senders.wait_refused(before, deadline_s=10.0)
        time.sleep(FULL_S)
    finally:
        filler.unlink()
    assert fired, "the disk was full and no sender was refused"
    return time.monotonic()


def freeze_disk(ground: Ground) -> float:
    """Every write and fsync on the data folder's disk hangs for some seconds."""
    assert ground.disk is not None
    # One shell of its own thaws the disk whatever becomes of this process.
    words = f"fsfreeze -f {ground.disk} && sleep {STALL_S}; fsfreeze -u {ground.disk}"
    subprocess.run(["sh", "-c", words], check=True, start_new_session=True)
    return time.monotonic()


def second_committer(ground: Ground) -> float:
    """Another process that believes to be the region's committer commits, rolls up and compacts for some seconds."""
    before = _version(ground)
    command = [sys.executable, "-m", "tests.journeys.chaos_committer", str(ground.hub.layout.data)]
    done = subprocess.run([*command, str(SECOND_COMMITTER_S)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    # Its log goes the same way; the count comes last.
    assert int(done.stdout.split()[-1]) > 0, "the second committer committed nothing"
    assert _version(ground) > before
    return time.monotonic()


def jump_clocks(ground: Ground) -> float:
    """The clocks of all senders jump an hour ahead or back, and stay there until they jump again."""
    ground.senders.clock_offset_s = ground.random.choice(
        [one for one in (-HOUR_S, 0.0, HOUR_S) if one != ground.senders.clock_offset_s]
    )
    return time.monotonic()


def send_bad_rows(ground: Ground) -> float:
    """A tenant sends as many bad rows as good ones: they are kept, and its alarm goes up."""
    at, name = utc(time.time_ns() // 1000), f"{ground.random.getrandbits(64):016x}"
    good = {f"{name}-{row}" for row in range(100)}
    bad = {f"{name}-bad-{row}" for row in range(100)}
    lines = [line(one, at, 1) for one in good] + [line(one, "never", 1) for one in bad]
    hub = ground.hub
    client = HubClient(hub.url, hub.key, tenant=NOISY_TENANT, compression="none", deadline_s=60.0)
    receipt = client.post_body(b"\n".join(lines), "application/x-ndjson")
    reasons = client.get("/api/v1/ready")["reasons"]
    client.close()
    assert (receipt.accepted + receipt.repeated, receipt.refused) == (100, 100), receipt
    assert any(reason.startswith("dead letters: ") for reason in reasons), reasons
    with ground.senders.told.changed:
        ground.senders.told.acknowledged |= good
        ground.senders.told.refused |= bad
    return time.monotonic()


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def _stopped_shard(ground: Ground) -> Iterator[tuple[int, Path]]:
    """A shard that does nothing meanwhile, and the folder of its journal, known by its open segment."""
    pids = _wait_pids(ground.hub, "shard")
    pid = ground.random.choice(pids)
    with stopped(pid):
        yield pid, _open_segment(pid).parent


def _damage_tail(ground: Ground, damaged: Callable[[bytes], bytes]) -> float:
    record = b"".join(bytes(part) for part in encode(Record(EVENTS, "default", 1, pa.py_buffer(bytes(500)))))
    with _stopped_shard(ground) as (pid, _):
        with _open_segment(pid).open("ab") as file:
            file.write(damaged(record))
        os.kill(pid, signal.SIGKILL)
        return time.monotonic()


def _open_segment(pid: int) -> Path:
    opened = [Path(os.readlink(entry)) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return max((path for path in opened if path.suffix == ".wal"), key=lambda path: path.name)


def _wait_pids(hub: LocalHub, part: str) -> list[int]:
    found = processes.wait_until(lambda: bool(hub.pids(part)), deadline_s=120.0)
    assert found, f"no process of {part} runs"
    return hub.pids(part)


def _version(ground: Ground) -> int:
    return int(DeltaTable(str(ground.hub.layout.data / "lake" / "local" / "events")).version())


# Kinds with their weight in a long run: what happens most often in life happens most often here.
FAULTS: Final[dict[str, tuple[Fault, int]]] = {
    "kill shard": (kill("shard"), 5),
    "kill committer": (kill("committer"), 5),
    "kill door": (kill("replica"), 3),
    "kill query engine": (kill("query"), 2),
    "kill SQL process": (kill_sql, 2),
    "kill HAProxy": (kill_named("haproxy"), 1),
    "kill raylet": (kill_named("raylet"), 1),
    "kill GCS": (kill_named("gcs_server"), 1),
    "kill head": (kill("head"), 1),
    "kill supervisor": (kill_supervisor, 1),
    "torn journal tail": (tear_tail, 3),
    "bit flip in journal tail": (flip_tail, 3),
    "bit flip in committed segment": (flip_committed, 3),
    "stalled shard": (stall("shard"), 2),
    "stalled committer": (stall("committer"), 2),
    "full disk": (fill_disk, 3),
    "stalled disk": (freeze_disk, 2),
    "two committers": (second_committer, 2),
    "sender clocks jump": (jump_clocks, 2),
    "bad rows": (send_bad_rows, 1),
}
# Kinds that need a disk of their own.
ON_SMALL_DISK: Final = frozenset({"full disk", "stalled disk"})
# Kinds after which the supervisor brings the hub up again.
OF_HEAD: Final = frozenset({"kill raylet", "kill GCS", "kill head"})
