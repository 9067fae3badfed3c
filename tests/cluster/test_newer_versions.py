"""Whether a table has a newer version, told without listing its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.lake.changes import has_newer
from cluster.lake.commit import TableWriter
from cluster.lake.tables import TABLES, open_or_create


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of a table of four versions."""
    writer = TableWriter(tmp_path, TABLES["events"])
    for sequence in range(1, 4):
        writer.append([], {"journal": sequence})
    return tmp_path / "events" / "_delta_log"


def test_the_newest_version_has_none_after_it(log: Path) -> None:
    newest = int(open_or_create(log.parents[1], TABLES["events"]).version())
    assert [has_newer(log.parent, version) for version in range(newest + 1)] == [True] * newest + [False]


def test_who_is_behind_a_cleaned_log_is_told_by_the_checkpoint(log: Path) -> None:
    handle = open_or_create(log.parents[1], TABLES["events"])
    handle.create_checkpoint()
    newest = int(handle.version())
    for version in range(newest):
        (log / f"{version:020d}.json").unlink()
    assert has_newer(log.parent, newest - 2)
    assert not has_newer(log.parent, newest)


def test_without_a_checkpoint_a_log_that_went_away_is_looked_at(log: Path) -> None:
    for path in log.glob("*.json"):
        path.unlink()
    assert has_newer(log.parent, 1)
