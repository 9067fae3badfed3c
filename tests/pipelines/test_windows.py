"""Windows over real Delta tables and real Ray: aligned, masked, and of one tenant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import NotFound
from cluster.tenancy import TenantId, TenantScope
from models.aggregate.rollup import MINUTE_US
from models.anomaly.refusals import NotEnoughData
from pipelines.windows import dataset, from_files, from_rollups, series_of
from tests.models.aggregate.events import START_US, Row
from tests.pipelines.test_rebuild_rollups import seal

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.filterwarnings("ignore")]

ACME = TenantScope.of(TenantId("acme"))


def _calls(model: str, minutes: range) -> list[Row]:
    return [
        {
            "occurred_at": START_US // MINUTE_US * MINUTE_US + minute * MINUTE_US + 1,
            "kind": "gateway.request",
            "counted": 1,
            "model": model,
            "latency_ms": 100.0,
            "input_tokens": 10,
        }
        for minute in minutes
    ]


def test_rows_of_one_tenant_become_aligned_series_and_come_back_from_a_dataset(tmp_path: Path) -> None:
    seal(tmp_path, 1, {"acme": _calls("a", range(5)), "globex": _calls("secret", range(5))})
    seal(tmp_path, 2, {"acme": _calls("a", range(4, 6)) + _calls("b", range(2, 3))})
    begin = START_US // MINUTE_US * MINUTE_US
    found = from_rollups(tmp_path, ACME, (begin, begin + 8 * MINUTE_US), ("model",))
    assert sorted(found.series) == ["model=a", "model=b"]
    assert found.source["version"] == "2"
    a, b = found.series["model=a"], found.series["model=b"]
    requests = a.features.index("requests_log")
    assert np.expm1(a.values[:6, requests]) == pytest.approx([1, 1, 1, 1, 2, 1])
    # Nobody told of the last two minutes; of the others, `b` was called in one and silent in the rest.
    assert np.isnan(a.values[6:]).all()
    assert np.expm1(b.values[:6, requests]) == pytest.approx([0, 0, 1, 0, 0, 0])
    again = series_of(dataset(found.series).iter_batches(batch_format="pyarrow", batch_size=None))
    for name, one in found.series.items():
        assert again[name].values.tobytes() == one.values.tobytes()
        assert (again[name].features, again[name].start_us) == (one.features, one.start_us)
    # Asked for a fortnight, a tenant of some minutes is not a fortnight of nothing.
    longer = from_rollups(tmp_path, ACME, (begin - 14 * 1_440 * MINUTE_US, begin + 8 * MINUTE_US), ("model",))
    assert {one.start_us for one in longer.series.values()} == {begin}
    assert longer.series["model=a"].values.tobytes() == a.values.tobytes()
    with pytest.raises(NotEnoughData):
        from_rollups(tmp_path, ACME, (begin - 10 * MINUTE_US, begin - 8 * MINUTE_US), ("model",))


def test_files_of_series_are_read_without_their_labels(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, None, 3.0], "y": [1, 2, 3], "label": [0, 0, 1]}), tmp_path / "e_train.parquet")
    found = from_files(tmp_path, step_s=30).series["e"]
    assert found.features == ("x", "y")
    assert found.values.tolist()[0] == [1.0, 1.0]
    assert np.isnan(found.values[1, 0])
    with pytest.raises(NotFound):
        from_files(tmp_path, entities=("e", "other"))
