"""DuckDB in memory that can read one folder and nothing else of the machine."""

from __future__ import annotations

from pathlib import Path

import duckdb


def open_duck(folder: Path, *, threads: int, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """A connection whose configuration is locked.

    Args:
        folder: the only one files may be read from.
        threads: cores that one question may use.
        memory_bytes: DuckDB's limit, in-memory tables included. Nothing is spilled to disk.
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
    allowed = str(folder.absolute()).replace("'", "''")
    connection.execute(f"SET allowed_directories = ['{allowed}/']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection
