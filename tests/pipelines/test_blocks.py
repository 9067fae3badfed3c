"""A question answered in blocks equals the direct answer: to the last digit where sums are asked, and to the sketch
where roll-ups would have kept one."""

from __future__ import annotations

# ruff: noqa: I001 -- before anything that imports Ray Serve.
from tests.serving.ray_serve_quietly import LOADED

import asyncio
import json
import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.tenancy import TenantId, TenantScope
from models.aggregate.distinct import STANDARD_ERROR
from models.aggregate.quantiles import RELATIVE_ERROR
from models.measures import MEASURES
from models.query.blocks import Reduction, in_blocks, parts_of
from models.query.kinds import KINDS, Question, ask
from models.query.source import Context
from pipelines import blocks
from pipelines.answer_query import written
from serving.query_engine import QueryEngine
from tests.serving.small_lake import NOW_US, Lake, tenants_apart

assert LOADED
Pairs = tuple[tuple[str, str], ...]
SUMS = ("request_count", "cost_usd", "total_tokens", "error_ratio", "cache_hit_ratio", "latency_ms_max", "event_count")
SUMS_OF_FLOATS = ("latency_ms_avg", "tokens_per_s", "ttft_ms_avg")
RAW_GROUPS = ("attributes.team", "attributes.a.b", "user_id", "cache_status")
GROUPS = (*RAW_GROUPS, "model", "service", "tenant_id")
FILTERS = (
    "attributes.team:eq:red",
    "attributes.team:exists:true",
    "model:in:m-1,m-2",
    "latency_ms:gt:900",
    "status:ne:ok",
)
FILES = 6
_encoder = msgspec.json.Encoder(decimal_format="number")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 1_200, "beta": 300})


@pytest.fixture(scope="module")
def engine(lake: Lake) -> Iterator[QueryEngine]:
    engine = lake.engine()
    yield engine
    engine.close()


def scope_of(project: str | None = None) -> TenantScope:
    return TenantScope.of(TenantId("alpha"), project)


def read(kind: str, pairs: Pairs, *, groups_max: int = 10_000) -> Question:
    return ask(kind, pairs, Context(NOW_US, ("alpha",), groups_max))


def directly(engine: QueryEngine, scope: TenantScope, kind: str, pairs: Pairs) -> dict[str, Any]:
    body = asyncio.run(engine.query(scope, kind, pairs, now_us=NOW_US)).body
    found: dict[str, Any] = json.loads(body, parse_float=Decimal)
    return found


def answered(engine: QueryEngine, scope: TenantScope, question: Question) -> dict[str, Any]:
    """By blocks of a few files, the newest first, as if each came from another node."""
    snapshot = engine._snapshots["events"]
    reduction = Reduction(question.plans)
    found = [reduction.nothing()]
    for whole in reversed(blocks.blocks_of(scope, snapshot, parts_of(question))):
        for start in range(0, len(whole.paths), FILES):
            block = replace(whole, paths=whole.paths[start : start + FILES])
            partials = blocks.reduce_block(engine._settings.lake, scope, reduction, block)
            found = [reduction.merged([*found, blocks.table_of(blocks.stream_of(partials))])]
    told = written(engine._settings, question, found[0]) | {"version": snapshot.version}
    answer: dict[str, Any] = json.loads(_encoder.encode(told), parse_float=Decimal)
    return answer


def same(one: Any, other: Any, path: str = "") -> None:
    """Equal; sums of doubles up to rounding."""
    assert type(one) is type(other) or {type(one), type(other)} <= {int, Decimal, float}, path
    if isinstance(one, dict):
        assert list(one) == list(other), path
        for name in one:
            same(one[name], other[name], f"{path}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            same(left, right, f"{path}[{place}]")
    elif one is not None and any(name in path for name in SUMS_OF_FLOATS):
        assert math.isclose(float(one), float(other), rel_tol=1e-9), path
    else:
        assert one == other, path


def parameters(**more: Any) -> st.SearchStrategy[Pairs]:
    """Groups that only events have, filters, and what `more` gives for each name."""
    drawn = {
        "group_by": st.tuples(st.sampled_from(RAW_GROUPS), st.sampled_from(GROUPS)).map(
            lambda two: list(dict.fromkeys(two))
        ),
        "filter": st.lists(st.sampled_from(FILTERS), max_size=2, unique=True),
        "from": st.sampled_from(["-3d", "-26h", "2025-12-30T07:13:05Z"]),
        **more,
    }

    def pairs(found: dict[str, Any]) -> Pairs:
        listed = {name: value if isinstance(value, list) else [value] for name, value in found.items()}
        return tuple((name, text) for name, texts in listed.items() for text in texts if text)

    return st.fixed_dictionaries(drawn).map(pairs)


MEASURED = st.lists(st.sampled_from((*SUMS, *SUMS_OF_FLOATS)), min_size=1, max_size=4, unique=True)
ASKED = {
    "timeseries": parameters(
        measure=MEASURED, granularity=st.sampled_from(["1h", "6h", "1d"]), fill=st.sampled_from(["zero", "none"])
    ),
    "aggregate": parameters(
        measure=MEASURED, compare=st.sampled_from(["", "previous", "-1d"]), limit=st.sampled_from(["3", "1000"])
    ),
    "top": parameters(measure=MEASURED, limit=st.sampled_from(["2", "40"])),
    "ratio": parameters(
        numerator=st.just("error_count"),
        numerator_filter=st.sampled_from(FILTERS),
        granularity=st.sampled_from(["", "6h"]),
    ),
    "compare": parameters(measure=MEASURED, baseline_filter=st.lists(st.sampled_from(FILTERS), max_size=1)),
    "histogram": parameters(field=st.sampled_from(["latency_ms", "ttft_ms"]), limit=st.sampled_from(["2", "20"])),
    "cost_allocation": parameters(limit=st.sampled_from(["2", "100"])),
    "distinct": parameters(field=st.sampled_from(["trace_id", "attributes.team", "user_id"]), method=st.just("exact")),
}


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(ASKED)), st.sampled_from([None, "north"]))
def test_blocks_give_the_direct_answer(
    engine: QueryEngine, data: st.DataObject, kind: str, project: str | None
) -> None:
    pairs = data.draw(ASKED[kind])
    scope, question = scope_of(project), read(kind, pairs)
    assert in_blocks(question)
    same(answered(engine, scope, question), directly(engine, scope, kind, pairs))


def test_a_heatmap_and_days_of_a_time_zone(engine: QueryEngine) -> None:
    base = (("from", "-3d"), ("filter", "attributes.team:exists:true"), ("time_zone", "Asia/Kolkata"))
    for kind, more in (("heatmap", ()), ("timeseries", (("measure", "cost_usd"), ("measure", "tokens_per_s")))):
        told = answered(engine, scope_of(), read(kind, (*base, *more)))
        assert told.get("cells") or told["series"][0]["points"]
        same(told, directly(engine, scope_of(), kind, (*base, *more)))


@pytest.mark.parametrize("group", RAW_GROUPS)
def test_quantiles_and_distinct_counts_are_within_the_error_of_their_sketches(engine: QueryEngine, group: str) -> None:
    pairs = (("group_by", group), ("from", "-3d"))
    exact = directly(engine, scope_of(), "percentile", pairs)["rows"]
    told = answered(engine, scope_of(), read("percentile", pairs))
    assert told["relative_error"] == Decimal(str(RELATIVE_ERROR))
    by_group = {str(row["group"]): row for row in told["rows"]}
    assert len(by_group) == len(exact)
    for row in exact:
        other = by_group[str(row["group"])]
        assert row["count"] == other["count"]
        for name, value in row["values"].items():
            assert (value is None) == (other["values"][name] is None)
            if value is not None:
                assert math.isclose(value, other["values"][name], rel_tol=RELATIVE_ERROR * 1.001, abs_tol=1e-6)
    pairs = (*pairs, ("field", "session_id"))
    counted = answered(engine, scope_of(), read("distinct", pairs))
    assert counted["method"] == "sketch"
    # Few enough that the sketch keeps them all.
    assert counted["rows"] == directly(engine, scope_of(), "distinct", pairs)["rows"]
    assert counted["standard_error"] == Decimal(str(STANDARD_ERROR))


def test_raw_events_in_blocks_give_what_the_roll_ups_give_sketches_included(engine: QueryEngine) -> None:
    names = [name for name in MEASURES if name not in SUMS_OF_FLOATS]
    assert {"unique_users", "unique_sessions", "latency_ms_p95", "ttft_ms_p50", "cost_usd"} <= set(names)
    for few in (names[::2], names[1::2]):
        as_roll_ups(engine, tuple(("measure", name) for name in few))


def as_roll_ups(engine: QueryEngine, measures: Pairs) -> None:
    pairs = (*measures, ("group_by", "model"), ("group_by", "service"), ("from", "-2d"))
    question = read("aggregate", pairs)
    assert question.from_rollups and not in_blocks(question)
    raw = replace(question, plans=tuple(replace(plan, tier="events") for plan in question.plans))
    told, other = answered(engine, scope_of(), raw), directly(engine, scope_of(), "aggregate", pairs)
    assert told["rows"] == other["rows"] and told["rows"]


def test_more_groups_than_are_told_are_folded_alike(lake: Lake) -> None:
    with closing(lake.engine(groups_max=7)) as engine:
        for kind, more in (("aggregate", ()), ("timeseries", (("granularity", "1d"),)), ("top", (("limit", "4"),))):
            pairs = (("measure", "cost_usd"), ("group_by", "trace_id"), ("from", "-3d"), *more)
            pairs = tuple((name, "user_id" if text == "trace_id" else text) for name, text in pairs)
            told = answered(engine, scope_of(), read(kind, pairs, groups_max=7))
            same(told, directly(engine, scope_of(), kind, pairs))
            assert told.get("folded") or told["rest"]["group_count"]


def test_blocks_hold_every_file_once_and_nobody_elses(engine: QueryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    question = read("aggregate", (("measure", "cost_usd"), ("group_by", "user_id"), ("from", "-3d")))
    monkeypatch.setattr(blocks, "BLOCK_FILES_MAX", 2)
    found = blocks.blocks_of(scope_of(), engine._snapshots["events"], parts_of(question))
    paths = [path for block in found for path in block.paths]
    assert len(paths) == len(set(paths)) and len(found) == math.ceil(len(paths) / 2)
    assert all("/tenant_id=alpha/" in path for path in paths)
    assert sum(block.rows for block in found) == 1_200
    nobody = TenantScope.of(TenantId("gamma"))
    assert blocks.blocks_of(nobody, engine._snapshots["events"], parts_of(question)) == []


def test_kinds_that_ask_for_events_run_in_no_blocks() -> None:
    asked: dict[str, Pairs] = {
        "search": (),
        "trace": (("trace_id", "t"),),
        "session": (("session_id", "s"),),
        "cohort": (),
        "funnel": (("step", "kind:a"), ("step", "kind:b")),
    }
    assert {kind for kind in KINDS if kind in asked} == {
        kind for kind, pairs in asked.items() if not in_blocks(read(kind, pairs))
    }
