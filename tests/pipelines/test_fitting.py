"""A fit by several workers, which share the batches and end with one network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.anomaly.series import Series
from models.anomaly.side_by_side import FLEET
from pipelines.fitting import Work, fit

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.journey,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize("edges", [True, False])
def test_two_workers_train_a_graph_and_its_twin(tmp_path: Path, edges: bool) -> None:
    source = np.random.default_rng(1)
    columns = tuple(
        f"service=s{one},model=m{one % 2}|{name}" for one in range(3) for name in ("cost_log", "error_share")
    )
    values = source.normal(size=(900, len(columns))).astype(np.float32)
    work = Work("gnn_metric", "run", workers=2, steps=20, edges=edges, checkpoint_every=10)
    made = fit(work, {FLEET: Series(values, columns, 60, 0)}, folder=tmp_path)
    assert len(made.losses) == 2 and np.isfinite(made.losses).all()
    # Neighbours are features of other entities.
    assert made.head.arrays()["model.neighbours"].shape == (6, 4 if edges else 0)
