"""The older form, schema 1.x: common fields at the top level and `payload: {"payload_type", "data"}` -> a row.

Its seven modules and seven event types become the five modules: what it measured of calls is the observatory's, what
it knew of single calls' cost and tokens is told of by the gateway, security findings are guardrails or audit,
governance is audit, registry or guardrails. The payload is kept whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from cluster.contract.coerce import coerce
from cluster.contract.documents import OBJECT, merged
from cluster.contract.rows import RowRefused, shown

_EMPTY: Final = msgspec.Raw(b"")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one payload type and sub-type is in today's contract.

    Attributes:
        columns: column -> field of the sub-type's data.
        constants: column -> value every such row has.
    """

    kind: str
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)


_CALL: Final = {"model": "model_id", "request_id": "request_id"}
_TOKENS: Final = {**_CALL, "input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}
_MODEL: Final = {"model": "model_id"}

# (payload type, sub-type) -> meaning. Latency, token usage and token cost of one call share its request id, by which
# the call counts once and each of its parts once.
MEANINGS: Final[dict[tuple[str, str], Meaning]] = {
    ("telemetry", "latency"): Meaning(
        "observatory.span", {**_CALL, "latency_ms": "total_latency_ms", "ttft_ms": "ttft_ms"}, {"operation": "chat"}
    ),
    ("telemetry", "token_usage"): Meaning("observatory.span", _TOKENS, {"operation": "chat"}),
    ("telemetry", "throughput"): Meaning("observatory.metric", _MODEL),
    ("telemetry", "error_rate"): Meaning("observatory.metric", _MODEL),
    ("telemetry", "model_performance"): Meaning("observatory.eval", _MODEL),
    ("security", "threat"): Meaning("guardrails.incident"),
    ("security", "vulnerability"): Meaning("audit.security"),
    ("security", "compliance_violation"): Meaning("guardrails.violation"),
    ("security", "auth"): Meaning("audit.authn", {"user_id": "user_id"}),
    ("security", "privacy"): Meaning("audit.data_access"),
    ("cost", "token_cost"): Meaning(
        "gateway.request", {**_TOKENS, "cost_usd": "total_cost_usd"}, {"operation": "chat"}
    ),
    ("cost", "api_cost"): Meaning("gateway.budget", {"provider": "provider"}),
    ("cost", "resource_consumption"): Meaning("observatory.metric"),
    ("cost", "budget_alert"): Meaning("gateway.budget"),
    ("governance", "policy_violation"): Meaning("guardrails.violation", {"user_id": "user_id"}),
    ("governance", "audit_trail"): Meaning("audit.admin", {"user_id": "actor"}),
    ("governance", "compliance_check"): Meaning("audit.security"),
    ("governance", "data_lineage"): Meaning("registry.dependency.added"),
}

# Event type -> kind of a payload the table does not know, custom ones included.
_OTHER: Final = {
    "telemetry": "observatory.log",
    "security": "audit.security",
    "cost": "gateway.budget",
    "governance": "audit.admin",
    "lifecycle": "registry.asset.updated",
    "audit": "audit.admin",
    "alert": "observatory.log",
}

# Actions of an `auth` payload that are about permission rather than identity.
_AUTHZ_ACTIONS: Final = frozenset({b'"access_attempt"', b'"permission_denied"'})
_KEY_ACTIONS: Final = frozenset({b'"token_generated"', b'"token_revoked"'})
# Common field -> column.
_COMMON: Final = {
    "event_id": "event_id",
    "timestamp": "occurred_at",
    "occurred_at": "occurred_at",
    "schema_version": "schema_version",
    "severity": "severity",
    "environment": "environment",
    "correlation_id": "correlation_id",
    "parent_event_id": "causation_id",
    "tenant_id": "tenant_id",
    "project_id": "project_id",
}
_KEPT_ELSEWHERE: Final = frozenset({"payload", "tags", "attributes"})


def is_v1(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a row says it is of schema 1.x and has that form's payload."""
    older = bytes(fields.get("schema_version", _EMPTY)).startswith(b'"1')
    return older and "payload_type" in _members(fields.get("payload"))


def from_v1(fields: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    """Values by today's field.

    Raises:
        RowRefused: a value that cannot be what its field holds.
    """
    payload = _members(fields.get("payload"))
    kind_of_payload = _word(payload.get("payload_type"))
    data = _members(payload.get("data"))
    # Some senders put the sub-type's fields beside its tag, others one level down.
    inner = _members(data.get("data")) or data
    meaning = _meaning(kind_of_payload, _sub_type(kind_of_payload, data), _word(fields.get("event_type")))
    values: dict[str, Any] = dict(meaning.constants)
    for name, canonical in _COMMON.items():
        if name in fields:
            values[canonical] = coerce(canonical, bytes(fields[name]))
    for column, name in meaning.columns.items():
        if name in inner:
            values[column] = coerce(column, bytes(inner[name]))
    kind = _auth_kind(inner) if meaning.kind == "audit.authn" else meaning.kind
    values["kind"] = kind
    values["module"] = kind.split(".", 1)[0]
    status = _status(inner)
    if status is not None:
        values["status"] = status
    values["payload"] = fields["payload"]
    values["attributes"] = msgspec.Raw(_attributes(fields))
    return values


def _meaning(payload_type: str, sub_type: str, event_type: str) -> Meaning:
    known = MEANINGS.get((payload_type, sub_type))
    if known is not None:
        return known
    kind = _OTHER.get(payload_type) or _OTHER.get(event_type)
    if kind is None:
        raise RowRefused(
            "payload_type_unknown",
            f"payload_type {shown(payload_type)} with event_type {shown(event_type)} is not of schema 1.x; "
            f"event_type must be one of {', '.join(_OTHER)}",
        )
    return Meaning(kind)


def _sub_type(payload_type: str, data: Mapping[str, msgspec.Raw]) -> str:
    """The tag of `data`, named after the payload type: `telemetry_type`, `cost_type`, ..."""
    return _word(data.get(f"{payload_type}_type")) or _word(data.get("type"))


def _auth_kind(data: Mapping[str, msgspec.Raw]) -> str:
    action = bytes(data.get("action", _EMPTY))
    return "audit.authz" if action in _AUTHZ_ACTIONS else "audit.key" if action in _KEY_ACTIONS else "audit.authn"


def _status(data: Mapping[str, msgspec.Raw]) -> str | None:
    for name in ("success", "passed"):
        if name in data:
            return {b"true": "ok", b"false": "error"}.get(bytes(data[name]))
    return None


def _attributes(fields: Mapping[str, msgspec.Raw]) -> bytes:
    """Tags, and every common field without a column, as members of one object."""
    extras = [(name, bytes(raw)) for name, raw in _members(fields.get("tags")).items()]
    known = _KEPT_ELSEWHERE | set(_COMMON)
    extras += [(name, bytes(raw)) for name, raw in fields.items() if name not in known]
    try:
        return merged(bytes(fields.get("attributes", _EMPTY)), extras)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RowRefused("json_invalid", f"attributes: {error}") from None


def _members(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    if raw is None or bytes(raw)[:1] != b"{":
        return {}
    try:
        return OBJECT.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def _word(raw: msgspec.Raw | None) -> str:
    if raw is None:
        return ""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return value if isinstance(value, str) else ""
