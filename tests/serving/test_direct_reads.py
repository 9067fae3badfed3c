"""The tables are anybody's: DuckDB, deltalake's own engine and Polars each find in them what the API answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from cluster.contract.event import COUNTED_COST, COUNTED_TOKENS
from cluster.tenancy import TenantId, TenantScope
from tests.serving.small_lake import Lake, tenants_apart

ALPHA = TenantScope.of(TenantId("alpha"))
# Model -> events, input tokens, cost.
Sums = dict[str | None, tuple[int, int, Decimal]]
ROLLED = (
    "SELECT model, sum(event_count), sum(input_tokens), sum(cost_usd) FROM t WHERE tenant_id = 'alpha' GROUP BY model"
)
# Which part of a call a row tells is in `counted`.
RAW = (
    "SELECT model, count(*), "
    f"sum(CASE WHEN counted & {COUNTED_TOKENS} <> 0 THEN input_tokens END), "
    f"sum(CASE WHEN counted & {COUNTED_COST} <> 0 THEN cost_usd END) "
    "FROM t WHERE tenant_id = 'alpha' GROUP BY model"
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 300, "beta": 200})
    made.roll()
    return made


@pytest.fixture(scope="module")
def answered(lake: Lake) -> Iterator[Sums]:
    """What the API tells."""
    engine = lake.engine()
    pairs = (*(("measure", name) for name in ("event_count", "input_tokens", "cost_usd")), ("group_by", "model"))
    body = asyncio.run(engine.query(ALPHA, "aggregate", (*pairs, ("from", "-30d"), ("to", "now")))).body
    engine.close()
    rows = json.loads(body, parse_float=Decimal)["rows"]
    yield {
        row["group"]["model"]: (
            row["values"]["event_count"],
            row["values"]["input_tokens"],
            Decimal(row["values"]["cost_usd"]),
        )
        for row in rows
    }


def by_duckdb(path: Path, sql: str) -> Any:
    t = DeltaTable(path).to_pyarrow_dataset()
    with duckdb.connect() as connection:
        return connection.register("t", t).execute(sql).fetchall()


def by_deltalake(path: Path, sql: str) -> Any:
    found = pa.table(QueryBuilder().register("t", DeltaTable(path)).execute(sql).read_all())
    return [tuple(row.values()) for row in found.rename_columns(["a", "b", "c", "d"]).to_pylist()]


def by_polars(path: Path, sql: str) -> Any:
    polars = pytest.importorskip("polars", reason="Polars is not installed")
    rows = polars.scan_delta(str(path)).filter(polars.col("tenant_id") == "alpha")
    told = rows.with_columns(n=1) if "counted" in sql else rows.with_columns(n=polars.col("event_count"))
    if "counted" in sql:
        told = told.with_columns(
            polars.when(polars.col("counted") & bit != 0).then(polars.col(name)).alias(name)
            for name, bit in (("input_tokens", COUNTED_TOKENS), ("cost_usd", COUNTED_COST))
        )
    return told.group_by("model").agg(polars.col("n", "input_tokens", "cost_usd").sum()).collect().rows()


@pytest.mark.parametrize("read", [by_duckdb, by_deltalake, by_polars])
@pytest.mark.parametrize("table", ["events", "rollup_1m", "rollup_1h", "rollup_1d"])
def test_an_engine_finds_what_the_api_answers(
    lake: Lake, answered: Sums, read: Callable[[Path, str], Any], table: str
) -> None:
    rows = read(lake.settings.lake / table, RAW if table == "events" else ROLLED)
    found = {model: (int(count), int(tokens or 0), Decimal(cost or 0)) for model, count, tokens, cost in rows}
    assert found == answered and sum(count for count, _, _ in found.values()) == len(lake.rows["alpha"])
