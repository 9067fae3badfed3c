"""Each table as one scope may see it: its own files by name, and a view over them with the scope's condition."""
# ruff: noqa: S608 (names of columns are ours; paths and ids are quoted, since a view cannot bind values)

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from cluster.lake.scan import Snapshot, files
from cluster.lake.tables import TABLES
from cluster.tenancy import TenantScope
from serving.relations import empty_rows
from serving.sql_job import SqlView
from serving.sql_sandbox import text_literal

_ALL_TIME_US: Final = 2**62


def views_of(scope: TenantScope, snapshots: Mapping[str, Snapshot]) -> dict[str, SqlView]:
    """What the scope may see of each snapshot.

    A table that does not tell the project of its rows is left out for a scope of one project.
    """
    return {
        name: _view(scope, snapshot)
        for name, snapshot in snapshots.items()
        if scope.project_id is None or "project_id" in TABLES[name].schema.names
    }


def key_of(scope: TenantScope, views: Mapping[str, SqlView]) -> str:
    """Equal for equal scopes at equal versions."""
    versions = sorted((name, view.version) for name, view in views.items())
    return hashlib.blake2b(repr((scope.tenants, scope.project_id, versions)).encode(), digest_size=16).hexdigest()


def _view(scope: TenantScope, snapshot: Snapshot) -> SqlView:
    paths = tuple(one.path for one in files(scope, snapshot, 0, _ALL_TIME_US))
    if not paths:
        return SqlView(empty_rows(snapshot.table).text, (), snapshot.version)
    # Columns by name: the reader has more of its own, the path of each row's file among them.
    columns = ", ".join(TABLES[snapshot.table].full_schema.names)
    # Files are pruned by tenant already; the condition stands all the same, as in models/query/seen.py.
    condition = f"tenant_id IN ({_texts(scope.tenants)})"
    if scope.project_id is not None:
        condition += f" AND project_id = {text_literal(scope.project_id)}"
    select = (
        f"SELECT {columns} FROM read_parquet([{_texts(paths)}], hive_partitioning = true, "
        f"hive_types = {{'tenant_id': 'VARCHAR', 'event_date': 'DATE'}}) WHERE {condition}"
    )
    return SqlView(select, paths, snapshot.version)


def _texts(texts: Iterable[str]) -> str:
    return ", ".join(text_literal(text) for text in texts)
