"""What is counted in traces, on cases small enough to count by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.anomaly.trace_graph import build, operations_of, vocabulary_of
from models.anomaly.trace_rarity import Units, rarity
from models.anomaly.trace_structure import Structure
from tests.models.anomaly.test_traces import table


def test_the_same_tool_in_a_row_is_told_from_as_many_calls_of_several() -> None:
    """Counts of each tool are alike; only in the second trace one follows itself, in the third within one step."""

    def calls(trace: str, steps: str) -> list[dict[str, Any]]:
        spans = [{"trace_id": trace, "span_id": "r", "operation": "agent"}]
        for place, services in enumerate(steps.split()):
            at = {"trace_id": trace, "occurred_at": 10 * place}
            spans.append({**at, "span_id": f"p{place}", "parent_span_id": "r", "operation": "plan"})
            spans += [
                {
                    **at,
                    "span_id": f"{place}{number}",
                    "parent_span_id": f"p{place}",
                    "operation": "tool",
                    "service": one,
                }
                for number, one in enumerate(services)
            ]
        return spans

    usual_spans = table([span for number in range(60) for span in calls(f"u{number:02d}", "a b a b")])
    vocabulary = vocabulary_of(usual_spans)
    structure = Structure.fit(build(usual_spans, vocabulary), operations_of(vocabulary))
    graphs = build(table([*calls("turns", "a b a b"), *calls("again", "a a b b"), *calls("step", "aa bb")]), vocabulary)
    tools = np.isin(graphs.label, [1 + vocabulary.index(f"tool · {name}") for name in "ab"])
    evidence = structure.evidence(graphs)
    row, repeated = (
        [evidence[name][tools & (graphs.trace == number)].max() for number in range(3)]
        for name in ("in_a_row", "repeated")
    )
    assert repeated == pytest.approx([repeated[0]] * 3)
    assert row[0] == row[2] < 1
    assert row[1] > np.log(50)


def test_a_failure_is_the_stranger_the_sooner_it_comes() -> None:
    calls = [{"trace_id": f"u{one:02d}", "span_id": "a", "latency_ms": 90.0 + one, "status": "ok"} for one in range(80)]
    spans = table(calls)
    graphs = build(spans, vocabulary_of(spans))
    units = Units.fit(graphs, 2)
    broken = build(
        table(
            [
                {"trace_id": name, "span_id": "a", "latency_ms": took, "status": status}
                for name, took, status in (("soon", 5.0, "error"), ("usual", 130.0, "error"), ("whole", 5.0, "ok"))
            ]
        ),
        vocabulary_of(spans),
    )
    structure = Structure.fit(graphs, operations_of(vocabulary_of(spans)))
    soon, usual_time, whole = rarity(structure, units, broken)["failure"]
    assert soon > 2 * usual_time > 0
    assert whole == 0
