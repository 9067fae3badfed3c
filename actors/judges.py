"""Which model judges a tenant's minutes: its champion, else plain statistics of the hours before."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import structlog

from cluster.clock import Clock
from cluster.errors import HubError
from cluster.settings import Settings
from cluster.tenancy import TenantId, TenantScope
from models.anomaly import detector, fleet, together
from models.anomaly.features import ENTITY_DIMENSIONS, entity_series
from models.anomaly.fleet import Fleet
from models.anomaly.neighbourhood import KIND as NEIGHBOURHOOD
from models.anomaly.recent import recent_series
from models.anomaly.series import Series
from models.anomaly.side_by_side import FLEET, side_by_side
from models.anomaly.together import Together

log = structlog.get_logger("judges")

_LOOK_EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """A model with its version; None and 0 for plain statistics, see `models.anomaly.recent`."""

    fleet: Fleet | None
    version: int
    layout: str = "entities"
    # From here on no row was fitted on: calibration time and later.
    unseen_from_us: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """A model that judges entities beside each other, next to whatever judges each alone, with its version."""

    model: Together
    version: int


# What judges while nothing was promoted.
STATISTICS: Final = Judge(None, 0)


@dataclass(slots=True)
class _Place:
    judge: Judge = STATISTICS
    look_at_s: float = float("-inf")
    kind: str = ""
    beside: Beside | None = None


def series_of(judge: Judge, rows: pa.Table, *, from_us: int, to_us: int) -> dict[str, Series]:
    """Minutes of a tenant as the judge reads them, by entity.

    Raises:
        NotEnoughData: no row lies in the range. SeriesInvalid: too many entities.
    """
    if judge.fleet is None:
        return recent_series(rows, from_us=from_us, to_us=to_us)
    features = judge.fleet.units.features
    series = entity_series(rows, from_us=from_us, to_us=to_us)
    if judge.layout == "fleet":
        return {FLEET: side_by_side({str(entity): one for entity, one in series.items()}, features)}
    return {str(entity): one.only(features) for entity, one in series.items()}


def series_beside(beside: Beside, rows: pa.Table, *, from_us: int, to_us: int) -> dict[str, Series]:
    """The same for a model of entities beside each other, in its own rows.

    Raises:
        NotEnoughData: no row lies in the range. SeriesInvalid: too many entities.
    """
    told = beside.model.detector
    series = entity_series(rows, from_us=from_us, to_us=to_us, step_s=told.step_s)
    return {str(entity): one.only(told.features) for entity, one in series.items()}


class Judges:
    """One for each tenant. Not thread-safe; blocks while it asks MLflow or loads."""

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
        """What judges the tenant now."""
        place = self._places.setdefault(tenant, _Place())
        now_s = self._clock.monotonic_s()
        if now_s >= place.look_at_s:
            place.look_at_s = now_s + _LOOK_EVERY_S
            self._look(tenant, place)
        return place.judge

    def beside(self, tenant: str) -> Beside | None:
        """What judges the tenant's entities beside each other, as of the last `of`."""
        place = self._places.get(tenant)
        return None if place is None else place.beside

    def _look(self, tenant: str, place: _Place) -> None:
        """Load the champion that was judged best, when it is another one than before, and the one beside it."""
        try:
            if self._store is None:
                self._store = self._open_store()
            found = self._store.champions(tenant)
            self._look_beside(tenant, place, found.get(NEIGHBOURHOOD))
            # Kinds that read something else than minutes are none of ours.
            own = {kind: told for kind, told in found.items() if kind in detector.DETECTORS}
            if not own:
                place.judge, place.kind = STATISTICS, ""
                return
            kind = max(own, key=lambda one: float(own[one][1].get("judged_average_precision", 0)))
            version = own[kind][0]
            if (place.kind, place.judge.version) == (kind, version):
                return
            model = self._store.load(TenantScope.of(TenantId(tenant)), kind, owner=tenant, version=version)
            if model.configuration.get("from_files") or list(model.configuration["dimensions"]) != [*ENTITY_DIMENSIONS]:
                log.info("champion_reads_other_rows", tenant=tenant, kind=kind, version=version)
                return
            loaded = fleet.load(model.arrays, model.configuration)
            told = model.configuration
            # Of a model from before this was told, calibration time counts as fitted on.
            unseen_us = int(told.get("calibrated_from_us", told.get("trained_to_us", 0)))
            place.judge, place.kind = Judge(loaded, version, str(told["layout"]), unseen_us), kind
            log.info("champion_loaded", tenant=tenant, kind=kind, version=version)
        except HubError as error:
            # The one before goes on; with none, plain statistics do.
            log.warning("champion_not_loaded", tenant=tenant, code=error.code, detail=error.message[:200])

    def _look_beside(self, tenant: str, place: _Place, told: Any) -> None:
        if told is None:
            place.beside = None
            return
        version = told[0]
        if place.beside is not None and place.beside.version == version:
            return
        scope = TenantScope.of(TenantId(tenant))
        model = self._store.load(scope, NEIGHBOURHOOD, owner=tenant, version=version)
        if model.configuration.get("from_files") or list(model.configuration["dimensions"]) != [*ENTITY_DIMENSIONS]:
            log.info("champion_reads_other_rows", tenant=tenant, kind=NEIGHBOURHOOD, version=version)
            return
        place.beside = Beside(together.load(model.arrays, model.configuration), version)
        log.info("champion_loaded", tenant=tenant, kind=NEIGHBOURHOOD, version=version)

    def _opened(self) -> Any:
        # MLflow takes seconds to import, which the start of the hub has no use for.
        return importlib.import_module("cluster.artifacts").ModelStore.of(self._settings)
