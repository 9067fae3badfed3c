"""The process that runs SQL: jobs on standard input, replies on standard output, bounded by the operating system.

DuckDB's own memory limit is no hard one (a `repeat` or `range` goes past it), so the address space of the process is:
beyond it an allocation fails and the statement with it. It writes no file, and an alarm ends it when its deadline is
long past, whoever still listens.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from models.query.view import bound
from serving.sql_faults import refusal
from serving.sql_job import HEAD_BYTES, SqlJob, SqlPart, SqlRefusal, SqlRows, decode_job, frame, length
from serving.sql_rows import BATCH_ROWS, Written
from serving.sql_sandbox import Sandboxes

# Beside what DuckDB may hold: texts it counts late, the rows as Python objects, the body.
_BESIDE_FACTOR: Final = 1.0
_OPEN_FILES_MAX: Final = 4_096
# Questions of dashboards come first.
_NICE: Final = 5
# After the parent would have killed us, had it lived.
_ALARM_AFTER_S: Final = 3


def bind(memory_bytes: int) -> None:
    """Bound this process for good: memory, files, core dumps; and let others go first."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    space = pages * resource.getpagesize() + int(memory_bytes * (1 + _BESIDE_FACTOR))
    for kind, most in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, min(_OPEN_FILES_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
    ):
        resource.setrlimit(kind, (most, most))
    os.nice(_NICE)


def answer(sandboxes: Sandboxes, job: SqlJob, tell: Callable[[SqlPart], None]) -> SqlRows | SqlRefusal:
    """The rows of one job, the last part of them where `tell` was given others, or why there are none or no more."""
    try:
        return _rows(sandboxes, job, tell)
    # Whatever a statement brings about is an answer: the process serves the next one.
    except Exception as error:
        return refusal(error, timeout_s=job.timeout_s)


def _rows(sandboxes: Sandboxes, job: SqlJob, tell: Callable[[SqlPart], None]) -> SqlRows:
    statement, tables = sandboxes.statement(job)
    values = bound(statement.named_parameters, job.parameters, job.view)
    cursor = sandboxes.connection(job).cursor()
    watch = threading.Timer(job.timeout_s, cursor.interrupt)
    watch.daemon = True
    watch.start()
    versions = {name: job.views[name].version for name in sorted(tables)}
    written = Written(versions, lambda body: tell(SqlPart(body, versions)))
    try:
        # As a relation it is streamed, and one row beyond the limit is the last that is worked for.
        found = cursor.sql(statement, params=values) if values else cursor.sql(statement)
        reader = found.limit(job.limit + 1).to_arrow_reader(BATCH_ROWS)
        body = written.write(reader, job.form, limit=job.limit, bytes_max=job.bytes_max)
    finally:
        watch.cancel()
        cursor.close()
    return SqlRows(body, written.row_count, written.truncated, versions)


def serve(jobs: BinaryIO, replies: BinaryIO, sandboxes: Sandboxes) -> None:
    """Answer jobs one after the other until the other end is closed."""

    def tell(reply: msgspec.Struct) -> None:
        replies.write(frame(reply))
        replies.flush()

    while len(head := jobs.read(HEAD_BYTES)) == HEAD_BYTES:
        job = decode_job(jobs.read(length(head)))
        signal.alarm(int(job.timeout_s) + _ALARM_AFTER_S)
        tell(answer(sandboxes, job, tell))
        signal.alarm(0)


def main(threads: int, memory_bytes: int) -> None:
    """Entry point of the process."""
    # Our own copy of standard output: nothing that prints may come between two frames.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # The rows are read once, as batches; DuckDB advises another way for those that are read as objects first.
    warnings.simplefilter("ignore")
    bind(memory_bytes)
    serve(sys.stdin.buffer, replies, Sandboxes(threads=threads, memory_bytes=memory_bytes))
    # The interpreter's own end can fail once an allocation has.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
