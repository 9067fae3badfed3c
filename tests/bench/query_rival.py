"""The same questions to the hub's engine and to chDB: two threads each, the best of a few runs.

chDB is installed for benchmarks only; without it the figures say so. It reads the Parquet files of the table that the
hub chose; the hub has that table in memory. So the ratio tells what an asker gains, not which engine scans faster.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from cluster.lake.scan import TableReader
from cluster.settings import Settings
from cluster.tenancy import TenantScope
from serving.query_engine import QueryEngine

_RUNS: Final = 5
_THREADS: Final = 2
_REQUESTS: Final = "sum(request_count)"
# Name, kind and parameters of the hub's question, then the rival's SELECT list, GROUP BY and WHERE over a roll-up.
QUESTIONS: Final[tuple[tuple[str, str, tuple[tuple[str, str], ...], str, str, str], ...]] = tuple(
    (name, kind, (*(("measure", one) for one in measures), *more), select, group, where)
    for name, kind, measures, more, select, group, where in (
        ("requests", "aggregate", ["request_count"], (), _REQUESTS, "", ""),
        ("errors", "aggregate", ["error_ratio"], (), f"sum(error_count) / {_REQUESTS}", "", ""),
        ("cost", "aggregate", ["cost_usd"], (), "sum(cost_usd)", "", ""),
        (
            "tokens",
            "aggregate",
            ["input_tokens", "output_tokens"],
            (),
            "sum(input_tokens), sum(output_tokens)",
            "",
            "",
        ),
        ("latency", "aggregate", ["latency_ms_avg"], (), "sum(latency_ms_sum) / sum(latency_count)", "", ""),
        ("by_model", "aggregate", ["request_count"], (("group_by", "model"),), _REQUESTS, "model", ""),
        ("cost_by_model", "aggregate", ["cost_usd"], (("group_by", "model"),), "sum(cost_usd)", "model", ""),
        (
            "by_model_and_provider",
            "aggregate",
            ["request_count"],
            (("group_by", "model"), ("group_by", "provider")),
            _REQUESTS,
            "model, provider",
            "",
        ),
        (
            "one_model",
            "aggregate",
            ["request_count"],
            (("filter", "model:model-2"),),
            _REQUESTS,
            "",
            "model = 'model-2'",
        ),
        ("by_day", "timeseries", ["request_count"], (("granularity", "1d"),), _REQUESTS, "toStartOfDay(at)", ""),
        ("cost_by_day", "timeseries", ["cost_usd"], (("granularity", "1d"),), "sum(cost_usd)", "toStartOfDay(at)", ""),
        (
            "by_day_and_model",
            "timeseries",
            ["request_count"],
            (("granularity", "1d"), ("group_by", "model")),
            _REQUESTS,
            "toStartOfDay(at), model",
            "",
        ),
    )
)


async def compared(engine: QueryEngine, folder: Path, scope: TenantScope) -> dict[str, Any]:
    """Best ms of each question, and the geometric mean of the ratios; why not, where chDB is not installed."""
    if find_spec("chdb") is None:
        return {"skipped": "chdb is not installed: pip install chdb"}
    rival = import_module("chdb.session").Session()
    rows: dict[str, dict[str, Any]] = {}
    settings = Settings(data=folder)
    for name, kind, pairs, select, group, where in QUESTIONS:
        # Days that have ended, so that both read whole ones.
        asked = (*pairs, ("from", "-29d"), ("to", "-1d"))
        told = json.loads((await engine.query(scope, kind, asked)).body)
        tier = str(told["tier"])
        paths = [one.path for one in TableReader(settings.lake, tier).refresh().by_tenant[str(scope.tenants[0])]]
        span = (
            f"window_start >= parseDateTime64BestEffort('{told['from']}', 6, 'UTC') "
            f"AND window_start < parseDateTime64BestEffort('{told['to']}', 6, 'UTC')"
        )
        listed = f"file('{_gathered(folder, tier, paths)}/*.parquet', Parquet)"
        columns = f"{group}, {select}" if group else select
        sql = (
            f"SELECT {columns} FROM (SELECT *, window_start AS at FROM {listed}) WHERE {span}"
            + (f" AND {where}" if where else "")
            + (f" GROUP BY {group}" if group else "")
            + f" SETTINGS max_threads = {_THREADS}"
        )
        theirs = _best_ms(lambda sql=sql: rival.query(sql, "JSONCompact"))  # type: ignore[misc]
        ours = min([await _ours_ms(engine, scope, kind, asked, run) for run in range(_RUNS)])
        rows[name] = {"tier": tier, "hub_ms": round(ours, 2), "chdb_ms": round(theirs, 2), "files": len(paths)}
    rival.close()
    ratios = [row["chdb_ms"] / row["hub_ms"] for row in rows.values()]
    mean = math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
    return {"questions": rows, "threads": _THREADS, "chdb_over_hub_geometric_mean": round(mean, 2)}


def _gathered(folder: Path, tier: str, paths: list[str]) -> Path:
    """A folder with links to a table's files of one tenant: those that are no longer in the table stay out."""
    links = folder.absolute() / "rival" / tier
    if not links.exists():
        links.mkdir(parents=True)
        for number, path in enumerate(paths):
            os.link(path, links / f"{number}.parquet")
    return links


async def _ours_ms(engine: QueryEngine, scope: TenantScope, kind: str, pairs: Any, run: int) -> float:
    # A filter that lets everything pass makes it another question, which no cache answers.
    asked = (*pairs, ("filter", f"environment:ne:none-{run}"))
    start_s = time.perf_counter()
    await engine.query(scope, kind, asked)
    return (time.perf_counter() - start_s) * 1_000


def _best_ms(ask: Callable[[], object]) -> float:
    best_s = math.inf
    for _ in range(_RUNS):
        start_s = time.perf_counter()
        ask()
        best_s = min(best_s, time.perf_counter() - start_s)
    return best_s * 1_000
