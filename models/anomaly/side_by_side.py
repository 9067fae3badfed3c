"""All entities as one series, a column for each feature of each: what a graph over entities reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import FEATURES_MAX, Flags, Series, check_alike

# The one entity of such a series.
FLEET: Final = "*"
# Features that say most of an entity; all of them would fill the width with a dozen entities.
FEATURES: Final = (
    "requests_log",
    "error_share",
    "cost_log",
    "output_tokens_log",
    "latency_ms_p50_log",
    "ttft_ms_p50_log",
)
_BETWEEN: Final = "|"
# The one dimension whose values bring nobody together: what is done, not who does it with whom.
_ACTION: Final = "operation"
# A column known less often than this tells nothing of its neighbours.
_KNOWN_SHARE_MIN: Final = 0.3


def columns_of(series: Mapping[str, Series], features: Sequence[str] = FEATURES) -> tuple[str, ...]:
    """`entity|feature` of the entities known longest, as many as fit.

    Raises:
        NotEnoughData: fewer than two columns are known often enough.
    """
    known = {
        f"{name}{_BETWEEN}{feature}": float(1 - np.isnan(one.values[:, one.features.index(feature)]).mean())
        for name, one in series.items()
        for feature in features
        if feature in one.features
    }
    often = [name for name, share in known.items() if share >= _KNOWN_SHARE_MIN]
    often.sort(key=lambda name: -known[name])
    if len(often) < 2:
        raise NotEnoughData(f"{len(often)} columns of entities are known for {_KNOWN_SHARE_MIN:.0%} of the time")
    return tuple(sorted(often[:FEATURES_MAX]))


def side_by_side(series: Mapping[str, Series], columns: Sequence[str]) -> Series:
    """One series of these columns; an entity or feature that is not there is missing.

    Raises:
        NotEnoughData, SeriesInvalid: no series, or of different steps.
    """
    check_alike(list(series.values()))
    first = next(iter(series.values()))
    values = np.full((first.rows, len(columns)), np.nan, np.float32)
    for at, column in enumerate(columns):
        name, feature = split(column)
        if name in series and feature in series[name].features:
            values[:, at] = series[name].values[:, series[name].features.index(feature)]
    return Series(values, tuple(columns), first.step_s, first.start_us)


def split(column: str) -> tuple[str, str]:
    """Entity and feature of a column."""
    name, _, feature = column.rpartition(_BETWEEN)
    return name, feature


@dataclass(frozen=True, slots=True, eq=False)
class Relations:
    """Whom the columns of entities side by side belong to.

    Attributes:
        entity: (f,) number of each column's entity.
        together: (f, f) columns of two entities that were called together: by one tenant or service, of one model, …
    """

    entity: npt.NDArray[np.int64]
    together: Flags


def relations_of(columns: Sequence[str]) -> Relations | None:
    """None where columns are features of one entity."""
    names, entity = np.unique([split(one)[0] for one in columns], return_inverse=True)
    if len(names) < 2:
        return None
    values = [{pair for pair in one.split(",") if pair.partition("=")[0] != _ACTION} for one in names.tolist()]
    words = {word: place for place, word in enumerate(sorted(set().union(*values)))}
    told = np.zeros((len(names), len(words)), np.float32)
    for row, one in enumerate(values):
        told[row, [words[word] for word in one]] = 1.0
    # A value of all of them, such as the only provider, tells nobody from the others.
    told[:, told.all(axis=0)] = 0.0
    together = told @ told.T > 0
    np.fill_diagonal(together, val=False)
    return Relations(entity, together[np.ix_(entity, entity)])
