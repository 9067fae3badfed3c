"""Hooks of other products: bad items are refused one by one, the others taken, and both the same when sent again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from mlflow.entities.webhook import WebhookEvent
from mlflow.webhooks.delivery import _generate_hmac_signature
from mlflow.webhooks.types import EVENT_TO_PAYLOAD_CLASS, get_example_payload_for_event

from cluster.contract.rows import DecodeContext, Decoded
from cluster.contract.sources.hooks import mlflow
from cluster.contract.sources.hooks.products import DECODE_HOOK
from cluster.errors import BodyTooLarge, BodyUnreadable, MediaTypeUnsupported, Unauthenticated
from tests.cluster.contract.bodies import CONTEXT, NDJSON, checked, codes, only

AT = "2026-01-01T00:00:00Z"
CALL = {"id": "c", "startTime": 1767225600.5, "endTime": 1767225601.5, "prompt_tokens": 3, "model": "m"}


def take(product: str, body: Any, *, context: DecodeContext = CONTEXT, **headers: str) -> Decoded:
    """The outcome of a JSON body, or of bytes as they are."""
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    return checked(DECODE_HOOK[product](sent, {"content-type": "application/json", **headers}, context))


def envelope(number: int, kind: str, **body: Any) -> dict[str, Any]:
    """One of Langfuse's ingestion events."""
    return {"id": f"i{number}", "type": kind, "timestamp": AT, "body": body}


@pytest.mark.parametrize("product", DECODE_HOOK)
def test_items_that_are_none_are_refused_alone(product: str) -> None:
    decoded = take(product, [1, None, "x", [], {}])
    assert decoded.events.num_rows == 0
    assert [one.index for one in decoded.refusals] == [0, 1, 2, 3, 4]
    assert codes(decoded)[:4] == ["item_not_object"] * 4
    assert len(set(decoded.dead_letters.column("dead_letter_id").to_pylist())) == 5


@pytest.mark.parametrize("product", DECODE_HOOK)
@pytest.mark.parametrize("body", [b"", b"{", b"[1,", b"[] []", b"nothing", b'{"batch":[1,}'])
def test_a_body_that_is_no_json_is_refused_whole(product: str, body: bytes) -> None:
    with pytest.raises(BodyUnreadable):
        take(product, body)


def test_limits_of_items_and_of_bodies() -> None:
    with pytest.raises(BodyTooLarge):
        take("litellm", [CALL] * 3, context=replace(CONTEXT, rows_max=2))
    with pytest.raises(MediaTypeUnsupported):
        take("litellm", CALL, **{"content-type": "text/csv"})
    large = take("litellm", [{**CALL, "messages": "x" * 500}, CALL], context=replace(CONTEXT, row_bytes_max=400))
    assert (codes(large), large.events.num_rows) == (["row_too_large"], 1)


def test_a_broken_line_stands_alone() -> None:
    body = b"\n".join([orjson.dumps(CALL), b'{"id": ', b"", orjson.dumps({**CALL, "id": "d"})])
    decoded = take("litellm", body, **{"content-type": NDJSON})
    assert (decoded.events.num_rows, codes(decoded)) == (2, ["json_invalid"])


def test_what_a_sender_says_beyond_the_columns_is_kept_to_the_digit() -> None:
    body = b'{"id":"c","startTime":1767225600.5,"response_cost":0.1234567891,"saved_cache_cost":0.10000000000000000001}'
    row = only(take("litellm", body))
    assert str(row["cost_usd"]) == "0.123456789"
    assert row["payload"].encode() == body
    assert row["attributes"] == '{"saved_cost":0.10000000000000000001}'


def test_an_attempt_that_failed_and_its_success_are_two_events() -> None:
    failed = {**CALL, "status": "failure", "startTime": 1767225600.25, "endTime": 1767225600.5}
    ids = take("litellm", [failed, CALL]).events.column("event_id").to_pylist()
    assert len(set(ids)) == 2


def test_observations_know_their_trace_wherever_it_stands_in_the_batch() -> None:
    batch = [
        envelope(1, "span-create", id="s", traceId="t", startTime=AT),
        envelope(2, "trace-create", id="t", userId="u", sessionId="n", environment="e"),
        envelope(3, "span-create", id="o", traceId="other", startTime=AT),
    ]
    rows = take("langfuse", {"batch": batch}).events.to_pylist()
    assert [(row["user_id"], row["session_id"]) for row in rows] == [("u", "n"), ("u", "n"), (None, None)]


def test_an_update_takes_over_no_usage() -> None:
    batch = [
        envelope(1, "generation-create", id="g", traceId="t", startTime=AT, model="m", usage={"input": 5}),
        envelope(2, "generation-update", id="g", endTime="2026-01-01T00:00:02Z"),
    ]
    create, update = take("langfuse", batch).events.to_pylist()
    assert (create["input_tokens"], update["input_tokens"]) == (5, None)
    assert (update["model"], update["latency_ms"], update["trace_id"]) == ("m", 2_000.0, "t")


def test_long_metadata_stays_in_the_payload() -> None:
    metadata = {f"m{number}": "x" * 1_000 for number in range(100)}
    row = only(take("langfuse", [envelope(1, "span-create", id="s", name="n", startTime=AT, metadata=metadata)]))
    assert orjson.loads(row["attributes"]) == {"name": "n"}
    assert len(row["payload"]) > 100_000


def test_a_delivery_tried_again_is_the_same_event() -> None:
    body = {"entity": "prompt", "action": "created", "timestamp": AT, "data": {"name": "p"}}
    first, again, other = (
        only(take("mlflow", body, **{mlflow.DELIVERY_HEADER: name}))["event_id"] for name in ("a", "a", "b")
    )
    assert first == again != other


@pytest.mark.parametrize(("entity", "action"), EVENT_TO_PAYLOAD_CLASS)
def test_every_event_of_the_installed_mlflow_is_known(entity: Any, action: Any) -> None:
    event = WebhookEvent(entity, action)
    body = {
        "entity": entity.value,
        "action": action.value,
        "timestamp": AT,
        "data": get_example_payload_for_event(event),
    }
    assert only(take("mlflow", body))["kind"] == mlflow.KINDS[entity.value, action.value]


def test_mlflows_own_signature_is_taken() -> None:
    headers = {
        mlflow.SIGNATURE_HEADER: _generate_hmac_signature("secret", "d", "1767225600", '{"a":1}'),
        mlflow.DELIVERY_HEADER: "d",
        mlflow.TIMESTAMP_HEADER: "1767225600",
    }
    mlflow.check_signature(b'{"a":1}', headers, secret="secret", now_s=1767225700.0)
    for body, now_s in ((b'{"a":2}', 1767225700.0), (b'{"a":1}', 1767226000.0), (b'{"a":1}', 1767225000.0)):
        with pytest.raises(Unauthenticated):
            mlflow.check_signature(body, headers, secret="secret", now_s=now_s)
