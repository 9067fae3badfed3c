"""The generators that detectors are judged on stay what they were when they were frozen, and are what they say."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from tests.bench import fleet_faults, seasons, trace_faults, verdicts

SHAPE = ("span_id", "parent_span_id", "operation", "service", "status")


def digest(told: Any) -> str:
    """Of whole numbers and names: the last bits of a float may differ between processors."""
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


@pytest.mark.parametrize(("world", "frozen"), [("traces", "f729d68703d48387"), ("traces_check", "e49aff14f6c9a140")])
def test_the_traces_are_those_that_were_frozen(world: str, frozen: str) -> None:
    spans = [*trace_faults.usual(world, 50, seed=1).spans.to_pylist()]
    spans += trace_faults.faulty(world, 2, seed=1).spans.to_pylist()
    assert digest([[span[name] for name in SHAPE] for span in spans]) == frozen


@pytest.mark.parametrize(("world", "frozen"), [("fleet", "e1a7be5d2ac01de0"), ("fleet_check", "666162086b14a77e")])
def test_the_fleets_are_those_that_were_frozen(world: str, frozen: str) -> None:
    fleet = fleet_faults.simulate(world, seed=1)
    assert digest((fleet.events, fleet.changes)) == frozen


@pytest.mark.parametrize(
    ("make", "frozen"), [(verdicts.plain, "ef0c13e0bad026c7"), (verdicts.kinds, "5804689a84febdbb")]
)
def test_the_months_of_verdicts_are_those_that_were_frozen(make: verdicts.Make, frozen: str) -> None:
    month = make(56, seed=1, first_day=28)
    moved = np.abs(month.values - seasons.world(56, seed=1, first_day=28)) > 1e-3
    faults = [(one.start, one.stop, one.group) for one in month.faults]
    assert digest((faults, moved.sum(axis=0).tolist())) == frozen


def test_every_kind_and_magnitude_of_trace_faults_is_there_and_a_parent_is_before_its_children() -> None:
    traces = trace_faults.faulty("traces", 3, seed=2)
    assert set(Counter(zip(traces.kinds.tolist(), traces.magnitudes.tolist(), strict=True)).values()) == {3}
    assert set(traces.kinds.tolist()) == set(trace_faults.KINDS)
    spans = traces.spans
    place = {name: number for number, name in enumerate(spans["span_id"].to_pylist())}
    for number, parent in enumerate(spans["parent_span_id"].to_pylist()):
        assert parent is None or place[parent] < number
    assert pc.min(spans["latency_ms"]).as_py() > 0


def test_a_fleet_has_two_hundred_events_of_ten_kinds_in_test_time_that_do_not_touch() -> None:
    fleet = fleet_faults.simulate("fleet", seed=1)
    assert len(fleet.events) == 210
    kinds = Counter((event.kind, event.magnitude) for event in fleet.events)
    assert len(kinds) == 30
    assert set(kinds.values()) == {7}
    busy = np.zeros((fleet.series[0].rows, len(fleet.series)), int)
    for event in fleet.events:
        assert fleet.split < event.start < event.stop <= fleet.series[0].rows
        busy[event.start : event.stop, list(event.entities)] += 1
    assert busy.max() == 1


def test_a_fault_moves_what_it_says_by_what_it_says() -> None:
    fleet = fleet_faults.simulate("fleet", seed=1)
    by_kind = {
        "token_blow_up": "input_tokens_log",
        "cost_spike": "cost_per_token_log",
        "slow_decoding": "tokens_per_s_log",
    }
    for kind, feature in by_kind.items():
        moved = []
        for event in fleet.events:
            if event.kind == kind and event.magnitude == 3.0:
                values = fleet.series[event.entities[0]].values[:, fleet_faults.FEATURES.index(feature)]
                before = np.median(values[event.start - 24 : event.start])
                moved.append(abs(np.median(values[event.start : event.stop]) - before))
        assert np.median(moved) == pytest.approx(np.log(3), abs=0.25)
