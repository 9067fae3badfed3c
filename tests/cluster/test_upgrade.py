"""Tables and journals of an earlier hub: opened, read and gone on with by this one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

from actors.committer import Committer
from actors.journal import EVENTS, Record
from actors.recovery import batch_of
from actors.shard import Shard
from cluster.clock import SystemClock
from cluster.contract.columns import EVENT_SCHEMA, FIRST_EVENT_SCHEMA, LATER_COLUMNS
from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import TABLES
from cluster.settings import Settings
from tests.actors.batches import events

FIRST_TABLE = replace(TABLES["events"], schema=FIRST_EVENT_SCHEMA, dictionary=("model",))


def first_form(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.select(FIRST_EVENT_SCHEMA.names).cast(FIRST_EVENT_SCHEMA)


def test_a_table_of_before_has_every_column_once_the_committer_is_up(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, seal_age_s=0.01, commit_linger_s=0.0, ack="commit")
    old = first_form(events(["a", "b"], cost_usd=Decimal("0.5")))
    writer = TableWriter(settings.lake, FIRST_TABLE)
    for number in range(3):
        rows = pa.Table.from_batches([old])
        writer.append(
            stage(settings.lake, FIRST_TABLE, rows, tenant_id="default", token=f"t{number}"), {"j": number + 1}
        )
    committer = Committer(settings, clock=SystemClock())
    shard = Shard(settings, 0, shards=1, commits=committer, clock=SystemClock())
    shard.admit("default", events(["new"], cost_usd=Decimal(1)).serialize(), None)
    shard.drain()
    committer.drain()
    table = DeltaTable(str(settings.lake / "events"))
    assert {one.name for one in table.schema().fields} >= set(LATER_COLUMNS)
    assert committer.last_sequence("j") == 3
    files = [ds.dataset(path).schema.names for path in table.file_uris()]
    assert len(files) == 4
    assert all(set(LATER_COLUMNS) <= set(names) for names in files)
    rows = ds.dataset(table.file_uris()).to_table(columns=["event_id", "cost_usd", "cost_is_sent"]).to_pylist()
    assert sorted(row["event_id"] for row in rows) == ["a", "a", "a", "b", "b", "b", "new"]
    assert {row["cost_usd"] for row in rows} == {Decimal("0.5"), Decimal(1)}
    assert {row["cost_is_sent"] for row in rows} == {None}


def test_a_journal_of_before_is_read(tmp_path: Path) -> None:
    now = events(["a", "b"], cost_usd=Decimal("0.5"))
    for batch in (now, first_form(now)):
        found = batch_of(Record(EVENTS, "default", 2, batch.serialize()))
        assert found.schema.equals(EVENT_SCHEMA)
        assert found.column("cost_usd").to_pylist() == [Decimal("0.5")] * 2
        assert found.column("cost_is_sent").null_count == 2
