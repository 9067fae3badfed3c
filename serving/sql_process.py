"""One process that runs SQL, as its owner sees it: started with the first job, killed when late, started again."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from cluster.errors import Unavailable
from serving.sql_faults import out_of_memory, too_long
from serving.sql_job import (
    HEAD_BYTES,
    PART_BYTES,
    ROW_BYTES_MAX,
    SqlJob,
    SqlPart,
    SqlRefusal,
    SqlRows,
    decode_reply,
    frame,
    length,
)

# DuckDB may be late to see an interrupt inside one long operation; then the process goes.
_GRACE_S: Final = 1.0
# The first job also waits for the interpreter and DuckDB.
_START_S: Final = 15.0
# Names, counts and versions beside the rows of a reply.
_HEAD_ROOM_BYTES: Final = 1024 * 1024
_FRAME_BYTES_MAX: Final = ROW_BYTES_MAX + PART_BYTES + _HEAD_ROOM_BYTES
_CHUNK_BYTES: Final = 1024 * 1024
_ROOT: Final = Path(__file__).parents[1]

_log = structlog.get_logger(__name__)


class _Late(Exception):
    """No reply by the deadline."""


class _Gone(Exception):
    """The process ended without a reply."""


class Asker(Protocol):
    """Who waits for a reply."""

    def waits(self) -> bool:
        """Whether somebody still does."""

    def take(self, part: SqlPart, until_s: float) -> bool:
        """Hand a part on, once there is room for it; False where there was none until then (`time.monotonic`)."""


class SqlProcess:
    """For one thread that asks; `interrupt` may come from any."""

    def __init__(self, *, threads: int, memory_bytes: int) -> None:
        self._arguments = (str(threads), str(memory_bytes))
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, job: SqlJob, asker: Asker, *, again: bool = True) -> SqlRows | SqlRefusal:
        """The reply to a job, at the latest one second after its time is over; of one in parts, its end.

        Args:
            again: run it in a new process when somebody else killed this one before it told anything.
        Raises:
            Unavailable: no process could be started.
        """
        fresh = self._process is None or self._process.poll() is not None
        process = self._running()
        if not asker.waits():
            return too_long(job.timeout_s)
        until_s = time.monotonic() + job.timeout_s + _GRACE_S + (_START_S if fresh else 0)
        begun = False
        reply: SqlPart | SqlRows | SqlRefusal
        try:
            _send(process, frame(job), until_s)
            while isinstance(reply := decode_reply(_received(process, until_s)), SqlPart):
                begun = True
                if not asker.take(reply, until_s):
                    raise _Late
        except _Late:
            _log.warning("sql_process_killed", reason="late")
            self.kill()
            return too_long(job.timeout_s)
        except (_Gone, OSError, msgspec.DecodeError):
            self.kill()
            if again and not begun and process.returncode == -signal.SIGKILL and asker.waits():
                return self.ask(job, asker, again=False)
            # An allocation that fails where nobody can catch it ends the process.
            _log.warning("sql_process_ended", status=process.returncode)
            return out_of_memory()
        if isinstance(reply, SqlRefusal) and reply.spent:
            self.kill()
        return reply

    def kill(self) -> None:
        """End the process; the next job starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def interrupt(self) -> None:
        """End the process under the job it runs; `ask` sees that it is gone."""
        if (process := self._process) is not None:
            process.kill()

    @property
    def process_id(self) -> int | None:
        """Of the process that runs now."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.kill()
        if self._process is None:
            try:
                self._process = _started(self._arguments)
            except OSError as error:
                raise Unavailable("no process for SQL can be started", retry_after_s=5.0) from error
        return self._process


def _started(arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
    environment = {
        # Nothing of ours: no key, no token, no address.
        "PYTHONPATH": str(_ROOT),
        "LANG": "C.UTF-8",
        # They reserve address space by the gigabyte, which is what is bounded.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MALLOC_ARENA_MAX": "2",
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "serving.sql_worker", *arguments],
        env=environment,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )


def _send(process: subprocess.Popen[bytes], message: bytes, until_s: float) -> None:
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    left = memoryview(message)
    while left:
        _wait(process.stdin.fileno(), selectors.EVENT_WRITE, until_s)
        left = left[os.write(process.stdin.fileno(), left[:_CHUNK_BYTES]) :]


def _received(process: subprocess.Popen[bytes], until_s: float) -> bytes:
    """The body of the next frame."""
    assert process.stdout is not None
    out = process.stdout.fileno()
    size = length(_read(out, HEAD_BYTES, until_s))
    if size > _FRAME_BYTES_MAX:
        raise _Gone
    return _read(out, size, until_s)


def _read(out: int, size: int, until_s: float) -> bytes:
    body = bytearray()
    while len(body) < size:
        _wait(out, selectors.EVENT_READ, until_s)
        part = os.read(out, min(_CHUNK_BYTES, size - len(body)))
        if not part:
            raise _Gone
        body += part
    return bytes(body)


def _wait(descriptor: int, event: int, until_s: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, event)
        left_s = until_s - time.monotonic()
        if left_s <= 0 or not selector.select(left_s):
            raise _Late
