"""The vocabulary of events: modules, kinds, severities, operations, and the limits of every field."""

from __future__ import annotations

from typing import Final

MODULES: Final = ("observatory", "registry", "audit", "guardrails", "gateway")

SCHEMA_VERSION: Final = "2.0.0"
# Same major accepted, unknown fields kept; "1.x" goes through the adapter of the older form.
SCHEMA_MAJOR: Final = 2

SEVERITIES: Final = ("debug", "info", "warning", "error", "critical")

KINDS: Final[dict[str, tuple[str, ...]]] = {
    "observatory": (
        "observatory.span",
        "observatory.metric",
        "observatory.eval",
        "observatory.feedback",
        "observatory.log",
        "observatory.drift",
    ),
    "registry": (
        "registry.asset.registered",
        "registry.asset.updated",
        "registry.asset.deleted",
        "registry.asset.status_changed",
        "registry.asset.downloaded",
        "registry.version.published",
        "registry.version.promoted",
        "registry.version.retired",
        "registry.version.alias_moved",
        "registry.price.changed",
        "registry.integrity.verified",
        "registry.integrity.failed",
        "registry.policy.validated",
        "registry.dependency.added",
    ),
    "audit": (
        "audit.authn",
        "audit.authz",
        "audit.config",
        "audit.data_access",
        "audit.admin",
        "audit.key",
        "audit.export",
        "audit.retention",
        "audit.system",
        "audit.security",
    ),
    "guardrails": (
        "guardrails.evaluation",
        "guardrails.violation",
        "guardrails.incident",
        "guardrails.policy.changed",
        "guardrails.feedback",
    ),
    "gateway": (
        "gateway.request",
        "gateway.route.decision",
        "gateway.fallback",
        "gateway.retry",
        "gateway.ratelimit",
        "gateway.budget",
        "gateway.circuit",
        "gateway.provider.health",
    ),
}

# A model call, in the words of the OpenTelemetry GenAI conventions. Tools, agents and retrievals are not calls.
INFERENCE_OPERATIONS: Final = ("chat", "text_completion", "generate_content", "embeddings")

REQUEST_KINDS: Final = ("gateway.request", "observatory.span")

ERROR_STATUSES: Final = ("error", "timeout", "rate_limited", "unavailable")

GUARDRAIL_KIND: Final = "guardrails.evaluation"
BLOCKING_ACTIONS: Final = ("block", "deny")

CACHE_HITS: Final = ("hit", "semantic")

# `counted` is a bit mask: what this row adds to the measures of its call. A call told of twice, by the gateway
# and by a span, adds each part once: the first teller of a part carries its bit.
COUNTED_REQUEST: Final = 1
COUNTED_TOKENS: Final = 2
COUNTED_COST: Final = 4
COUNTED_LATENCY: Final = 8
COUNTED_TTFT: Final = 16
COUNTED_CACHE: Final = 32
COUNTED_ERROR: Final = 64

# Limits of one event. A field over its limit refuses the row, never cuts it.
TEXT_LENGTH_MAX: Final = 512
ATTRIBUTES_BYTES_MAX: Final = 65_536
PAYLOAD_BYTES_MAX: Final = 1_048_576
TOKENS_MAX: Final = 1_000_000_000_000
LATENCY_MS_MAX: Final = 31_536_000_000.0
COST_NANO_USD_MAX: Final = 10**17
OCCURRED_AT_MIN_US: Final = 1_262_304_000_000_000  # 2010-01-01: before any LLM platform; 1970 is an unset clock
FUTURE_US_MAX: Final = 86_400_000_000  # a day ahead of the hub's clock: time zones set wrong, not 2100
JSON_DEPTH_MAX: Final = 64
DEAD_LETTER_BYTES_MAX: Final = 65_536
