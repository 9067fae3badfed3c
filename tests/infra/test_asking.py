"""`llmhub query`: the words of the command become a question, and each kind of answer becomes rows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli.application import build
from infra.cli.asking import rows_of
from models.query.kinds import KIND_NAMES


class Door(HTTPServer):
    """A hub that answers one thing and remembers what it was asked."""

    asked: Any = None
    preferred: str = ""
    # States of a job as they are told one after the other; none where questions are answered at once.
    jobs: tuple[bytes, ...] | list[bytes] = ()
    answer: bytes = b'{"tier":"rollup_1m","rows":[{"group":{"model":"m"},"values":{"cost_usd":0.100000000000000001}}]}'


class Handler(BaseHTTPRequestHandler):
    server: Door

    def do_POST(self) -> None:
        self.server.asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.preferred = self.headers.get("prefer", "")
        if self.server.jobs:
            self.reply(202, self.server.jobs[0], {"location": "/api/v1/queries/q"})
        else:
            self.reply(200, self.server.answer, {})

    def do_GET(self) -> None:
        assert self.path == "/api/v1/queries/q"
        self.reply(200, self.server.jobs.pop(0), {})

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def door() -> Iterator[Door]:
    with Door(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def asked(door: Door, *words: str) -> Any:
    url = f"http://127.0.0.1:{door.server_port}"
    done = CliRunner().invoke(build("query"), ["query", *words, "--url", url, "--key", "k"])
    assert done.exit_code == 0, done.output
    return done.output


def test_words_stand_for_what_the_kind_asks_first(door: Door) -> None:
    for words, question in [
        (("top", "cost_usd", "request_count", "--group-by", "model", "--limit", "5"),
         {"measure": ["cost_usd", "request_count"], "group_by": ["model"], "limit": ["5"]}),
        (("timeseries", "cost_usd", "--from", "-7d", "--granularity", "1d", "--set", "time_zone=Europe/Berlin"),
         {"measure": ["cost_usd"], "from": ["-7d"], "granularity": ["1d"], "time_zone": ["Europe/Berlin"]}),
        (("percentile", "latency_ms", "0.5", "0.9"), {"field": ["latency_ms"], "quantile": ["0.5", "0.9"]}),
        (("ratio", "error_count", "request_count"), {"numerator": ["error_count"], "denominator": ["request_count"]}),
        (("session", "s-1"), {"session_id": ["s-1"]}),
        (("funnel", "kind:a", "status:ok"), {"step": ["kind:a", "status:ok"]}),
        (("as_of", "cost_usd", "--set", "version=4"), {"measure": ["cost_usd"], "version": ["4"]}),
        (("as_of", "user_id", "--set", "of=distinct", "--set", "version=4"),
         {"field": ["user_id"], "of": ["distinct"], "version": ["4"]}),
        (("aggregate", "a=cost_usd/request_count"), {"measure": ["a=cost_usd/request_count"]}),
    ]:  # fmt: skip
        asked(door, *words)
        assert door.asked == {"kind": words[0], **question}


def test_json_is_the_answer_as_it_came_and_csv_its_rows(door: Door) -> None:
    assert asked(door, "aggregate", "cost_usd", "--json").strip() == door.answer.decode()
    assert asked(door, "aggregate", "cost_usd", "--csv").splitlines()[0] == "model,cost_usd"


def job(state: str, rows: int, **more: Any) -> bytes:
    progress = {"files": [0, 3], "rows": [rows, 1_000], "bytes": [0, 9], "nodes": 2}
    return json.dumps({"query_id": "q", "state": state, "reason": "large", "progress": progress, **more}).encode()


def test_a_job_is_followed_to_its_answer_and_a_failed_one_fails(door: Door) -> None:
    url = ("--url", f"http://127.0.0.1:{door.server_port}", "--key", "k")
    words = ["query", "top", "cost_usd", "--group-by", "attributes.team", "--job", "--json", *url]
    done = job("done", 1_000)[:-1] + b',"answer":' + door.answer + b"}"
    door.jobs = [job("queued", 0), job("running", 400), done]
    told = CliRunner().invoke(build("query"), words)
    assert told.exit_code == 0, told.output
    assert told.stdout.strip() == door.answer.decode() and door.preferred == "respond-async"
    assert (
        "runs as a job: large" in told.stderr and "running: 400 of 1,000 events, 0 of 3 files on 2 nodes" in told.stderr
    )
    door.jobs = [job("failed", 400, error={"code": "job_lost", "detail": "its process ended", "hint": "Ask again."})]
    told = CliRunner().invoke(build("query"), words)
    assert told.exit_code == 1 and "query q failed: its process ended (job_lost)" in str(told.exception)


def test_help_names_every_kind_and_a_setting_needs_a_value(tmp_path: Path) -> None:
    told = CliRunner().invoke(build("query"), ["query", "--help"], env={"COLUMNS": "200"}).output
    assert all(name in told for name in KIND_NAMES)
    wrong = CliRunner().invoke(build("query"), ["query", "top", "--set", "limit", "--data", str(tmp_path)])
    assert wrong.exit_code == 2 and "NAME=VALUE" in wrong.output


def test_answers_of_each_shape_become_rows() -> None:
    points = {"group": {"m": 1}, "points": [["t", 1, 2, 3]]}
    for answer, rows in [
        ({"series": [points]}, [{"time": "t", "m": 1, "ratio": 1, "numerator": 2, "denominator": 3}]),
        ({"series": [{"quantile": "p95", "group": {}, "points": [["t", 5]]}]}, [{"time": "t", "p95": 5}]),
        ({"times": ["t"], "bounds": [[1, 2], [2, 4]], "cells": [[0, 1, 9]]},
         [{"time": "t", "above": 2, "to": 4, "count": 9}]),
        ({"bounds": [[1, 2]], "rows": [{"group": {"m": 1}, "count": 3, "counts": [3]}]},
         [{"m": 1, "above": 1, "to": 2, "count": 3}]),
        ({"rows": [{"group": {"m": 1}, "values": {"n": 2}, "baseline": {"n": 1}, "percent": {"n": 100.0}}]},
         [{"m": 1, "n": 2, "baseline_n": 1, "percent_n": 100.0}]),
        ({"rows": [{"group": {"m": 1}, "values": {"n": 2}, "share": 0.5}], "rest": {"values": {"n": 2}, "share": 0.5}},
         [{"m": 1, "n": 2, "share": 0.5}, {"m": "(rest)", "n": 2, "share": 0.5}]),
        ({"steps": [{"step": "x", "count": 1}]}, [{"step": "x", "count": 1}]),
        ({"spans": [{"id": "s", "events": [], "tokens": {}, "children": []}]}, [{"id": "s"}]),
    ]:  # fmt: skip
        assert rows_of(answer) == rows


def test_a_table_shows_every_group_and_measure_and_the_main_fields_of_events(door: Door) -> None:
    door.answer = b'{"rows":[{"group":{"module":"gateway"},"values":{"input_tokens":7,"share":0.12345678901234567}}]}'
    told = asked(door, "aggregate", "input_tokens")
    assert all(text in told for text in ("gateway", "7", "0.123456789012")) and "0.12345678901234" not in told
    door.answer = b'{"events":[{"event_id":"e-1","kind":"k","payload":{"secret":1},"span_id":"s"}]}'
    assert "e-1" in asked(door, "search") and "secret" not in asked(door, "search")
    assert "secret" in asked(door, "search", "--csv")
