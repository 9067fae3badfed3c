"""One in-memory DuckDB that can read the lake and nothing else, asked from a few threads with a deadline each."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import duckdb

from cluster.clock import Clock
from cluster.errors import Busy, QueryTimeout, RequestInvalid
from cluster.lake.duck import open_duck
from models.query.sql import Fragment, Result, Run
from serving.scan_process import ScanProcess
from serving.scan_worker import selected
from serving.turns import Turns

Answered = TypeVar("Answered")

_POOL_THREADS: Final = 8
# Of them, for one owner.
_SHARE: Final = 3
# Scans that run at a time, in a process of their own.
_SCANS: Final = 2
# Of the memory, for what is no scan.
_OWN_SHARE: Final = 0.25
# SQL over more bytes of files than this is a scan.
_SCAN_BYTES: Final = 32 * 1024 * 1024
_BUSY_RETRY_S: Final = 1.0
# A file that was compacted away, or a hot day that was replaced, between planning and reading: plan again.
_MOVED: Final = (duckdb.IOException, duckdb.CatalogException, duckdb.TransactionException)
_ATTEMPTS: Final = 3


class _ScanNeeded(Exception):
    """A question turned out to read much: it is asked again where scans are."""


class Database:
    """Runs questions one to a thread; each sees one consistent state of the in-memory tables.

    Scans run in a process of their own, which gets the processor when nothing else wants it: who asks for a month of
    raw events waits a little longer, everybody else as long as without.
    """

    def __init__(self, lake: Path, *, threads: int, memory_bytes: int, queue: int, clock: Clock) -> None:
        """
        Args:
            lake: the only folder files may be read from.
            threads: cores that one question may use.
            memory_bytes: DuckDB's limit, of this process and of the one that scans. Nothing is spilled to disk.
            queue: questions that may be running or waiting.
        """
        own_bytes = int(memory_bytes * _OWN_SHARE)
        self.connection = open_duck(lake, threads=threads, memory_bytes=own_bytes)
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="query")
        self._scan_pool = ThreadPoolExecutor(_SCANS, thread_name_prefix="scan")
        scan_bytes = memory_bytes - own_bytes
        self._scans = ScanProcess(lake, scans=_SCANS, threads=max(1, threads // 2), memory_bytes=scan_bytes)
        self._local = threading.local()
        self._queue = queue
        self._clock = clock
        self._open: Counter[str] = Counter()
        self._turns = Turns(_POOL_THREADS)
        self._scan_turns = Turns(_SCANS)
        # Of owners who ask or wait now.
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def ask(self, question: Callable[[Run], Answered], *, owner: str, timeout_s: float) -> Answered:
        """What `question` makes of the rows it runs SQL for.

        It is called again from the start when the files it read were replaced meanwhile, and when it is a scan.

        Args:
            owner: who asks; owners take turns, and threads are left to the others however much one asks.

        Raises:
            Busy: the queue, or the owner's half of it, is full; nothing was started.
            QueryTimeout: `timeout_s` passed, the wait in the queue included; the work was cancelled.
            RequestInvalid: the answer would not fit the replica's memory.
        """
        if self._open.total() >= self._queue or self._open[owner] >= max(1, self._queue // 2):
            raise Busy("too many questions are waiting", retry_after_s=_BUSY_RETRY_S, hint="Ask again in a second.")
        self._open[owner] += 1
        until_s = self._clock.monotonic_s() + timeout_s
        share = self._shares.setdefault(owner, asyncio.Semaphore(_SHARE))
        try:
            self._scans.give_way()
            with suppress(_ScanNeeded):
                async with share, self._turns.turn(owner):
                    return await _in(self._pool, self._answer, question, until_s, False)
            # Whoever waits for a scan holds nothing that questions from memory wait for, the owner's own among them.
            async with self._scan_turns.turn(owner):
                return await _in(self._scan_pool, self._answer, question, until_s, True)
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]

    @property
    def scan_process_id(self) -> int | None:
        """Of the process that scans, once there is one."""
        return self._scans.process_id

    def close(self) -> None:
        """Stop taking questions and free the memory."""
        for pool in (self._pool, self._scan_pool):
            pool.shutdown(wait=True, cancel_futures=True)
        self._scans.close()
        self.connection.close()

    def _answer(self, question: Callable[[Run], Answered], until_s: float, may_scan: bool) -> Answered:
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    with _OneState(self._cursor, self._scans if may_scan else None, self._clock, until_s) as run:
                        return question(run)
                except _MOVED:
                    if attempt == _ATTEMPTS - 1:
                        raise
            raise AssertionError("unreachable")
        except duckdb.InterruptException as error:
            raise QueryTimeout("the question ran past its deadline and was cancelled") from error
        except duckdb.OutOfMemoryException as error:
            raise RequestInvalid(
                "the answer needs more memory than one question may use",
                hint="Ask for a shorter range or fewer groups.",
            ) from error

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        if not hasattr(self._local, "cursor"):
            self._local.cursor = self.connection.cursor()
        cursor: duckdb.DuckDBPyConnection = self._local.cursor
        return cursor


class _OneState:
    """Runs SQL in one transaction until a deadline. Begun with the first SELECT: most questions need none."""

    def __init__(
        self, cursor: Callable[[], duckdb.DuckDBPyConnection], scans: ScanProcess | None, clock: Clock, until_s: float
    ) -> None:
        self._take = cursor
        self._scans = scans
        self._clock = clock
        self._until_s = until_s
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._watch: threading.Timer | None = None

    def __enter__(self) -> _OneState:
        self._check()
        return self

    def __call__(self, sql: Fragment) -> Result:
        if _file_bytes(sql) > _SCAN_BYTES:
            return self._scanned(sql)
        cursor = self._cursor = self._cursor or self._begun()
        return selected(cursor, sql)

    def _scanned(self, sql: Fragment) -> Result:
        if self._scans is None:
            raise _ScanNeeded
        self._check()
        return self._scans.scan(sql, self._left_s())

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._cursor is not None:
            self._cursor.rollback()

    def _left_s(self) -> float:
        return self._until_s - self._clock.monotonic_s()

    def _check(self) -> None:
        if self._left_s() <= 0:
            raise QueryTimeout("the question waited past its deadline")

    def _begun(self) -> duckdb.DuckDBPyConnection:
        cursor = self._take()
        self._watch = threading.Timer(max(0.0, self._left_s()), cursor.interrupt)
        self._watch.daemon = True
        self._watch.start()
        cursor.begin()
        return cursor


async def _in(pool: Executor, work: Callable[..., Answered], *arguments: object) -> Answered:
    return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)


def _file_bytes(sql: Fragment) -> int:
    """Size of the files a text names; those that went away are found out by reading them."""
    size = 0
    for given in sql.parameters:
        for path in given if isinstance(given, list) else ():
            with suppress(OSError):
                size += Path(path).stat().st_size
    return size
