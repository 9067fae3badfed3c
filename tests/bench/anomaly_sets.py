"""Labelled multivariate series as Parquet: `<set>/<entity>_train.parquet` and `<entity>_test.parquet` with `label`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from models.anomaly.evaluation import Labels, period_of
from models.anomaly.series import Series

# The test rows that TSB-AD trains on, of the machines that it shares with this data; it scores all test rows.
PREFIX_ROWS: Final = {
    "machine-1-2": 4_529,
    "machine-1-5": 5_926,
    "machine-1-7": 737,
    "machine-2-1": 5_923,
    "machine-2-2": 5_925,
    "machine-2-3": 757,
}
_STEP_S: Final = {"smd": 60, "asd": 300}
_STEP_S_OTHERWISE: Final = 60


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One entity.

    Attributes:
        window: rows of the largest buffer of VUS, from the first feature of all test rows.
    """

    entity: str
    train: Series
    test: Series
    labels: Labels
    window: int

    @property
    def days(self) -> float:
        """Length of the test."""
        return self.test.rows * self.test.step_s / 86_400


def read(folder: Path, name: str) -> Iterator[Case]:
    """The entities of a set in order of their names; none if it is absent. `smd_prefix` trains as TSB-AD does."""
    place = folder / "multivariate_anomaly" / name.removesuffix("_prefix")
    for path in sorted(place.glob("*_test.parquet")):
        entity = path.name.removesuffix("_test.parquet")
        if name.endswith("_prefix") and entity not in PREFIX_ROWS:
            continue
        step_s = _STEP_S.get(place.name, _STEP_S_OTHERWISE)
        train, _ = _series(place / f"{entity}_train.parquet", step_s, 0)
        # No instants are published: the test follows the training at once.
        test, labels = _series(path, step_s, train.rows * step_s * 1_000_000)
        if name.endswith("_prefix"):
            train = test.part(0, PREFIX_ROWS[entity])
        yield Case(entity, train, test, labels, period_of(test.values[:, 0].astype(np.float64)))


def _series(path: Path, step_s: int, start_us: int) -> tuple[Series, Labels]:
    table = pq.read_table(path)
    features = tuple(name for name in table.column_names if name != "label")
    values = np.stack([table[name].to_numpy().astype(np.float32) for name in features], axis=1)
    labels = table["label"].to_numpy() > 0 if "label" in table.column_names else np.zeros(len(table), bool)
    return Series(values, features, step_s, start_us), labels
