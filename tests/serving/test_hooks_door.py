"""POST /api/v1/hooks/…: what other products send is taken as they send it, and never twice."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.clock import SystemClock
from tests.serving.conftest import SMALL, Hub, start

JSON = {"content-type": "application/json"}
SECRET = "a webhook's secret"


def now_s() -> float:
    return SystemClock().now_us() / 1e6


def call(number: int, **more: Any) -> dict[str, Any]:
    """One of LiteLLM's payloads."""
    at_s = now_s()
    return {
        "id": f"chatcmpl-{number}",
        "call_type": "acompletion",
        "status": "success",
        "model": "gpt-4o",
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "startTime": at_s,
        "endTime": at_s + 1.0,
        **more,
    }


def generation(number: int) -> dict[str, Any]:
    """One item of Langfuse's ingestion API."""
    at = "2026-01-01T00:00:00.000Z"
    return {"id": f"i-{number}", "type": "generation-create", "timestamp": at, "body": {"id": f"g-{number}"}}


def delivery() -> bytes:
    """A webhook of MLflow."""
    event = {"entity": "model_version", "action": "created", "timestamp": "2026-01-01T00:00:00+00:00"}
    return json.dumps({**event, "data": {"name": "m", "version": "1"}}).encode()


def signed(body: bytes, *, secret: str = SECRET, at_s: float | None = None) -> dict[str, str]:
    """MLflow's headers."""
    stamp = str(int(now_s() if at_s is None else at_s))
    content = f"d-1.{stamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(secret.encode(), content, hashlib.sha256)).decode()
    headers = {"x-mlflow-delivery-id": "d-1", "x-mlflow-timestamp": stamp, "x-mlflow-signature": f"v1,{signature}"}
    return {**JSON, **headers}


def test_what_is_sent_again_is_repeated(hub: Hub) -> None:
    key = hub.key("ingest")
    bodies = {
        "litellm": json.dumps([call(1), call(2)]).encode(),
        "langfuse": json.dumps({"batch": [generation(1), generation(2)]}).encode(),
        "mlflow": delivery(),
    }
    for product, body in bodies.items():
        first, again = (
            hub.call("POST", f"/api/v1/hooks/{product}", key=key, content=body, headers=JSON) for _ in range(2)
        )
        rows = 1 if product == "mlflow" else 2
        assert first.status_code == again.status_code == 202
        assert first.json() == {"accepted": rows, "repeated": 0, "refused": 0, "errors": []}
        assert again.json() == {"accepted": 0, "repeated": rows, "refused": 0, "errors": []}


def test_a_bad_item_is_named_and_kept_and_its_neighbours_taken(hub: Hub) -> None:
    key = hub.key("ingest")
    body = json.dumps([call(1), "no payload", call(2, startTime=5, endTime=1), call(3)]).encode()
    answer = hub.call("POST", "/api/v1/hooks/litellm", key=key, content=body, headers=JSON).json()
    assert (answer["accepted"], answer["repeated"], answer["refused"]) == (2, 0, 2)
    assert [(error["index"], error["code"]) for error in answer["errors"]] == [
        (1, "item_not_object"),
        (2, "times_invalid"),
    ]
    ledger = hub.call("GET", "/api/v1/ledger", key=hub.admin).json()
    assert (ledger["total"]["dead_letters"], ledger["total"]["difference"]) == (2, 0)


@pytest.mark.parametrize("product", ["litellm", "mlflow", "langfuse"])
def test_limits_encodings_and_keys_are_those_of_the_event_door(shared_hub: Hub, product: str) -> None:
    path = f"/api/v1/hooks/{product}"
    key = shared_hub.key("ingest")
    assert shared_hub.call("POST", path, content=b"{}", headers=JSON).status_code == 401
    assert shared_hub.call("POST", path, key=shared_hub.key("read"), content=b"{}", headers=JSON).status_code == 403
    for content, headers, status in (
        (b"[", JSON, 400),
        (b"[]", {"content-type": "text/plain"}, 415),
        (b"[]", {**JSON, "content-encoding": "br"}, 415),
        (b"[]", JSON, 202),
        (gzip.compress(b"[]"), {**JSON, "content-encoding": "gzip"}, 202),
        (b"[" + b"{}," * 5_001 + b"{}]", JSON, 413),
        (b" " * (3 * 1024 * 1024), JSON, 413),
    ):
        assert shared_hub.call("POST", path, key=key, content=content, headers=headers).status_code == status


def test_the_password_of_basic_authentication_may_be_the_key(shared_hub: Hub) -> None:
    path = "/api/v1/hooks/langfuse"
    for text, status in ((f"pk:{shared_hub.key('ingest')}", 202), ("pk:wrong", 401), ("no colon", 401)):
        headers = {**JSON, "authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
        assert shared_hub.call("POST", path, content=b"[]", headers=headers).status_code == status
    headers = {**JSON, "authorization": "Basic ???"}
    assert shared_hub.call("POST", path, content=b"[]", headers=headers).status_code == 401


@pytest.fixture(scope="module")
def signing_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub that has the secret of MLflow's webhooks."""
    yield from start(replace(SMALL, data=tmp_path_factory.mktemp("hub"), mlflow_webhook_secret=SECRET))


def test_a_signed_webhook_is_taken_and_no_other(signing_hub: Hub) -> None:
    body = delivery()
    key = signing_hub.key("ingest")
    good = signed(body)
    for headers, status in (
        (good, 202),
        (JSON, 401),
        (signed(body, secret="another"), 401),
        (signed(body, at_s=now_s() - 600), 401),
        (signed(body + b" "), 401),
        ({**good, "x-mlflow-timestamp": "soon"}, 401),
        ({**good, "x-mlflow-signature": "v1,not base64"}, 401),
    ):
        answer = signing_hub.call("POST", "/api/v1/hooks/mlflow", key=key, content=body, headers=headers)
        assert answer.status_code == status, headers
    assert signing_hub.call("POST", "/api/v1/hooks/mlflow", content=body, headers=good).status_code == 401


def test_the_secret_is_not_shown_with_the_settings(tmp_path: Path) -> None:
    assert SECRET not in repr(replace(SMALL, data=tmp_path, mlflow_webhook_secret=SECRET))
