"""Answers taken apart and put together are the same text; a question is asked whole; a volume is told in words."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.query.pages import Page
from models.query.plan import Floors
from models.query.stored import Told, cursor_after, page_limit, put_together, read_told, taken_apart, whole
from models.query.volume import Volume, told, why_job

_encoder = msgspec.json.Encoder(decimal_format="number")
NUMBERS = st.one_of(
    st.integers(-(2**62), 2**62),
    st.decimals(allow_nan=False, allow_infinity=False, places=9).map(lambda value: msgspec.Raw(f"{value:f}".encode())),
    st.none(),
    st.text(max_size=5),
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b"]), NUMBERS), max_size=12)


@given(st.sampled_from(["rows", "series", "cells"]), ROWS, st.booleans(), st.integers(1, 5))
def test_pages_together_are_the_answer_digit_for_digit(member: str, rows: Any, paged: bool, limit: int) -> None:
    answer = {"tier": "events", member: rows, **({"next_cursor": "old"} if paged else {}), "version": 3}
    stored = taken_apart(answer)
    whole_text = put_together(stored.head, stored.member, stored.entries, None)
    told = {**answer, **({"next_cursor": None} if paged else {})}
    assert whole_text == _encoder.encode(told)
    found: list[Any] = []
    for first in range(0, len(rows), limit):
        page = Page(limit, first)
        cursor = cursor_after(page, len(rows))
        part = json.loads(
            put_together(stored.head, stored.member, stored.entries[first : first + limit], cursor), parse_float=Decimal
        )
        assert (cursor is None) == (first + limit >= len(rows)) and part.get("next_cursor") == cursor
        found += part[member]
    assert found == json.loads(_encoder.encode(rows), parse_float=Decimal)


def test_only_questions_that_tell_rows_by_page_are_asked_whole() -> None:
    pairs = (("measure", "cost_usd"), ("limit", "5"), ("cursor", "x"))
    for kind in ("aggregate", "compare"):
        assert whole(kind, pairs) == (("measure", "cost_usd"), ("limit", "10000"))
        assert page_limit(kind, pairs) == "5"
    # Of these a limit says how many groups are told one by one.
    for kind in ("top", "histogram", "cost_allocation"):
        assert whole(kind, pairs) == pairs and page_limit(kind, pairs) is None
    over_time = (("field", "latency_ms"), ("granularity", "1h"))
    assert whole("percentile", over_time) == over_time
    assert dict(whole("as_of", (("of", "top"), ("version", "1")))) == {"of": "top", "version": "1"}
    assert dict(whole("as_of", (("version", "1"),)))["limit"] == "10000"


def test_what_a_job_is_told_comes_back() -> None:
    asked = Told((("measure", "cost_usd"), ("filter", 'attributes.x:eq:"é')), Floors(5, 4, 3))
    assert read_told(asked.text()) == asked


@pytest.mark.parametrize(
    ("size_bytes", "bytes_max", "why"),
    [
        (2**31, 2**31, None),
        (2**31 + 1, 2**31, "9 events in 1 file of 2 GiB, over the 2 GiB that one node scans for a question"),
        (2**40, 0, None),
        (5, 4, "9 events in 1 file of 5 bytes, over the 4 bytes that one node scans for a question"),
    ],
)
def test_the_border_is_told_with_what_crosses_it(size_bytes: int, bytes_max: int, why: str | None) -> None:
    assert why_job(Volume(1, 9, size_bytes), bytes_max=bytes_max) == why


def test_large_numbers_are_told_in_words() -> None:
    assert told(Volume(1_234, 9_876_543, 3_650_722_201)) == "9,876,543 events in 1,234 files of 3.4 GiB"
