"""Questions that cannot be answered are refused by name and with a remedy, whatever the kind; the engine lives on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import HubError, NotFound, RequestInvalid
from cluster.tenancy import TenantId, TenantScope
from models.query.kinds import KIND_NAMES
from models.query.parameters import parse_body
from serving.query_engine import QueryEngine
from tests.serving.small_lake import tenants_apart

ALPHA = TenantScope.of(TenantId("alpha"))
# A question of each kind that is answered.
SOUND: dict[str, dict[str, Any]] = {
    "timeseries": {"measure": "event_count"},
    "aggregate": {"measure": "event_count"},
    "percentile": {},
    "histogram": {},
    "heatmap": {},
    "top": {"measure": "event_count", "group_by": "model"},
    "ratio": {"numerator": "error_count", "denominator": "request_count"},
    "compare": {"measure": "event_count"},
    "search": {},
    "trace": {"trace_id": "trace-1"},
    "session": {"session_id": "s1"},
    "cost_allocation": {"group_by": "project_id"},
    "cohort": {},
    "funnel": {"step": ["status:ok", "status:error"]},
    "distinct": {"field": "model"},
    "as_of": {"version": 1, "measure": "event_count"},
}
LONG = "x" * 10_000
WRONG: list[dict[str, Any]] = [
    *({"kind": kind, **SOUND[kind], "fliter": "model:x"} for kind in SOUND),
    *({"kind": kind, **SOUND[kind], LONG: "x"} for kind in SOUND),
    *({"kind": kind, **SOUND[kind], "from": "now", "to": "-1h"} for kind in SOUND if kind != "trace"),
    *({"kind": kind, **SOUND[kind], "from": LONG} for kind in SOUND if kind != "trace"),
    *({"kind": kind, **SOUND[kind], "filter": "(a+)+$:x"} for kind in SOUND if kind not in ("trace", "session")),
    *({"kind": kind, **SOUND[kind], "group_by": ["model"] * 3 + [f"attributes.a{n}" for n in range(9)]}
      for kind in ("timeseries", "aggregate", "percentile", "histogram", "top", "ratio", "compare", "distinct")),
    *({"kind": kind, **SOUND[kind], "limit": -1} for kind in SOUND
      if kind not in ("timeseries", "heatmap", "trace", "cohort", "funnel")),
    *({"kind": kind, **SOUND[kind], "cursor": "nonsense"} for kind in
      ("aggregate", "percentile", "ratio", "compare", "search", "session", "distinct")),
    *({"kind": kind, **SOUND[kind], "from": "-3000d", "granularity": "1m"} for kind in
      ("timeseries", "percentile", "heatmap", "ratio")),
    *({"kind": kind, **SOUND[kind], "time_zone": "Europe/Atlantis"} for kind in
      ("timeseries", "percentile", "heatmap", "ratio", "cohort")),
    *({"kind": kind, **SOUND[kind], "field": "latency"} for kind in ("percentile", "histogram", "heatmap", "distinct")),
    {"kind": "percentile", "quantile": "1"}, {"kind": "percentile", "quantile": "0"},
    {"kind": "percentile", "quantile": "nan"}, {"kind": "percentile", "quantile": [0.001 * n for n in range(1, 40)]},
    {"kind": "percentile", "granularity": "1h", "limit": 5}, {"kind": "histogram", "buckets": 501},
    {"kind": "heatmap", "from": "-30d", "granularity": "5m", "buckets": 500}, {"kind": "heatmap", "group_by": "model"},
    {"kind": "timeseries", "measure": "event_count", "granularity": "1h", "time_zone": "Europe/Berlin"},
    {"kind": "timeseries", "measure": "event_count", "fill": "zeros"}, {"kind": "timeseries"},
    {"kind": "top", "measure": "cost_usd"}, {"kind": "top", "group_by": "model"},
    {"kind": "top", "measure": "cost", "group_by": "model"}, {"kind": "ratio", "numerator": "errors"},
    {"kind": "ratio", "denominator": LONG}, {"kind": "ratio", "numerator_filter": "status"},
    {"kind": "compare", "measure": "cost_usd", "baseline": "last week"},
    {"kind": "compare", "measure": "cost_usd", "baseline": "-7d", "baseline_from": "-9d", "baseline_to": "-8d"},
    {"kind": "compare", "measure": "cost_usd", "baseline_from": "-9d"}, {"kind": "cost_allocation"},
    {"kind": "trace"}, {"kind": "trace", "trace_id": "a b"}, {"kind": "trace", "trace_id": LONG}, {"kind": "session"},
    {"kind": "session", "session_id": LONG}, {"kind": "cohort", "entity": "model"}, {"kind": "cohort", "period": "1h"},
    {"kind": "cohort", "from": "-400d"}, {"kind": "cohort", "from": "-7d", "since": "-3d"},
    {"kind": "funnel", "step": "status:ok"}, {"kind": "funnel", "step": ["status:ok"] * 13},
    {"kind": "funnel", "step": ["status:ok", "status"]}, {"kind": "funnel", "step": ["status:ok", [["x"]]]},
    {"kind": "funnel", "step": ["a", "b"]}, {"kind": "funnel", **SOUND["funnel"], "window": "-1d"},
    {"kind": "funnel", **SOUND["funnel"], "window": "9999d"}, {"kind": "funnel", **SOUND["funnel"], "entity": "kind"},
    {"kind": "distinct"}, {"kind": "distinct", "field": "model", "method": "sketch"},
    {"kind": "distinct", "field": "model", "method": "guess"}, {"kind": "distinct", "field": LONG},
    {"kind": "as_of", "measure": "event_count"}, {"kind": "as_of", "version": -1, "measure": "event_count"},
    {"kind": "as_of", "version": 1, "at": "-1h", "measure": "event_count"},
    {"kind": "as_of", "of": "as_of", "version": 1}, {"kind": "as_of", "of": "search", "version": 1},
    {"kind": "as_of", "of": LONG, "version": 1},
    {"kind": "as_of", "version": "9" * 400, "measure": "event_count"},
    {"kind": "as_of", "at": "1200", "measure": "event_count"},
    {"kind": "as_of", "version": [1, 2], "measure": "event_count"},
    {"kind": "aggregate", "calculate": {"a": "b"}}, {"kind": "aggregate", "calculate": {"a": 5, "a b": "1"}},
    {"kind": "aggregate", "calculate": ["a=1", "a=2"]},
    {"kind": "aggregate", "calculate": {f"a{n}": "1" for n in range(20)}},
    {"kind": "aggregate", "measure": "event_count", "having": "net:gt:1"},
    {"kind": "aggregate", "measure": ["event_count"] * 600}, {"kind": "forecast"}, {"kind": LONG}, {"kind": ""},
]  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryEngine]:
    engine = tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 200, "beta": 50}).engine()
    yield engine
    engine.close()


def ask(engine: QueryEngine, body: dict[str, Any]) -> dict[str, Any]:
    kind, pairs = parse_body(body)
    told: dict[str, Any] = json.loads(asyncio.run(engine.query(ALPHA, kind, pairs)).body)
    return told


def test_there_are_sixteen_kinds_and_each_says_where_its_answer_comes_from(engine: QueryEngine) -> None:
    assert len(KIND_NAMES) == len(set(KIND_NAMES)) == 16 and set(KIND_NAMES) == set(SOUND)
    for kind, question in SOUND.items():
        answer = ask(engine, {"kind": kind, **question, **({} if kind == "trace" else {"from": "-4d"})})
        assert answer["tier"] and answer["reason"] and answer["version"] >= 0, kind


@pytest.mark.parametrize("place", range(len(WRONG)))
def test_what_cannot_be_answered_is_refused_with_a_remedy(engine: QueryEngine, place: int) -> None:
    with pytest.raises(RequestInvalid) as refused:
        ask(engine, WRONG[place])
    assert refused.value.hint, refused.value.message
    assert len(refused.value.message) < 500 and len(refused.value.hint) < 2_000


@pytest.mark.parametrize(
    ("body", "near"),
    [
        ({"kind": "agregate"}, "aggregate"),
        ({"kind": "top", "measure": "cost", "group_by": "model"}, "cost_usd"),
        ({"kind": "top", "measure": "cost_usd", "group_by": "modell"}, "model"),
        ({"kind": "funnel", "steps": "x"}, "step"),
        ({"kind": "cohort", "time_zone": "Europe/Brelin"}, "Europe/Berlin"),
        ({"kind": "aggregate", "calculate": {"a": "cost_us / 2"}}, "cost_usd"),
        ({"kind": "distinct", "field": "user"}, "user_id"),
    ],
)
def test_names_that_are_nearly_right_are_told(engine: QueryEngine, body: dict[str, Any], near: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        ask(engine, body)
    assert near in refused.value.hint


NOISE = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["' OR 1=1 --", "{}", "{0}", "?", "\x00", "a\\,b", "model:x", "-1d", "1e999", LONG, "attributes.?"]
    ),
)
NAMES = [*{name for question in SOUND.values() for name in question}, "from", "to", "filter", "limit", "granularity",
         "quantile", "buckets", "having", "order", "cursor", "baseline", "window", "entity", "time_zone", "calculate",
         "at", "of", "since", "q"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KIND_NAMES), st.lists(st.tuples(st.sampled_from(NAMES), NOISE), max_size=4))
def test_noise_is_answered_or_refused(engine: QueryEngine, kind: str, noise: Sequence[tuple[str, str]]) -> None:
    sound = [pair for pair in parse_body({"kind": kind, **SOUND[kind]})[1] if pair[0] not in dict(noise)]
    try:
        answer = asyncio.run(engine.query(ALPHA, kind, [*sound, *noise]))
    except HubError as refused:
        assert isinstance(refused, RequestInvalid | NotFound)
    else:
        assert b"beta" not in answer.body
