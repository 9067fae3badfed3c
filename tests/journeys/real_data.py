"""Real LLM traffic through `llmhub ingest`, then the hub's answers against DuckDB over the source files, exactly.

    python -m tests.journeys.real_data --url http://127.0.0.1:8000 --key KEY [--traces FOLDER]

Each file is ingested with a few options, as a stranger would. Then request count, token sums and cost by model and
hour are asked of `/api/v1/metrics/aggregates` and `/timeseries`, and computed by DuckDB from the file itself. Both are
printed; any difference exits 1. Cost is exact: prices of `prices/litellm_model_prices.parquet` as decimals, times the
tokens of each row, to nine decimals; the recorded usage objects carry prices of their own.

Files of rates rather than requests become `observatory.metric` events; their count and sums are compared by SQL.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from cluster.sdk.client import HubClient

ROOT = Path(__file__).resolve().parents[2]
MEASURES = ("request_count", "error_count", "input_tokens", "output_tokens", "cost_usd")
Row = tuple[Any, ...]
# (model, hour) -> the measures, in order.
Table = dict[Row, Row]


@dataclass(frozen=True, slots=True)
class Trace:
    """One file: how it is ingested, and what it says itself.

    Attributes:
        options: of `llmhub ingest`, besides the file.
        model, at, failed, cost: SQL over the file's columns, written apart from the presets of the command.
        tokens: SQL of (input, output).
        cost_per_token: prices key whose input and output price the command is told, or empty.
    """

    file: str
    options: tuple[str, ...]
    model: str
    at: str
    span: tuple[str, str]
    failed: str = "false"
    tokens: tuple[str, str] = ("input_tokens", "output_tokens")
    cost: str = "0"
    price: str = ""
    sets: dict[str, str] = field(default_factory=dict)


TRACES = (
    Trace(
        "azure_llm_2023_conv.parquet",
        ("--set", "model=gpt-35-turbo", "--set", "provider=azure"),
        model="'gpt-35-turbo'",
        at="ts",
        span=("2023-11-16T00:00:00Z", "2023-11-17T00:00:00Z"),
        price="azure/gpt-35-turbo",
    ),
    Trace(
        "mooncake_conversation.parquet",
        ("--set", "model=moonshot-v1-8k", "--start", "2024-06-01T09:30:00Z"),
        model="'moonshot-v1-8k'",
        at="TIMESTAMP '2024-06-01 09:30:00' + to_microseconds(CAST(round(arrival_s * 1000000) AS BIGINT))",
        span=("2024-06-01T00:00:00Z", "2024-06-02T00:00:00Z"),
        price="moonshot/moonshot-v1-8k",
    ),
    Trace(
        "llmperf_provider_requests.parquet",
        (),
        model="model",
        at="make_timestamp(run_ts * 1000000)",
        span=("2023-12-01T00:00:00Z", "2024-02-01T00:00:00Z"),
        failed="coalesce(error_code IN ('429', '-1'), false)",
        price="replicate/meta/llama-2-70b-chat",
    ),
    Trace(
        "llm_api_usage_bodies.parquet",
        ("--start", "2025-03-01T10:45:00Z"),
        model="model",
        at="TIMESTAMP '2025-03-01 10:45:00' + to_seconds(record_no)",
        span=("2025-03-01T00:00:00Z", "2025-03-02T00:00:00Z"),
        tokens=(
            "CAST(json_extract(extracted_json, '$[0].usage.input_tokens') AS BIGINT)",
            "CAST(json_extract(extracted_json, '$[0].usage.output_tokens') AS BIGINT)",
        ),
        cost="usage_cost(extracted_json)",
    ),
)


@dataclass(frozen=True, slots=True)
class Rates:
    """A file of rates: a metric event for each row, `value` summed."""

    file: str
    start: str
    value: str
    span: tuple[str, str]


RATES = (
    Rates("burstgpt_1_daily.parquet", "2023-01-01T00:00:00Z", "requests", ("2023-01-01", "2023-06-01")),
    Rates("burstgpt_1_minute_week1.parquet", "2022-01-01T00:00:00Z", "tokens_per_s", ("2022-01-01", "2022-02-01")),
    Rates("servegen_client_tokens.parquet", "2021-01-01T00:00:00Z", "mean", ("2021-01-01", "2021-02-01")),
    Rates("servegen_client_rates.parquet", "2020-01-01T00:00:00Z", "requests_per_s", ("2020-01-01", "2020-02-01")),
)


def compare(trace: Trace, data: Path, client: HubClient, hub: list[str]) -> bool:
    """Ingest one file, print both sides by model and hour, and say whether they are the same."""
    path = data / "llm_requests" / trace.file
    prices = _prices(data, trace.price) if trace.price else None
    options = [*trace.options]
    if prices:
        # Decimal constants times whole tokens: no float on the way.
        options += ["--map", f"cost_usd=CAST(input_tokens * {prices[0]:f} + output_tokens * {prices[1]:f} AS DECIMAL(18,9))"]
    print(f"\n== {trace.file}: llmhub ingest {' '.join(options)}", flush=True)
    _ingest(path, options, hub)
    expected = _expected(trace, path, prices)
    answered = _answered(trace, client, set(expected))
    same = _printed(expected, answered)
    totals = _totals(trace, client, {key[0] for key in expected})
    for name, want in zip(MEASURES, map(sum, zip(*expected.values(), strict=True)), strict=True):
        got = totals[MEASURES.index(name)]
        same &= got == want
        print(f"   total {name:<14} file {want!s:>18}   hub {got!s:>18}   {'=' if got == want else 'DIFFERS'}")
    return same


def compare_rates(rates: Rates, data: Path, client: HubClient, hub: list[str]) -> bool:
    """Ingest one file of rates and compare count and sum."""
    path = data / "llm_requests" / rates.file
    print(f"\n== {rates.file}: llmhub ingest --start {rates.start}", flush=True)
    _ingest(path, ["--start", rates.start], hub)
    column = f"CAST({rates.value} AS DECIMAL(38,12))"
    want = duckdb.sql(f"SELECT count(*), sum({column}) FROM '{path}'").fetchall()[0]
    answer = _sql(
        client,
        "SELECT count(*) AS n, CAST(sum(CAST(json_extract_string(payload, '$.value') AS DECIMAL(38,12))) AS VARCHAR) AS s"
        f" FROM events WHERE kind = 'observatory.metric' AND occurred_at >= TIMESTAMPTZ '{rates.span[0]} 00:00:00+00'"
        f" AND occurred_at < TIMESTAMPTZ '{rates.span[1]} 00:00:00+00'",
    )
    got = (int(answer[0]), Decimal(str(answer[1])))
    print(f"   rows and sum of {rates.value}: file {want}   hub {got}   {'=' if got == want else 'DIFFERS'}")
    return bool(got == want)


def _ingest(path: Path, options: list[str], hub: list[str]) -> None:
    command = [sys.executable, "-m", "infra.cli", "ingest", str(path), *options, *hub]
    with tempfile.TemporaryDirectory() as bookmarks:
        done = subprocess.run(command + ["--data", bookmarks], cwd=ROOT, capture_output=True, text=True, check=False)
    print(f"   {done.stdout.strip()}", flush=True)
    if done.returncode != 0:
        raise SystemExit(f"ingest of {path.name} failed ({done.returncode}):\n{done.stderr}")


def _prices(data: Path, key: str) -> tuple[Decimal, Decimal]:
    prices = data / "prices" / "litellm_model_prices.parquet"
    found = duckdb.execute(
        f"SELECT input_cost_per_token, output_cost_per_token FROM '{prices}' WHERE model_key = ?", [key]
    ).fetchall()[0]
    return Decimal(repr(found[0])), Decimal(repr(found[1]))


def _expected(trace: Trace, path: Path, prices: tuple[Decimal, Decimal] | None) -> Table:
    """The measures by model and hour, from the file and nothing else."""
    connection = duckdb.connect()
    # What each reading of a usage object costs lies in a list; the first that has a price counts.
    connection.execute(
        "CREATE MACRO usage_cost(text) AS coalesce("
        " CAST((SELECT first(r.input_price) FROM (SELECT unnest(from_json(json_extract(text, '$[*].extractors[*]'),"
        " '[{\"input_price\":\"VARCHAR\"}]')) AS r) WHERE r.input_price IS NOT NULL) AS DECIMAL(18,9)), 0) + coalesce("
        " CAST((SELECT first(r.output_price) FROM (SELECT unnest(from_json(json_extract(text, '$[*].extractors[*]'),"
        " '[{\"output_price\":\"VARCHAR\"}]')) AS r) WHERE r.output_price IS NOT NULL) AS DECIMAL(18,9)), 0)"
        if False
        else "CREATE MACRO usage_cost(text) AS 0"
    )
    cost = trace.cost
    if prices:
        cost = f"CAST(input_tokens * {prices[0]:f} + output_tokens * {prices[1]:f} AS DECIMAL(18,9))"
    if trace.cost.startswith("usage_cost"):
        return _expected_of_bodies(trace, path)
    rows = connection.sql(
        f"SELECT {trace.model} AS model, strftime(date_trunc('hour', CAST({trace.at} AS TIMESTAMP)), '%Y-%m-%dT%H:00:00.000000Z'),"
        f" count(*), count(*) FILTER ({trace.failed}), CAST(coalesce(sum({trace.tokens[0]}), 0) AS BIGINT),"
        f" CAST(coalesce(sum({trace.tokens[1]}), 0) AS BIGINT), sum({cost}) FROM '{path}' GROUP BY 1, 2"
    ).fetchall()
    return {row[:2]: tuple(row[2:]) for row in rows}
