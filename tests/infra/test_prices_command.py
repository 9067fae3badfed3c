"""`llmhub prices` and GET /api/v1/prices against the real application: whose price it is, and which one holds."""

from __future__ import annotations

# ruff: noqa: I001 -- the conftest before anything that imports Ray Serve.
from tests.serving.conftest import SMALL, Hub, event, start

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from infra.cli import prices as command
from infra.cli.client import HubHttp
from tests.infra.test_administration_commands import Wire

CHANGE = {
    "module": "registry",
    "kind": "registry.price.changed",
    "provider": "openai",
    "model": "gpt-5",
    "payload": {"effective_from": "2026-01-01T00:00:00Z", "input_usd_per_mtok": 3, "output_usd_per_mtok": "4.5"},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    yield from start(replace(SMALL, data=tmp_path_factory.mktemp("hub")))


def _run(hub: Hub, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    client = HubHttp("http://hub.test", hub.admin)
    monkeypatch.setattr(client, "_client", Wire(hub))
    monkeypatch.setattr(HubHttp, "of", lambda *_, **__: client)
    app = typer.Typer()
    app.command()(command.prices)
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_book_shows_whose_price_holds_when(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served.post([event(1, **CHANGE)], key=served.admin).json()["accepted"] == 1
    chosen = ("--provider", "openai", "--model", "gpt-5", "--tier", "standard", "--json")
    both = json.loads(_run(served, monkeypatch, *chosen))
    assert [one["told_by"] for one in both] == ["hub", "tenant"]
    assert both[1]["told_at"] is not None
    assert len({one["version"] for one in both}) == 2
    now = json.loads(_run(served, monkeypatch, *chosen, "--at", "2026-06-01T00:00:00Z"))
    assert [one["version"] for one in now] == [both[1]["version"]]
    then = json.loads(_run(served, monkeypatch, *chosen, "--at", "2025-12-31T23:59:59Z"))
    assert [one["version"] for one in then] == [both[0]["version"]]
    assert json.loads(_run(served, monkeypatch, "--model", "gpt-5", "--at", "2010-01-01T00:00:00Z", "--json")) == []


def test_steps_and_names_are_shown(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    shown = _run(served, monkeypatch, "--model", "gemini-2.5-pro", "--tier", "standard")
    assert "200000" in shown.replace(",", "")
    key = served.key("read")
    found = served.call("GET", "/api/v1/prices?model=GPT-4o-2024-08-06", key=key).json()["prices"]
    assert {one["model"] for one in found} == {"gpt-4o"}


def test_another_tenants_prices_are_not_shown_and_odd_questions_are_refused(served: Hub) -> None:
    served.tenants.create("other", organisation_id="operator")
    foreign = served.call("GET", "/api/v1/prices", key=served.key("read", tenant="other")).json()["prices"]
    assert {one["told_by"] for one in foreign} == {"hub"}
    key = served.key("read")
    for query in ("modl=gpt-5", "at=never"):
        assert served.call("GET", f"/api/v1/prices?{query}", key=key).status_code == 422
    assert served.call("GET", "/api/v1/prices", key=served.key("ingest")).status_code == 403
