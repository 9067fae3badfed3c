"""Rows a question may see, as SQL: the pruned files of a snapshot, cut to the scope's tenants and project."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.lake.scan import Snapshot, files
from cluster.lake.tables import TABLES
from cluster.tenancy import TenantScope
from models.query.seen import owned, read_files
from models.query.sql import Fragment
from models.query.times import Range


def file_rows(scope: TenantScope, table: str, paths: Iterable[str]) -> Fragment:
    """SELECT of the rows of some of a table's files that may be seen."""
    listed = list(paths)
    return owned(scope, read_files(listed)) if listed else empty_rows(table)


def lake_rows(scope: TenantScope, snapshot: Snapshot, span: Range) -> Fragment:
    """SELECT of a table's rows that may be seen and can lie in the range, from the files alone."""
    found = files(scope, snapshot, span.from_us, span.to_us)
    return file_rows(scope, snapshot.table, (one.path for one in found))


def empty_rows(table: str) -> Fragment:
    """SELECT of no rows with the columns of the table, for a range that no file reaches into."""
    columns = ", ".join(f"CAST(NULL AS {_TYPES[str(one.type)]}) AS {one.name}" for one in TABLES[table].full_schema)
    return Fragment(f"SELECT {columns} WHERE false")


_TYPES = {
    "string": "VARCHAR",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
    "double": "DOUBLE",
    "int64": "BIGINT",
    "int16": "SMALLINT",
    "bool": "BOOLEAN",
    "binary": "BLOB",
    "date32[day]": "DATE",
    "decimal128(18, 9)": "DECIMAL(18,9)",
    "list<item: int32>": "INTEGER[]",
    "list<item: int64>": "BIGINT[]",
    "list<element: int32>": "INTEGER[]",
    "list<element: int64>": "BIGINT[]",
}
