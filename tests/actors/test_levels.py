"""Thresholds of the stream follow the scores of the last days, made again from real tables; nobody waits for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from actors.judges import Judge, series_of
from actors.levels import Levels
from actors.minutes import past_rows
from cluster.contract import event
from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import TABLES
from models.aggregate.rollup import MINUTE_US, roll
from models.anomaly import detector, fleet
from models.anomaly.features import entity_series
from models.anomaly.fleet import Fleet, Units
from models.anomaly.series import told_features
from models.anomaly.threshold import decide
from tests.models.aggregate.events import Row, batch_of

START_US = 1_767_225_600_000_000
DAY = 1_440
ENTITY = "service=chat,provider=p,model=m,operation=chat"
TRAINED = 1_000

_COUNTED = event.COUNTED_REQUEST | event.COUNTED_TOKENS | event.COUNTED_LATENCY


@cache
def _minutes(days: int) -> pa.Table:
    """The first day as it was trained on; from then on latency and tokens vary twice as much."""
    rows: list[Row] = []
    for minute in range(days * DAY):
        source, wide = np.random.default_rng(minute), 1.0 if minute < DAY else 2.0
        rows += [
            {
                "occurred_at": START_US + minute * MINUTE_US + number,
                "kind": "gateway.request",
                "service": "chat",
                "provider": "p",
                "model": "m",
                "operation": "chat",
                "counted": _COUNTED,
                "latency_ms": float(source.lognormal(5, 0.2 * wide)),
                "input_tokens": int(source.lognormal(7, 0.1 * wide)),
                "output_tokens": int(source.lognormal(5, 0.1 * wide)),
            }
            for number in range(3)
        ]
    return roll(pa.Table.from_batches([batch_of(rows)]), MINUTE_US)


@cache
def _model() -> Fleet:
    told = entity_series(_minutes(4), from_us=START_US, to_us=START_US + TRAINED * MINUTE_US)
    features = told_features(list(told.values()))
    series = {str(name): one.only(features) for name, one in told.items()}
    units = Units.fit(series, seasons=False)
    return fleet.assemble(
        units, detector.fit("pca", list(fleet.residuals_of(units, series).values()), seed=1), series, budget_per_day=2.0
    )


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    files = stage(tmp_path, TABLES["rollup_1m"], _minutes(4), tenant_id="acme", token="acme-1")
    TableWriter(tmp_path, TABLES["rollup_1m"]).append(files, {"test/acme": 1})
    return tmp_path


def _at(day: int) -> int:
    return START_US + day * DAY * MINUTE_US + 1


def _judge(unseen_from_us: int = START_US + 700 * MINUTE_US) -> Judge:
    return Judge(_model(), 3, "entities", unseen_from_us)


def test_a_day_is_judged_by_the_days_before_it_and_nobody_waits_for_that(lake: Path) -> None:
    waiting: list[Callable[[], None]] = []
    levels, judge = Levels(lake, start=waiting.append), _judge()
    own = _model().threshold(ENTITY)
    assert levels.of("acme", judge, ENTITY, _at(3)) == own
    assert levels.of("acme", judge, ENTITY, _at(3) + 60_000_000) == own
    [work] = waiting
    work()
    chosen = levels.of("acme", judge, ENTITY, _at(3))
    assert (chosen.step_s, chosen.budget_per_day) == (own.step_s, own.budget_per_day)
    assert chosen.level > 1.1 * own.level
    # On the day that follows it raises about the budget; under the model's own nearly all of the day is an alarm.
    rows = past_rows(lake, "acme", _at(3) - 1, _at(4))
    [series] = series_of(judge, rows, from_us=_at(3) - 1, to_us=_at(4) - 1).values()
    scores = _model().score(series, ENTITY).score
    alarms = decide(scores, chosen)
    assert len(alarms) <= 2 * chosen.budget_per_day
    assert sum(one.end - one.start for one in alarms) < 0.1 * DAY
    assert sum(one.end - one.start for one in decide(scores, own)) > 0.9 * DAY
    # The next day's is asked for once, and until it is there that of the day before goes on.
    assert levels.of("acme", judge, ENTITY, _at(4)) == chosen
    assert levels.of("acme", judge, ENTITY, _at(4) + 1) == chosen
    assert len(waiting) == 2
    # An entity without rows, and another version, have the model's own.
    assert levels.of("acme", judge, "service=new", _at(4)) == _model().threshold("service=new")
    assert levels.of("acme", Judge(_model(), 4), ENTITY, _at(4)) == own


def test_rows_that_the_model_was_fitted_on_do_not_count(lake: Path) -> None:
    levels = Levels(lake, start=lambda work: work())
    assert levels.of("acme", _judge(_at(3)), ENTITY, _at(3)) == _model().threshold(ENTITY)


def test_what_cannot_be_read_leaves_the_threshold_as_it_was(tmp_path: Path, lake: Path) -> None:
    levels, judge = Levels(lake, start=lambda work: work()), _judge()
    chosen = levels.of("acme", judge, ENTITY, _at(2))
    for path in lake.rglob("rollup_1m/**/*.parquet"):
        path.write_bytes(b"spoilt")
    assert levels.of("acme", judge, ENTITY, _at(3)) == chosen
    fresh = Levels(lake, start=lambda work: work())
    assert fresh.of("acme", judge, ENTITY, _at(3)) == _model().threshold(ENTITY)
    # Another tenant has none of it.
    assert Levels(tmp_path, start=lambda work: work()).of("globex", judge, ENTITY, _at(3)) == _model().threshold(ENTITY)
