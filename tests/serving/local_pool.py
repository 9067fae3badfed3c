"""The real shard and the real committer in this process: what ShardPool reaches over Ray, reached by calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from actors.accounts import Account, settle
from actors.committer import Committer
from actors.pool import Admitted
from actors.shard import Shard
from cluster.clock import Clock
from cluster.contract.packing import pack
from cluster.lake.counts import CommittedCounts
from cluster.settings import Settings
from cluster.tenancy import TenantId
from cluster.topology import split


class LocalPool:
    """Shards of one process."""

    def __init__(self, settings: Settings, clock: Clock, *, count: int = 2) -> None:
        self._settings = settings
        self._drained = False
        self._committer = self.tables = Committer(settings, clock=clock)
        self.shards = [
            Shard(settings, number, shards=count, commits=self._committer, clock=clock) for number in range(count)
        ]

    async def admit(
        self, tenant: TenantId, events: pa.RecordBatch | None, dead_letters: pa.RecordBatch | None
    ) -> Admitted:
        parts = split(events, tenant, len(self.shards)) if events is not None and events.num_rows else {}
        dead = dead_letters.serialize() if dead_letters is not None and dead_letters.num_rows else None
        accepted = repeated = 0
        for shard in sorted({*parts, min(parts, default=0)} if dead else parts):
            rows = pack(parts[shard]) if shard in parts else None
            letters = dead if shard == min(parts, default=0) else None
            counts = await asyncio.to_thread(self.shards[shard].admit, tenant, rows, letters)
            accepted, repeated = accepted + counts[0], repeated + counts[1]
        return Admitted(accepted, repeated)

    async def status(self) -> Sequence[Mapping[str, Any]]:
        return [shard.ledger() for shard in self.shards]

    async def committer(self) -> Mapping[str, Any]:
        return self._committer.status()

    async def ledger(self) -> Mapping[str, Account]:
        shards = await self.status()
        positions = self._committer.positions()
        journals = {str(shard["journal"]) for shard in shards} | set(positions)
        return settle(shards, positions, CommittedCounts(self._settings.lake).newest(sorted(journals)))

    def drain_shards(self) -> None:
        """Commit everything; the shards refuse from now on."""
        if not self._drained:
            self._drained = True
            for shard in self.shards:
                shard.drain()

    def drain(self) -> None:
        """Commit everything and stop."""
        self.drain_shards()
        self._committer.drain()
