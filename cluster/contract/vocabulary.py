"""The words senders use and the words the hub keeps: field names, statuses, severities, operations, providers.

Tables of data: to accept one more word, add a line. Keys are lower case.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from cluster.contract.event import MODULES

# Canonical field -> other names of it at the top level of a row.
FIELD_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "event_id": ("eventid",),
    "occurred_at": ("timestamp", "@timestamp", "time", "ts", "event_time", "start_time"),
    "tenant_id": ("tenant",),
    "project_id": ("project",),
    "environment": ("env", "deployment_environment"),
    "module": ("source_module",),
    "kind": ("event_type", "event_kind"),
    "severity": ("level", "log_level", "severity_text"),
    "parent_span_id": ("parent_id",),
    "causation_id": ("parent_event_id",),
    "session_id": ("conversation_id", "session", "thread_id"),
    "user_id": ("user", "end_user", "end_user_id"),
    "service": ("service_name",),
    "provider": ("provider_name", "llm_provider"),
    "model": ("model_name", "model_id", "served_model", "response_model"),
    "operation": ("operation_name", "op", "call_type"),
    "status": ("status_code", "outcome", "http_status"),
    "latency_ms": ("duration_ms", "total_latency_ms", "total_ms", "response_time_ms"),
    "ttft_ms": ("time_to_first_token_ms", "time_to_first_chunk_ms"),
    "input_tokens": ("prompt_tokens", "tokens_in", "tokens_input"),
    "output_tokens": ("completion_tokens", "tokens_out", "tokens_output"),
    "cache_read_tokens": ("cached_tokens", "cache_read_input_tokens", "cached_input_tokens"),
    "cache_write_tokens": ("cache_creation_tokens", "cache_creation_input_tokens", "cache_write_input_tokens"),
    "reasoning_tokens": ("reasoning_output_tokens", "thinking_tokens"),
    "cost_usd": ("cost", "total_cost", "total_cost_usd", "response_cost"),
    "cache_status": ("cache", "cache_hit"),
    "guardrail_action": ("action_taken",),
}

_CANONICAL: Final = {alias: name for name, aliases in FIELD_ALIASES.items() for alias in aliases}

STATUSES: Final = {
    **dict.fromkeys(("ok", "success", "succeeded", "successful", "completed", "complete", "passed", "unset"), "ok"),
    **dict.fromkeys(("error", "failed", "failure", "fail", "err", "exception", "internal_error"), "error"),
    **dict.fromkeys(("rate_limited", "ratelimited", "rate_limit", "too_many_requests", "throttled"), "rate_limited"),
    **dict.fromkeys(("timeout", "timed_out", "deadline_exceeded"), "timeout"),
    **dict.fromkeys(("unavailable", "service_unavailable"), "unavailable"),
    "408": "timeout",
    "504": "timeout",
    "429": "rate_limited",
    "503": "unavailable",
}

SEVERITIES: Final = {
    **dict.fromkeys(("debug", "trace", "verbose"), "debug"),
    **dict.fromkeys(("info", "information", "informational", "notice"), "info"),
    **dict.fromkeys(("warning", "warn"), "warning"),
    **dict.fromkeys(("error", "err"), "error"),
    **dict.fromkeys(("critical", "fatal", "emergency", "alert", "panic"), "critical"),
}

OPERATIONS: Final = {
    **dict.fromkeys(("chat", "chat_completion", "chat_completions", "chat.completions", "completions.chat"), "chat"),
    **dict.fromkeys(("acompletion", "chat_model", "responses", "messages", "llm"), "chat"),
    **dict.fromkeys(("text_completion", "completion", "completions", "atext_completion"), "text_completion"),
    **dict.fromkeys(("embeddings", "embedding", "embed", "aembedding"), "embeddings"),
    **dict.fromkeys(("generate_content", "generate", "generatecontent"), "generate_content"),
    **dict.fromkeys(("execute_tool", "tool", "tool_call"), "execute_tool"),
    **dict.fromkeys(("invoke_agent", "agent"), "invoke_agent"),
    **dict.fromkeys(("invoke_workflow", "workflow", "chain"), "invoke_workflow"),
    **dict.fromkeys(("retrieval", "retriever", "retrieve"), "retrieval"),
    **dict.fromkeys(("rerank", "reranker", "arerank"), "rerank"),
}

# Names of OpenTelemetry's gen_ai.provider.name, from those that instrumentations write.
PROVIDERS: Final = {
    "az.ai.openai": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "azure openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "vertex": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "google": "gcp.gen_ai",
    "google_genai": "gcp.gen_ai",
    "google_generativeai": "gcp.gen_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
    # The Vercel AI SDK names the model's interface with it.
    "openai.chat": "openai",
    "openai.responses": "openai",
    "openai.completion": "openai",
    "openai.embedding": "openai",
    "azure-openai.chat": "azure.ai.openai",
    "azure-openai.responses": "azure.ai.openai",
    "azure.chat": "azure.ai.openai",
    "azure.responses": "azure.ai.openai",
    "anthropic.messages": "anthropic",
    "google.generative-ai": "gcp.gemini",
    "google.vertex.chat": "gcp.vertex_ai",
    "vertex.anthropic.messages": "gcp.vertex_ai",
    "amazon-bedrock": "aws.bedrock",
    "mistral.chat": "mistral_ai",
    "xai.chat": "x_ai",
    "watsonx": "ibm.watsonx.ai",
}

CACHE_STATUSES: Final = {
    **dict.fromkeys(("hit", "true", "1", "yes", "cached"), "hit"),
    **dict.fromkeys(("miss", "false", "0", "no", "none"), "miss"),
    **dict.fromkeys(("semantic", "semantic_hit"), "semantic"),
}

GUARDRAIL_ACTIONS: Final = {
    **dict.fromkeys(("allow", "allowed", "pass", "passed", "success", "none"), "allow"),
    **dict.fromkeys(("block", "blocked", "deny", "denied"), "block"),
    **dict.fromkeys(("modify", "modified", "redact", "redacted", "mask", "masked", "sanitize"), "modify"),
    **dict.fromkeys(("escalate", "escalated"), "escalate"),
    **dict.fromkeys(("warn", "warned"), "warn"),
}

_HTTP_STATUS: Final = re.compile(r"[1-5][0-9][0-9]")
_KIND: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# OpenTelemetry severity numbers: 1-4 trace, 5-8 debug, 9-12 info, 13-16 warn, 17-20 error, 21-24 fatal.
_SEVERITY_BANDS: Final = ("debug", "debug", "info", "warning", "error", "critical")
_MODULE_ALIASES: Final = {"guardrail": "guardrails", "audits": "audit"}


def canonical_field(name: str) -> str:
    """The canonical field a top-level name means; the name itself where it means none."""
    return _CANONICAL.get(name) or _CANONICAL.get(snake := _CAMEL.sub("_", name).lower()) or snake


@lru_cache(maxsize=4096)
def status_of(word: str) -> str:
    """Canonical status: known words and HTTP codes are mapped, others kept in lower case."""
    lower = word.strip().lower().removeprefix("status_code_")
    known = STATUSES.get(lower)
    if known is not None:
        return known
    if _HTTP_STATUS.fullmatch(lower):
        return "ok" if lower < "400" else "error"
    return lower


@lru_cache(maxsize=4096)
def severity_of(word: str) -> str:
    """Canonical severity; OpenTelemetry numbers 1..24 are understood, unknown words kept in lower case."""
    lower = word.strip().lower()
    if lower.isdecimal() and 1 <= int(lower[:3]) <= 24:
        return _SEVERITY_BANDS[(int(lower) - 1) // 4]
    return SEVERITIES.get(lower, lower)


@lru_cache(maxsize=4096)
def operation_of(word: str) -> str:
    lower = word.strip().lower()
    return OPERATIONS.get(lower, lower)


@lru_cache(maxsize=4096)
def provider_of(word: str) -> str:
    lower = word.strip().lower()
    return PROVIDERS.get(lower, lower)


@lru_cache(maxsize=4096)
def cache_status_of(word: str) -> str:
    lower = word.strip().lower()
    return CACHE_STATUSES.get(lower, lower)


@lru_cache(maxsize=4096)
def guardrail_action_of(word: str) -> str:
    lower = word.strip().lower()
    return GUARDRAIL_ACTIONS.get(lower, lower)


@lru_cache(maxsize=4096)
def module_of(word: str) -> str:
    """Module name without the family prefix; not checked against the known ones."""
    lower = word.strip().lower()
    for prefix in ("llm-", "llm_"):
        lower = lower.removeprefix(prefix)
    return _MODULE_ALIASES.get(lower, lower)


def kind_of(module: str | None, kind: str) -> tuple[str, str] | None:
    """(module, kind) where the kind is dotted and begins with its module, or None where it cannot be.

    "request" of module "gateway" is "gateway.request"; "gateway.request" without a module names its module.
    A kind the hub has not heard of is accepted: a new release of a module must not break ingestion.
    """
    name = kind.strip().lower().replace("-", "_")
    first = name.split(".", 1)[0]
    if module is None:
        module = first
    elif first != module:
        if first in MODULES and "." in name:
            return None
        name = f"{module}.{name}"
    return (module, name) if _KIND.fullmatch(name) else None
