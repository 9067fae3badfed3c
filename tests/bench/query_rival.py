"""The hub and chDB (ClickHouse in this process) over the same events, two threads each, in one run.

Three times for each question: the hub's catalogue, which answers from roll-ups, each time a question that no cache
knows; the hub's SQL over its raw events, in its sandboxed process; chDB over the same Parquet files. The answers are
compared, too. chDB is installed for this benchmark only; without it the figures say so.
"""

from __future__ import annotations

import csv
import io
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from cluster.lake.scan import TableReader
from cluster.settings import Settings
from cluster.tenancy import TenantScope
from serving.query_engine import QueryEngine
from serving.sql_answers import whole
from serving.sql_job import SqlForm
from serving.sql_request import SqlRequest
from tests.bench.query_rows import DAY_US

_RUNS: Final = 5
_THREADS: Final = 2
_ROWS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Question:
    """One question in three words.

    Attributes:
        columns: SELECT list, where both dialects agree; `theirs` where they do not.
        measures, more: of the catalogue's question; no measures where roll-ups do not hold the answer.
    """

    name: str
    columns: str
    group: str = ""
    where: str = ""
    end: str = ""
    theirs: str = ""
    measures: tuple[str, ...] = ()
    more: tuple[tuple[str, str], ...] = ()
    kind: str = "aggregate"


_DAYS: Final = (("granularity", "1d"),)
_BY_MODEL: Final = (("group_by", "model"),)
QUESTIONS: Final = (
    Question("requests", "count(*)", measures=("request_count",)),
    Question("errors", "avg(CAST(status = 'error' AS INTEGER))", measures=("error_ratio",)),
    Question("cost", "sum(cost_usd)", measures=("cost_usd",)),
    Question("tokens", "sum(input_tokens), sum(output_tokens)", measures=("input_tokens", "output_tokens")),
    Question("latency", "avg(latency_ms)", measures=("latency_ms_avg",)),
    Question("by_model", "model, count(*)", "model", measures=("request_count",), more=_BY_MODEL),
    Question("cost_by_model", "model, sum(cost_usd)", "model", measures=("cost_usd",), more=_BY_MODEL),
    Question(
        "by_model_and_provider",
        "model, provider, count(*)",
        "model, provider",
        measures=("request_count",),
        more=(*_BY_MODEL, ("group_by", "provider")),
    ),
    Question(
        "one_model",
        "count(*)",
        where="model = 'model-2'",
        measures=("request_count",),
        more=(("filter", "model:model-2"),),
    ),
    Question(
        "by_day",
        "date_trunc('day', occurred_at), count(*)",
        "date_trunc('day', occurred_at)",
        measures=("request_count",),
        more=_DAYS,
        kind="timeseries",
    ),
    Question(
        "cost_by_day_and_model",
        "date_trunc('day', occurred_at), model, sum(cost_usd)",
        "date_trunc('day', occurred_at), model",
        measures=("cost_usd",),
        more=(*_DAYS, *_BY_MODEL),
        kind="timeseries",
    ),
    Question(
        "p95_by_model",
        "model, quantile_disc(latency_ms, 0.95)",
        "model",
        theirs="model, quantileExact(0.95)(latency_ms)",
        measures=("latency_ms_p95",),
        more=_BY_MODEL,
    ),
    Question("users", "count(DISTINCT user_id)", theirs="uniqExact(user_id)", measures=("unique_users",)),
    Question("top_users", "user_id, count(*) AS n", "user_id", end="ORDER BY n DESC, user_id LIMIT 10"),
    Question("one_user", "count(*), sum(cost_usd)", where="user_id = 'user-77'"),
    Question("slowest", "event_id, latency_ms", end="ORDER BY latency_ms DESC, event_id LIMIT 20"),
    Question("needle", "count(*)", where="session_id LIKE '%-4242'"),
    Question("sessions", "count(*)", where="output_tokens > 500 AND status = 'error'"),
)


async def compared(engine: QueryEngine, folder: Path, scope: TenantScope, *, now_us: int) -> dict[str, Any]:
    """Best ms of each question, and the ratios; why not, where chDB is not installed."""
    if find_spec("chdb") is None:
        return {"skipped": "chdb is not installed: pip install chdb"}
    rival = import_module("chdb.session").Session()
    listed = f"file('{_gathered(folder, scope)}/*.parquet', Parquet)"
    # Whole days, so that all three read the same.
    first, last = now_us // DAY_US - 28, now_us // DAY_US
    rows: dict[str, dict[str, Any]] = {}
    for question in QUESTIONS:
        ours = _statement(question, "events", f"TIMESTAMPTZ '{_day(first)}Z'", f"TIMESTAMPTZ '{_day(last)}Z'")
        theirs = _statement(
            question,
            listed,
            f"toDateTime64('{_day(first)}', 6, 'UTC')",
            f"toDateTime64('{_day(last)}', 6, 'UTC')",
            rival=True,
        )
        theirs += f" SETTINGS max_threads = {_THREADS}"
        told, sql_ms = await _by_sql(engine, scope, ours)
        chdb_ms = _best_ms(lambda theirs=theirs: rival.query(theirs, "CSV"))  # type: ignore[misc]
        rows[question.name] = {
            "chdb_ms": round(chdb_ms, 2),
            "hub_sql_ms": round(sql_ms, 2),
            "equal": _alike(told, str(rival.query(theirs, "CSV"))),
        }
        if question.measures:
            span = (("from", f"{_day(first)}Z".replace(" ", "T")), ("to", f"{_day(last)}Z".replace(" ", "T")))
            rows[question.name]["hub_ms"] = round(await _by_catalogue(engine, scope, question, span), 2)
    rival.close()
    return {"questions": rows, "threads": _THREADS, **_ratios(list(rows.values()))}


def _ratios(rows: list[dict[str, Any]]) -> dict[str, Any]:
    rolled = [row["chdb_ms"] / row["hub_ms"] for row in rows if "hub_ms" in row]
    raw = [row["hub_sql_ms"] / row["chdb_ms"] for row in rows]
    return {
        "all_equal": all(row["equal"] for row in rows),
        "chdb_raw_over_hub_rollups": {
            "questions": len(rolled),
            "least": round(min(rolled), 2),
            "median": round(statistics.median(rolled), 2),
            "geometric_mean": round(statistics.geometric_mean(rolled), 2),
        },
        "hub_sql_over_chdb": {
            "questions": len(raw),
            "most": round(max(raw), 2),
            "median": round(statistics.median(raw), 2),
            "geometric_mean": round(statistics.geometric_mean(raw), 2),
        },
    }


def _statement(question: Question, table: str, first: str, last: str, *, rival: bool = False) -> str:
    columns = (rival and question.theirs) or question.columns
    where = f" AND {question.where}" if question.where else ""
    group = f" GROUP BY {question.group}" if question.group else ""
    inside = f"occurred_at >= {first} AND occurred_at < {last}{where}"
    # The text is ours alone.
    return f"SELECT {columns} FROM {table} WHERE {inside}{group} {question.end}"


def _day(day: int) -> str:
    return time.strftime("%Y-%m-%d 00:00:00", time.gmtime(day * 86_400))


def _gathered(folder: Path, scope: TenantScope) -> Path:
    """A folder with links to the event files of one tenant: those that are no longer in the table stay out."""
    links = folder.absolute() / "rival"
    if not links.exists():
        links.mkdir()
        active = TableReader(Settings(data=folder).lake, "events").refresh().by_tenant[str(scope.tenants[0])]
        for number, one in enumerate(active):
            os.link(one.path, links / f"{number}.parquet")
    return links


async def _by_sql(engine: QueryEngine, scope: TenantScope, statement: str) -> tuple[str, float]:
    best_s = math.inf
    body = b""
    for _ in range(_RUNS):
        start_s = time.perf_counter()
        rows = await whole(engine.sql(scope, SqlRequest(statement, [], _ROWS_MAX, SqlForm.CSV)))
        best_s = min(best_s, time.perf_counter() - start_s)
        body = rows.body
    return body.decode().partition("\r\n")[2], best_s * 1_000


async def _by_catalogue(engine: QueryEngine, scope: TenantScope, question: Question, span: Any) -> float:
    best_s = math.inf
    for run in range(_RUNS):
        # A filter that lets everything pass makes it another question, which no cache answers.
        asked = (
            *(("measure", name) for name in question.measures),
            *question.more,
            *span,
            ("filter", f"environment:ne:none-{run}"),
        )
        start_s = time.perf_counter()
        await engine.query(scope, question.kind, asked)
        best_s = min(best_s, time.perf_counter() - start_s)
    return best_s * 1_000


def _alike(ours: str, theirs: str) -> bool:
    """Whether the rows are the same in any order, numbers to nine digits."""
    return _rows(ours) == _rows(theirs)


def _rows(text: str) -> list[tuple[str, ...]]:
    return sorted(tuple(_cell(cell) for cell in row) for row in csv.reader(io.StringIO(text)))


def _cell(text: str) -> str:
    try:
        return f"{float(text):.9g}"
    except ValueError:
        # 2026-11-01 00:00:00.000000, 2026-11-01T00:00:00Z, 2026-11-01: the day is what counts.
        return text[:10] if text[:2] == "20" and text[4:5] == "-" else text


def _best_ms(ask: Callable[[], object]) -> float:
    best_s = math.inf
    for _ in range(_RUNS):
        start_s = time.perf_counter()
        ask()
        best_s = min(best_s, time.perf_counter() - start_s)
    return best_s * 1_000
