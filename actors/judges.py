"""Which model judges a tenant's minutes: its champion, else plain statistics of its own last days, else nothing yet."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from cluster.clock import Clock
from cluster.contract.columns import ROLLUP_SCHEMA
from cluster.errors import HubError
from cluster.lake.scan import TableReader, files, read_rows
from cluster.lake.tables import MINUTES
from cluster.settings import Settings
from cluster.tenancy import TenantId, TenantScope
from models.aggregate.rollup import MINUTE_US, merge
from models.anomaly import detector, fleet
from models.anomaly.features import ENTITY_DIMENSIONS, entity_series
from models.anomaly.fleet import Fleet, Units
from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import Series, told_features
from models.anomaly.sieve import sieve

log = structlog.get_logger("judges")

# What judges while nothing was promoted.
FALLBACK: Final = "seasonal"
_LOOK_EVERY_S: Final = 60.0
_FIT_EVERY_S: Final = 3_600.0
_FIT_AGAIN_S: Final = 300.0
_FIT_OVER_US: Final = 7 * 86_400_000_000
# Beyond this many files the days before are left out: a fallback is to be cheap.
_FILES_MAX: Final = 200
_KEYS: Final = ("window_start", *ENTITY_DIMENSIONS)


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """A model with its version, 0 for plain statistics."""

    fleet: Fleet
    version: int
    layout: str = "entities"


@dataclass(slots=True)
class _Place:
    judge: Judge | None = None
    reason: str = "not looked at yet"
    look_at_s: float = float("-inf")
    fit_at_s: float = float("-inf")
    kind: str = ""


class Judges:
    """One for each tenant. Not thread-safe; blocks while it asks MLflow, loads or fits."""

    def __init__(self, settings: Settings, clock: Clock, *, open_store: Callable[[], Any] | None = None) -> None:
        """
        Args:
            open_store: makes a ModelStore; None opens the hub's when it is first asked for.
        """
        self._settings = settings
        self._clock = clock
        self._open_store = open_store or self._opened
        self._store: Any = None
        self._places: dict[str, _Place] = {}

    def of(self, tenant: str) -> Judge:
        """What judges the tenant now.

        Raises:
            NotEnoughData: nothing was promoted and there is too little to know what is usual.
        """
        place = self._places.setdefault(tenant, _Place())
        now_s = self._clock.monotonic_s()
        if now_s >= place.look_at_s:
            place.look_at_s = now_s + _LOOK_EVERY_S
            self._look(tenant, place)
        if (place.judge is None or place.judge.version == 0) and now_s >= place.fit_at_s:
            self._fit(tenant, place, now_s)
        if place.judge is None:
            raise NotEnoughData(place.reason)
        return place.judge

    def _look(self, tenant: str, place: _Place) -> None:
        """Load the champion that was judged best, when it is another one than before."""
        try:
            if self._store is None:
                self._store = self._open_store()
            found = self._store.champions(tenant)
            # Kinds that read something else than minutes are none of ours.
            own = {kind: told for kind, told in found.items() if kind in detector.DETECTORS}
            if not own:
                if place.judge is not None and place.judge.version:
                    place.judge, place.kind = None, ""
                return
            kind = max(own, key=lambda one: float(own[one][1].get("judged_average_precision", 0)))
            version = own[kind][0]
            if place.judge is not None and (place.kind, place.judge.version) == (kind, version):
                return
            model = self._store.load(TenantScope.of(TenantId(tenant)), kind, owner=tenant, version=version)
            if model.configuration.get("from_files") or list(model.configuration["dimensions"]) != [*ENTITY_DIMENSIONS]:
                log.info("champion_reads_other_rows", tenant=tenant, kind=kind, version=version)
                return
            loaded = fleet.load(model.arrays, model.configuration)
            place.judge, place.kind = Judge(loaded, version, str(model.configuration["layout"])), kind
            log.info("champion_loaded", tenant=tenant, kind=kind, version=version)
        except HubError as error:
            # The one before goes on; with none, plain statistics do.
            log.warning("champion_not_loaded", tenant=tenant, code=error.code, detail=error.message[:200])

    def _fit(self, tenant: str, place: _Place, now_s: float) -> None:
        try:
            series = self.history(tenant)
            series = sieve(Units.fit(series, seasons=True), series)
            units = Units.fit(series, seasons=True)
            head = detector.fit(FALLBACK, list(fleet.residuals_of(units, series).values()), seed=1)
            place.judge, place.kind = Judge(fleet.assemble(units, head, series), 0), FALLBACK
            length_s = max(one.rows * one.step_s for one in series.values())
            # What is known of a day grows fast at first.
            place.fit_at_s = now_s + min(_FIT_EVERY_S, max(_FIT_AGAIN_S, length_s / 24))
        except NotEnoughData as error:
            place.reason, place.fit_at_s = error.message, now_s + _FIT_AGAIN_S
            log.info("not_enough_data", tenant=tenant, detail=error.message)

    def history(self, tenant: str) -> dict[str, Series]:
        """Series of a tenant's last days by entity, of the features it tells of.

        Raises:
            NotEnoughData: there are none.
        """
        to_us = self._clock.now_us() // MINUTE_US * MINUTE_US
        from_us = to_us - _FIT_OVER_US
        snapshot = TableReader(self._settings.lake, MINUTES).refresh()
        chosen = files(TenantScope.of(TenantId(tenant)), snapshot, from_us, to_us)[:_FILES_MAX]
        parts = [merge([read_rows(one.path).select(ROLLUP_SCHEMA.names)], keys=_KEYS) for one in chosen]
        if not parts:
            raise NotEnoughData("no calls in the last days")
        rows = merge(parts, keys=_KEYS)
        first_us = rows.column("window_start").cast("int64").to_numpy().min()
        from_us = max(from_us, int(first_us) // MINUTE_US * MINUTE_US)
        if to_us <= from_us:
            raise NotEnoughData("no whole minute of calls yet")
        found = entity_series(rows, from_us=from_us, to_us=to_us)
        told = told_features(list(found.values()))
        return {str(entity): one.only(told) for entity, one in found.items()}

    def _opened(self) -> Any:
        # MLflow takes seconds to import, which the start of the hub has no use for.
        return importlib.import_module("cluster.artifacts").ModelStore.of(self._settings)
