"""The client against the hub's own application on a port: its door, its memory of ids, its ledger, its answers."""

from __future__ import annotations

# ruff: noqa: I001 -- before anything that imports Ray Serve.
from tests.serving.ray_serve_quietly import LOADED

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import uvicorn

from cluster.sdk.client import HubClient, Recording, Refused
from tests.serving.conftest import SMALL, Hub, event, start

assert LOADED
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    settings = replace(SMALL, data=tmp_path_factory.mktemp("hub"), rows_per_request_max=100)
    yield from start(settings, asks=True)


@contextmanager
def served(hub: Hub) -> Iterator[str]:
    """The application on a port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(hub.app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def test_the_ledger_agrees_with_the_counts(hub: Hub, tmp_path: Path) -> None:
    heard: list[Refused] = []
    # More rows than this hub takes at once: the door answers 413, and the batch goes in pieces.
    recording = Recording(batch_events=250, on_refused=heard.append, spool=tmp_path / "spool")
    with served(hub) as url, HubClient(url, hub.admin, recording=recording) as client:
        for number in range(500):
            client.record(event(number, cost_usd=Decimal("0.000000001")))
        client.record(event(500, kind="no.such.kind", latency_ms=-1))
        counts = client.flush()
        assert counts.recorded == counts.accounted
        assert (counts.acknowledged, counts.refused, counts.settled) == (500, 1, True)
        client.record(event(7))
        assert client.flush().repeated == 1
        total = client.get("/api/v1/ledger")["total"]
    assert (total["accepted"], total["repeated"], total["dead_letters"]) == (500, 1, 1)
    assert [one.event_id for one in heard] == ["e-500"]


def test_the_examples_of_the_page_run(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "sdk.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"key": hub.admin}
    with served(hub) as url:
        for block in blocks:
            exec(compile(block.replace("http://127.0.0.1:8000", url), "docs/sdk.md", "exec"), names)
    assert {"by_model", "hours", "same", "main"} <= set(names)
    assert names["counts"].acknowledged == 1  # type: ignore[attr-defined]
    assert names["hours"].keys() == names["same"].keys()  # type: ignore[attr-defined]


def test_questions_come_back_exact(hub: Hub) -> None:
    with served(hub) as url, HubClient(url, hub.admin) as client:
        money = {"module": "gateway", "kind": "gateway.request", "model": "exact", "cost_usd": Decimal("0.000000001")}
        client.record(money)
        client.flush()
        hub.pool.drain_shards()
        question = {"filter": ["model:eq:exact"], "group_by": ["model"], "from_": "-1h"}
        rows: list[dict[str, object]] = []
        while not rows:
            rows = client.aggregate("cost_usd", **question)["rows"]
        assert rows[0]["values"] == {"cost_usd": Decimal("0.000000001")}
        inexact = client.query("aggregate", exact=False, measure=["cost_usd"], **question)
        assert isinstance(inexact["rows"][0]["values"]["cost_usd"], float)
        series = client.timeseries("request_count", granularity="1h", **question)["series"]
        assert [one["measure"] for one in series] == ["request_count"]
