"""A dialect's names in the attributes of rows fill columns, and only those the row itself leaves open."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.contract.decode import decode
from cluster.contract.sources import dialects
from tests.cluster.contract.bodies import ARROW, CONTEXT, arrow_body, event, only, send

NAMES = sorted(
    name
    for column, names in dialects.ATTRIBUTES.items()
    for name in names
    if column not in ("usage_semantics", *dialects.OBJECTS)
)
VALUES: dict[str, Any] = {"cost_usd": "0.5", "ttft_ms": 2}


@pytest.mark.parametrize("column", sorted({*dialects.ATTRIBUTES} - {"usage_semantics", *dialects.OBJECTS}))
def test_every_name_of_a_column_is_found(column: str) -> None:
    for name in dialects.ATTRIBUTES[column]:
        value = VALUES.get(column, 3 if column.endswith("_tokens") else "word")
        told = dialects.canonical({name: value})[column]
        found = only(send(event(module="observatory", kind="observatory.span", attributes={name: value})))[column]
        assert str(found) == (f"{told}00000000" if column == "cost_usd" else str(told))


@given(spaces=st.text(" \t", max_size=3), before=st.dictionaries(st.text(max_size=5), st.text('.\\"a:', max_size=6)))
@settings(deadline=None)
def test_names_are_found_among_any_others(spaces: str, before: dict[str, str]) -> None:
    text = json.dumps(before, ensure_ascii=False)[:-1] + ("," if before else "") + f'"user.id"{spaces}:{spaces}"u-1"}}'
    assert only(send(json.dumps(event())[:-1].encode() + b',"attributes":' + text.encode() + b"}"))["user_id"] == "u-1"


def test_the_rows_own_field_stands_above_its_attributes_and_these_above_the_payload() -> None:
    attributes = {"gen_ai.response.model": "a", "gen_ai.usage.input_tokens": 7}
    row = only(
        send(event(model="m", attributes=attributes, payload={"model": "p", "input_tokens": 9, "provider": "x"}))
    )
    assert (row["model"], row["input_tokens"], row["provider"]) == ("m", 7, "x")


def test_rows_do_not_mind_each_other() -> None:
    decoded = send(
        event(event_id="1", attributes={"llm.model_name": "a"}),
        event(event_id="2", attributes={"version": "1.2"}),
        event(event_id="3"),
        event(event_id="4", model="own", attributes={"llm.model_name": "b"}),
        event(event_id="5", attributes={'say "llm.model_name': "c"}),
    )
    assert decoded.events.column("model").to_pylist() == ["a", None, None, "own", None]


def test_a_count_out_of_range_is_refused_as_if_it_were_the_rows_own() -> None:
    assert [one.code for one in send(event(attributes={"gen_ai.usage.input_tokens": -1})).refusals] == [
        "tokens_out_of_range"
    ]


def test_cost_keeps_its_digits() -> None:
    line = json.dumps(event())[:-1].encode() + b',"attributes":{"llm.cost.total":0.123456789123}}'
    assert str(only(send(line))["cost_usd"]) == "0.123456789"


def test_columnar_rows_too() -> None:
    table = pa.Table.from_pylist([event(attributes=json.dumps({"gen_ai.usage.output_tokens": 4}))])
    assert only(decode(arrow_body(table), content_type=ARROW, context=CONTEXT))["output_tokens"] == 4
