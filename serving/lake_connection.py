"""DuckDB that reads one folder of the lake and nothing else of the machine, and what one SELECT in it gives."""

from __future__ import annotations

from pathlib import Path

import duckdb

from models.query.sql import Fragment, Result


def connected(lake: Path, *, threads: int, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """An in-memory database, its configuration locked.

    Args:
        lake: the only folder files may be read from.
        threads: cores that one statement may use.
        memory_bytes: DuckDB's limit. Nothing is spilled to disk.
    """
    connection = duckdb.connect(
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
    connection.execute("SET TimeZone = 'UTC'")
    # Delta files never change once written, so a footer once read stays right.
    connection.execute("SET parquet_metadata_cache = true")
    folder = str(lake.absolute()).replace("'", "''")
    connection.execute(f"SET allowed_directories = ['{folder}/']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def selected(cursor: duckdb.DuckDBPyConnection, sql: Fragment) -> Result:
    """The rows of one SELECT."""
    rows = cursor.execute(sql.text, list(sql.parameters)).fetchall()
    return Result(tuple(column[0] for column in cursor.description or ()), rows)
