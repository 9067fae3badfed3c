"""`llmhub keys` and `llmhub tenants` against the real application: what they send is what it takes."""

from __future__ import annotations

# ruff: noqa: I001 -- the conftest before anything that imports Ray Serve.
from tests.serving.conftest import SMALL, Hub, event, start

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from typer import Typer
from typer.testing import CliRunner

from infra.cli import administration
from infra.cli.client import HubHttp, HubRefused


class Wire:
    """Stands for the HTTP client of the commands; hands each request to the application in this process."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self._hub.call(method, path, key=self._hub.admin, **options)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    yield from start(replace(SMALL, data=tmp_path_factory.mktemp("hub")))


@pytest.fixture(autouse=True)
def wired(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(*_: object, **__: object) -> HubHttp:
        client = HubHttp("http://hub.test", served.admin)
        monkeypatch.setattr(client, "_client", Wire(served))
        return client

    monkeypatch.setattr(administration.HubHttp, "of", of)


def run(app: Typer, *words: str) -> str:
    """What a command prints; what it raises."""
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_tenant_and_keys_of_it(served: Hub) -> None:
    made = json.loads(run(administration.tenants, "create", "acme", "--name", "Acme", "--json"))
    assert (made["tenant_id"], made["name"]) == ("acme", "Acme")
    key = json.loads(run(administration.keys, "create", "--tenant", "acme", "--scope", "ingest", "--json"))
    assert (key["tenant_id"], key["scopes"], key["name"]) == ("acme", ["ingest"], "ingest")
    assert served.post([event(1)], key=key["key"]).status_code == 202
    listed = json.loads(run(administration.keys, "list", "--tenant", "acme", "--json"))
    assert [one["key_id"] for one in listed] == [key["key_id"]]


def test_a_key_is_told_whole_and_can_be_rotated_and_revoked() -> None:
    key = json.loads(run(administration.keys, "create", "--name", "ci", "--json"))
    assert (key["tenant_id"], key["name"], key["scopes"]) == ("default", "ci", ["ingest", "read"])
    told = run(administration.keys, "rotate", key["key_id"])
    assert any(len(word) > 55 and word.startswith("hub_") for word in told.split())
    assert run(administration.keys, "revoke", key["key_id"]) == f"revoked {key['key_id']}\n"
    assert "default" in run(administration.tenants, "list")


def test_a_quota_is_set_whole_shown_and_reset() -> None:
    def told(*words: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(run(administration.tenants, "quota", "default", *words, "--json"))
        return {name: value for name, value in answer.items() if value is not None}

    assert told("--events-per-s", "500", "--burst-s", "2.5") == {
        "tenant_id": "default",
        "events_per_s": 500,
        "burst_s": 2.5,
    }
    assert told("--questions-per-s", "0") == told() == {"tenant_id": "default", "questions_per_s": 0}
    assert told("--reset") == {"tenant_id": "default"}


def test_a_refusal_is_told_by_the_hub() -> None:
    with pytest.raises(HubRefused, match=r"404 not_found|403 forbidden"):
        run(administration.keys, "create", "--tenant", "nobody")


def test_a_retention_is_set_shown_and_reset() -> None:
    def told(*words: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(run(administration.tenants, "retention", "default", *words, "--json"))
        return answer

    hubs = {"tenant_id": "default", "hot_days": 30, "warm_days": 90, "cold_days": 365, "own": False}
    assert told() == hubs
    assert told("--hot-days", "7") == hubs | {"hot_days": 7, "own": True} == told()
    assert told("--reset") == hubs
