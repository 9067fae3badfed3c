"""One score of a trace from several kinds of evidence: the odds that something is wrong with it, calibrated.

Each kind of evidence is the logarithm of a likelihood ratio, or a surprisal that becomes one. No ratio is believed
further than calibration time bears out: it is at most the surprisal of such a ratio there. The mean of all, weighed, is
the odds, and their surprisal in calibration time is the score. Of several small things wrong the mean knows, where the
largest surprisal knows one; and what takes many suspects to find pays for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.anomaly.calibrated import tail_arrays, tail_of
from models.anomaly.scores import Arrays
from models.anomaly.series import Floats
from models.anomaly.tails import Tail
from models.anomaly.trace_graph import Graphs, Places
from models.anomaly.trace_ratios import (
    by_trace,
    calling,
    dead,
    judged_alone,
    log_mean,
    more_calls,
    more_in_all,
    slower,
    stuck,
)
from models.anomaly.trace_scores import (
    Evidence,
    TraceScores,
    calibration_rows,
    highest_of,
    judged_rows,
    root_arrays,
    root_tails,
    scored,
)
from models.anomaly.trace_structure import Structure

# Kinds of evidence that are ratios; of the others, surprisals, the largest of a trace counts.
RATIOS: Final = (
    *("slow_self", "slow_between", "slow_first_token", "slow_rest", "input_tokens", "output_tokens"),
    *("stuck", "more_calls", "more_in_all", "failure"),
)
HEADS: Final = (*RATIOS, "edge", "missing")
# How a stored detector of traces says that it is of this kind; those of before have a `Heads`.
WAY: Final = "odds"
# Of models of before, which judged callers and calls as one.
HEADS_BEFORE: Final = tuple(name for name in HEADS if name != "slow_between")
# Which value each kind of evidence is about.
_VALUES: Final = dict(zip(RATIOS[:6], (0, *range(5)), strict=True))
# What varies from request to request is better seen in the metrics of all of them.
_WEIGHTS: Final = {"failure": 0.1, "input_tokens": 0.05, "output_tokens": 0.05}


def evidence(
    structure: Structure,
    graphs: Graphs,
    *,
    off: Floats,
    spread: Floats,
    haste: Floats,
    heads: tuple[str, ...] = HEADS,
) -> dict[str, Floats]:
    """(n,) of each of the heads, NaN where a ratio has no suspect.

    Args:
        off, spread: (n, VALUES) spreads by which values are off what is expected, and the spreads in logarithms.
        haste: see `Units.haste`.
        heads: HEADS, or HEADS_BEFORE.
    """
    found: dict[str, Floats] = {}
    before = "slow_between" not in heads
    alone = {"slow_self": judged_alone(graphs)}
    if not before:
        # A slow tool and an application that dawdles between its calls are two kinds of trouble.
        calls = calling(graphs)
        alone = {"slow_self": alone["slow_self"] & ~calls, "slow_between": alone["slow_self"] & calls}
    for name, column in _VALUES.items():
        if name in heads:
            told = np.where(alone[name], off[:, 0], np.nan) if name in alone else off[:, column]
            values = graphs.values[:, column].astype(np.float64)
            found[name] = slower(
                graphs, structure.operations, values=values, off=told, spread=spread[:, column], before=before
            )
    found["stuck"] = stuck(structure, graphs)
    found["more_calls"], found["more_in_all"] = more_calls(structure, graphs), more_in_all(structure, graphs)
    found["failure"] = dead(structure, graphs, haste)
    rare = structure.evidence(graphs)
    found["edge"], found["missing"] = rare["edge"], rare["missing"]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Odds:
    """Tails of each kind of evidence, by the label of the root as in `Heads`, and of the odds over all traces.

    Attributes:
        roots: labels with tails of their own, -1 for all others.
        tails: of each, of each kind of evidence.
        fused: of the odds.
        most: the largest surprisal that calibration time can tell of.
    """

    roots: tuple[int, ...]
    tails: tuple[dict[str, Tail], ...]
    fused: Tail
    most: float

    @property
    def heads(self) -> tuple[str, ...]:
        """Kinds of evidence, in order."""
        return tuple(self.tails[0])

    @staticmethod
    def fit(found: Evidence, graphs: Graphs) -> Odds:
        """From spans of calibration time.

        Raises:
            NotEnoughData: too few traces.
        """
        raw, _ = _of_traces(found, graphs)
        chosen = calibration_rows(graphs)
        roots = tuple(root for root, _ in chosen)
        tails = tuple(
            {name: Tail.fit(column[own]) for name, column in zip(found, raw.T, strict=True)} for _, own in chosen
        )
        # So many traces cannot tell what is rarer still.
        most = float(np.log(2.0 * (np.count_nonzero(chosen[0][1]) + 1)))
        believed = _believed((tails, most), tuple(found), raw, judged_rows(graphs, roots))
        return Odds(roots, tails, Tail.fit(_odds(believed, tuple(found))), most)

    def judge(self, found: Evidence, graphs: Graphs) -> TraceScores:
        """See `Heads.judge`; evidence is what is believed of each."""
        raw, place = _of_traces(found, graphs)
        believed = _believed((self.tails, self.most), tuple(found), raw, judged_rows(graphs, self.roots))
        names = tuple(found)
        return scored(graphs, self.fused.surprise(_odds(believed, names)), (names, believed, place))

    def arrays(self) -> Arrays:
        """For `restore`."""
        told = root_arrays(self.roots, self.tails) | tail_arrays(self.fused, "odds")
        return told | {"most": np.array(self.most)}

    @staticmethod
    def restore(arrays: Arrays, names: list[str]) -> Odds:
        """Inverse of `arrays`."""
        roots, tails = root_tails(arrays, names)
        return Odds(roots, tails, tail_of(arrays, "odds"), float(arrays["most"]))


def _believed(
    kept: tuple[tuple[dict[str, Tail], ...], float],
    names: tuple[str, ...],
    raw: Floats,
    judged: list[npt.NDArray[np.bool_]],
) -> Floats:
    """(t, heads) logarithms of ratios that calibration time bears out."""
    by_root, most = kept
    told = np.zeros_like(raw)
    for own, tails in zip(judged, by_root, strict=True):
        for column, name in enumerate(names):
            surprisal = tails[name].surprise(raw[own, column])
            # Of what is broken any surprisal up to the largest that can be told is as likely.
            ratio = raw[own, column] if name in RATIOS else np.minimum(surprisal, most) - np.log(most)
            told[own, column] = np.minimum(ratio, surprisal)
    return told


def _odds(believed: Floats, names: tuple[str, ...]) -> Floats:
    return log_mean(believed.T, np.array([_WEIGHTS.get(name, 1.0) for name in names]))


def _of_traces(found: Evidence, graphs: Graphs) -> tuple[Floats, Places]:
    """(t, heads) what each trace has of each kind of evidence, and the span that has most of it."""
    raw, place = highest_of({name: np.nan_to_num(one, nan=-np.inf) for name, one in found.items()}, graphs)
    place[raw == -np.inf] = -1
    for column, name in enumerate(found):
        if name in RATIOS:
            raw[:, column] = by_trace(found[name], graphs)
    return raw, place
