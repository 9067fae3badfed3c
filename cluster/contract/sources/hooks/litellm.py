"""LiteLLM's generic API callback -> `gateway.request`, and `guardrails.evaluation` for each guardrail that ran.

Source: https://docs.litellm.ai/docs/proxy/logging_spec (StandardLoggingPayload). Its `prompt_tokens` include cache
reads and writes, its `completion_tokens` reasoning. The item is kept whole in `payload`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from cluster.contract.documents import OBJECT
from cluster.contract.rows import DecodeContext, Decoded, RowRefused
from cluster.contract.sources.hooks.items import (
    Fields,
    HookRows,
    document,
    fields_of,
    first_text,
    items_of,
    mapping_of,
    text_of,
)
from cluster.contract.sources.otlp_spans import failure
from cluster.contract.usage import inclusive_tokens, number_text, whole

# What LiteLLM calls a call -> the operation, where the hub's own words mean something else or nothing.
OPERATIONS: Final = {
    **dict.fromkeys(("completion", "acompletion", "responses", "aresponses", "anthropic_messages"), "chat"),
    **dict.fromkeys(("text_completion", "atext_completion"), "text_completion"),
    **dict.fromkeys(("embedding", "aembedding"), "embeddings"),
    **dict.fromkeys(("generate_content", "agenerate_content", "generate_content_stream"), "generate_content"),
    **dict.fromkeys(("image_generation", "aimage_generation"), "generate_content"),
}
# Attribute -> member of `metadata`.
_OWNERS: Final = {
    "key_id": "user_api_key_hash",
    "key_alias": "user_api_key_alias",
    "team_id": "user_api_key_team_id",
    "team_alias": "user_api_key_team_alias",
    "organisation_id": "user_api_key_org_id",
}
Raws = dict[str, msgspec.Raw]

_GUARDRAIL_ACTIONS: Final = {"success": "allow", "guardrail_intervened": "block", "blocked": "block"}


def decode_litellm(body: bytes, headers: Mapping[str, str], context: DecodeContext) -> Decoded:
    """Events of one payload, an array of them, or one a line; raises as `items_of` does."""
    items = items_of(body, headers, "logs", context)
    rows = HookRows(items, context)
    for index, item in enumerate(items):
        try:
            fields = fields_of(item, context)
        except RowRefused as refusal:
            rows.refuse(index, refusal.code, refusal.message)
            continue
        wrapped = fields.get("standard_logging_object")
        call = wrapped if isinstance(wrapped, dict) else fields
        row = _call(call)
        row["payload"] = item.decode()
        rows.add(index, row)
        sent = OBJECT.decode(item)
        for number, (told, text) in enumerate(_guardrails(call, sent if call is fields else _inner(sent))):
            rows.add(index, _guardrail(told, row, number) | {"payload": text})
    return rows.seal()


def _call(call: Fields) -> Fields:
    metadata, response, error = (mapping_of(call.get(name)) for name in ("metadata", "response", "error_information"))
    told = text_of(call.get("id"))
    began = call.get("startTime")
    row: Fields = {
        "module": "gateway",
        "kind": "gateway.request",
        # One call may be told of as failed and, tried again under its id, as successful.
        "event_id": told and f"litellm:{told}:{text_of(began)}",
        "request_id": told,
        "trace_id": text_of(call.get("trace_id")),
        "occurred_at": began,
        "ended_at": call.get("endTime"),
        "provider": first_text(call.get("custom_llm_provider"), error.get("llm_provider")),
        "model": first_text(response.get("model"), call.get("model")),
        "operation": _operation(call.get("call_type")),
        "user_id": first_text(
            call.get("end_user"), metadata.get("user_api_key_end_user_id"), metadata.get("user_api_key_user_id")
        ),
        "cost_usd": number_text(call.get("response_cost")),
        "cache_status": text_of(call.get("cache_hit")),
        "status": _status(call, error),
        "attributes": _attributes(call, metadata, error),
    }
    # Without a stream LiteLLM says the end where the first token would be.
    if call.get("completionStartTime") != call.get("endTime") or call.get("stream") is True:
        row["first_token_at"] = call.get("completionStartTime")
    return row | _tokens(call, metadata, response)


def _operation(call_type: Any) -> str | None:
    word = text_of(call_type)
    return OPERATIONS.get(word, word) if word else None


def _status(call: Fields, error: Any) -> str | None:
    if text_of(call.get("status")) != "failure":
        return text_of(call.get("status"))
    return failure((text_of(error.get("error_code")), text_of(error.get("error_class"))))


def _tokens(call: Fields, metadata: Any, response: Any) -> dict[str, int]:
    usage = mapping_of(metadata.get("usage_object")) or mapping_of(response.get("usage"))
    return inclusive_tokens(usage) | inclusive_tokens({name: call.get(name) for name in _TOTALS})


_TOTALS: Final = ("prompt_tokens", "completion_tokens")


def _attributes(call: Fields, metadata: Any, error: Any) -> str:
    members = {name: metadata.get(source) for name, source in _OWNERS.items()}
    members |= {
        "requested_model": first_text(call.get("model_group"), call.get("model")),
        "deployment_id": call.get("model_id"),
        "api_base": call.get("api_base"),
        "call_type": call.get("call_type"),
        "stream": call.get("stream"),
        "saved_cost": call.get("saved_cache_cost"),
        "tags": call.get("request_tags"),
        "user_agent": call.get("user_agent"),
        "error_code": error.get("error_code"),
        "error_class": error.get("error_class"),
        "service_tier": mapping_of(call.get("model_parameters")).get("service_tier"),
    }
    return document(members)


def _inner(sent: Raws) -> Raws:
    return OBJECT.decode(sent["standard_logging_object"])


def _guardrails(call: Fields, sent: Raws) -> list[tuple[Fields, str]]:
    """What each guardrail told, and the same as sent."""
    told = call.get("guardrail_information")
    if isinstance(told, dict):
        return [(told, bytes(sent["guardrail_information"]).decode())]
    if not isinstance(told, list):
        return []
    raws = msgspec.json.decode(sent["guardrail_information"], type=list[msgspec.Raw])
    return [(one, bytes(raw).decode()) for one, raw in zip(told, raws, strict=True) if isinstance(one, dict)]


def _guardrail(told: Fields, call: Fields, number: int) -> Fields:
    status = text_of(told.get("guardrail_status")) or text_of(told.get("status"))
    masked = sum(whole(count) or 0 for count in mapping_of(told.get("masked_entity_count")).values())
    action = "modify" if status == "success" and masked > 0 else _GUARDRAIL_ACTIONS.get(status or "")
    row = {name: call[name] for name in ("trace_id", "request_id", "model", "provider", "user_id")}
    return row | {
        "module": "guardrails",
        "kind": "guardrails.evaluation",
        "event_id": call["event_id"] and f"{call['event_id']}:guardrail:{number}",
        "occurred_at": told.get("start_time") if text_of(told.get("start_time")) else call["occurred_at"],
        "ended_at": told.get("end_time"),
        "guardrail_action": action,
        "status": "ok" if action else "error",
        "attributes": document(
            {name: told.get(name) for name in ("guardrail_name", "guardrail_mode", "guardrail_provider")}
        ),
    }
