"""DuckDB that sees some files through views and nothing else of the machine."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import duckdb
import msgspec

from cluster.errors import RequestInvalid
from models.query.statement import referenced
from serving.sql_job import SqlJob, SqlView

# Each holds views, footers of files it read, and a few threads: some megabytes.
_KEPT: Final = 8
_CONFIGURATION: Final[dict[str, str | bool | int | float | list[str]]] = {
    "temp_directory": "",
    "max_temp_directory_size": "0KiB",
    "python_enable_replacements": False,
    "python_scan_all_frames": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
}


class Sandboxes:
    """The connections used last, by what they may see: making one takes 25 ms."""

    def __init__(self, *, threads: int, memory_bytes: int) -> None:
        self._configuration = {
            **_CONFIGURATION,
            "threads": threads,
            "memory_limit": f"{memory_bytes // 1024}KiB",
        }
        self._kept: OrderedDict[str, duckdb.DuckDBPyConnection] = OrderedDict()
        # Parses what nobody has checked yet, where there is nothing to see.
        self._parser = _locked(duckdb.connect(":memory:", config=self._configuration), {})

    def statement(self, job: SqlJob) -> tuple[duckdb.Statement, frozenset[str]]:
        """The one SELECT of the job, and the tables it reads.

        Raises:
            RequestInvalid: it is something else, or reads or calls what is not offered.
            duckdb.Error: it cannot be parsed.
        """
        found = self._parser.extract_statements(job.sql)
        if len(found) != 1:
            raise RequestInvalid(
                "send one statement" if found else "the statement is empty",
                hint="Write one SELECT; send each statement in a request of its own.",
            )
        serialised = self._parser.execute("SELECT json_serialize_sql(?)", [job.sql]).fetchone()
        tree = msgspec.json.decode(serialised[0] if serialised else "{}")
        tables = referenced(tree, job.views)
        if found[0].type != duckdb.StatementType.SELECT:
            raise RequestInvalid("only a SELECT can be asked", hint="The tables cannot be changed by SQL.")
        return found[0], tables

    def connection(self, job: SqlJob) -> duckdb.DuckDBPyConnection:
        """A connection that has the views of the job."""
        if job.key in self._kept:
            self._kept.move_to_end(job.key)
            return self._kept[job.key]
        made = _locked(duckdb.connect(":memory:", config=self._configuration), job.views)
        self._kept[job.key] = made
        if len(self._kept) > _KEPT:
            _, dropped = self._kept.popitem(last=False)
            dropped.close()
        return made


def _locked(connection: duckdb.DuckDBPyConnection, views: dict[str, SqlView]) -> duckdb.DuckDBPyConnection:
    paths = sorted({path for view in views.values() for path in view.paths})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET errors_as_json = true")
    # Delta files never change once written, so a footer once read stays right.
    connection.execute("SET parquet_metadata_cache = true")
    # A text of a thousand brackets is answered, not crashed on.
    connection.execute("SET max_expression_depth = 250")
    connection.execute(f"SET allowed_paths = [{', '.join(text_literal(path) for path in paths)}]")
    connection.execute("SET enable_external_access = false")
    for name, view in views.items():
        connection.execute(f"CREATE VIEW {name} AS {view.select}")
    connection.execute("SET lock_configuration = true")
    return connection


def text_literal(text: str) -> str:
    """A text as SQL, where a value cannot be bound: views and settings."""
    return "'" + text.replace("'", "''") + "'"
