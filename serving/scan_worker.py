"""The process that scans: statements of the query engine on pipes, their rows back, when nobody else wants a core.

In the engine's own process a scan that has stepped back would still be waited for: it holds the interpreter while it
makes its rows, and the map of memory while it grows.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb

from cluster.lake.duck import open_duck
from models.query.sql import Fragment, Result

# A statement, and the seconds it may take.
Job = tuple[Fragment, float]
# The rows; or the name of DuckDB's error and its text.
Reply = tuple[str, Any]
ROWS = ""


def serve(line: Connection, cursor: duckdb.DuckDBPyConnection) -> None:
    """Answer one statement after the other until the other end is closed: then the process ends."""
    while True:
        try:
            job: Job = line.recv()
            line.send(_reply(cursor, *job))
        except (EOFError, OSError):
            os._exit(0)


def _reply(cursor: duckdb.DuckDBPyConnection, sql: Fragment, timeout_s: float) -> Reply:
    watch = threading.Timer(timeout_s, cursor.interrupt)
    watch.daemon = True
    watch.start()
    try:
        return ROWS, selected(cursor, sql)
    except duckdb.Error as error:
        return type(error).__name__, str(error)
    finally:
        watch.cancel()


def selected(cursor: duckdb.DuckDBPyConnection, sql: Fragment) -> Result:
    """The rows of one SELECT."""
    rows = cursor.execute(sql.text, list(sql.parameters)).fetchall()
    return Result(tuple(column[0] for column in cursor.description or ()), rows)


def step_back() -> None:
    """Take the processor only when nobody else wants it, and half of the cores: a scan streams through the caches of
    those beside it, however idle its class is."""
    # Where the system knows no such thing, it goes on as all others do.
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[len(cores) // 2 :])


def main(lake: Path, threads: int, memory_bytes: int, descriptors: list[int]) -> None:
    """Entry point of the process: a thread for each pipe, one limit of memory for all."""
    step_back()
    connection = open_duck(lake, threads=threads, memory_bytes=memory_bytes)
    lines = [(Connection(one), connection.cursor()) for one in descriptors]
    for line in lines[1:]:
        threading.Thread(target=serve, args=line, daemon=True).start()
    serve(*lines[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), [int(one) for one in sys.argv[4:]])
