"""Requests that reach for another tenant are refused, or answered as if there were none: no foreign row, no 5xx."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from cluster.tenancy import TenantId
from tests.serving.conftest import Hub
from tests.serving.request_attacks import QUERY, REFUSED, SCOPED, SEARCH, WHEN, Attack
from tests.serving.small_lake import Lake, event, tenants_apart
from tests.serving.sql_hub import application

# Words that stand in rows of beta alone.
SECRETS = ("secret-user", "needle", "beta-only", "beta-trace", "beta-session")
SCOPES = ("read", "ingest", "admin")


def made_lake(folder: Path, *, with_beta: bool) -> Lake:
    """Rows of alpha, and of beta where it has any."""
    lake = tenants_apart(folder, {"alpha": 300, **({"beta": 200} if with_beta else {})})
    lake.seal("alpha", [event(2, event_id="alpha-only", trace_id="shared", span_id="s", latency_ms=5.0)])
    if with_beta:
        secret = {"user_id": "secret-user", "payload": '{"t":"needle"}'}
        lake.seal("beta", [event(1, event_id="beta-only", trace_id="shared", **secret)])
        lake.seal("beta", [event(3, trace_id="beta-trace", session_id="beta-session", **secret)])
    lake.roll()
    return lake


class Pair:
    """One hub with rows of both tenants, and one where beta has none; each with keys of alpha."""

    def __init__(self, both: Hub, alone: Hub) -> None:
        self.both, self.alone = both, alone
        for hub in (both, alone):
            hub.made = {scope: hub.key(scope, tenant="alpha") for scope in SCOPES}
            hub.made |= {"north": hub.key("read", tenant="alpha", project="north"), "none": ""}
            hub.made["beta"] = hub.key("read", tenant="beta")
        listed = both.call("GET", f"{SEARCH}?from={WHEN['from']}&to={WHEN['to']}&limit=1", key=both.made["beta"])
        counted = both.call("POST", QUERY, key=both.made["beta"], json={"kind": "distinct", "field": "model", **WHEN})
        key = both.made["beta"]
        self.of_beta = {
            "cursor": listed.json()["next_cursor"],
            "etag": counted.headers["etag"],
            "key": key,
            "key_id": key.split("_")[1],
        }

    def send(self, hub: Hub, attack: Attack) -> Any:
        """The answer to an attack."""

        def told(text: str) -> str:
            for name, value in self.of_beta.items():
                text = text.replace("{" + name + "}", value)
            return text

        headers = {name: told(value) for name, value in attack.headers.items()}
        if attack.body is not None:
            headers["content-type"] = "application/json"
        content = told(json.dumps(attack.body)) if attack.body is not None else None
        key = hub.made[attack.who]
        return hub.call(attack.method, told(attack.path), key=key, headers=headers, content=content)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folders = [tmp_path_factory.mktemp(name) for name in ("both", "alone")]
    with (
        application(made_lake(folders[0], with_beta=True)) as (both, _),
        application(made_lake(folders[1], with_beta=False)) as (alone, _),
    ):
        yield Pair(both, alone)


def test_there_are_enough() -> None:
    assert len({repr(attack) for attack in (*REFUSED, *SCOPED)}) == len(REFUSED) + len(SCOPED)
    assert len(REFUSED) >= 80 and len(SCOPED) >= 40


@pytest.mark.parametrize("attack", REFUSED, ids=str)
def test_it_is_refused(pair: Pair, attack: Attack) -> None:
    answer = pair.send(pair.both, attack)
    assert 400 <= answer.status_code < 500, answer.text
    # OpenTelemetry has a form of its own for refusals.
    assert answer.json()["message" if attack.path.startswith("/v1/") else "detail"]
    sent = unquote(f"{attack.path} {attack.body}")
    assert not [word for word in SECRETS if word in answer.text and word not in sent]
    # That beta has rows is not told either.
    alone = pair.send(pair.alone, attack)
    assert (answer.status_code, answer.json()["code"]) == (alone.status_code, alone.json()["code"])


@pytest.mark.parametrize("attack", SCOPED, ids=str)
def test_it_is_answered_as_if_there_were_no_other_tenant(pair: Pair, attack: Attack) -> None:
    answer, alone = (pair.send(hub, attack) for hub in (pair.both, pair.alone))
    assert answer.status_code == 200, answer.text
    assert of_rows(answer.text) == of_rows(alone.text)
    sent = unquote(f"{attack.path} {attack.body}")
    assert not [word for word in SECRETS if word in answer.text and word not in sent]


def of_rows(text: str) -> str:
    """An answer without what differs from hub to hub: versions, instants of making, file names."""
    text = re.sub(r'\\?"(version|freshness_s|created_at|received_at)\\?":[^,}]+', "", text)
    return re.sub(r'"etag":"[^,]*",', "", text)


def test_rows_that_name_another_tenant_stay_with_their_sender(pair: Pair) -> None:
    rows = [
        {"event_id": f"forged-{name}", "occurred_at": "2026-01-01T00:00:00Z", "module": "gateway",
         "kind": "gateway.request", name: "beta"}
        for name in ("tenant_id", "tenant", "organisation_id", "project_id", "hub_tenant")
    ]  # fmt: skip
    hub = pair.both
    headers = {"x-tenant-id": "beta"}
    answer = hub.post(rows, key=hub.made["ingest"], headers=headers)
    assert answer.status_code == 202 and answer.json()["accepted"] + answer.json()["refused"] == len(rows)
    accounts = hub.run(hub.pool.ledger())
    assert accounts["alpha"].accepted == answer.json()["accepted"] > 0
    assert accounts["beta"].accepted == accounts["beta"].dead_letters == 0


def test_beta_is_as_it_was(pair: Pair) -> None:
    """After all attacks its key lives and its rows are there; runs last in this file."""
    question = {"kind": "distinct", "field": "event_id", **WHEN}
    answer = pair.both.call("POST", QUERY, key=pair.both.made["beta"], json=question)
    assert answer.status_code == 200 and answer.json()["rows"][0]["value"] > 100
    (key,) = pair.both.keys.list_of({TenantId("beta")})
    assert key.revoked_at_us is None and key.replaced_by is None
