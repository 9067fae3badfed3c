"""Traces of simulated LLM applications, some with one fault of a known kind: what trace detectors are judged on.

Published seeds, frozen before any detector was fitted or any threshold chosen: a change here makes new sets, not better
figures. Kinds, magnitudes and shares are those of the table below; the digest of each set is kept in its test.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tests.bench.trace_worlds import Fault, Span, Trace, agent, batch, chat, coder, desk, retrieval

Shape = Callable[[Trace], None]
# Kinds that a shape can have: a chat has no tool that could die.
_ANY: Final = ("retry_storm", "missing_guardrail", "slow_first_token", "slow_decoding", "slow_path", "token_blow_up")
KINDS: Final = (
    *("loop", "retry_storm", "missing_guardrail", "new_edge", "dead_tool", "fan_out"),
    *("slow_tool", "slow_first_token", "slow_decoding", "slow_path", "token_blow_up"),
)
# Of every trace seen alone, not of a tenant: tokens vary by request, so that a doubling hides among usual ones.
STRUCTURAL: Final = KINDS[:6]
LATENCY: Final = KINDS[6:10]
MAGNITUDES: Final = (1.5, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class World:
    """What usual traces are made of.

    Attributes:
        shapes: with the share of each.
        noise: sigma of the logarithm of own times.
    """

    shapes: tuple[tuple[Shape, float, tuple[str, ...]], ...]
    noise: float
    seed: int


WORLDS: Final = {
    "traces": World(
        (
            (chat, 0.45, _ANY),
            (retrieval, 0.3, (*_ANY, "fan_out", "slow_tool")),
            (agent, 0.25, KINDS),
        ),
        noise=0.35,
        seed=20_261_129,
    ),
    "traces_check": World(
        (
            (batch, 0.3, ("retry_storm", "missing_guardrail", "fan_out", *LATENCY[1:], "token_blow_up")),
            (coder, 0.3, KINDS),
            (desk, 0.4, (*_ANY, "fan_out", "slow_tool")),
        ),
        noise=0.45,
        seed=77_003,
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Traces:
    """Spans as the hub stores them, and what is wrong with each trace.

    Attributes:
        spans: columns of the event schema.
        trace_ids: in the order of `kinds` and `magnitudes`.
        kinds: "none" for a usual trace.
    """

    spans: pa.Table
    trace_ids: list[str]
    kinds: npt.NDArray[np.str_]
    magnitudes: npt.NDArray[np.float64]


def usual(world: str, count: int, *, seed: int) -> Traces:
    """So many traces without a fault."""
    source = random.Random(WORLDS[world].seed + 1_000 * seed)
    return _table([_trace(WORLDS[world], source, Fault()) for _ in range(count)], f"{world}-{seed}-u")


def faulty(world: str, each: int, *, seed: int) -> Traces:
    """`each` traces of every kind and magnitude, on shapes that can have the kind."""
    source = random.Random(WORLDS[world].seed + 1_000 * seed + 1)
    faults = [Fault(kind, magnitude) for kind in KINDS for magnitude in MAGNITUDES for _ in range(each)]
    return _table([_trace(WORLDS[world], source, fault) for fault in faults], f"{world}-{seed}-f")


def _trace(world: World, source: random.Random, fault: Fault) -> Trace:
    able = [one for one in world.shapes if fault.kind == "none" or fault.kind in one[2]]
    while True:
        shape = source.choices([one[0] for one in able], [one[1] for one in able])[0]
        trace = Trace(source, fault, world.noise)
        shape(trace)
        # What cuts a trace short, such as a cached answer, can leave nothing for the fault to happen to.
        if fault.kind == "none" or any(span.model for span in trace.spans):
            trace.close()
            return trace


def _table(traces: list[Trace], name: str) -> Traces:
    rows: list[tuple[int, int, Span]] = [
        (number, place, span) for number, trace in enumerate(traces) for place, span in enumerate(trace.spans)
    ]
    names = [f"{name}-{number:06d}" for number in range(len(traces))]
    columns: dict[str, Any] = {
        "trace_id": [names[number] for number, _, _ in rows],
        "span_id": [f"{number:06x}{place:06x}" for number, place, _ in rows],
        "parent_span_id": [None if span.parent < 0 else f"{number:06x}{span.parent:06x}" for number, _, span in rows],
        "occurred_at": pa.array(
            [number * 1_000_000 + round(span.start_ms * 1_000) for number, _, span in rows], pa.timestamp("us", "UTC")
        ),
        "status": ["error" if span.error else "ok" for _, _, span in rows],
    }
    for field in ("operation", "service", "model", "latency_ms", "ttft_ms"):
        columns[field] = [getattr(span, field) for _, _, span in rows]
    for field in ("input_tokens", "output_tokens"):
        columns[field] = pa.array([getattr(span, field) for _, _, span in rows], pa.int64())
    return Traces(
        pa.table(columns),
        names,
        np.array([trace.fault.kind for trace in traces]),
        np.array([trace.fault.magnitude for trace in traces]),
    )
