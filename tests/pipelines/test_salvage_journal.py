"""A damaged journal gives up every record that is intact, on both sides of the damage."""

from __future__ import annotations

from pathlib import Path

from actors.journal import EVENTS, Journal, Record, segment_path
from actors.recovery import batch_of
from pipelines.salvage_journal import readable_records
from tests.actors.batches import events


def test_records_on_both_sides_of_the_damage_are_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.open_segment(1)
    ends = [journal.append(Record(EVENTS, "default", 1, events([name]).serialize())) for name in "abc"]
    journal.seal_segment()
    journal.close()
    path = segment_path(tmp_path / "j", 1)
    content = bytearray(path.read_bytes())
    content[ends[0] + 50] ^= 0xFF
    path.write_bytes(content)
    found = list(readable_records(tmp_path / "j"))
    ids = [batch_of(record)["event_id"].to_pylist() for record, _ in found if record is not None and record.rows]
    assert ids == [["a"], ["c"]]
    assert sum(skipped for _, skipped in found) == ends[1] - ends[0]
