"""NDJSON and JSON bodies: good rows in, bad ones isolated and kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import orjson
import pytest

from cluster.contract.decode import decode
from cluster.errors import BodyTooLarge, BodyUnreadable, MediaTypeUnsupported
from tests.cluster.contract.bodies import CONTEXT, NDJSON, checked, codes, event, lines, only, send


def test_line_7_of_1000_is_refused_and_kept_and_the_others_are_taken() -> None:
    rows: list[dict[str, object] | bytes] = [event(event_id=f"e{i}") for i in range(1000)]
    broken = b'{"event_id": "e6", "kind": '
    rows[6] = broken
    decoded = send(*rows)
    assert decoded.events.num_rows == 999
    (refusal,) = decoded.refusals
    assert (refusal.index, refusal.code) == (6, "json_invalid")
    assert refusal.message.startswith("line 7: ")
    letter = decoded.dead_letters.to_pylist()[0]
    assert (letter["original"], letter["original_size_bytes"], letter["row_index"]) == (broken, len(broken), 6)


def test_a_complete_event_arrives_field_by_field() -> None:
    sent = event(
        severity="WARN",
        environment="prod",
        trace_id="4BF92F3577B34DA6A3CE929D0E0E4736",
        span_id="00f067aa0ba902b7",
        session_id="s",
        user_id="u",
        request_id="r",
        service="chat",
        provider="az.ai.openai",
        model="gpt-4o",
        operation="completion",
        status="success",
        latency_ms=12,
        ttft_ms=3.5,
        input_tokens=10,
        output_tokens=5,
        cache_read_tokens=4,
        reasoning_tokens=2,
        attributes={"team": "search"},
        payload={"attempt": 2},
    )
    row = only(send(sent))
    assert row["occurred_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert row["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert (row["severity"], row["status"], row["operation"]) == ("warning", "ok", "text_completion")
    assert row["provider"] == "azure.ai.openai"
    assert (row["latency_ms"], row["ttft_ms"]) == (12.0, 3.5)
    assert (row["input_tokens"], row["output_tokens"], row["cache_read_tokens"]) == (10, 5, 4)
    assert (row["attributes"], row["payload"]) == ('{"team":"search"}', '{"attempt":2}')
    assert (row["region"], row["schema_version"], row["counted"]) == ("local", "2.0.0", 0)
    assert row["usage_conflict"] is False


@pytest.mark.parametrize("shape", ["object", "array", "events", "ndjson", "ndjson_array"])
def test_every_shape_of_json_is_the_same_rows(shape: str) -> None:
    rows = [event(event_id="a"), event(event_id="b")]
    if shape == "object":
        rows = rows[:1]
    body = {
        "object": orjson.dumps(rows[0]),
        "array": orjson.dumps(rows, option=orjson.OPT_INDENT_2),
        "events": orjson.dumps({"events": rows}),
        "ndjson": lines(*rows),
        "ndjson_array": orjson.dumps(rows),
    }[shape]
    content_type = NDJSON if shape == "ndjson_array" else "application/json; charset=utf-8"
    decoded = checked(decode(body, content_type=content_type, context=CONTEXT))
    assert decoded.events.column("event_id").to_pylist() == [row["event_id"] for row in rows]


def test_blank_lines_line_ends_and_a_byte_order_mark_are_no_rows() -> None:
    body = (
        b"\xef\xbb\xbf"
        + orjson.dumps(event(event_id="a"))
        + b"\r\n\r\n  \n"
        + orjson.dumps(event(event_id="b"))
        + b"\n\n{"
    )
    decoded = send(body)
    assert decoded.row_count == 3
    assert decoded.events.column("event_id").to_pylist() == ["a", "b"]
    assert decoded.refusals[0].index == 2
    assert decoded.refusals[0].message.startswith("line 6: ")
    assert send(b"").row_count == 0


def test_unknown_fields_are_kept_scalars_in_attributes_and_nested_ones_in_payload() -> None:
    row = only(
        send(event(team="search", retries=2, messages=[{"role": "user"}], attributes={"team": "ads"}, payload={"a": 1}))
    )
    assert orjson.loads(row["attributes"]) == {"team": "ads", "sent.team": "search", "retries": 2}
    assert orjson.loads(row["payload"]) == {"a": 1, "messages": [{"role": "user"}]}


def test_aliases_are_the_fields_they_mean_in_every_row() -> None:
    first = {
        "timestamp": 1767225600,
        "source_module": "llm-gateway",
        "event_type": "request",
        "prompt_tokens": 7,
        "cost": 0.1,
    }
    second = {
        "ts": "2026-01-01T02:00:00+02:00",
        "module": "gateway",
        "kind": "request",
        "promptTokens": "7",
        "cost_usd": "0.1",
    }
    decoded = send(first, second)
    assert decoded.refusals == []
    assert decoded.events.column("input_tokens").to_pylist() == [7, 7]
    assert decoded.events.column("cost_usd").to_pylist() == [Decimal("0.1")] * 2
    assert decoded.events.column("kind").to_pylist() == ["gateway.request"] * 2
    assert len(set(decoded.events.column("occurred_at").to_pylist())) == 1


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (
            b'{"occurred_at":"2026-01-01T00:00:00Z","module":"gateway","kind":"request","input_tokens":NaN}',
            "json_invalid",
        ),
        (
            b'{"occurred_at":"2026-01-01T00:00:00Z","module":"gateway","kind":"request","latency_ms":1e999}',
            "json_invalid",
        ),
        (
            b'{"occurred_at":"2026-01-01T00:00:00Z","module":"gateway","kind":"request","cost_usd":1e999}',
            "cost_out_of_range",
        ),
        (
            b'{"occurred_at":"2026-01-01T00:00:00Z","module":"gateway","kind":"request","user_id":"\xff"}',
            "json_invalid",
        ),
        (
            b'{"occurred_at":"2026-01-01T00:00:00Z","module":"gateway","kind":"request","attributes":{"a":"\xff"}}',
            "utf8_invalid",
        ),
        (
            b'{"occurred_at":"2026-01-01T00:00:00Z","module":"gateway","kind":"request","user_id":"\\ud800"}',
            "json_invalid",
        ),
        (b'{"payload":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "json_invalid"),
        (b'{"payload":' + b"[" * 100_000, "json_invalid"),
        (b"[1, 2]x", "json_invalid"),
        (b'"text"', "json_invalid"),
        (event(input_tokens=-1), "tokens_out_of_range"),
        (event(input_tokens=1.5), "tokens_invalid"),
        (orjson.dumps(event())[:-1] + b',"input_tokens":' + b"9" * 30 + b"}", "tokens_invalid"),
        (event(input_tokens=True), "tokens_invalid"),
        (event(latency_ms=-0.1), "duration_out_of_range"),
        (event(latency_ms="fast"), "number_invalid"),
        (event(cost_usd=-0.01), "cost_out_of_range"),
        (event(cost_usd="free"), "cost_out_of_range"),
        (event(occurred_at="1970-01-01T00:00:00Z"), "occurred_at_out_of_range"),
        (event(occurred_at="2100-01-01T00:00:00Z"), "occurred_at_out_of_range"),
        (event(occurred_at=0), "occurred_at_out_of_range"),
        (event(occurred_at="yesterday"), "occurred_at_unreadable"),
        (event(occurred_at=...), "occurred_at_missing"),
        (event(module="billing", kind="billing.run"), "unknown_module"),
        (event(module=..., kind="request"), "module_missing"),
        (event(kind=...), "kind_missing"),
        (event(kind="audit.authn"), "kind_invalid"),
        (event(kind="gateway.re quest"), "kind_invalid"),
        (event(tenant_id="other"), "tenant_mismatch"),
        (event(schema_version="3.0.0"), "schema_version_unknown"),
        (event(user_id="x" * 513), "text_too_long"),
        (event(user_id={"a": 1}), "field_type"),
        (event(attributes=[1]), "attributes_not_object"),
        (event(attributes={"a": "x" * 70_000}), "attributes_too_large"),
        (event(payload={"a": "x" * 1_100_000}), "payload_too_large"),
    ],
)
def test_a_bad_row_is_refused_alone(row: dict[str, object] | bytes, code: str) -> None:
    decoded = send(event(event_id="before"), row, event(event_id="after"))
    assert codes(decoded) == [code]
    assert decoded.refusals[0].index == 1
    assert decoded.events.column("event_id").to_pylist() == ["before", "after"]


def test_nesting_within_the_interpreters_reach_is_refused_by_depth() -> None:
    deep = event(event_id="x")
    text = orjson.dumps(deep).replace(b"}", b',"payload":{"a":' + b"[" * 80 + b"]" * 80 + b"}}")
    brackets = event(event_id="y", payload={"a": "[" * 500})
    decoded = send(text, brackets)
    assert codes(decoded) == ["json_too_deep"]
    assert decoded.events.column("event_id").to_pylist() == ["y"]


def test_a_line_of_megabytes_is_refused_and_its_beginning_kept() -> None:
    decoded = send(event(), b'{"a":"' + b"x" * 3_000_000 + b'"}')
    assert codes(decoded) == ["row_too_large"]
    letter = decoded.dead_letters.to_pylist()[0]
    assert (len(letter["original"]), letter["original_size_bytes"]) == (65_536, 3_000_008)


def test_a_body_that_cannot_be_read_as_a_whole_is_an_error_of_the_request() -> None:
    for body in (b"", b"[1, 2", b"nonsense", b"[" * 100_000):
        with pytest.raises(BodyUnreadable):
            decode(body, content_type="application/json", context=CONTEXT)
    with pytest.raises(MediaTypeUnsupported):
        decode(b"{}", content_type="text/csv", context=CONTEXT)
    with pytest.raises(BodyTooLarge):
        send(event(), event(), context=replace(CONTEXT, rows_max=1))


def test_rows_without_id_get_the_same_ids_when_sent_again_and_equal_rows_stay_two() -> None:
    rows = [event(event_id=...), event(event_id=..., user_id="u"), event(event_id=...), event(event_id="own")]
    first = send(*rows).events.column("event_id").to_pylist()
    again = send(*rows, context=replace(CONTEXT, received_at_us=CONTEXT.received_at_us + 5)).events.column("event_id")
    assert first == again.to_pylist()
    assert len(set(first)) == 4
    assert all(len(text) == 32 for text in first[:3])
    assert first[3] == "own"


def test_a_row_may_name_its_own_tenant_and_must_keep_to_the_keys_project() -> None:
    assert send(event(tenant_id="acme")).refusals == []
    bound = replace(CONTEXT, project_id="p1")
    assert only(send(event(), context=bound))["project_id"] == "p1"
    assert codes(send(event(project_id="p2"), context=bound)) == ["project_mismatch"]


def test_the_default_module_is_for_rows_that_name_none() -> None:
    context = replace(CONTEXT, module="registry")
    decoded = send(event(module=..., kind="asset.registered"), event(module="audit", kind="authn"), context=context)
    assert decoded.events.column("kind").to_pylist() == ["registry.asset.registered", "audit.authn"]


def test_a_payload_fills_the_columns_its_row_left_out() -> None:
    payload = {
        "total_ms": 120.5,
        "ttft_ms": 9,
        "served_model": "m",
        "cost": 0.1234567895,
        "cache": "semantic",
        "tokens": {"input_uncached": 5, "cache_read": 3, "output_text": 2, "reasoning": 4},
    }
    row = only(send(event(payload=payload)))
    assert (row["latency_ms"], row["ttft_ms"], row["model"], row["cache_status"]) == (120.5, 9.0, "m", "semantic")
    assert (row["input_tokens"], row["output_tokens"], row["cache_read_tokens"], row["reasoning_tokens"]) == (
        8,
        6,
        3,
        4,
    )
    assert row["cost_usd"] == Decimal("0.123456790")
    kept = only(send(event(payload=payload, latency_ms=1, model="own")))
    assert (kept["latency_ms"], kept["model"]) == (1.0, "own")
    guard = only(send(event(module="guardrails", kind="evaluation", payload={"action": "blocked", "duration_ms": 2})))
    assert (guard["guardrail_action"], guard["latency_ms"]) == ("block", 2.0)


def test_null_is_the_same_as_left_out() -> None:
    names = ("cost_usd", "attributes", "payload", "user_id", "input_tokens", "latency_ms", "status")
    row = only(send(event(**dict.fromkeys(names))))
    assert [row[name] for name in names] == [None] * len(names)
    assert only(send(event(user_id="", payload=5)))["payload"] == '{"value":5}'


def test_token_parts_over_their_total_are_marked_and_kept_as_sent() -> None:
    row = only(send(event(input_tokens=10, cache_read_tokens=8, cache_write_tokens=3)))
    assert row["usage_conflict"] is True
    assert (row["input_tokens"], row["cache_read_tokens"], row["cache_write_tokens"]) == (10, 8, 3)


def test_long_rows_that_differ_in_their_last_byte_are_two_dead_letters() -> None:
    row = event(kind=..., payload={"text": "x" * 5_000})
    first, second = (send(lines(row | {"z": last})).dead_letters.to_pylist()[0] for last in "ab")
    again = send(lines(row | {"z": "a"})).dead_letters.to_pylist()[0]
    assert first["dead_letter_id"] == again["dead_letter_id"] != second["dead_letter_id"]


def test_a_name_that_is_taken_never_comes_twice() -> None:
    row = only(send(event(x=1, attributes={"x": 2, "sent.x": 3})))
    assert orjson.loads(row["attributes"]) == {"x": 2, "sent.x": 3, "sent.sent.x": 1}
