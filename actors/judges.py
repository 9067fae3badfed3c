"""Which model judges a tenant's minutes: its champion, else plain statistics of the hours before."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from cluster.clock import Clock
from cluster.errors import HubError
from cluster.settings import Settings
from cluster.tenancy import TenantId, TenantScope
from models.anomaly import detector, fleet
from models.anomaly.features import ENTITY_DIMENSIONS
from models.anomaly.fleet import Fleet

log = structlog.get_logger("judges")

_LOOK_EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """A model with its version; None and 0 for plain statistics, see `models.anomaly.recent`."""

    fleet: Fleet | None
    version: int
    layout: str = "entities"


# What judges while nothing was promoted.
STATISTICS: Final = Judge(None, 0)


@dataclass(slots=True)
class _Place:
    judge: Judge = STATISTICS
    look_at_s: float = float("-inf")
    kind: str = ""


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

    def _look(self, tenant: str, place: _Place) -> None:
        """Load the champion that was judged best, when it is another one than before."""
        try:
            if self._store is None:
                self._store = self._open_store()
            found = self._store.champions(tenant)
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
            place.judge, place.kind = Judge(loaded, version, str(model.configuration["layout"])), kind
            log.info("champion_loaded", tenant=tenant, kind=kind, version=version)
        except HubError as error:
            # The one before goes on; with none, plain statistics do.
            log.warning("champion_not_loaded", tenant=tenant, code=error.code, detail=error.message[:200])

    def _opened(self) -> Any:
        # MLflow takes seconds to import, which the start of the hub has no use for.
        return importlib.import_module("cluster.artifacts").ModelStore.of(self._settings)
