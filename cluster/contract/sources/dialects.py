"""GenAI attributes in every dialect -> the contract's columns. Tables of data: to know one more name, add it.

Dialects: OpenTelemetry up to 1.36, 1.37 to 1.41 and the GenAI repository; OpenInference; OpenLLMetry. Names are in
order of trust: where a span carries several names of one column, the earlier one is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from cluster.contract.columns import TOKEN_FIELDS

# Column -> attribute names of all dialects, latest OpenTelemetry first.
ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "llm.vendor"),
    "model": (
        "gen_ai.response.model",
        "llm.response.model_name",
        "llm.response.model",
        "gen_ai.request.model",
        "llm.request.model_name",
        "llm.model_name",
        "llm.request.model",
        "embedding.model_name",
        "reranker.model_name",
    ),
    "operation": ("gen_ai.operation.name", "llm.request.type", "openinference.span.kind", "traceloop.span.kind"),
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
    ),
    "cache_read_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "cache_write_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    # Seconds, see SECONDS.
    "ttft_ms": ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"),
    "cost_usd": ("llm.cost.total",),
    "session_id": (
        "gen_ai.conversation.id",
        "session.id",
        "traceloop.association.properties.session_id",
        "traceloop.association.properties.chat_id",
    ),
    "user_id": (
        "user.id",
        "enduser.id",
        "gen_ai.user",
        "llm.user",
        "traceloop.association.properties.user_id",
    ),
    "request_id": ("gen_ai.response.id", "llm.response.id"),
    "service": ("service.name",),
    "environment": ("deployment.environment.name", "deployment.environment"),
    "guardrail_action": ("gen_ai.guardrail.action.type",),
    "usage_semantics": ("usage_semantics", "gen_ai.usage.semantics"),
}

# Names whose unit is seconds; the column holds milliseconds.
SECONDS: Final = frozenset(ATTRIBUTES["ttft_ms"])

# (attribute, value in lower case) -> operation, where a dialect's word is not already one the hub knows.
OPERATION_VALUES: Final[dict[str, dict[str, str]]] = {
    "openinference.span.kind": {
        "llm": "chat",
        "embedding": "embeddings",
        "chain": "invoke_workflow",
        "retriever": "retrieval",
        "reranker": "rerank",
        "tool": "execute_tool",
        "agent": "invoke_agent",
        "guardrail": "run_guardrail",
        "evaluator": "evaluate",
    },
    "traceloop.span.kind": {
        "workflow": "invoke_workflow",
        "task": "task",
        "agent": "invoke_agent",
        "tool": "execute_tool",
    },
    "llm.request.type": {
        "chat": "chat",
        "completion": "text_completion",
        "embedding": "embeddings",
        "rerank": "rerank",
    },
}

GUARDRAIL_OPERATION: Final = "run_guardrail"
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"

# Attribute -> (column, rank within the column); the table above turned round, so that a span costs one look-up for
# each attribute it has rather than one for each name there is.
_BY_NAME: Final = {name: (column, rank) for column, names in ATTRIBUTES.items() for rank, name in enumerate(names)}
_TEXT: Final = frozenset(ATTRIBUTES) - frozenset(TOKEN_FIELDS) - {"ttft_ms", "cost_usd"}


def canonical(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that the attributes tell of: texts, token counts, `ttft_ms`, `cost_usd` as text.

    A value that is no value of its column stays an attribute only. Tokens are inclusive totals, as OpenTelemetry
    means them; attributes marked `usage_semantics=exclusive` (Anthropic raw, Langfuse) are summed up to that.
    """
    values: dict[str, Any] = {}
    for column, name, usual in chosen(attributes):
        value = attributes[name]
        if type(value) is not usual:
            value = converted(column, name, value)
            if value is None:
                continue
        values[column] = value
    if values.pop("usage_semantics", None) == "exclusive":
        make_inclusive(values)
    return values


def chosen(names: Iterable[str]) -> tuple[tuple[str, str, type | None], ...]:
    """(column, attribute, type of a value that is taken as it is) of spans with these attributes."""
    return _choice(tuple(filter(_BY_NAME.__contains__, names)))


@lru_cache(maxsize=1024)
def _choice(names: tuple[str, ...]) -> tuple[tuple[str, str, type | None], ...]:
    """`chosen` of known attributes.

    An instrument sends the same names again and again, so the choice among them is made once.
    """
    found: dict[str, tuple[int, str]] = {}
    for name in names:
        column, rank = _BY_NAME[name]
        if column not in found or rank < found[column][0]:
            found[column] = (rank, name)
    chosen = [(column, name) for column, (_, name) in found.items()]
    return tuple((column, name, _usual_type(column, name)) for column, name in chosen)


def _usual_type(column: str, name: str) -> type | None:
    if column in TOKEN_FIELDS:
        return int
    return str if column in _TEXT and name not in OPERATION_VALUES else None


def make_inclusive(values: dict[str, Any]) -> None:
    """Exclusive buckets to inclusive totals: cache reads and writes into input, reasoning into output."""
    parts = (("input_tokens", ("cache_read_tokens", "cache_write_tokens")), ("output_tokens", ("reasoning_tokens",)))
    for total, names in parts:
        if values.get(total) is not None:
            values[total] += sum(values.get(name) or 0 for name in names)


def converted(column: str, name: str, value: Any) -> Any:
    """A value of an unusual type as its column holds it, None where it is none."""
    if column in _TEXT:
        if column == "operation" and name in OPERATION_VALUES and isinstance(value, str):
            return OPERATION_VALUES[name].get(value.lower(), value)
        return value if isinstance(value, str) else None if isinstance(value, list | dict) else str(value)
    if column == "cost_usd":
        # repr of a float is its shortest text: what the instrument's programmer wrote.
        return None if isinstance(value, bool | list | dict) else str(value)
    if isinstance(value, str):
        value = _number(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    if column == "ttft_ms":
        return float(value) * 1000.0 if name in SECONDS else float(value)
    return int(value) if value == int(value) and abs(value) < 2**63 else None


def _number(text: str) -> float | None:
    try:
        return float(text) if len(text) < 32 else None
    except ValueError:
        return None
