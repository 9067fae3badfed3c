"""One in-memory DuckDB that can read the lake and nothing else, asked from a few threads with a deadline each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import duckdb

from cluster.clock import Clock
from cluster.errors import Busy, QueryTimeout, RequestInvalid
from models.query.sql import Fragment, Result, Run

Answered = TypeVar("Answered")

_POOL_THREADS: Final = 4
_BUSY_RETRY_S: Final = 1.0
# A file that was compacted away, or a hot day that was replaced, between planning and reading: plan again.
_MOVED: Final = (duckdb.IOException, duckdb.CatalogException, duckdb.TransactionException)
_ATTEMPTS: Final = 3


class Database:
    """Runs questions one to a thread; each sees one consistent state of the in-memory tables."""

    def __init__(self, lake: Path, *, threads: int, memory_bytes: int, queue: int, clock: Clock) -> None:
        """
        Args:
            lake: the only folder files may be read from.
            threads: cores that one question may use.
            memory_bytes: DuckDB's limit, in-memory tables included. Nothing is spilled to disk.
            queue: questions that may be running or waiting.
        """
        self.connection = duckdb.connect(
            ":memory:",
            config={
                "threads": threads,
                "memory_limit": f"{memory_bytes // 1024}KiB",
                "temp_directory": "",
                "python_enable_replacements": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        self.connection.execute("SET TimeZone = 'UTC'")
        # Delta files never change once written, so a footer once read stays right.
        self.connection.execute("SET parquet_metadata_cache = true")
        folder = str(lake.absolute()).replace("'", "''")
        self.connection.execute(f"SET allowed_directories = ['{folder}/']")
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="query")
        self._local = threading.local()
        self._queue = queue
        self._clock = clock
        self._open = 0

    async def ask(self, question: Callable[[Run], Answered], *, timeout_s: float) -> Answered:
        """What `question` makes of the rows it runs SQL for.

        It is called again from the start when the files it read were replaced meanwhile.

        Raises:
            Busy: the queue is full; nothing was started.
            QueryTimeout: `timeout_s` passed, the wait in the queue included; the work was cancelled.
            RequestInvalid: the answer would not fit the replica's memory.
        """
        if self._open >= self._queue:
            raise Busy("too many questions are waiting", retry_after_s=_BUSY_RETRY_S, hint="Ask again in a second.")
        self._open += 1
        until_s = self._clock.monotonic_s() + timeout_s
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, question, until_s)
        finally:
            self._open -= 1

    def close(self) -> None:
        """Stop taking questions and free the memory."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.connection.close()

    def _answer(self, question: Callable[[Run], Answered], until_s: float) -> Answered:
        cursor = self._cursor()
        left_s = until_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise QueryTimeout("the question waited past its deadline")
        watch = threading.Timer(left_s, cursor.interrupt)
        watch.daemon = True
        watch.start()
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    return self._in_one_state(cursor, question)
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
        finally:
            watch.cancel()

    def _in_one_state(self, cursor: duckdb.DuckDBPyConnection, question: Callable[[Run], Answered]) -> Answered:
        def run(sql: Fragment) -> Result:
            rows = cursor.execute(sql.text, list(sql.parameters)).fetchall()
            return Result(tuple(column[0] for column in cursor.description or ()), rows)

        cursor.begin()
        try:
            return question(run)
        finally:
            cursor.rollback()

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        if not hasattr(self._local, "cursor"):
            self._local.cursor = self.connection.cursor()
        cursor: duckdb.DuckDBPyConnection = self._local.cursor
        return cursor
