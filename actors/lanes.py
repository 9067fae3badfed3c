"""The way to one shard: batches that come while calls are under way travel together in the next.

A call to another process costs milliseconds whatever it carries, and the shard's fsync as well; under load both are
shared by all senders of a replica, and a lone sender waits for nobody.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pyarrow as pa
from ray.exceptions import PendingCallsLimitExceeded, RayActorError, RayTaskError

from cluster.errors import HubError, ShardFull, Unavailable
from cluster.fairness import RoundRobin

# One call is journaled while the next is on its way.
CALLS_MAX: Final = 2
GROUP_BYTES_MAX: Final = 8 * 1024 * 1024
# A shard that restarts is waited for this long before the sender is asked to come again.
PATIENCE_S: Final = 8.0
_RETRY_S: Final = 0.1

# Tenant, events as packed rows, dead letters as an Arrow IPC message.
Batch = tuple[str, pa.Buffer | None, pa.Buffer | None]
Counts = tuple[int, int]


class Lane:
    """Batches on their way to one shard, from one event loop, tenants in turn.

    The door's open requests, of all tenants and of each, bound what waits.
    """

    def __init__(self, number: int, shard: Any) -> None:
        self._number = number
        self._shard = shard
        self._waiting: RoundRobin[tuple[Batch, asyncio.Future[Counts]]] = RoundRobin()
        self._calls: set[asyncio.Task[None]] = set()

    async def admit(self, batch: Batch) -> Counts:
        """Accepted and repeated events of the batch, once they are durable.

        Raises:
            ShardFull, Unavailable: nothing of the batch is owned; it may be sent again.
        """
        answer: asyncio.Future[Counts] = asyncio.get_running_loop().create_future()
        self._waiting.add(batch[0], (batch, answer))
        if len(self._calls) < CALLS_MAX:
            call = asyncio.create_task(self._carry())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        return await answer

    async def _carry(self) -> None:
        while self._waiting:
            group = self._next_group()
            try:
                answers = await self._send([batch for batch, _ in group])
            except HubError as error:
                answers = [error] * len(group)
            for (_, answer), told in zip(group, answers, strict=True):
                if answer.done():
                    continue  # its sender went away
                if isinstance(told, HubError):
                    answer.set_exception(told)
                else:
                    answer.set_result(told)

    def _next_group(self) -> list[tuple[Batch, asyncio.Future[Counts]]]:
        group: list[tuple[Batch, asyncio.Future[Counts]]] = []
        size = 0
        while self._waiting and (not group or size + _size(self._waiting.first()[0]) <= GROUP_BYTES_MAX):
            group.append(self._waiting.take())
            size += _size(group[-1][0])
        return group

    async def _send(self, batches: list[Batch]) -> list[Counts | HubError]:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            try:
                answers: list[Counts | HubError] = await self._shard.admit_many.remote(batches)
                return answers
            except PendingCallsLimitExceeded as error:
                raise ShardFull(f"shard {self._number} has too many batches waiting", retry_after_s=1.0) from error
            except RayTaskError as error:
                raise (error.cause if isinstance(error.cause, HubError) else self._away()) from error
            except RayActorError as error:
                # It restarts and reads its journal; the batches may have been taken, which their ids will tell.
                if asyncio.get_running_loop().time() > deadline:
                    raise self._away() from error
                await asyncio.sleep(_RETRY_S)

    def _away(self) -> Unavailable:
        return Unavailable(f"shard {self._number} is restarting", retry_after_s=2.0)


def _size(batch: Batch) -> int:
    return sum(rows.size for rows in batch[1:] if rows is not None)
