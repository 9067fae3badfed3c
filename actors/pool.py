"""Create, find, place and drain the hub's actors; and ShardPool, the way of a batch from a door to its shards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import ray
import structlog
from ray.exceptions import GetTimeoutError, PendingCallsLimitExceeded, RayActorError, RayTaskError

from actors.accounts import Account, History, settle
from actors.detector_host import DetectorHost
from actors.hosts import (
    COMMITTER_THREADS,
    SHARD_THREADS,
    CommitterHost,
    ShardHost,
    committer_name,
    detector_name,
    shard_name,
)
from actors.lanes import Lane
from cluster.contract.packing import pack
from cluster.errors import Unavailable
from cluster.lake.counts import CommittedCounts
from cluster.settings import Settings
from cluster.tenancy import TenantId
from cluster.topology import split

log = structlog.get_logger("pool")

# Calls are never repeated by Ray: a batch is repeated by its sender and a seal by its shard, both told apart by key.
_LIFE: Final[dict[str, Any]] = {"lifetime": "detached", "max_restarts": -1, "max_task_retries": 0}

# A tick that takes longer is given up: what it finds is found again after the next start.
_DETECTOR_ENDS_WITHIN_S: Final = 10.0

# A lost node is known as lost after seconds, and its actors are started elsewhere after that.
_DRAIN_WITHIN_S: Final = 60.0
_DRAIN_TURN_S: Final = 0.5

# Reserved for each shard, and of all cores for all shards at most.
_SHARD_CORES: Final = 0.2
_SHARDS_SHARE: Final = 0.4

_remote: Final[Any] = ray.remote
_get: Final[Any] = ray.get
_get_actor: Final[Any] = ray.get_actor
CommitterActor: Final[Any] = _remote(num_cpus=0.1, max_concurrency=COMMITTER_THREADS)(CommitterHost)
DetectorActor: Final[Any] = _remote(num_cpus=0.05, max_concurrency=2)(DetectorHost)
ShardActor: Final[Any] = _remote(num_cpus=_SHARD_CORES, max_concurrency=SHARD_THREADS)(ShardHost)


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of a batch's good rows."""

    accepted: int
    repeated: int


def start(settings: Settings) -> None:
    """Create the region's committer and shards, or find those that run, and wait until each answers.

    Needs a connected Ray driver.
    """
    cores = ray.cluster_resources().get("CPU", 1.0)
    count = settings.shard_count(int(cores))
    found: dict[str, Any] = {"namespace": settings.namespace, "get_if_exists": True, **_LIFE}
    committer = CommitterActor.options(name=committer_name(settings.region), **found).remote(settings)
    shards = [
        ShardActor.options(
            name=shard_name(settings.region, number),
            # However many are asked for, there is room for them and for the doors.
            num_cpus=min(_SHARD_CORES, _SHARDS_SHARE * cores / count),
            max_pending_calls=settings.shard_pending_calls,
            scheduling_strategy="SPREAD",
            **found,
        ).remote(settings, number, count)
        for number in range(count)
    ]
    _get([committer.status.remote(), *(shard.ledger.remote() for shard in shards)])
    log.info("pool_started", region=settings.region, shards=count)


def start_detector(settings: Settings) -> None:
    """Create the region's detector, or find the one that runs; waits for nothing, since no door needs it."""
    if settings.detector:
        DetectorActor.options(
            name=detector_name(settings.region), namespace=settings.namespace, get_if_exists=True, **_LIFE
        ).remote(settings)


def drain(settings: Settings) -> None:
    """Seal and commit everything, then end the actors. New batches are refused from the first moment."""
    pool = ShardPool.connect(settings)
    try:
        # First: what it commits comes from rows that are committed already.
        detector = _get_actor(detector_name(settings.region), settings.namespace)
        with suppress(GetTimeoutError, RayActorError):
            _get(detector.drain.remote(), timeout=_DETECTOR_ENDS_WITHIN_S)
        ray.kill(detector)
    except ValueError:
        log.info("no_detector", region=settings.region)
    _drained(pool.shards)
    committer = _get_actor(committer_name(settings.region), settings.namespace)
    _drained([committer])
    for actor in [*pool.shards, committer]:
        ray.kill(actor)


def _drained(actors: Sequence[Any]) -> None:
    """Ask each until it answers: one that is just being started somewhere else is away. Twice drained is drained once.

    Raises:
        RayActorError: one was away for longer than _DRAIN_WITHIN_S.
    """
    until_s = time.monotonic() + _DRAIN_WITHIN_S
    left = list(actors)
    while left:
        asked = [(actor, actor.drain.remote()) for actor in left]
        left = []
        for actor, answer in asked:
            try:
                _get(answer)
            except RayActorError:
                if time.monotonic() >= until_s:
                    raise
                left.append(actor)
        if left:
            time.sleep(_DRAIN_TURN_S)


class ShardPool:
    """The shards of this region, as a door sees them."""

    def __init__(self, settings: Settings, shards: list[Any]) -> None:
        self._settings = settings
        self.shards = shards
        self._counts = CommittedCounts(Path(settings.lake))
        self._lanes = [Lane(number, shard) for number, shard in enumerate(shards)]

    @classmethod
    def connect(cls, settings: Settings) -> ShardPool:
        """Find the shards that `start` made.

        Raises:
            Unavailable: there are none yet.
        """
        shards: list[Any] = []
        while True:
            try:
                shards.append(_get_actor(shard_name(settings.region, len(shards)), settings.namespace))
            except ValueError:
                break
        if not shards:
            raise Unavailable("no shard is running yet", retry_after_s=1.0)
        return cls(settings, shards)

    async def admit(
        self, tenant: TenantId, events: pa.RecordBatch | None, dead_letters: pa.RecordBatch | None
    ) -> Admitted:
        """Hand rows to their shards; returns when all of them are durable.

        Raises:
            ShardFull: a shard refused. Rows another shard took are recognised as repeats when the batch comes again.
            Unavailable: a shard did not come back in time.
        """
        parts: dict[int, pa.RecordBatch] = {}
        if events is not None and events.num_rows:
            parts = split(events, tenant, len(self.shards))
        dead = dead_letters.serialize() if dead_letters is not None and dead_letters.num_rows else None
        dead_shard = min(parts, default=0)
        targets = sorted({*parts, dead_shard} if dead else parts)
        batches = {
            shard: (
                tenant,
                pack(parts[shard]) if shard in parts else None,
                dead if shard == dead_shard else None,
            )
            for shard in targets
        }
        answers = await asyncio.gather(
            *(self._lanes[shard].admit(batch) for shard, batch in batches.items()), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        counts = [answer for answer in answers if not isinstance(answer, BaseException)]
        return Admitted(sum(count[0] for count in counts), sum(count[1] for count in counts))

    async def status(self) -> list[dict[str, Any]]:
        """State of each shard; a shard that does not answer is named `away`."""

        async def one(number: int) -> dict[str, Any]:
            try:
                return dict(await asyncio.wait_for(_answer(self.shards[number].ledger.remote()), 5.0))
            except (RayActorError, RayTaskError, TimeoutError, PendingCallsLimitExceeded):
                return {"shard": number, "state": "away", "reason": "the shard does not answer"}

        return list(await asyncio.gather(*(one(number) for number in range(len(self.shards)))))

    async def committer(self) -> Mapping[str, Any]:
        """Status of the committer, empty while it does not answer."""
        try:
            actor = _get_actor(committer_name(self._settings.region), self._settings.namespace)
            return dict(await asyncio.wait_for(_answer(actor.status.remote()), 5.0))
        except (RayActorError, RayTaskError, TimeoutError, ValueError):
            return {}

    async def ledger(self) -> dict[str, Account]:
        """Account of every tenant: what was accepted against what the tables hold.

        Raises:
            Unavailable: a shard or the committer does not answer, so no sound sum can be given.
        """
        # Both before the snapshot: each names journals whose sequences it is asked for.
        before, positions = await asyncio.gather(self._all_shards(), self._positions())
        journals = {journal for one in before for journal in one["history"]} | set(positions)
        committed = await asyncio.to_thread(self._counts.newest, sorted(journals))
        # Asked again after the snapshot: a shard knows the count at every seal a snapshot may stand at.
        return settle(await self._all_shards(), positions, committed)

    async def _positions(self) -> Mapping[str, History]:
        try:
            actor = _get_actor(committer_name(self._settings.region), self._settings.namespace)
            positions: Mapping[str, History] = await asyncio.wait_for(_answer(actor.positions.remote()), 5.0)
        except (RayActorError, RayTaskError, TimeoutError, ValueError) as error:
            raise Unavailable("the committer does not answer", retry_after_s=2.0) from error
        return positions

    async def _all_shards(self) -> list[dict[str, Any]]:
        shards = await self.status()
        away = [str(one["shard"]) for one in shards if one["state"] == "away"]
        if away:
            raise Unavailable(f"shard {', '.join(away)} does not answer", retry_after_s=2.0)
        return shards


async def _answer(reference: Any) -> Any:
    return await reference
