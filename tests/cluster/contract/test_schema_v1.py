"""The older form, schema 1.0.0."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest

from cluster.contract.event import KINDS
from cluster.contract.sources.schema_v1 import MEANINGS
from tests.cluster.contract.bodies import codes, only, send


def old(payload_type: str, sub_type: str = "", event_type: str | None = None, **data: Any) -> dict[str, Any]:
    return {
        "event_id": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
        "timestamp": "2026-01-01T00:00:00Z",
        "source_module": "llm-sentinel",
        "event_type": event_type or payload_type,
        "correlation_id": None,
        "parent_event_id": "p",
        "schema_version": "1.0.0",
        "severity": "warning",
        "environment": "production",
        "tags": {"team": "search"},
        "payload": {"payload_type": payload_type, "data": {f"{payload_type}_type": sub_type, **data}},
    }


def test_the_three_parts_of_one_call_share_its_request_id() -> None:
    latency = old("telemetry", "latency", model_id="m", request_id="r1", total_latency_ms=120.5, ttft_ms=8)
    usage = old("telemetry", "token_usage", model_id="m", request_id="r1", prompt_tokens=10, completion_tokens=5)
    cost = old("cost", "token_cost", model_id="m", request_id="r1", prompt_tokens=10, total_cost_usd=0.1)
    rows = send(latency, usage, cost).events.to_pylist()
    assert [row["kind"] for row in rows] == ["observatory.span", "observatory.span", "gateway.request"]
    assert {(row["request_id"], row["model"], row["operation"]) for row in rows} == {("r1", "m", "chat")}
    assert (rows[0]["latency_ms"], rows[0]["ttft_ms"]) == (120.5, 8.0)
    assert (rows[1]["input_tokens"], rows[1]["output_tokens"]) == (10, 5)
    assert rows[2]["cost_usd"] == Decimal("0.1")
    assert (rows[0]["causation_id"], rows[0]["severity"], rows[0]["environment"]) == ("p", "warning", "production")
    assert (rows[0]["schema_version"], rows[0]["event_id"]) == ("1.0.0", latency["event_id"])
    assert orjson.loads(rows[0]["payload"]) == latency["payload"]
    assert orjson.loads(rows[0]["attributes"])["team"] == "search"


@pytest.mark.parametrize(("payload_type", "sub_type"), MEANINGS)
def test_every_payload_of_the_older_form_has_a_kind_of_today(payload_type: str, sub_type: str) -> None:
    row = only(send(old(payload_type, sub_type)))
    assert row["kind"] in KINDS[row["module"]]


@pytest.mark.parametrize(
    ("action", "kind"),
    [("login", "audit.authn"), ("permission_denied", "audit.authz"), ("token_revoked", "audit.key")],
)
def test_an_auth_payload_is_told_apart_by_its_action(action: str, kind: str) -> None:
    row = only(send(old("security", "auth", user_id="u", action=action, success=False)))
    assert (row["kind"], row["user_id"], row["status"]) == (kind, "u", "error")


def test_custom_payloads_go_by_their_event_type() -> None:
    assert only(send(old("custom", event_type="lifecycle")))["kind"] == "registry.asset.updated"
    assert codes(send(old("custom", event_type="nonsense"))) == ["payload_type_unknown"]


def test_a_bad_value_refuses_its_row_only() -> None:
    decoded = send(old("telemetry", "token_usage", prompt_tokens="x"), old("telemetry", "latency"))
    assert codes(decoded) == ["tokens_invalid"]
    assert decoded.events.num_rows == 1


def test_an_older_version_in_todays_form_is_todays_form() -> None:
    row = {"timestamp": "2026-01-01T00:00:00Z", "module": "gateway", "kind": "request", "schema_version": "1.2.0"}
    assert only(send(row))["kind"] == "gateway.request"
