"""Champions of tenants in memory, verified, and exchanged while requests go on with the one before."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import structlog

from cluster.clock import Clock
from cluster.errors import HubError
from cluster.settings import Settings
from cluster.tenancy import TenantScope
from models.anomaly.fleet import Fleet
from models.anomaly.fleet import load as load_fleet
from models.anomaly.refusals import NotTrained

# Of an owner that no tenant can be called; cluster/artifacts.py.
_SHARED: Final = "SHARED"
# A champion is looked for again after this time; until then a moved alias is not seen.
LOOK_EVERY_S: Final = 2.0
KEPT_MAX: Final = 32

log = structlog.get_logger("champions")


@dataclass(frozen=True, slots=True, eq=False)
class Champion:
    """A loaded model of an owner.

    Attributes:
        content: what scores; a Fleet for detectors of series.
        configuration: as it was registered.
    """

    owner: str
    kind: str
    version: int
    run_id: str
    content: Any
    configuration: dict[str, Any]


@dataclass(slots=True)
class _Place:
    champion: Champion | None
    looked_at_s: float
    refreshing: asyncio.Task[None] | None = None


class Champions:
    """For one event loop; MLflow is spoken to from one thread, and imported with the first question."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        loaders: dict[str, Callable[..., Any]],
        store: Any = None,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """
        Args:
            loaders: kind -> (arrays, configuration) -> content, for kinds that are no Fleet.
            store: a ModelStore; None opens the hub's with the first question.
        """
        self._settings = settings
        self._clock = clock
        self._loaders = loaders
        self._look_every_s = look_every_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")
        self._store = store
        self._places: dict[tuple[str, str], _Place] = {}

    async def get(self, scope: TenantScope, kind: str) -> Champion:
        """The tenant's own champion, else the shared one.

        Raises:
            NotTrained: there is none. ModelRefused, ModelUnreadable: it is not what was signed, and no older one is
                loaded. Unavailable: MLflow does not answer, and none is loaded.
        """
        key = (str(scope.tenants[0]), kind)
        place = self._places.get(key)
        if place is None:
            self._forget()
            found = await self._on_thread(lambda: self._look(scope, kind, None))
            # Whoever was first; both are right.
            place = self._places.setdefault(key, _Place(found, self._clock.monotonic_s()))
        elif self._clock.monotonic_s() - place.looked_at_s > self._look_every_s and place.refreshing is None:
            if place.champion is None:
                place.champion = await self._on_thread(lambda: self._look(scope, kind, None))
                place.looked_at_s = self._clock.monotonic_s()
            else:
                place.refreshing = asyncio.create_task(self._refresh(scope, kind, place))
        if place.champion is None:
            raise NotTrained(
                f"no {kind} model was promoted for this tenant",
                hint=f"`llmhub job train_detector --set kind={kind} --set tenant=NAME`, then `llmhub job promote`.",
            )
        return place.champion

    async def versions(self, scope: TenantScope) -> list[Any]:
        """Registered versions that the tenant may score with.

        Raises:
            Unavailable: MLflow does not answer.
        """
        found: list[Any] = await self._on_thread(lambda: self._opened().versions(scope))
        return found

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _refresh(self, scope: TenantScope, kind: str, place: _Place) -> None:
        before = place.champion
        try:
            found = await self._on_thread(lambda: self._look(scope, kind, before))
            place.champion = found
            if found is not None and before is not None and found.version != before.version:
                log.info("champion_exchanged", kind=kind, owner=found.owner, version=found.version)
        except HubError as error:
            # The one in memory was verified; it goes on until a sound one is there.
            log.warning("champion_not_exchanged", kind=kind, code=error.code, detail=error.message[:200])
        finally:
            place.looked_at_s = self._clock.monotonic_s()
            place.refreshing = None

    async def _on_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _opened(self) -> Any:
        if self._store is None:
            # MLflow takes seconds to import, which the start of the hub has no use for.
            self._store = importlib.import_module("cluster.artifacts").ModelStore.of(self._settings)
        return self._store

    def _look(self, scope: TenantScope, kind: str, known: Champion | None) -> Champion | None:
        store = self._opened()
        for owner in (str(scope.tenants[0]), _SHARED):
            version = store.version_of(owner, kind, "champion")
            if version is None:
                continue
            if known is not None and (known.owner, known.version) == (owner, version):
                return known
            model = store.load(scope, kind, owner=owner, version=version)
            content = self._loaders.get(kind, load_fleet)(model.arrays, model.configuration)
            return Champion(owner, kind, version, model.run_id, content, model.configuration)
        return None

    def _forget(self) -> None:
        while len(self._places) >= KEPT_MAX:
            del self._places[min(self._places, key=lambda key: self._places[key].looked_at_s)]


def fleet_of(champion: Champion) -> Fleet:
    """The fleet of a detector of series."""
    assert isinstance(champion.content, Fleet)
    return champion.content
