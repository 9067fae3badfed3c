"""Real LLM traffic through `llmhub ingest`, then the hub's answers against DuckDB over the source files, exactly.

    python -m tests.journeys.real_data --url http://127.0.0.1:8000 --key KEY [--data FOLDER] [--file NAME …]

Each file is ingested with few options, as a stranger would. Then request count, token sums and cost by model and hour
are asked of `/api/v1/metrics/timeseries` and `/aggregates`, and computed by DuckDB from the file itself. Both are
printed; any difference exits 1. Cost is exact: the prices of `prices/litellm_model_prices.parquet` as decimals, times
the tokens of each row, to nine decimals; the recorded usage objects carry prices of their own. The measurements of
providers have prices of one model each, stated below.

Files of rates rather than requests become `observatory.metric` events: their count is compared with the hub's answer,
and the sum of their values with the Delta table, read by DuckDB, where the lake is on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

from cluster.sdk.client import HubClient

ROOT = Path(__file__).resolve().parents[2]
MEASURES = ("request_count", "error_count", "input_tokens", "output_tokens", "cost_usd")
# An acknowledged event is in answers within 5 s; a busy machine gets more before it counts as a difference.
FRESH_WITHIN_S = 60.0
# (model, hour as RFC 3339) -> the measures, in order.
Table = dict[tuple[str | None, str], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Trace:
    """One file of requests: how it is ingested, and what it says itself.

    Attributes:
        options: of `llmhub ingest`, besides the file.
        model, at, failed: SQL over the file's columns, written apart from the presets of the command.
        span: days the file covers in the hub, half-open.
        price: key of the price table whose input and output price every row has; empty where the file has its own.
    """

    file: str
    options: tuple[str, ...]
    model: str
    at: str
    span: tuple[str, str]
    failed: str = "false"
    price: str = ""


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
    ),
)


@dataclass(frozen=True, slots=True)
class Rates:
    """A file of rates: a metric event for each row, whose `value` is one column."""

    file: str
    value: str
    span: tuple[str, str]


RATES = (
    Rates("burstgpt_1_daily.parquet", "requests", ("2023-01-01T00:00:00Z", "2023-06-01T00:00:00Z")),
    Rates("burstgpt_1_minute_week1.parquet", "tokens_per_s", ("2022-01-01T00:00:00Z", "2022-02-01T00:00:00Z")),
    Rates("servegen_client_tokens.parquet", "mean", ("2021-01-01T00:00:00Z", "2021-02-01T00:00:00Z")),
    Rates("servegen_client_rates.parquet", "requests_per_s", ("2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z")),
)


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub the files go to.

    Attributes:
        lake: its table folder where that is on this machine.
    """

    url: str
    key: str
    lake: Path | None = None


def compare(trace: Trace, data: Path, hub: Hub) -> bool:
    """Ingest one file of requests, print both sides by model and hour, and say whether they are the same."""
    path = data / "llm_requests" / trace.file
    options = [*trace.options]
    prices = _prices(data, trace.price) if trace.price else None
    if prices:
        options += ["--map", f"cost_usd={_cost(prices)}"]
    _ingest(path, options, hub)
    expected = _expected(trace, path, prices)
    with HubClient(hub.url, hub.key) as client:
        _until_answered(client, trace.span, sum(row[0] for row in expected.values()))
        answered = _by_model_and_hour(trace, client)
        totals = _by_model(trace, client)
    same = expected == answered
    for model, hour in sorted(expected.keys() | answered.keys(), key=str):
        want, got = expected.get((model, hour)), answered.get((model, hour))
        print(f"   {model or '(none)'} {hour[:13]}  file {_shown(want)}  hub {_shown(got)}  {_mark(want == got)}")
    for model in sorted({key[0] for key in expected}, key=str):
        want = tuple(sum(column) for column in zip(*(v for k, v in expected.items() if k[0] == model), strict=True))
        same &= totals.get(model) == want
        if totals.get(model) != want:
            print(
                f"   {model or '(none)'} in all  file {_shown(want)}  hub {_shown(totals.get(model))}  {_mark(False)}"
            )
    want = tuple(sum(column) for column in zip(*expected.values(), strict=True))
    got = tuple(sum(column) for column in zip(*totals.values(), strict=True))
    print(f"   all  file {_shown(want)}  hub {_shown(got)}  {_mark(want == got)}", flush=True)
    return same and want == got


def compare_rates(rates: Rates, data: Path, hub: Hub) -> bool:
    """Ingest one file of rates and compare the count, and where the lake is at hand the sum."""
    path = data / "llm_requests" / rates.file
    _ingest(path, ["--start", rates.span[0]], hub)
    want, total = duckdb.sql(
        f"SELECT count(*), sum(CAST(CAST({rates.value} AS VARCHAR) AS DECIMAL(38,18))) FROM '{path}'"
    ).fetchall()[0]
    with HubClient(hub.url, hub.key) as client:
        got = _until_answered(client, rates.span, want)
    print(f"   rows  file {want}  hub {got}  {_mark(want == got)}")
    same = bool(want == got)
    if hub.lake is not None:
        files = DeltaTable(str(hub.lake / "events")).file_uris()
        kept = duckdb.execute(
            "SELECT sum(CAST(CAST(payload AS JSON)->>'value' AS DECIMAL(38,18))) FROM read_parquet(?)"
            " WHERE kind = 'observatory.metric' AND occurred_at >= CAST(? AS TIMESTAMPTZ)"
            " AND occurred_at < CAST(? AS TIMESTAMPTZ)",
            [files, *rates.span],
        ).fetchall()[0][0]
        print(f"   sum of {rates.value}  file {total}  Delta table {kept}  {_mark(total == kept)}", flush=True)
        same &= total == kept
    return same


def _ingest(path: Path, options: list[str], hub: Hub) -> None:
    print(f"\n== llmhub ingest {path.name} {' '.join(options)}", flush=True)
    command = [sys.executable, "-m", "infra.cli", "ingest", str(path), *options, "--url", hub.url]
    with tempfile.TemporaryDirectory() as bookmarks:
        environment = {**os.environ, "HUB_API_KEY": hub.key, "HUB_DATA": bookmarks}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    print(f"   {done.stdout.strip()}", flush=True)
    if done.returncode != 0:
        raise RuntimeError(f"ingest of {path.name} ended with {done.returncode}: {done.stderr.strip()}")


def _until_answered(client: HubClient, span: tuple[str, str], rows: int) -> int:
    """Events the hub tells of in the span, asked until all rows are there or have had their time to come."""
    deadline = time.monotonic() + FRESH_WITHIN_S
    while True:
        found = client.get("/api/v1/metrics/aggregates", [("measure", "event_count"), *_range(span)])["rows"]
        count = int(found[0]["values"]["event_count"]) if found else 0
        if count >= rows or time.monotonic() > deadline:
            return count
        time.sleep(0.2)


def _prices(data: Path, key: str) -> tuple[Decimal, Decimal]:
    found = duckdb.execute(
        "SELECT input_cost_per_token, output_cost_per_token FROM read_parquet(?) WHERE model_key = ?",
        [str(data / "prices" / "litellm_model_prices.parquet"), key],
    ).fetchall()[0]
    return Decimal(repr(found[0])), Decimal(repr(found[1]))


def _cost(prices: tuple[Decimal, Decimal]) -> str:
    """Constants are decimals and tokens whole numbers, so no float is on the way."""
    return f"CAST(input_tokens * {prices[0]:f} + output_tokens * {prices[1]:f} AS DECIMAL(18,9))"


def _expected(trace: Trace, path: Path, prices: tuple[Decimal, Decimal] | None) -> Table:
    """The measures by model and hour, from the file and nothing else."""
    connection = duckdb.connect()
    source = f"SELECT *, {_cost(prices)} AS cost FROM '{path}'" if prices else _usage_rows(connection, path)
    hour = f"strftime(date_trunc('hour', CAST({trace.at} AS TIMESTAMP)), '%Y-%m-%dT%H:00:00.000000Z')"
    rows = connection.sql(
        f"SELECT {trace.model}, {hour}, count(*), count(*) FILTER ({trace.failed}),"
        " CAST(coalesce(sum(input_tokens), 0) AS BIGINT), CAST(coalesce(sum(output_tokens), 0) AS BIGINT),"
        f" coalesce(sum(cost), 0) FROM ({source}) GROUP BY 1, 2"
    ).fetchall()
    return {(row[0], row[1]): tuple(row[2:]) for row in rows}


def _usage_rows(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    """Recorded usage objects with tokens and cost read here, by a JSON parser and Decimal."""
    out = []
    for record, model, text in connection.sql(f"SELECT record_no, model, extracted_json FROM '{path}'").fetchall():
        found = json.loads(text)
        usage = found[0]["usage"]
        readings = [reading for one in found for reading in one["extractors"]]
        # The price of input and of output are each the first that any reading knows.
        parts = [next((r[name] for r in readings if name in r), None) for name in ("input_price", "output_price")]
        known = [Decimal(part) for part in parts if part is not None]
        out.append(
            (record, model, usage.get("input_tokens"), usage.get("output_tokens"), sum(known) if known else None)
        )
    connection.execute(
        "CREATE TABLE usages (record_no BIGINT, model VARCHAR, input_tokens BIGINT, output_tokens BIGINT,"
        " cost DECIMAL(18,9))"
    )
    connection.executemany("INSERT INTO usages VALUES (?, ?, ?, ?, ?)", out)
    return "SELECT * FROM usages"


def _range(span: tuple[str, str]) -> list[tuple[str, str]]:
    return [("from", span[0]), ("to", span[1])]


def _question(trace: Trace) -> list[tuple[str, str]]:
    measures = [("measure", name) for name in MEASURES]
    return [*measures, *_range(trace.span), ("group_by", "model"), ("filter", "kind:gateway.request")]


def _by_model_and_hour(trace: Trace, client: HubClient) -> Table:
    answer = client.get("/api/v1/metrics/timeseries", [*_question(trace), ("granularity", "1h")])
    found: dict[tuple[str | None, str], dict[str, Any]] = {}
    for series in answer["series"]:
        for at, value in series["points"]:
            found.setdefault((series["group"]["model"], at), {})[series["measure"]] = value
    return {key: tuple(values[name] for name in MEASURES) for key, values in found.items()}


def _by_model(trace: Trace, client: HubClient) -> dict[str | None, tuple[Any, ...]]:
    answer = client.get("/api/v1/metrics/aggregates", [*_question(trace), ("limit", "1000")])
    return {row["group"]["model"]: tuple(row["values"][name] for name in MEASURES) for row in answer["rows"]}


def _shown(values: tuple[Any, ...] | None) -> str:
    if values is None:
        return "nothing"
    return " ".join(f"{f'{Decimal(value).normalize():f}':>12}" for value in values)


def _mark(same: bool) -> str:
    return "=" if same else "DIFFERS"


def data_folder() -> Path:
    """Where the real data lies: HUB-independent, beside the project unless the environment says otherwise."""
    return Path(os.environ.get("LLMHUB_TEST_DATA") or ROOT.parent / "shared" / "data")


def outcomes(data: Path, hub: Hub, names: list[str]) -> Iterator[tuple[str, bool]]:
    """Each file by name, or all of them, and whether both sides agreed."""
    for trace in TRACES:
        if not names or trace.file in names:
            yield trace.file, compare(trace, data, hub)
    for rates in RATES:
        if not names or rates.file in names:
            yield rates.file, compare_rates(rates, data, hub)


def main() -> int:
    """Exit code 1 where any figure differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.journeys.real_data", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=os.environ.get("HUB_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--key", default=os.environ.get("HUB_API_KEY", ""))
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--lake", type=Path, help="DIR/lake/REGION of the hub, to compare the Delta table as well")
    parser.add_argument("--file", action="append", default=[], help="only this one; repeatable")
    options = parser.parse_args()
    print(f"columns: {' '.join(MEASURES)}")
    found = dict(outcomes(options.data, Hub(options.url, options.key, options.lake), options.file))
    print()
    for name, same in found.items():
        print(f"{name}: {'equal' if same else 'DIFFERS'}")
    return 0 if found and all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
