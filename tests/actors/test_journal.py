"""The journal: what was synced is read back; a torn tail is cut; damage before an intact record stops."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.journal import EVENTS, Journal, Record, read_segment, segment_path, sequences
from cluster.errors import JournalCorrupt


def _write(folder: Path, payloads: list[bytes], *, seal: bool = False) -> Path:
    journal = Journal(folder)
    journal.open_segment(1)
    for payload in payloads:
        journal.sync(journal.append(Record(EVENTS, "default", 1, pa.py_buffer(payload))))
    if seal:
        journal.seal_segment()
    journal.close()
    return segment_path(folder, 1)


def test_records_come_back_in_order(tmp_path: Path) -> None:
    _write(tmp_path / "j", [b"one", b"", b"three" * 1000], seal=True)
    segment = read_segment(tmp_path / "j", 1)
    assert [record.payload.to_pybytes() for record in segment.records] == [b"one", b"", b"three" * 1000]
    assert segment.sealed
    assert sequences(tmp_path / "j") == [1]


@given(cut=st.integers(1, 200), payloads=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_tail_is_cut_at_the_last_good_record(tmp_path: Path, cut: int, payloads: list[bytes]) -> None:
    folder = tmp_path / f"j{len(list(tmp_path.iterdir()))}"
    path = _write(folder, payloads)
    content = path.read_bytes()
    kept = content[: max(0, len(content) - cut)]
    path.write_bytes(kept)
    segment = read_segment(folder, 1)
    found = [record.payload.to_pybytes() for record in segment.records]
    assert found == payloads[: len(found)]
    # Nothing whole behind the last good record was dropped.
    assert segment.cut_bytes < len(payloads[len(found)]) + 64 if len(found) < len(payloads) else segment.cut_bytes == 0


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_never_read_as_data(tmp_path: Path, position: float, bit: int) -> None:
    folder = tmp_path / f"j{len(list(tmp_path.iterdir()))}"
    payloads = [b"first record", b"second record", b"third record"]
    path = _write(folder, payloads)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        found = [record.payload.to_pybytes() for record in read_segment(folder, 1).records]
    except JournalCorrupt:
        return
    # Only damage in the last record can pass for a torn tail.
    assert found == payloads[:2]


def test_damage_in_a_sealed_segment_names_the_place(tmp_path: Path) -> None:
    path = _write(tmp_path / "j", [b"first", b"second"], seal=True)
    content = bytearray(path.read_bytes())
    content[30] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(JournalCorrupt, match="segment 1 is damaged at byte 0"):
        read_segment(tmp_path / "j", 1)
