"""A board is checked to its last question, and every refusal names the JSON path of the fault."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import BodyUnreadable, HubError, RequestInvalid
from models.boards.spec import COLUMNS, Place, board_text, check_filters, parse_board, questions_of
from models.query.kinds import ask
from models.query.parameters import parse_body
from models.query.source import Context

CONTEXT = Context(now_us=1_767_225_600_000_000, tenants=("t",), groups_max=1_000)
VOLUME = {"kind": "timeseries", "measure": ["request_count"], "fill": "zero", "compare": "previous"}


def panel(number: int = 0, **more: Any) -> dict[str, Any]:
    place = {"x": 6 * (number % 2), "y": 6 * (number // 2), "w": 6, "h": 6}
    return {"id": f"p{number}", "title": "Volume", "kind": "line", "query": VOLUME, "place": place, **more}


def board(*panels: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"title": "Mine", "panels": list(panels), **more}


def text(spec: Any) -> bytes:
    return json.dumps(spec).encode()


FULL = board(
    panel(0, draw={"series": 5, "titles": {"request_count": "Calls"}, "ink": "bad"}, note="n", empty="e"),
    panel(1, query={"kind": "sql", "sql": "SELECT 1", "limit": 5}, kind="table"),
    panel(2, query={"kind": "top", "measure": "cost_usd", "group_by": "model", "from": "-7d"}, drill={"page": "costs"}),
    panel(3, query={"kind": "funnel", "entity": "trace_id", "step": ["status:ok", ["status:ok", "model:a"]]}),
    description="d",
    variables=[{"field": "model", "title": "Model"}, {"field": "attributes.team", "title": "Team"}],
    range="7d",
    refresh="1m",
    kpis=[{"measure": "cost_usd", "title": "Cost", "worse": "more"}],
    annotations=True,
)


def test_a_full_board_comes_back_as_it_was() -> None:
    kept = board_text(parse_board(text(FULL), CONTEXT))
    assert json.loads(kept) == FULL
    assert board_text(parse_board(kept, CONTEXT)) == kept


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ([], "$"),
        (board(panel(), more=1), "$"),
        (board(panel(), title=""), "$.title"),
        (board(panel(), title="a\nb"), "$.title"),
        (board(panel(), title="a\n"), "$.title"),
        (board(panel(), title="x" * 201), "$.title"),
        (board(panel(), title=5), "$.title"),
        (board(panel(), range="-24h"), "$.range"),
        (board(panel(), refresh="1s"), "$.refresh"),
        (board(*(panel(n) for n in range(61))), "$.panels"),
        (board(panel(), panel(1, place={"x": 6, "y": 0, "w": 7, "h": 1})), "$.panels[1].place.w"),
        (board(panel(place={"x": 12, "y": 0, "w": 1, "h": 1})), "$.panels[0].place.x"),
        (board(panel(place={"x": -1, "y": 0, "w": 1, "h": 1})), "$.panels[0].place.x"),
        (board(panel(place={"x": 0, "y": 1e9, "w": 1, "h": 1})), "$.panels[0].place.y"),
        (board(panel(place={"x": 0, "y": 0.5, "w": 1, "h": 1})), "$.panels[0].place.y"),
        (board(panel(place={"x": 0, "y": 0, "w": 1, "h": 1, "z": 9})), "$.panels[0].place"),
        (board(panel(), panel(1, place={"x": 5, "y": 5, "w": 2, "h": 2})), "$.panels[1].place"),
        (board(panel(), panel(1, id="p0")), "$.panels[1].id"),
        (board(panel(id="../x")), "$.panels[0].id"),
        (board(panel(id="p.before")), "$.panels[0].id"),
        (board(panel(id="kpis\n")), "$.panels[0].id"),
        (board(panel(kind="<script>")), "$.panels[0].kind"),
        (board(panel(note="a\x00b")), "$.panels[0].note"),
        (board(panel(drill={"page": "javascript:alert(1)"})), "$.panels[0].drill.page"),
        (board(panel(draw={"formatter": "x"})), "$.panels[0].draw"),
        (board(panel(query=[])), "$.panels[0].query"),
        (board(panel(query={})), "$.panels[0].query"),
        (board(panel(query={"kind": "ledger"})), "$.panels[0].query"),
        (board(panel(query={"kind": "batch", "queries": []})), "$.panels[0].query"),
        (board(panel(query={"kind": "aggregate", "measure": ["nothing"]})), "$.panels[0].query"),
        (board(panel(query={"kind": "aggregate", "measure": [{"a": 1}]})), "$.panels[0].query"),
        (board(panel(query={**VOLUME, "compare": "-7d"})), "$.panels[0].query"),
        (board(panel(query={**VOLUME, "tenant": "other"})), "$.panels[0].query"),
        (board(panel(query={**VOLUME, "from": "yesterday"})), "$.panels[0].query"),
        (board(panel(query={"kind": "aggregate", "calculate": {"a": "__import__('os')"}})), "$.panels[0].query"),
        (board(panel(query={"kind": "sql"})), "$.panels[0].query"),
        (board(panel(query={"kind": "sql", "sql": " "})), "$.panels[0].query"),
        (board(panel(query={"kind": "sql", "sql": "SELECT 1", "limit": True})), "$.panels[0].query"),
        (board(panel(query={"kind": "sql", "sql": "SELECT 1", "as_of": 3})), "$.panels[0].query"),
        (board(panel(), kpis=[{"measure": "nothing", "title": "x", "worse": "more"}]), "$.kpis[0].measure"),
        (board(panel(), variables=[{"field": "a; DROP", "title": "x"}]), "$.variables[0].field"),
        (board(panel(), variables=[{"field": "nothing_known", "title": "x"}]), "$.variables[0].field"),
    ],
)
def test_a_hostile_board_is_refused_with_the_path_of_its_fault(spec: Any, path: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        parse_board(text(spec), CONTEXT)
    assert path == "$" or f"`{path}`" in refused.value.message, refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"title":"\\ud800","panels":[]}', b'{"a":' * 90_000]
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(HubError) as refused:
        parse_board(body, CONTEXT)
    assert isinstance(refused.value, BodyUnreadable | RequestInvalid)


PLACES = st.builds(
    Place,
    x=st.integers(0, COLUMNS - 1),
    y=st.integers(0, 20),
    w=st.integers(1, COLUMNS),
    h=st.integers(1, 8),
)


@given(PLACES, PLACES)
def test_places_meet_when_they_share_a_cell(one: Place, other: Place) -> None:
    def cells(place: Place) -> set[tuple[int, int]]:
        return {(x, y) for x in range(place.x, place.x + place.w) for y in range(place.y, place.y + place.h)}

    assert one.meets(other) == other.meets(one) == bool(cells(one) & cells(other))


def test_a_board_asks_its_own_questions_with_the_filters_added() -> None:
    asked = questions_of(parse_board(text(FULL), CONTEXT), [])
    assert set(asked) == {"p0", "p0.before", "p1", "p2", "p3", "kpis.now", "kpis.course"}
    assert (asked["p0"]["from"], asked["p0"]["to"]) == ("-7d", "now")
    assert (asked["p0.before"]["from"], asked["p0.before"]["to"]) == ("-14d", "-7d")
    assert asked["p2"]["from"] == "-7d"
    plain = parse_board(text(board(FULL["panels"][0], FULL["panels"][2], kpis=FULL["kpis"])), CONTEXT)
    for question in questions_of(plain, ["model:eq:a"]).values():
        assert question["filter"] == ["model:eq:a"]
        kind, pairs = parse_body(question)
        ask(kind, pairs, CONTEXT)


def test_filters_that_would_leave_a_panel_wide_open_are_refused() -> None:
    for query in (
        {"kind": "sql", "sql": "SELECT 1"},
        {"kind": "trace", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"},
        {"kind": "session", "session_id": "s"},
    ):
        spec = parse_board(text(board(panel(), panel(1, query=query))), CONTEXT)
        check_filters(spec, [], CONTEXT)
        with pytest.raises(RequestInvalid, match=r"\$\.panels\[1\]\.query"):
            check_filters(spec, ["model:eq:a"], CONTEXT)
    with pytest.raises(RequestInvalid, match=r"\$\.filters"):
        check_filters(parse_board(text(board(panel())), CONTEXT), ["nothing_known:eq:a"], CONTEXT)
