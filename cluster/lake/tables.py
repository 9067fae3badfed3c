"""The table catalogue: every Delta table of a region, its columns, partitions and file options, as one literal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable

from cluster.contract.columns import DEAD_LETTER_SCHEMA, EVENT_SCHEMA, ROLLUP_DIMENSIONS, ROLLUP_SCHEMA
from cluster.contract.found import FOUND_SCHEMA
from cluster.contract.told import ANSWER_SCHEMA

PARTITION_COLUMNS: Final = ("tenant_id", "event_date")
_PARTITION_FIELDS: Final = (
    pa.field("tenant_id", pa.string(), nullable=False),
    pa.field("event_date", pa.date32(), nullable=False),
)
ROW_GROUP_ROWS: Final = 131_072


@dataclass(frozen=True, slots=True)
class Table:
    """One Delta table. Files hold `schema`; the partition columns live in their paths.

    Attributes:
        time_column: instant that decides `event_date` and carries file statistics.
        dictionary: columns with few distinct values, encoded as dictionaries; the others are not tried.
        sort: order of rows inside a compacted file, for row-group pruning.
        row_group_rows: at most, in one row group.
    """

    name: str
    schema: pa.Schema
    time_column: str
    dictionary: tuple[str, ...]
    sort: tuple[str, ...]
    row_group_rows: int = ROW_GROUP_ROWS

    @property
    def full_schema(self) -> pa.Schema:
        """Columns a reader sees: partitions first."""
        return pa.schema([*_PARTITION_FIELDS, *self.schema])


# Roll-up tables, finest first, with the length of a window in microseconds. The first is made by the shards, the
# others are rolled from it (actors/rollover.py).
MINUTES: Final = "rollup_1m"
ROLLUPS: Final[dict[str, int]] = {MINUTES: 60_000_000, "rollup_1h": 3_600_000_000, "rollup_1d": 86_400_000_000}


def _rollup(name: str) -> Table:
    return Table(
        name=name,
        schema=ROLLUP_SCHEMA,
        time_column="window_start",
        dictionary=("window_start", *ROLLUP_DIMENSIONS),
        sort=("window_start", "module", "kind"),
        # A question that begins within an old day reads an hour or two of it.
        row_group_rows=8_192,
    )


TABLES: Final[dict[str, Table]] = {
    "events": Table(
        name="events",
        schema=EVENT_SCHEMA,
        time_column="occurred_at",
        dictionary=(
            *("project_id", "region", "environment", "module", "kind", "schema_version", "severity", "service"),
            *("provider", "model", "operation", "status", "cache_status", "guardrail_action", "price_version"),
            *("counted", "usage_conflict", "cost_is_sent", "received_at"),
        ),
        sort=("occurred_at",),
    ),
    **{name: _rollup(name) for name in ROLLUPS},
    "dead_letters": Table(
        name="dead_letters",
        schema=DEAD_LETTER_SCHEMA,
        time_column="received_at",
        dictionary=("source", "reason_code"),
        sort=("received_at",),
    ),
    "anomalies": Table(
        name="anomalies",
        schema=FOUND_SCHEMA,
        time_column="started_at",
        dictionary=("detector", "severity", "state", "entity", "dimensions"),
        sort=("started_at", "anomaly_id"),
    ),
    "answers": Table(
        name="answers",
        schema=ANSWER_SCHEMA,
        time_column="told_at",
        dictionary=("query_id", "project_id", "told_at", "member"),
        sort=("told_at", "query_id", "place"),
    ),
}

# What jobs answered (pipelines/answer_query.py); no seal has files for it.
ANSWERS: Final = "answers"
# The table that records every seal, committed last: a sequence found here is in all other tables as well.
ANCHOR: Final = "events"

_CONFIGURATION: Final[dict[str, str | None]] = {
    # Our own writer sets statistics on the time column only; ids and texts must not leak into the log.
    "delta.dataSkippingStatsColumns": "",
    "delta.checkpointInterval": "1000000",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}


def uri(lake: Path, name: str) -> str:
    """Location of a table of the region whose lake folder is given."""
    return str(lake / name)


def open_or_create(lake: Path, table: Table) -> DeltaTable:
    """Handle of the table, made empty if it is not there."""
    location = uri(lake, table.name)
    if not DeltaTable.is_deltatable(location):
        Path(location).mkdir(parents=True, exist_ok=True)
        configuration = {**_CONFIGURATION, "delta.dataSkippingStatsColumns": table.time_column}
        DeltaTable.create(
            location,
            table.full_schema,
            mode="ignore",
            partition_by=list(PARTITION_COLUMNS),
            name=table.name,
            configuration=configuration,
        )
    return DeltaTable(location)
