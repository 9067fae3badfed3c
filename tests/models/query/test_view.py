"""What a board is looked at through reaches a statement as values, and as nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RequestInvalid
from models.query.view import bound, parameter_of, parse_view

NOW_US = 1_772_626_050_000_000
NOW = datetime(2026, 3, 4, 12, 7, 30, tzinfo=UTC)


def test_ends_are_instants_and_choices_are_texts() -> None:
    told = {"from": "-1h", "where": {"model": "m-1", "attributes.gen_ai.tool.name": "search"}}
    view = parse_view(told, now_us=NOW_US)
    # As of any other question, relative ends move out to whole minutes.
    assert view == {
        "from": datetime(2026, 3, 4, 11, 7, tzinfo=UTC),
        "to": datetime(2026, 3, 4, 12, 8, tzinfo=UTC),
        "model": "m-1",
        "attributes_gen_ai_tool_name": "search",
    }


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([], "not an object"),
        ({}, "not a time"),
        ({"from": "-1h", "filter": []}, "not known"),
        ({"from": 5}, "not a time"),
        ({"from": "soon"}, "from"),
        ({"from": "now", "to": "-1h"}, "not before"),
        ({"from": "-1h", "where": []}, "view.where"),
        ({"from": "-1h", "where": {f"attributes.a{n}": "x" for n in range(33)}}, "32"),
        ({"from": "-1h", "where": {"model": 5}}, "not a text"),
        ({"from": "-1h", "where": {"modle": "m"}}, "modle"),
    ],
)
def test_what_is_no_view_is_refused(told: Any, words: str) -> None:
    with pytest.raises(RequestInvalid, match=words):
        parse_view(told, now_us=NOW_US)


def test_a_statement_is_given_what_it_names() -> None:
    view = {"from": NOW, "to": NOW, "model": "m-1", "attributes_team": "red"}
    assert bound(["from", "model"], [], view) == {"from": NOW, "model": "m-1"}
    # Nothing was chosen for these; what was sent by name goes before what was chosen.
    assert bound(["service", "attributes_feature"], {}, view) == {"service": None, "attributes_feature": None}
    assert bound(["model"], {"model": "sent"}, view) == {"model": "sent"}
    assert bound([], {"spare": 1}, view) == {"spare": 1}


def test_without_a_view_a_statement_has_what_was_sent() -> None:
    assert bound(["from"], {"from": 1}, None) == {"from": 1}
    assert bound(["1"], ["m-1"], None) == ["m-1"]


def test_a_name_that_nothing_stands_behind_is_refused_with_a_near_one() -> None:
    with pytest.raises(RequestInvalid) as refused:
        bound(["modle"], {}, {"from": NOW, "to": NOW})
    assert "$modle" in refused.value.message and "model" in refused.value.hint


@given(st.from_regex(r"attributes\.[\w.\-]{1,60}", fullmatch=True))
def test_the_name_of_any_attribute_can_be_written_in_a_statement(name: str) -> None:
    assert parameter_of(name).isidentifier()
