"""A model of traces on held-back time: false alarms as it is, recall on planted faults; and whether one is worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.anomaly.confidence import CONFIDENCE, SEED, at_least, lowest_precision, worse
from models.anomaly.evaluation import Labels, auc_pr
from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import Floats
from models.anomaly.trace_model import FALSE_SHARE, TraceModel

TRACES_MIN: Final = 50
PLANTED_MAX: Final = 400
_COPIES: Final = 6
_SLOWER: Final = 4.0
_FAULTS: Final = ("repeated", "dropped", "slow", "failed")
# Of usual traces, reported: so many times what the threshold promises. It comes from a few hundred of them.
_FALSE_SLACK: Final = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class TraceJudgement:
    """Figures of one model on held-back traces.

    Attributes:
        average_precision: usual traces against the same with a fault each; `chance` is the share of faulty ones.
        recall: of planted faults, over the model's threshold.
        false_share: of the traces as they are, believed usual.
        usual, broken: scores of all traces as they are, and with faults; NaN where not scored.
    """

    average_precision: float
    recall: float
    false_share: float
    chance: float
    traces: int
    usual: Floats
    broken: Floats

    def metrics(self, prefix: str = "held_") -> dict[str, float]:
        """By name."""
        return {f"{prefix}{name}": float(getattr(self, name)) for name in _METRICS}


_METRICS: Final = ("average_precision", "recall", "false_share", "chance", "traces")


def judge(model: TraceModel, spans: pa.Table, *, seed: int = SEED) -> TraceJudgement:
    """On traces no model was fitted on.

    Raises:
        NotEnoughData: fewer than TRACES_MIN of them can be scored.
    """
    scores = [model.fitted.score(one).score for one in (spans, planted(spans, seed=seed))]
    usual, broken = (one[~np.isnan(one)] for one in scores)
    if min(usual.size, broken.size) < TRACES_MIN:
        raise NotEnoughData(f"{usual.size} held-back traces can be scored; {TRACES_MIN} are needed")
    labels: Labels = np.arange(usual.size + broken.size) >= usual.size
    return TraceJudgement(
        auc_pr(np.concatenate((usual, broken)), labels),
        float((broken > model.threshold).mean()),
        float((usual > model.threshold).mean()),
        broken.size / labels.size,
        usual.size,
        *scores,
    )


def refusal(challenger: TraceJudgement, champion: TraceJudgement | None) -> str:
    """Why a challenger must not take over; empty when it may.

    Both were judged on the same traces with the same faults; traces are drawn again and again, the same ones for both.
    A trace that a model does not score is its lowest. A challenger has to show that it is no more than the
    margin of `confidence` worse.
    """
    share = max(_FALSE_SLACK * FALSE_SHARE, champion.false_share if champion else 0.0)
    if at_least(round(challenger.false_share * challenger.traces), share * challenger.traces) < 1 - CONFIDENCE:
        return f"it reports {challenger.false_share:.2%} of held-back traces; {FALSE_SHARE:.2%} are promised"
    scores = np.concatenate((challenger.usual, challenger.broken))
    labels: Labels = np.arange(scores.size) >= challenger.usual.size
    if champion is None:
        if lowest_precision(scores, labels) <= labels.mean():
            return f"average precision {challenger.average_precision:.3f} is not surely above chance"
        return ""
    lowest = lowest_precision(scores, labels, np.concatenate((champion.usual, champion.broken)))
    return worse(challenger.average_precision, champion.average_precision, lowest)


def planted(spans: pa.Table, *, seed: int) -> pa.Table:
    """Up to PLANTED_MAX of the traces, each with one fault at a span that has a caller; the same for a seed."""
    source = np.random.default_rng(seed)
    called = np.flatnonzero(pc.is_valid(spans["parent_span_id"]).to_numpy())
    source.shuffle(called)
    traces = spans["trace_id"].to_pylist()
    parts: list[tuple[int, str]] = []
    seen: set[str] = set()
    for row in called.tolist():
        if len(parts) >= PLANTED_MAX:
            break
        if traces[row] in seen:
            continue
        seen.add(traces[row])
        parts.append((row, _FAULTS[len(parts) % len(_FAULTS)]))
    if not parts:
        raise NotEnoughData("no held-back trace has a span with a caller")
    rows = spans.filter(pc.is_in(spans["trace_id"], pa.array(sorted(seen)))).to_pylist()
    by_trace: dict[str, list[dict[str, Any]]] = {}
    for one in rows:
        by_trace.setdefault(one["trace_id"], []).append(one)
    broken = [
        one for row, fault in parts for one in _break(by_trace[traces[row]], spans["span_id"][row].as_py(), fault)
    ]
    return pa.Table.from_pylist(broken, schema=spans.schema)


def _break(trace: list[dict[str, Any]], span_id: str, fault: str) -> list[dict[str, Any]]:
    (span,) = [one for one in trace if one["span_id"] == span_id][:1]
    if fault == "dropped":
        return [one for one in trace if one["span_id"] != span_id]
    if fault == "repeated":
        return trace + [{**span, "span_id": f"{span_id}-{copy}"} for copy in range(_COPIES)]
    changed = {"latency_ms": _SLOWER * (span["latency_ms"] or 1.0)} if fault == "slow" else {"status": "error"}
    return [{**one, **changed} if one["span_id"] == span_id else one for one in trace]
