"""One call told in each dialect of GenAI attributes gives the same columns."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cluster.contract.columns import EVENT_SCHEMA
from cluster.contract.sources import dialects
from cluster.contract.sources.otlp import traces_from_message
from tests.cluster.contract.bodies import CONTEXT, only
from tests.cluster.contract.test_otlp import traces

USAGE = {"input": 100, "output": 40, "cache_read": 60, "cache_write": 10, "reasoning": 15}

CALLS: dict[str, dict[str, Any]] = {
    "opentelemetry latest": {
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.cache_write.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 15,
        "gen_ai.conversation.id": "s1",
        "user.id": "u1",
    },
    "opentelemetry 1.37 to 1.41": {
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.cache_creation.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 15,
        "gen_ai.conversation.id": "s1",
        "user.id": "u1",
    },
    "openinference": {
        "openinference.span.kind": "LLM",
        "llm.provider": "azure",
        "llm.model_name": "gpt-4o",
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 40,
        "llm.token_count.prompt_details.cache_read": 60,
        "llm.token_count.prompt_details.cache_write": 10,
        "llm.token_count.completion_details.reasoning": 15,
        "session.id": "s1",
        "user.id": "u1",
    },
    "openllmetry": {
        "gen_ai.system": "az.ai.openai",
        "llm.request.type": "chat",
        "gen_ai.request.model": "gpt",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.prompt_tokens": 100,
        "gen_ai.usage.completion_tokens": 40,
        "gen_ai.usage.cache_read_input_tokens": 60,
        "gen_ai.usage.cache_creation_input_tokens": 10,
        "gen_ai.usage.reasoning_tokens": 15,
        "traceloop.association.properties.session_id": "s1",
        "traceloop.association.properties.user_id": "u1",
    },
    "exclusive buckets, so marked": {
        "usage_semantics": "exclusive",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 25,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.cache_creation.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 15,
        "session.id": "s1",
        "enduser.id": "u1",
    },
}


def told(attributes: dict[str, Any]) -> dict[str, Any]:
    row = only(traces_from_message(traces({"attributes": attributes}), CONTEXT))
    row.pop("attributes")
    return row


@pytest.mark.parametrize("dialect", CALLS)
def test_each_dialect_gives_the_same_columns(dialect: str) -> None:
    row = told(CALLS[dialect])
    assert row == told(CALLS["opentelemetry latest"])
    assert (row["provider"], row["operation"], row["model"]) == ("azure.ai.openai", "chat", "gpt-4o")
    assert {name: row[f"{name}_tokens"] for name in USAGE} == USAGE
    assert (row["session_id"], row["user_id"], row["usage_conflict"]) == ("s1", "u1", False)


def test_opentelemetry_up_to_1_36_has_no_buckets() -> None:
    old = {"gen_ai.system": "openai", "gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 2}
    row = told(old)
    assert (row["input_tokens"], row["output_tokens"], row["cache_read_tokens"]) == (7, 2, None)


@pytest.mark.parametrize(
    ("name", "value", "operation"),
    [
        ("openinference.span.kind", "EMBEDDING", "embeddings"),
        ("openinference.span.kind", "CHAIN", "invoke_workflow"),
        ("openinference.span.kind", "RETRIEVER", "retrieval"),
        ("openinference.span.kind", "TOOL", "execute_tool"),
        ("traceloop.span.kind", "workflow", "invoke_workflow"),
        ("traceloop.span.kind", "agent", "invoke_agent"),
        ("llm.request.type", "completion", "text_completion"),
        ("llm.request.type", "embedding", "embeddings"),
        ("gen_ai.operation.name", "generate_content", "generate_content"),
    ],
)
def test_span_kinds_are_operations(name: str, value: str, operation: str) -> None:
    assert told({name: value})["operation"] == operation


def test_seconds_become_milliseconds_and_cost_keeps_its_digits() -> None:
    row = told({"gen_ai.response.time_to_first_chunk": 0.25, "llm.cost.total": 0.1})
    assert (row["ttft_ms"], row["cost_usd"]) == (250.0, Decimal("0.1"))


def test_parts_over_their_total_are_marked_and_kept_as_sent() -> None:
    row = told({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_read.input_tokens": 60})
    assert (row["usage_conflict"], row["input_tokens"], row["cache_read_tokens"]) == (True, 10, 60)


def test_a_value_of_the_wrong_type_stays_an_attribute() -> None:
    assert dialects.canonical({"gen_ai.usage.input_tokens": "many", "gen_ai.response.model": ["a"]}) == {}
    assert dialects.canonical({"gen_ai.usage.input_tokens": "12"}) == {"input_tokens": 12}
    assert dialects.canonical({"gen_ai.usage.input_tokens": float("nan"), "llm.cost.total": True}) == {}


def test_no_attribute_name_means_two_columns() -> None:
    names = [name for names in dialects.ATTRIBUTES.values() for name in names]
    assert len(names) == len(set(names))


def test_the_tables_name_columns_and_dialects_that_there_are() -> None:
    tables = tomllib.loads(Path(dialects.__file__).with_name("dialects.toml").read_text())
    told = {dialect for names in tables["names"].values() for _, dialect in names}
    assert told == set(tables["dialects"])
    assert set(tables["names"]) <= {*EVENT_SCHEMA.names, *dialects.OBJECTS, "usage_semantics"}
    names = {name for names in dialects.ATTRIBUTES.values() for name in names}
    assert names.issuperset([*dialects.SECONDS, *dialects.JSON_TEXTS, *dialects.OPERATION_VALUES])
    assert tables["version"] == dialects.VERSION


@pytest.mark.parametrize(
    ("attributes", "columns"),
    [
        # What an object tells beside plain names fills in, unless its buckets are complete by themselves.
        (
            {"gen_ai.usage.input_tokens": 9, "gen_ai.usage.input_token_details": '{"cache_read":4}'},
            {"input_tokens": 9, "cache_read_tokens": 4},
        ),
        (
            {
                "gen_ai.usage.input_tokens": 9,
                "langfuse.observation.usage_details": '{"input":5,"input_cached_tokens":4}',
            },
            {"input_tokens": 9, "cache_read_tokens": 4},
        ),
        ({"mlflow.llm.cost": '{"total_cost":0.10}', "llm.cost.total": 0.2}, {"cost_usd": "0.2"}),
        ({"mlflow.llm.cost": '{"input_cost":0.10,"output_cost":0.25}'}, {"cost_usd": "0.35"}),
        ({"langfuse.observation.usage_details": "[1]", "langfuse.observation.cost_details": 7}, {}),
    ],
)
def test_objects_of_several_columns(attributes: dict[str, Any], columns: dict[str, Any]) -> None:
    assert dialects.canonical(attributes) == columns
