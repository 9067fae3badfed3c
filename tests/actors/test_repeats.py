"""Repeats that came after their ids were forgotten: one row stays, and everything tells as if the others never came."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import corrections as module
from actors import repeats as search
from actors.accounts import settle
from actors.compaction import Compactor
from actors.corrections import Corrections, CorrectionStale
from actors.repeats import Finder
from cluster.lake.changes import arrivals
from cluster.lake.commit import TableWriter
from cluster.lake.counts import CommittedCounts
from cluster.lake.expired import EXPIRED, Expired, keep
from cluster.lake.scan import TableReader
from cluster.lake.stage import stage
from cluster.lake.tables import ANCHOR, MINUTES, PARTITION_COLUMNS, TABLES
from cluster.tenancy import TenantId, TenantScope
from models.aggregate.difference import difference
from pipelines.reconcile import DOUBLED, reconcile
from serving.query_engine import QueryEngine
from tests.actors.test_rollover import assert_conserved
from tests.serving.small_lake import DAY_US, NOW_US, Lake, Row, batch, event, random_rows

TENANT = "acme"
MEASURES = ("request_count", "cost_usd", "input_tokens", "unique_users", "latency_ms_max")
DAYS = [("from", "2025-12-28T00:00:00Z"), ("to", "2026-01-02T00:00:00Z")]


class Hub:
    """A lake with what its committer does between commits."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(folder)
        self.accepted = 0
        self.start()

    def start(self) -> None:
        """As a committer that comes up: it knows what the disk tells."""
        self.settings = replace(self.lake.settings, compact_files=2, repeats_s=1.0)
        self.writers = {name: TableWriter(self.settings.lake, TABLES[name], self.lake.clock) for name in TABLES}
        self.lake._writers = self.writers
        self.corrections = Corrections(self.settings.lake, self.writers)
        self.corrections.resume()
        self.finder = Finder(self.settings, self.writers, clock=self.lake.clock)

    def send(self, rows: Sequence[Row]) -> None:
        self.accepted += len(rows)
        self.lake.seal(TENANT, rows)

    def look(self) -> int:
        """Search once; rows that were taken out."""
        self.lake.clock.advance(100_000)
        before, moment = self.finder.removed, self.finder.choose()
        if moment is not None:
            for found in self.finder.find(moment):
                self.corrections.apply(found.correction)
                self.finder.count(found)
            self.finder.end(moment)
        return self.finder.removed - before

    def compact(self) -> None:
        compactor = Compactor(self.settings, self.writers)
        while (chosen := compactor.choose()) is not None:
            compactor.swap(chosen, compactor.merge(chosen))

    def rows(self, table: str) -> pa.Table:
        """All rows with their partition."""
        snapshot = TableReader(self.settings.lake, table).refresh()
        parts = []
        for one in (one for found in snapshot.by_tenant.values() for one in found):
            rows = pq.ParquetFile(one.path).read()
            for name, value in zip(PARTITION_COLUMNS, (one.tenant_id, one.event_date), strict=True):
                rows = rows.append_column(name, pa.array([value] * rows.num_rows, pa.string()))
            parts.append(rows)
        return pa.concat_tables(parts)

    def told(self) -> list[Row]:
        """Committed rows by id, as they read."""
        return self.rows(ANCHOR).sort_by("event_id").to_pylist()

    def assert_as(self, firsts: Sequence[Row], folder: Path) -> None:
        """Everything tells as in a hub that was sent only these rows."""
        control = Hub(folder)
        control.send(firsts)
        assert self.told() == control.told()
        assert difference(control.rows(MINUTES), self.rows(MINUTES)) == []
        self.lake.roll()
        assert_conserved(self.lake)
        assert reconcile(self.settings.lake)["faults"] == []
        journal = f"journal-{TENANT}"
        committed = CommittedCounts(self.settings.lake).newest([journal])
        positions = {journal: [(committed.sequences[journal], {TENANT: self.accepted})]}
        account = settle([], positions, committed)[TENANT]
        assert (account.difference, account.committed) == (0, len(firsts))
        assert account.repeats_removed == self.accepted - len(firsts)


def again(row: Row, **more: Any) -> Row:
    """The row as it is sent a second time, later."""
    return {**row, "received_at": row["received_at"] + 60_000_000, **more}


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[list[Row]], list[Row]]:
    """Seals in which rows come again, changed or not, and the rows that came first."""
    rows = random_rows(draw(st.integers(1, 40)), seed=draw(st.integers(1, 50)), days=2)
    sent: list[Row] = []
    for row in rows:
        sent.append(row)
    for number in draw(st.lists(st.integers(0, len(rows) - 1), max_size=20)):
        changed = draw(st.sampled_from([{}, {"user_id": "other"}, {"latency_ms": 99_999.0}, {"counted": 0}]))
        late = len([one for one in sent if one["event_id"] == rows[number]["event_id"]])
        copy = again(rows[number], **changed)
        sent.append({**copy, "received_at": NOW_US + late * 60_000_000})
    cuts = sorted(draw(st.sets(st.integers(1, len(sent)), max_size=6)) | {0, len(sent)})
    return [sent[start:stop] for start, stop in pairwise(cuts)], rows


@settings(max_examples=25)
@given(
    history=histories(), acts=st.lists(st.sampled_from(["look", "compact", "roll", "start"]), min_size=7, max_size=7)
)
def test_one_row_of_each_event_stays_and_everything_follows(
    history: tuple[list[list[Row]], list[Row]], acts: list[str]
) -> None:
    seals, firsts = history
    with tempfile.TemporaryDirectory() as folder:
        hub = Hub(Path(folder) / "hub")
        for number, seal in enumerate(seals):
            hub.send(seal)
            act = acts[number % len(acts)]
            (hub.lake.roll if act == "roll" else getattr(hub, act))()
        hub.look()
        assert hub.look() == 0
        hub.assert_as(firsts, Path(folder) / "control")


def sent_twice(hub: Hub) -> list[Row]:
    """Rows of two days, a third of them sent again in a later seal; the rows that came first."""
    rows = random_rows(60, seed=3, days=2)
    hub.send(rows[:30])
    hub.send(rows[30:])
    hub.send([again(row, user_id="other") for row in rows[::3]])
    return rows


def test_answers_in_memory_follow(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub")
    rows = sent_twice(hub)
    hub.lake.roll()
    control = Lake(tmp_path / "control")
    control.seal(TENANT, rows)
    engine = hub.lake.engine()
    wanted = control.engine()
    try:
        doubled = _asked(engine)
        assert reconcile(hub.settings.lake)["faults"][0]["fault"] == DOUBLED
        assert hub.look() == 20
        engine.refresh()
        assert _asked(engine) == _asked(wanted) != doubled
    finally:
        engine.close()
        wanted.close()


def _asked(engine: QueryEngine) -> Any:
    pairs = [*(("measure", name) for name in MEASURES), *DAYS, ("group_by", "model")]
    told = json.loads(asyncio.run(engine.query(TenantScope.of(TenantId(TENANT)), "aggregate", pairs)).body)
    return sorted(told["rows"], key=str)


class Killed(BaseException):
    """The process is no more."""


STEPS = {
    "written down": (module, "replace"),
    "account kept": (module, "keep"),
    "minutes committed": (TableWriter, "append"),
    "events committed": (TableWriter, "append"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whatever_step_is_the_last_it_is_done_once(
    step: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path / "hub")
    rows = sent_twice(hub)
    owner, name = STEPS[step]
    made: Callable[..., Any] = getattr(owner, name)
    calls = 0
    fatal = 2 if step == "events committed" else 1

    def dying(*given: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fatal and not after:
            raise Killed
        answer = made(*given, **more)
        if calls == fatal:
            raise Killed
        return answer

    monkeypatch.setattr(owner, name, dying)
    with pytest.raises(Killed):
        hub.look()
    monkeypatch.undo()
    hub.start()
    hub.look()
    hub.assert_as(rows, tmp_path / "control")


KILLED = """
import os, signal, sys
from pathlib import Path
from cluster.lake.commit import TableWriter
from tests.actors.test_repeats import Hub, sent_twice

hub = Hub(Path(sys.argv[1]))
sent_twice(hub)
append = TableWriter.append

def dying(self, *given, **more):
    append(self, *given, **more)
    os.kill(os.getpid(), signal.SIGKILL)

TableWriter.append = dying
hub.look()
"""


def test_a_process_killed_between_minutes_and_events(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "hub")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    hub = Hub(tmp_path / "hub")
    hub.accepted = 80
    hub.look()
    hub.assert_as(random_rows(60, seed=3, days=2), tmp_path / "control")


class NeverCommits:
    """A writer of a process that dies before its commit."""

    def append(self, *given: Any, **more: Any) -> None:
        return


def test_while_minutes_are_ahead_of_events_nothing_is_taken_out(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub")
    row = event(1, latency_ms=1.0)
    hub.send([row])
    hub.send([again(row)])
    # As a committer that died between its two commits: the minutes of a seal are in, its events are not.
    hub.accepted += 1
    late = event(2, latency_ms=2.0)
    events_of_seal = hub.writers[ANCHOR]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(hub.writers, ANCHOR, NeverCommits())
        hub.lake.seal(TENANT, [late])
    assert hub.look() == 0
    staged = stage(hub.settings.lake, TABLES[ANCHOR], batch([late]), tenant_id=TENANT, token="late")
    events_of_seal.append(staged, {f"journal-{TENANT}": hub.lake._seals})
    assert hub.look() == 1
    hub.assert_as([row, late], tmp_path / "control")


def test_a_compaction_that_was_quicker_is_no_loss(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub")
    rows = sent_twice(hub)
    hub.lake.clock.advance(100)
    moment = hub.finder.choose()
    assert moment is not None
    found = list(hub.finder.find(moment))
    hub.compact()
    for one in found:
        with pytest.raises(CorrectionStale):
            hub.corrections.apply(one.correction)
        hub.finder.leave(one)
    hub.finder.end(moment)
    assert hub.look() == 20
    hub.assert_as(rows, tmp_path / "control")


def test_rows_that_were_compared_are_not_compared_again(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub")
    sent_twice(hub)
    assert hub.look() == 20
    version = hub.writers[ANCHOR].version
    assert arrivals(hub.writers[ANCHOR].root, version, version) == ()
    hub.start()
    hub.look()
    assert json.loads((hub.settings.lake / "repeats.json").read_bytes())["version"] == version
    hub.lake.clock.advance(100_000)
    assert hub.finder.choose() is None


@pytest.mark.parametrize(("repeated", "rows"), [(4, 25), (500, 1)])
def test_more_than_one_search_takes_is_taken_out_in_turn(
    repeated: int, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_REPEATED", repeated)
    monkeypatch.setattr(search, "_ROWS", rows)
    hub = Hub(tmp_path / "hub")
    firsts = sent_twice(hub)
    taken = [hub.look() for _ in range(30)]
    assert sum(taken) == 20 and max(taken) < 20
    hub.assert_as(firsts, tmp_path / "control")


def test_a_day_of_which_age_took_a_part_is_left(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub")
    old = random_rows(20, seed=7, days=1)
    hub.send(old)
    hub.send([again(row) for row in old])
    writer = hub.writers[MINUTES]
    keep(writer.root, Expired(1, {TENANT: NOW_US // DAY_US + 1}, {TENANT: 0}))
    writer.append((), {EXPIRED: 1}, removed=[])
    assert hub.look() == 0
    assert len(hub.told()) == 40
    assert {one["fault"] for one in reconcile(hub.settings.lake)["faults"]} <= {DOUBLED}
