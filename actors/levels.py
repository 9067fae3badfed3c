"""Thresholds that follow: each day chosen anew from the scores of the last days, so that drift takes them along.

The scores are made again from the minute table, beside the ticks, so that a restart needs no state of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import structlog

from actors.judges import Judge, series_of
from actors.minutes import past_rows
from cluster.errors import HubError
from models.anomaly.fleet import threshold_of
from models.anomaly.refusals import NotEnoughData
from models.anomaly.threshold import DAY_S, FOLLOW_DAYS, Threshold

log = structlog.get_logger("levels")

_DAY_US: Final = DAY_S * 1_000_000

Start = Callable[[Callable[[], None]], object]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What thresholds are chosen for."""

    kind: str
    version: int
    day: int


class Levels:
    """Asked from one thread; the day's scores are made in another."""

    def __init__(self, lake: Path, *, start: Start | None = None) -> None:
        """
        Args:
            start: begins work that nobody waits for; None has a thread do it.
        """
        self._lake = lake
        self._start = start or ThreadPoolExecutor(1, thread_name_prefix="levels").submit
        self._asked: dict[str, _Asked] = {}
        self._chosen: dict[str, tuple[_Asked, dict[str, Threshold]]] = {}

    def of(self, tenant: str, judge: Judge, entity: str, at_us: int) -> Threshold:
        """The threshold of a model's entity on this day; until it is chosen that of the day before, or the model's."""
        assert judge.fleet is not None
        asked = _Asked(judge.fleet.kind, judge.version, at_us // _DAY_US)
        if self._asked.get(tenant) != asked:
            self._asked[tenant] = asked
            self._start(lambda: self._choose(tenant, judge, asked))
        found, levels = self._chosen.get(tenant, (None, {}))
        same = found is not None and (found.kind, found.version) == (asked.kind, asked.version)
        own = judge.fleet.threshold(entity)
        return levels.get(entity, own) if same else own

    def _choose(self, tenant: str, judge: Judge, asked: _Asked) -> None:
        began_s = time.monotonic()
        try:
            levels = self._levels(tenant, judge, asked.day * _DAY_US)
        except (HubError, OSError, pa.ArrowException) as error:
            # Those of the day before go on.
            log.warning("levels_not_chosen", tenant=tenant, error=str(error)[:200])
            return
        self._chosen[tenant] = (asked, levels)
        took_s = round(time.monotonic() - began_s, 3)
        log.info("levels_chosen", tenant=tenant, kind=asked.kind, entities=len(levels), took_s=took_s)

    def _levels(self, tenant: str, judge: Judge, to_us: int) -> dict[str, Threshold]:
        """Of the entities that have enough scores; those of rows that the model was fitted on flatter, and are left."""
        assert judge.fleet is not None
        from_us = max(to_us - FOLLOW_DAYS * _DAY_US, judge.unseen_from_us)
        if from_us >= to_us:
            return {}
        named = series_of(judge, past_rows(self._lake, tenant, from_us, to_us), from_us=from_us, to_us=to_us)
        levels = {}
        for name, one in named.items():
            try:
                scores = judge.fleet.score(one, name).score
                budget = judge.fleet.threshold(name).budget_per_day
                levels[name] = threshold_of([scores], one.step_s, budget)
            except NotEnoughData:
                continue
        return levels
