"""Rows of files that a scope may see, as SQL."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.tenancy import TenantScope
from models.query.sql import Fragment, bound, placed


def read_files(paths: Iterable[str]) -> Fragment:
    """SELECT of all rows of Parquet files, the partition columns of their paths included."""
    return Fragment(
        "SELECT * FROM read_parquet(?, hive_partitioning = true, "
        "hive_types = {'tenant_id': 'VARCHAR', 'event_date': 'DATE'})",
        (list(paths),),
    )


def owned(scope: TenantScope, rows: Fragment) -> Fragment:
    """The rows of the scope's tenants and project.

    Files are pruned by tenant already; the condition stands all the same, because a foreign row must not depend on
    one mechanism.
    """
    marks = ", ".join("?" * len(scope.tenants))
    tenants = Fragment(f"tenant_id IN ({marks})", tuple(scope.tenants))
    if scope.project_id is None:
        return placed("SELECT * FROM ({}) AS seen WHERE {}", rows, tenants)
    return placed("SELECT * FROM ({}) AS seen WHERE {} AND project_id = ?", rows, tenants, bound(scope.project_id))
