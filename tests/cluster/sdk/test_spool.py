"""The spool: what was written is read back in order, damage costs what it hit, and the bound is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.sdk.batches import Batch
from cluster.sdk.spool import Entry, Spool, SpoolForeign, SpoolFull, SpoolInUse
from cluster.sdk.spool_records import HEADER_BYTES

PER_EXAMPLE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
BODIES = [b"first body", b"second body", b"third body"]


def batch(body: bytes, *, sequence: int = 1, rows: int = 2) -> Batch:
    return Batch(sequence, rows, body, "none")


def opened(folder: Path, **how: Any) -> Spool:
    return Spool(folder, **{"bytes_max": 1_000_000, "sync": "never", **how})


def written(folder: Path, bodies: list[bytes], **how: Any) -> Path:
    spool = opened(folder, **how)
    for number, body in enumerate(bodies, start=1):
        spool.append(batch(body, sequence=number))
    spool.close()
    return folder / "000000000001.spool"


def bodies_of(spool: Spool, entries: list[Entry]) -> list[bytes | None]:
    batches = [spool.read(entry) for entry in entries]
    return [one.body if one else None for one in batches]


def fresh(folder: Path) -> Path:
    return folder / f"s{len(list(folder.iterdir()))}"


@pytest.mark.parametrize("sync", ["batch", "never"])
def test_batches_come_back_in_order(tmp_path: Path, sync: Any) -> None:
    written(tmp_path / "spool", BODIES, sync=sync)
    spool = opened(tmp_path / "spool")
    assert bodies_of(spool, spool.found.entries) == BODIES
    assert [(one.sequence, one.rows) for one in spool.found.entries] == [(1, 2), (2, 2), (3, 2)]
    spool.close()


def test_what_was_settled_does_not_come_back(tmp_path: Path) -> None:
    written(tmp_path / "spool", BODIES)
    spool = opened(tmp_path / "spool")
    first, second, third = spool.found.entries
    spool.settle(second)
    spool.close()
    spool = opened(tmp_path / "spool")
    assert bodies_of(spool, spool.found.entries) == [BODIES[0], BODIES[2]]
    for entry in spool.found.entries:
        spool.settle(entry)
        spool.settle(entry)
    assert spool.size_bytes == 0
    assert list((tmp_path / "spool").glob("*.spool")) == []
    spool.append(batch(b"later"))
    spool.close()
    assert first.rows == third.rows == 2


@given(cut=st.integers(1, 3 * (HEADER_BYTES + 11)))
@PER_EXAMPLE
def test_a_torn_tail_costs_the_records_it_hit(tmp_path: Path, cut: int) -> None:
    folder = fresh(tmp_path)
    path = written(folder, BODIES)
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    spool = opened(folder)
    ends = [sum(HEADER_BYTES + len(one) for one in BODIES[: number + 1]) for number in range(3)]
    whole = [body for body, end in zip(BODIES, ends, strict=True) if end <= len(content) - cut]
    assert bodies_of(spool, spool.found.entries) == whole
    # What is written now lies behind the tear, and is found again.
    spool.append(batch(b"later"))
    spool.close()
    spool = opened(folder)
    assert bodies_of(spool, spool.found.entries) == [*whole, b"later"]
    spool.close()


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@PER_EXAMPLE
def test_a_flipped_bit_costs_one_record_and_is_never_sent(tmp_path: Path, position: float, bit: int) -> None:
    folder = fresh(tmp_path)
    path = written(folder, BODIES)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    path.write_bytes(content)
    spool = opened(folder)
    found = bodies_of(spool, spool.found.entries)
    left = [one for one in found if one is not None]
    assert len(left) >= 2 and set(left) <= set(BODIES)
    assert left == sorted(left, key=BODIES.index)
    told = found.count(None) or spool.found.skipped_bytes or spool.found.cut_bytes
    assert len(left) == 3 or told
    spool.close()


@given(sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=60))
@PER_EXAMPLE
def test_the_bound_is_one(tmp_path: Path, sizes: list[int]) -> None:
    folder = fresh(tmp_path)
    spool = opened(folder, bytes_max=10_000)
    kept: list[Entry] = []
    for number, size in enumerate(sizes, start=1):
        try:
            kept.append(spool.append(batch(bytes(size), sequence=number)))
        except SpoolFull:
            assert spool.size_bytes + HEADER_BYTES + size > 10_000
            removed = spool.drop_oldest()
            kept = [entry for entry in kept if entry.segment is not removed]
        on_disk = sum(path.stat().st_size for path in folder.glob("*.spool"))
        assert on_disk == spool.size_bytes <= 10_000
    assert None not in bodies_of(spool, kept)
    spool.close()


def test_one_process_for_each_spool(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    with pytest.raises(SpoolInUse):
        opened(tmp_path / "spool")
    spool.close()
    opened(tmp_path / "spool").close()


def test_events_never_go_to_another_tenant(tmp_path: Path) -> None:
    written(tmp_path / "spool", BODIES, tenant="red")
    with pytest.raises(SpoolForeign, match="red"):
        opened(tmp_path / "spool", tenant="blue")
    spool = opened(tmp_path / "spool", tenant="red")
    for entry in spool.found.entries:
        spool.settle(entry)
    spool.close()
    # An empty spool is anybody's.
    opened(tmp_path / "spool", tenant="blue").close()


def test_only_the_owner_reads_what_is_spooled(tmp_path: Path) -> None:
    path = written(tmp_path / "spool", BODIES)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
