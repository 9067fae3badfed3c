"""Several detectors as one: the mean of their surprisals, calibrated once more.

They have to fail on different things; the mean of what they all miss is no better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from models.anomaly.calibrated import fitting_rows, tail_arrays, tail_of
from models.anomaly.scores import Arrays, Fitted, Progress, Scores
from models.anomaly.series import Floats, Matrix, Series
from models.anomaly.tails import Tail


class Kind(Protocol):
    """A module of a detector."""

    def fit(self, series_list: Sequence[Series], *, seed: int, progress: Progress | None = None) -> Fitted: ...

    def load(self, arrays: Arrays, configuration: dict[str, Any]) -> Fitted: ...


@dataclass(frozen=True, slots=True, eq=False)
class Fusion:
    """A `Fitted`.

    Attributes:
        heads: by kind.
        tails: of the mean surprisal in calibration time, centred and trailing.
    """

    heads: Mapping[str, Fitted]
    tails: tuple[Tail, Tail]
    kind: str

    @property
    def reach_rows(self) -> int:
        """See `Fitted.reach_rows`."""
        return max(head.reach_rows for head in self.heads.values())

    def score(self, series: Series, *, trailing: bool) -> Scores:
        """See `Fitted.score`."""
        return self.fuse({name: head.score(series, trailing=trailing) for name, head in self.heads.items()}, trailing)

    def score_last(self, windows: Matrix, starts_us: Sequence[int]) -> Scores:
        """See `Fitted.score_last`."""
        return self.fuse({name: head.score_last(windows, starts_us) for name, head in self.heads.items()}, True)

    def fuse(self, scored: Mapping[str, Scores], trailing: bool) -> Scores:
        """What `score` makes of the scores of the heads."""
        surprisal, share = _mean(scored)
        return Scores(self.tails[trailing].surprise(surprisal), share)

    def arrays(self) -> Arrays:
        """See `Fitted.arrays`."""
        parts = tail_arrays(self.tails[0], "centred") | tail_arrays(self.tails[1], "trailing")
        for name, head in self.heads.items():
            parts |= {f"{name}/{key}": array for key, array in head.arrays().items()}
        return parts

    def configuration(self) -> dict[str, Any]:
        """See `Fitted.configuration`."""
        return {"heads": {name: head.configuration() for name, head in self.heads.items()}}


def _mean(scored: Mapping[str, Scores]) -> tuple[Floats, Any]:
    surprisal = np.stack([one.score for one in scored.values()])
    total = surprisal.sum(axis=0)
    weight = surprisal / np.maximum(total, 1e-12)
    weight[:, total <= 0] = 1.0 / len(scored)
    share = sum(part[:, None] * one.share for part, one in zip(weight, scored.values(), strict=True))
    return total / len(scored), np.asarray(share, np.float32)


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A kind of several others: what the module of a kind is made of.

    Attributes:
        modules: of its heads, by kind.
    """

    kind: str
    modules: Mapping[str, Kind]

    def fuse(self, heads: Mapping[str, Fitted], series_list: Sequence[Series]) -> Fusion:
        """Calibrate the mean of heads that were fitted on these series, also one by one by jobs of their own."""
        tails = []
        for trailing in (False, True):
            raw = [
                _mean({name: head.score(one, trailing=trailing) for name, head in heads.items()})[0][
                    fitting_rows(one) :
                ]
                for one in series_list
            ]
            tails.append(Tail.fit(np.concatenate(raw)))
        return Fusion(dict(heads), (tails[0], tails[1]), self.kind)

    def fit(self, series_list: Sequence[Series], *, seed: int, progress: Progress | None = None) -> Fusion:
        """See `detector.fit`: each head, one after the other."""
        heads: dict[str, Fitted] = {}
        for number, (name, module) in enumerate(self.modules.items()):
            told = None if progress is None else _within(progress, number, len(self.modules))
            heads[name] = module.fit(series_list, seed=seed, progress=told)
        return self.fuse(heads, series_list)

    def load(self, arrays: Arrays, configuration: dict[str, Any]) -> Fusion:
        """See `detector.load`."""
        heads: dict[str, Fitted] = {}
        for name, told in configuration["heads"].items():
            own = {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}
            heads[name] = self.modules[name].load(own, told)
        return Fusion(heads, (tail_of(arrays, "centred"), tail_of(arrays, "trailing")), self.kind)


def _within(progress: Progress, number: int, count: int) -> Progress:
    """Progress of one head as that of all."""
    return lambda share: progress((number + share) / count)
