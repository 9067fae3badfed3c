"""Events for the measurement of jobs: one tenant's calls over a week, with a team in their attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.contract.columns import EVENT_SCHEMA
from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import TABLES
from cluster.tenancy import DEFAULT_TENANT
from tests.bench.query_rows import recorded, slices

TEAMS = 50
_DAYS = 6


def fill(lake: Path, *, events: int, now_us: int) -> dict[str, Any]:
    """Write the table of events; what lies there."""
    writer = TableWriter(lake, TABLES["events"])
    place = EVENT_SCHEMA.get_field_index("attributes")
    size_bytes = files = 0
    for sequence, (start, rows) in enumerate(slices(recorded(None), events=events, days=_DAYS, end_us=now_us), start=1):
        teams = [f'{{"team":"team-{number % TEAMS}","run":{number}}}' for number in range(start, start + rows.num_rows)]
        told = rows.set_column(place, EVENT_SCHEMA.field(place), pa.array(teams))
        staged = stage(lake, TABLES["events"], told, tenant_id=DEFAULT_TENANT, token=f"bench-{sequence:06d}")
        writer.append(staged, {"bench": sequence})
        size_bytes += sum(one.size_bytes for one in staged)
        files += len(staged)
    return {"events": events, "files": files, "mb": round(size_bytes / 1e6, 1)}
