"""A detector of traces as it is registered and served: with the threshold it was given, and answers in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from models.anomaly import trace_detector
from models.anomaly.refusals import ModelUnreadable, SpansInvalid
from models.anomaly.scores import Arrays
from models.anomaly.trace_detector import TRACE_DETECTORS
from models.anomaly.trace_graph import REASONS
from models.anomaly.trace_scores import FittedTraces, TraceScores
from models.anomaly.window_answers import severity
from models.query.times import parse_instant

# Of usual traces, the share that is reported.
FALSE_SHARE: Final = 0.002
TRACES_MAX: Final = 20_000
# Column -> its type; of a trace that comes by request.
_TYPES: Final = {
    **dict.fromkeys(("trace_id", "span_id", "parent_span_id", "operation", "service", "model", "status"), pa.string()),
    "occurred_at": pa.int64(),
    **dict.fromkeys(("latency_ms", "ttft_ms", "input_tokens", "output_tokens"), pa.float64()),
}
_HINTS: Final = {
    "too_many_spans": "the trace has more spans than a graph may have",
    "cyclic_parents": "spans name each other as callers in a ring",
    "unknown_operations": "most of its operations were never seen in training time",
}


@dataclass(frozen=True, slots=True, eq=False)
class TraceModel:
    """A fitted detector and its threshold.

    Attributes:
        threshold: surprisal above which a trace is reported.
    """

    fitted: FittedTraces
    threshold: float

    def arrays(self) -> Arrays:
        """For `load`."""
        return self.fitted.arrays()

    def configuration(self) -> dict[str, Any]:
        """For `load`, as JSON."""
        return self.fitted.configuration() | {"threshold": self.threshold}


def with_threshold(fitted: FittedTraces, *, false_share: float = FALSE_SHARE) -> TraceModel:
    """A score is a calibrated surprisal, so that a share of usual traces is a level by itself."""
    return TraceModel(fitted, float(-np.log(false_share)))


def load(kind: str, arrays: Arrays, configuration: dict[str, Any]) -> TraceModel:
    """Inverse of `TraceModel.arrays` and `configuration`.

    Raises:
        ModelUnreadable: an array or entry is absent or does not fit.
    """
    threshold = configuration.get("threshold")
    if not isinstance(threshold, float) or not 0 < threshold < np.inf:
        raise ModelUnreadable("no threshold is stored")
    return TraceModel(trace_detector.load(kind, arrays, configuration), threshold)


# Kind -> what makes a model of what was stored.
LOADERS: Final = {kind: partial(load, kind) for kind in TRACE_DETECTORS}


def spans_of(traces: Sequence[dict[str, Any]]) -> pa.Table:
    """Columns of spans from traces as they are sent: `{"trace_id", "spans": [{"span_id", "operation", ...}]}`.

    Raises:
        SpansInvalid: a trace or span is not of that form.
    """
    if not 1 <= len(traces) <= TRACES_MAX:
        raise SpansInvalid(f"{len(traces)} traces; 1 to {TRACES_MAX} are allowed")
    rows: list[dict[str, Any]] = []
    named = set()
    for number, trace in enumerate(traces):
        name, spans = trace.get("trace_id"), trace.get("spans")
        if not isinstance(name, str) or not isinstance(spans, list) or not spans or name in named:
            raise SpansInvalid(
                f"trace {number} has no trace_id of its own or no list of spans",
                hint='Send {"trace_id":"…","spans":[{"span_id":"…","operation":"…","occurred_at":0,"latency_ms":1}]}.',
            )
        named.add(name)
        for place, span in enumerate(spans):
            if not isinstance(span, dict):
                raise SpansInvalid(f"span {place} of trace {number} is no object")
            rows.append({**span, "trace_id": name, "occurred_at": _instant(span.get("occurred_at"), number, place)})
    try:
        return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in _TYPES.items()})
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise SpansInvalid(f"a field of a span has another type: {str(error)[:200]}") from error


def _instant(told: Any, number: int, place: int) -> int:
    if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < 2**62:
        return told
    if isinstance(told, str):
        return parse_instant("occurred_at", told, now_us=0)
    raise SpansInvalid(
        f"occurred_at of span {place} of trace {number} is no instant",
        hint="Send RFC 3339, or microseconds since 1970.",
    )


def answers(model: TraceModel, spans: pa.Table) -> list[dict[str, Any]]:
    """One entry a trace, in the order of their first rows.

    Raises:
        SpansInvalid, NotEnoughData.
    """
    scores = model.fitted.score(spans)
    return [_answer(model, scores, spans, number) for number in range(len(scores.trace_ids))]


def _answer(model: TraceModel, scores: TraceScores, spans: pa.Table, number: int) -> dict[str, Any]:
    head: dict[str, Any] = {"trace_id": scores.trace_ids[number]}
    if code := int(scores.reason[number]):
        return head | {"state": "not_scored", "reason": f"{REASONS[code]}: {_HINTS[REASONS[code]]}", "score": None}
    score = float(scores.score[number])
    over = score > model.threshold
    return head | {
        "state": "scored",
        "score": score,
        "threshold": model.threshold,
        "is_anomaly": over,
        "severity": severity(score, model.threshold) if over else None,
        "drivers": scores.explain(number, spans),
    }
