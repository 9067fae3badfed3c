"""The process that scans, as the query engine sees it: started with the first scan, killed when late, started again."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

import duckdb
import structlog

from cluster.errors import QueryTimeout
from models.query.sql import Fragment, Result
from serving.scan_worker import ROWS, Job, Reply

# DuckDB may be late to see an interrupt inside one long operation; then the process goes.
_GRACE_S: Final = 1.0
# The first scan also waits for the interpreter and DuckDB.
_START_S: Final = 15.0
# A scan is begun again where the process ended under another one.
_ATTEMPTS: Final = 2
# While others ask, a scan is held for so long and then goes on for so long: they find the caches less often spoilt.
_HELD_S: Final = 0.015
_GOES_ON_S: Final = 0.005
# Nobody asked for so long: it goes on, and this often it is looked whether somebody does.
_QUIET_S: Final = 0.1
_LOOK_S: Final = 0.02
_ROOT: Final = Path(__file__).parents[1]

_log = structlog.get_logger(__name__)


class ScanProcess:
    """Several scans at a time in one process, which share its memory. Methods are for any thread."""

    def __init__(self, lake: Path, *, scans: int, threads: int, memory_bytes: int) -> None:
        """
        Args:
            scans: how many run at a time; others wait.
            lake, threads, memory_bytes: as of `cluster.lake.duck.open_duck`.
        """
        self._arguments = (str(lake.absolute()), str(threads), str(memory_bytes))
        self._scans = scans
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: list[Connection] = []
        self._pacing = threading.Lock()
        self._asked_at_s = float("-inf")
        self._free: SimpleQueue[int] = SimpleQueue()
        for place in range(scans):
            self._free.put(place)

    def scan(self, sql: Fragment, timeout_s: float) -> Result:
        """The rows of one SELECT, at the latest one second after its time is over.

        Raises:
            QueryTimeout: `timeout_s` passed, the wait for the scans before it included.
            duckdb.Error: what DuckDB says; OutOfMemoryException also where the process ended.
        """
        until_s = time.monotonic() + timeout_s
        try:
            place = self._free.get(timeout=max(0.0, timeout_s))
        except Empty:
            raise _too_late() from None
        try:
            kind, told = self._exchanged(place, sql, until_s)
        finally:
            self._free.put(place)
        if kind == ROWS:
            rows: Result = told
            return rows
        raise getattr(duckdb, kind, duckdb.Error)(told)

    def give_way(self) -> None:
        """Somebody asks what is no scan."""
        self._asked_at_s = time.monotonic()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    @property
    def process_id(self) -> int | None:
        """Of the process that runs now."""
        process = self._process
        return process.pid if process else None

    def _exchanged(self, place: int, sql: Fragment, until_s: float) -> Reply:
        for _ in range(_ATTEMPTS):
            line, process, wait_s = self._line(place)
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise _too_late()
            job: Job = (sql, left_s)
            try:
                line.send(job)
                if self._replied(line, process, until_s + wait_s):
                    reply: Reply = line.recv()
                    return reply
            except (EOFError, OSError):
                _log.warning("scan_process_ended", status=process.poll())
                self._replace(process)
                continue
            _log.warning("scan_process_killed", reason="late")
            self._replace(process)
            raise _too_late()
        # An allocation that fails where nobody can catch it ends the process.
        raise duckdb.OutOfMemoryException("the process of a scan ended")

    def _replied(self, line: Connection, process: subprocess.Popen[bytes], until_s: float) -> bool:
        """Wait for a reply; meanwhile one of those who wait holds the process again and again while others ask."""
        while (left_s := until_s - time.monotonic()) > 0:
            if not self._pacing.acquire(blocking=False):
                if line.poll(min(left_s, _LOOK_S)):
                    return True
                continue
            try:
                if is_asked := time.monotonic() - self._asked_at_s < _QUIET_S:
                    process.send_signal(signal.SIGSTOP)
                    try:
                        time.sleep(_HELD_S)
                    finally:
                        process.send_signal(signal.SIGCONT)
                if line.poll(min(left_s, _GOES_ON_S if is_asked else _LOOK_S)):
                    return True
            finally:
                self._pacing.release()
        return False

    def _line(self, place: int) -> tuple[Connection, subprocess.Popen[bytes], float]:
        """A place's line, the process behind it, and how long after its time a reply is waited for."""
        with self._lock:
            fresh = self._process is None or self._process.poll() is not None
            if fresh:
                self._end()
                self._process, self._lines = self._started()
            assert self._process is not None
            return self._lines[place], self._process, _GRACE_S + (_START_S if fresh else 0.0)

    def _started(self) -> tuple[subprocess.Popen[bytes], list[Connection]]:
        pipes = [multiprocessing.Pipe() for _ in range(self._scans)]
        descriptors = [theirs.fileno() for _, theirs in pipes]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "serving.scan_worker", *self._arguments, *map(str, descriptors)],
            # Nothing of ours: no key, no token, no address.
            env={"PYTHONPATH": str(_ROOT), "LANG": "C.UTF-8"},
            cwd="/",
            pass_fds=descriptors,
            # A group of its own: should we end while it is held, the system lets it go on, and ends it.
            process_group=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _, theirs in pipes:
            theirs.close()
        return process, [ours for ours, _ in pipes]

    def _replace(self, process: subprocess.Popen[bytes]) -> None:
        """End a process unless another one has taken its place already."""
        with self._lock:
            if self._process is process:
                self._end()

    def _end(self) -> None:
        # Whoever waits on a line of it sees that it has ended; lines are closed when nobody holds them.
        process, self._process, self._lines = self._process, None, []
        if process is not None:
            process.kill()
            process.wait()


def _too_late() -> QueryTimeout:
    return QueryTimeout("the question ran past its deadline and was cancelled")
