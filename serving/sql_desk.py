"""Who asks SQL when: a bounded queue for each tenant, taken in turn by a few threads with a process each.

SQL runs in processes of its own, children of the query replica, and not in a deployment of its own: the snapshots it
needs are here already, a statement that is late is ended by a kill and the next one goes on half a second later (Serve
would take seconds to see that a replica is gone), and a hub that is asked no SQL starts nothing for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from cluster.clock import Clock
from cluster.errors import Busy, HubError, RequestInvalid, Unavailable
from cluster.settings import Settings
from serving.sql_job import SqlJob, SqlPart, SqlRefusal, SqlRows
from serving.sql_process import SqlProcess

_BUSY_RETRY_S: Final = 1.0
# Parts that may wait for a slow asker; then the statement waits too, as long as its time lasts.
_PARTS_AHEAD: Final = 4

_log = structlog.get_logger(__name__)

_Told = SqlPart | SqlRows | SqlRefusal | HubError


class _Turn:
    """A job that waits or runs, and what is told of it from a thread to the event loop of its asker.

    Attributes:
        process: set while the job runs.
        gone: nobody waits for it any more.
    """

    def __init__(self, tenant: str, job: SqlJob, until_s: float) -> None:
        self.tenant, self.job, self.until_s = tenant, job, until_s
        self.process: SqlProcess | None = None
        self.gone = False
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[_Told] = asyncio.Queue()
        self._room = threading.Semaphore(_PARTS_AHEAD)

    def waits(self) -> bool:
        """Whether somebody does."""
        return not self.gone

    def take(self, part: SqlPart, until_s: float) -> bool:
        """See `Asker.take`."""
        if not self._room.acquire(timeout=max(0.0, until_s - time.monotonic())):
            return False
        self.tell(part)
        return True

    def tell(self, told: _Told) -> None:
        """Without waiting for room."""
        # An event loop that has ended asks for nothing.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._told.put_nowait, told)

    async def next(self) -> _Told:
        """What was told next."""
        told = await self._told.get()
        self._room.release()
        return told

    def leave(self) -> None:
        """Nobody waits any more; whoever waits for room goes on."""
        self.gone = True
        self._room.release()


class SqlDesk:
    """Threads and processes start with the first job. Methods are for any event loop."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, deque[_Turn]] = OrderedDict()
        self._running: list[_Turn] = []
        self._processes: list[SqlProcess] = []
        self._threads: list[threading.Thread] = []
        self._closed = False

    async def answer(self, tenant: str, job: SqlJob) -> AsyncGenerator[SqlPart | SqlRows]:
        """The rows of a job in parts, SqlRows the last. An asker who leaves or is cancelled ends the statement.

        Raises:
            Busy: the tenant's queue is full, or the time was over before its turn came.
            RequestInvalid: the statement is refused, or went over a limit; with the latter, parts may have come before.
        """
        turn = _Turn(tenant, job, self._clock.monotonic_s() + job.timeout_s)
        self._enter(turn)
        try:
            while isinstance(told := await turn.next(), SqlPart):
                yield told
            yield _rows(told)
        finally:
            self._leave(turn)

    def close(self) -> None:
        """End the processes; jobs that wait are refused."""
        with self._changed:
            self._closed = True
            for turns in self._waiting.values():
                for turn in turns:
                    turn.tell(Unavailable("the engine is being closed", retry_after_s=_BUSY_RETRY_S))
            self._waiting.clear()
            for turn in self._running:
                # Nor is it to be run again in another process.
                turn.leave()
                if turn.process is not None:
                    turn.process.interrupt()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def process_ids(self) -> list[int]:
        """Of the processes that run now."""
        return [one.process_id for one in self._processes if one.process_id is not None]

    def _enter(self, turn: _Turn) -> None:
        with self._changed:
            held = len(self._waiting.get(turn.tenant, ())) + self._of(turn.tenant)
            if self._closed or held >= self._settings.sql_queue:
                raise Busy(
                    f"{held} statements of this tenant are waiting or running",
                    retry_after_s=_BUSY_RETRY_S,
                    hint="Wait for an answer before the next statement is sent.",
                )
            self._waiting.setdefault(turn.tenant, deque()).append(turn)
            if not self._processes:
                self._start()
            self._changed.notify()

    def _leave(self, turn: _Turn) -> None:
        with self._changed:
            turn.leave()
            turns = self._waiting.get(turn.tenant, deque())
            if turn in turns:
                turns.remove(turn)
            # Inside the lock: a moment later the process may run the statement of somebody else.
            if turn.process is not None:
                turn.process.interrupt()

    def _start(self) -> None:
        for number in range(self._settings.sql_workers):
            process = SqlProcess(threads=self._settings.query_threads, memory_bytes=self._settings.sql_memory_bytes)
            self._processes.append(process)
            self._threads.append(
                threading.Thread(target=self._work, args=(process,), name=f"sql-{number}", daemon=True)
            )
            self._threads[-1].start()

    def _work(self, process: SqlProcess) -> None:
        while (turn := self._next(process)) is not None:
            try:
                told: _Told = self._reply(turn, process)
            except HubError as error:
                told = error
            # The thread serves all tenants: whatever goes wrong with one statement must not end it.
            except Exception as error:
                _log.error("sql_failed", error=repr(error))
                process.kill()
                told = SqlRefusal(RequestInvalid.code, "the engine cannot run this statement", "Write it more plainly.")
            self._end(turn)
            turn.tell(told)
        process.kill()

    def _reply(self, turn: _Turn, process: SqlProcess) -> SqlRows | SqlRefusal:
        left_s = turn.until_s - self._clock.monotonic_s()
        if left_s <= 0:
            return SqlRefusal(Busy.code, "the statement waited past its time", "Ask again in a second.")
        return process.ask(msgspec.structs.replace(turn.job, timeout_s=left_s), turn)

    def _next(self, process: SqlProcess) -> _Turn | None:
        """The next turn, tenant after tenant; None at the end."""
        with self._changed:
            while not self._closed:
                for tenant, turns in self._waiting.items():
                    if turns and self._of(tenant) < self._most():
                        turn = turns.popleft()
                        # Behind the others; an empty queue is forgotten.
                        self._waiting.move_to_end(tenant)
                        if not turns:
                            del self._waiting[tenant]
                        turn.process = process
                        self._running.append(turn)
                        return turn
                self._changed.wait()
        return None

    def _end(self, turn: _Turn) -> None:
        with self._changed:
            turn.process = None
            self._running.remove(turn)
            self._changed.notify_all()

    def _of(self, tenant: str) -> int:
        return sum(turn.tenant == tenant for turn in self._running)

    def _most(self) -> int:
        """Statements of one tenant at a time: one process is left to the others."""
        return max(1, self._settings.sql_workers - 1)


def _rows(told: SqlRows | SqlRefusal | HubError) -> SqlRows:
    if isinstance(told, SqlRows):
        return told
    if isinstance(told, HubError):
        raise told
    if told.code == Busy.code:
        raise Busy(told.message, retry_after_s=_BUSY_RETRY_S, hint=told.hint)
    raise RequestInvalid(told.message, hint=told.hint)
