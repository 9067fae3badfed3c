"""The hub's reading API with made-up numbers, and the real router of the page in front of it.

It speaks the JSON of `models/query/answer.py`, so that the page can be tested in seconds and in states that a real hub
is rarely in: empty, failing, busy, away. `python -m tests.journeys.api_stand_in --port 8100` serves it.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import random
import threading
import time
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from serving.api import web

KEY = "hub_stand_in_key"

# name, provider, share of requests, latency ms, input and output tokens per request, USD per million of each
MODELS: tuple[tuple[str, str, float, float, int, int, float, float], ...] = (
    ("gpt-4o-mini", "openai", 0.34, 620, 900, 210, 0.15, 0.6),
    ("claude-sonnet-4-5", "anthropic", 0.22, 1480, 2400, 460, 3.0, 15.0),
    ("gpt-4o", "openai", 0.15, 1120, 1300, 330, 2.5, 10.0),
    ("gemini-2.0-flash", "google", 0.11, 540, 1100, 260, 0.1, 0.4),
    ("claude-haiku-4-5", "anthropic", 0.08, 700, 800, 240, 1.0, 5.0),
    ("llama-3.3-70b-instruct", "together", 0.05, 1340, 1000, 310, 0.88, 0.88),
    ("mistral-large-latest", "mistral", 0.03, 1650, 1200, 380, 2.0, 6.0),
    ("text-embedding-3-large", "openai", 0.012, 180, 600, 0, 0.13, 0.0),
    ("o4-mini", "openai", 0.008, 6900, 1500, 1900, 1.1, 4.4),
)
STEPS = {"1h": ("1m", 60), "6h": ("5m", 300), "24h": ("15m", 900), "7d": ("1h", 3600)}
SPANS = {
    "-1h": 3600,
    "-2h": 7200,
    "-6h": 21600,
    "-12h": 43200,
    "-24h": 86400,
    "-48h": 172800,
    "-7d": 604800,
    "-14d": 1209600,
}
UNITS = {"cost_usd": "usd", "error_ratio": "ratio", "latency_ms_avg": "ms", "latency_ms_p95": "ms"}
SENDERS_OF_REQUESTS = {"", "gateway", "observatory"}

Sums = dict[str, float]
Question = dict[str, Any]


class StandIn:
    """What the made-up hub is doing; a test sets `mode` and `names` while it runs."""

    def __init__(self) -> None:
        self.reset(now=None)

    def reset(self, *, now: float | None) -> None:
        """As if just started; `now` stops its clock, in seconds since the epoch."""
        # "full", "empty", "failing" (one panel), "busy" (429) or "away" (502).
        self.mode = "full"
        self.key: str | None = KEY
        # Puts other names in place of the models', to see whether they stay text.
        self.names: dict[str, str] = {}
        # Questions, and the requests they came in.
        self.asked: list[Question] = []
        self.requests = 0
        self.unchanged = 0
        self.frozen_at = now

    def now(self) -> float:
        return self.frozen_at or time.time()

    def cell(self, model: int, bucket: int, seconds: int) -> Sums:
        """Sums of one model in one window."""
        return made_up(model, bucket * seconds, seconds, self.now() // 900 * 900)


@functools.lru_cache(maxsize=50_000)
def made_up(model: int, at: int, seconds: int, now: float) -> Sums:
    """A daily rhythm, some noise, and an outage of one provider seven hours before now."""
    name, provider, share, latency, tokens_in, tokens_out, price_in, price_out = MODELS[model]
    noise = random.Random(f"{name} {at}")
    hour = (at % 86400) / 3600
    rhythm = 0.42 + 0.58 * max(0.0, math.sin((hour - 5.5) / 24 * 2 * math.pi + 0.35)) ** 1.2
    count = float(int(seconds * 0.9 * share * rhythm * noise.uniform(0.85, 1.15)))
    broken = provider == "anthropic" and 0 <= (now - at) / 3600 - 7 < 1.4
    errors = float(int(count * (0.19 if broken else noise.uniform(0.002, 0.014))))
    slow = latency * noise.uniform(0.9, 1.12) * (1.7 if broken else 1)
    read = tokens_in * 0.31 * count
    return {
        "request_count": count,
        "error_count": errors,
        "latency_sum": slow * count,
        "latency_p95": slow * 2.3,
        "input_uncached_tokens": round(tokens_in * 0.63 * count),
        "cache_read_tokens": round(read),
        "cache_write_tokens": round(tokens_in * 0.06 * count),
        "output_text_tokens": round(tokens_out * 0.86 * count),
        "reasoning_tokens": round(tokens_out * 0.14 * count),
        "cost_usd": round(count * (tokens_in * price_in + tokens_out * price_out) / 1e6, 9),
    }


def total(cells: list[Sums], measure: str) -> float | None:
    """Value of a measure over cells, null where it has none."""
    calls = sum(cell["request_count"] for cell in cells)
    if measure == "error_ratio":
        return sum(cell["error_count"] for cell in cells) / calls if calls else None
    if measure == "latency_ms_avg":
        return sum(cell["latency_sum"] for cell in cells) / calls if calls else None
    if measure == "latency_ms_p95":
        return sum(cell["latency_p95"] * cell["request_count"] for cell in cells) / calls if calls else None
    if measure == "total_tokens":
        parts = (
            "input_uncached_tokens",
            "cache_read_tokens",
            "cache_write_tokens",
            "output_text_tokens",
            "reasoning_tokens",
        )
        return sum(cell[part] for cell in cells for part in parts)
    return round(sum(cell[measure] for cell in cells), 9)


def told(stand_in: StandIn, question: Question) -> tuple[list[str], list[str], str, bool]:
    module = next((f.split(":")[-1] for f in question.get("filter", []) if f.startswith("module:")), "")
    quiet = stand_in.mode == "empty" or module not in SENDERS_OF_REQUESTS
    return question["measure"], question.get("group_by", []), question.get("from", "-24h"), quiet


def windows(stand_in: StandIn, start: str, end: str) -> tuple[str, int, range]:
    reach = SPANS[start] - (0 if end == "now" else SPANS[end])
    range_id = {3600: "1h", 21600: "6h", 86400: "24h", 604800: "7d"}[reach]
    name, seconds = STEPS[range_id]
    first = int((stand_in.now() - SPANS[start]) // seconds)
    last = math.ceil((stand_in.now() - (0 if end == "now" else SPANS[end])) / seconds)
    return name, seconds, range(first, last)


def instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def groups(stand_in: StandIn, group_by: list[str]) -> list[tuple[dict[str, str | None], list[int]]]:
    if not group_by:
        return [({}, list(range(len(MODELS))))]
    # Events without a model are a group too.
    named: list[tuple[dict[str, str | None], list[int]]]
    named = [({group_by[0]: stand_in.names.get(model[0], model[0])}, [i]) for i, model in enumerate(MODELS)]
    return [*named, ({group_by[0]: None}, [])]


def timeseries(stand_in: StandIn, question: Question) -> dict[str, Any]:
    measures, group_by, start, quiet = told(stand_in, question)
    name, seconds, buckets = windows(stand_in, start, question.get("to", "now"))
    series = []
    for measure in measures:
        for group, members in groups(stand_in, group_by):
            if quiet and group:
                continue
            cells = [[] if quiet else [stand_in.cell(i, bucket, seconds) for i in members] for bucket in buckets]
            points = [
                [instant(bucket * seconds), total(cell, measure)] for bucket, cell in zip(buckets, cells, strict=True)
            ]
            unit = UNITS.get(measure, "tokens" if measure.endswith("_tokens") else "count")
            series.append({"measure": measure, "unit": unit, "group": group, "points": points})
    begins = instant((stand_in.now() - SPANS[start]) // 60 * 60)
    end = question.get("to", "now")
    ends = instant(stand_in.now() - (0 if end == "now" else SPANS[end]))
    return {"granularity": name, "from": begins, "to": ends, "tier": "1m", "version": 7, "series": series}


def aggregates(stand_in: StandIn, question: Question) -> dict[str, Any]:
    measures, group_by, start, quiet = told(stand_in, question)
    _, seconds, buckets = windows(stand_in, start, "now")
    rows = []
    for group, members in groups(stand_in, group_by):
        if quiet and group:
            continue
        cells = [] if quiet else [stand_in.cell(i, bucket, seconds) for i in members for bucket in buckets]
        row: dict[str, Any] = {"group": group, "values": {measure: total(cells, measure) for measure in measures}}
        if question.get("compare") == "previous":
            earlier = range(buckets.start - len(buckets), buckets.start)
            before = [] if quiet else [stand_in.cell(i, bucket, seconds) for i in members for bucket in earlier]
            row["previous"] = {measure: total(before, measure) for measure in measures}
        rows.append(row)
    order = question.get("order", ["-" + measures[0]])[0].lstrip("-")
    rows.sort(key=lambda row: -(row["values"].get(order) or 0))
    return {"tier": "1m", "version": 7, "rows": rows[: int(question.get("limit", 100))]}


def ledger(stand_in: StandIn) -> dict[str, Any]:
    if stand_in.mode == "empty":
        counts = dict.fromkeys(("accepted", "committed", "repeated", "dead_letters", "in_flight", "difference"), 0)
    else:
        counts = {
            "accepted": 4_812_334, "committed": 4_811_902, "repeated": 1_204, "dead_letters": 386, "in_flight": 432,
            "difference": 0,
        }  # fmt: skip
    shards = [
        {"shard": i, "state": "serving", "buffered_events": counts["in_flight"] // 2, "lag_s": 0.8} for i in range(2)
    ]
    return {"tenants": [{"tenant_id": "main", **counts}], "total": counts, "shards": shards, "freshness_s": 1.4}


def problem(status: int, title: str, detail: str, hint: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": "stand_in", "hint": hint}


def refusal(told: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(told), told["status"], headers=headers, media_type="application/problem+json")


def etag_of(body: dict[str, Any]) -> str:
    return f'"{hashlib.sha256(json.dumps(body).encode()).hexdigest()[:16]}"'


def part(stand_in: StandIn, question: Question, held: str | None) -> dict[str, Any]:
    """What a batch answers to one of its questions."""
    stand_in.asked.append(question)
    if stand_in.mode == "failing" and "cost_usd" in question.get("measure", []) and question.get("group_by"):
        told = problem(
            422, "Query too large", "Grouping by model gives 18,000 series in this range.", "Choose a shorter range."
        )
        return {"status": 422, "problem": told}
    kinds = {
        "timeseries": timeseries,
        "aggregate": aggregates,
        "search": lambda *_: {"events": [], "next_cursor": None},
    }
    body = kinds[question["kind"]](stand_in, question)
    etag = etag_of(body)
    if held == etag:
        stand_in.unchanged += 1
        return {"status": 304, "etag": etag}
    return {"status": 200, "etag": etag, "answer": body}


def refused(stand_in: StandIn, request: Request) -> Response | None:
    if stand_in.key is not None and request.headers.get("authorization") != f"Bearer {stand_in.key}":
        hint = "Send Authorization: Bearer KEY."
        return refusal(problem(401, "Not signed in", "No valid API key came with the request.", hint))
    if stand_in.mode == "away":
        return Response("no upstream", 502)
    if stand_in.mode == "busy":
        return refusal(problem(429, "Too many requests", "Budget spent.", "Wait."), {"Retry-After": "4"})
    return None


def application(stand_in: StandIn) -> FastAPI:
    app = FastAPI()

    @app.post("/api/v1/query")
    async def query(request: Request) -> Response:
        stand_in.requests += 1
        if (no := refused(stand_in, request)) is not None:
            return no
        asked = await request.json()
        assert asked["kind"] == "batch", "the page asks together"
        parts = [part(stand_in, *one) for one in zip(asked["queries"], asked["etags"], strict=True)]
        return Response(json.dumps({"answers": parts}), media_type="application/json")

    @app.get("/api/v1/{path:path}")
    def answer(request: Request, path: str) -> Response:
        stand_in.requests += 1
        if (no := refused(stand_in, request)) is not None:
            return no
        body: dict[str, Any]
        if path == "ledger":
            body = ledger(stand_in)
        elif path == "catalog":
            body = {"measures": [], "dimensions": [], "modules": [], "kinds": []}
        else:
            return refusal(problem(404, "Not found", f"No such path: {path}", ""))
        etag = etag_of(body)
        if request.headers.get("if-none-match") == etag:
            stand_in.unchanged += 1
            return Response(status_code=304, headers={"ETag": etag})
        return Response(
            json.dumps(body), headers={"ETag": etag, "Cache-Control": "no-cache"}, media_type="application/json"
        )

    app.include_router(web.router)
    return app


class Running:
    """The stand-in on a free port of the loopback, in a thread of its own."""

    def __init__(self, stand_in: StandIn, port: int = 0) -> None:
        self.stand_in = stand_in
        config = uvicorn.Config(application(stand_in), host="127.0.0.1", port=port, log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Running:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the stand-in did not start")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8100)
    with Running(StandIn(), parser.parse_args().port) as running:
        print(running.url, KEY, flush=True)
        threading.Event().wait()
