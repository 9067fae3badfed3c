"""Langfuse's ingestion API -> events: traces, observations and scores of one batch.

Source: https://api.reference.langfuse.com (POST /api/public/ingestion). The id of an item's envelope is the event's, so
a batch that comes again is a repeat. An observation told of in parts is one call: its parts share trace, span and
request id, by which each of its parts counts once. Within a batch an update knows what its observation's earlier items
and its trace said. `usageDetails` are exclusive buckets. The item is kept whole in `payload`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
from cluster.contract.usage import cost_of, exclusive_tokens, inclusive_tokens

# Type of an observation -> operation. A span of no particular type has none.
OPERATIONS: Final[dict[str, str | None]] = {
    "span": None,
    "event": None,
    "generation": "chat",
    "embedding": "embeddings",
    "agent": "invoke_agent",
    "tool": "execute_tool",
    "chain": "invoke_workflow",
    "retriever": "retrieval",
    "evaluator": "evaluate",
    "guardrail": "run_guardrail",
}
_VERBS: Final = frozenset({"create", "update"})
# What an update takes over from earlier items of its observation; usage and cost are told by whom they came from.
_INHERITED: Final = ("traceId", "parentObservationId", "startTime", "name", "model", "environment", "type")
_SEVERITIES: Final = {"DEFAULT": "info"}
_TRACE_FIELDS: Final = ("userId", "sessionId", "environment", "release", "tags")


def decode_langfuse(body: bytes, headers: Mapping[str, str], context: DecodeContext) -> Decoded:
    """Events of a batch, `{"batch": [...]}` or the array alone; raises as `items_of` does."""
    items = items_of(body, headers, "batch", context)
    rows = HookRows(items, context)
    told: list[tuple[int, Fields]] = []
    for index, item in enumerate(items):
        try:
            told.append((index, fields_of(item, context)))
        except RowRefused as refusal:
            rows.refuse(index, refusal.code, refusal.message)
    batch = _Batch(told)
    for index, envelope in told:
        try:
            row = batch.row(envelope)
        except RowRefused as refusal:
            rows.refuse(index, refusal.code, refusal.message)
            continue
        rows.add(index, row | {"payload": items[index].decode()})
    return rows.seal()


class _Batch:
    """What the items of a batch know of each other."""

    def __init__(self, told: list[tuple[int, Fields]]) -> None:
        self._traces: dict[str, Fields] = {}
        self._observations: dict[str, Fields] = {}
        for _, envelope in told:
            body = mapping_of(envelope.get("body"))
            if envelope.get("type") == "trace-create" and (name := text_of(body.get("id"))):
                _learn(self._traces.setdefault(name, {}), body, _TRACE_FIELDS)

    def row(self, envelope: Fields) -> Fields:
        """The row of one item.

        Raises:
            RowRefused: of a type that Langfuse does not have, or without a body.
        """
        sent = text_of(envelope.get("type")) or ""
        body = envelope.get("body")
        if not isinstance(body, dict):
            raise RowRefused("hook_unknown", "no `body`; send Langfuse's ingestion events as they are")
        row: Fields = {
            "module": "observatory",
            "event_id": text_of(envelope.get("id")),
            "occurred_at": first_text(body.get("startTime"), body.get("timestamp"), envelope.get("timestamp")),
        }
        noun, _, verb = sent.rpartition("-")
        if noun == "observation":
            noun = (first_text(body.get("type"), self._known(body).get("type")) or "span").lower()
        if sent == "trace-create":
            return row | self._trace(body)
        if sent == "score-create":
            return row | self._score(body)
        if sent == "sdk-log":
            return row | {"kind": "observatory.log", "severity": "debug"}
        if noun not in OPERATIONS or verb not in _VERBS:
            raise RowRefused("hook_unknown", f"type {ascii(sent)[:80]} is not one of Langfuse's ingestion events")
        return row | self._observation(noun, body, row)

    def _known(self, body: Fields) -> Fields:
        return self._observations.setdefault(text_of(body.get("id")) or "", {})

    def _trace(self, body: Fields) -> Fields:
        return {
            "kind": "observatory.span",
            "operation": "invoke_workflow",
            "trace_id": text_of(body.get("id")),
            **self._owner(text_of(body.get("id")), body),
            "attributes": _attributes(body),
        }

    def _owner(self, trace_id: str | None, body: Mapping[str, Any]) -> Fields:
        trace = self._traces.get(trace_id or "", {})
        return {
            "user_id": first_text(body.get("userId"), trace.get("userId")),
            "session_id": first_text(body.get("sessionId"), trace.get("sessionId")),
            "environment": first_text(body.get("environment"), trace.get("environment")),
        }

    def _score(self, body: Fields) -> Fields:
        trace_id = text_of(body.get("traceId"))
        return {
            "kind": "observatory.eval",
            "trace_id": trace_id,
            "span_id": text_of(body.get("observationId")),
            **self._owner(trace_id, body),
            "attributes": document(
                {"name": body.get("name"), "data_type": body.get("dataType"), "source": body.get("source")}
                | {"score": body.get("value"), "score_id": body.get("id")}
            ),
        }

    def _observation(self, noun: str, body: Fields, row: Fields) -> Fields:
        own = text_of(body.get("id"))
        known = self._known(body) if own else {}
        whole = {**known, **{name: value for name, value in body.items() if value is not None}}
        _learn(known, whole, _INHERITED)
        trace_id = text_of(whole.get("traceId"))
        operation = OPERATIONS[noun]
        guards = noun == "guardrail"
        out = {
            "module": "guardrails" if guards else "observatory",
            "kind": "guardrails.evaluation" if guards else "observatory.log" if noun == "event" else "observatory.span",
            "occurred_at": first_text(whole.get("startTime"), row["occurred_at"]),
            "trace_id": trace_id,
            "span_id": own,
            "parent_span_id": text_of(whole.get("parentObservationId")),
            "operation": operation,
            "model": text_of(whole.get("model")),
            "severity": _severity(body.get("level")),
            "status": _status(body),
            **self._owner(trace_id, whole),
            "attributes": _attributes(whole),
        }
        if noun in ("generation", "embedding"):
            # By it the parts of a call are one, though an update need not name its trace.
            out["request_id"] = own
        if "startTime" in whole:
            # Without its start an update's end says nothing of how long it took.
            out |= {"ended_at": body.get("endTime"), "first_token_at": body.get("completionStartTime")}
        return out | _tokens(body) | {"cost_usd": _cost(body)}


def _learn(known: Fields, body: Mapping[str, Any], names: tuple[str, ...]) -> None:
    known.update({name: body[name] for name in names if body.get(name) is not None})


def _severity(level: Any) -> str | None:
    word = text_of(level)
    return _SEVERITIES.get(word, word) if word else None


def _status(body: Fields) -> str | None:
    if body.get("level") == "ERROR":
        return failure((text_of(body.get("statusMessage")),))
    return "ok" if text_of(body.get("endTime")) else None


def _tokens(body: Fields) -> dict[str, Any]:
    if details := mapping_of(body.get("usageDetails")):
        return exclusive_tokens(details)
    usage = mapping_of(body.get("usage"))
    # The older form counts in characters or images as well.
    return dict(inclusive_tokens(usage)) if usage.get("unit") in (None, "TOKENS") else {}


def _cost(body: Fields) -> str | None:
    if details := mapping_of(body.get("costDetails")):
        return cost_of(details)
    usage = mapping_of(body.get("usage"))
    costs = {name: usage.get(name) for name in ("inputCost", "outputCost", "totalCost")}
    return cost_of({name: value for name, value in costs.items() if value is not None})


def _attributes(body: Mapping[str, Any]) -> str:
    names = ("name", "release", "version", "tags", "level", "promptName", "promptVersion")
    metadata = {f"metadata.{name}": value for name, value in mapping_of(body.get("metadata")).items()}
    own = {name: body.get(name) for name in names}
    text = document(metadata | own)
    return text if len(text) <= _ATTRIBUTES_MAX else document(own)


_ATTRIBUTES_MAX: Final = 16_384
