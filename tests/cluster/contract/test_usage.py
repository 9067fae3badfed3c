"""Usage and cost objects: what is part of what, and money without a float."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.contract import usage

counts = st.integers(0, 10**9)


@given(text=counts, read=counts, write=counts, output=counts, reasoning=counts)
def test_exclusive_and_inclusive_objects_of_one_call_give_the_same(
    text: int, read: int, write: int, output: int, reasoning: int
) -> None:
    exclusive = {
        "input": text,
        "input_cached_tokens": read,
        "input_cache_creation": write,
        "output": output,
        "output_reasoning_tokens": reasoning,
        "total": text + read + write + output + reasoning,
    }
    inclusive = {
        "prompt_tokens": text + read + write,
        "completion_tokens": output + reasoning,
        "prompt_tokens_details": {"cached_tokens": read, "cache_creation_tokens": write},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    assert usage.exclusive_tokens(exclusive) == usage.inclusive_tokens(inclusive)
    assert usage.exclusive_tokens(inclusive) == usage.inclusive_tokens(inclusive)


@given(parts=st.lists(st.decimals(0, 10**6, places=9), min_size=1, max_size=6))
def test_a_cost_without_a_total_is_the_exact_sum(parts: list[Any]) -> None:
    members = ",".join(f'"{number}":{part:f}' for number, part in enumerate(parts))
    told = usage.JSON_VALUE.decode(f"{{{members}}}")
    total = usage.cost_of(told)
    assert total is not None
    assert type(parts[0])(total) == sum(parts)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        *((7, 7), (7.0, 7), ("7", 7), ("7.0", 7), (7.5, None), (True, None), ("x", None), (None, None), ([], None)),
        *((float("nan"), None), (float("inf"), None), (2**63, None), ("1" * 40, None), ("1_0", None), ("1e999", None)),
    ],
)
def test_counts(value: Any, count: int | None) -> None:
    assert usage.whole(value) == count


def test_members_beyond_the_total_are_marked() -> None:
    assert usage.exclusive_tokens({"input": 5, "output": 6, "total": 10})["usage_conflict"] is True
    assert "usage_conflict" not in usage.exclusive_tokens({"input": 5, "output": 6, "total": 11})


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"a":', "\ud800", "[" * 5_000])
def test_what_is_no_object_is_empty(text: str) -> None:
    assert usage.json_object(text) == {}


@pytest.mark.parametrize("costs", [{}, {"input": None}, {"input": "x"}, {"input": "1_0"}, {"input": "9" * 65}])
def test_what_is_no_amount_is_no_cost(costs: dict[str, Any]) -> None:
    assert usage.cost_of(costs) is None
