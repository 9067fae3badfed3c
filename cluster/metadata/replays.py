"""Which refused rows were taken after all: marks of their content, by tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import insert, select

from cluster.clock import Clock
from cluster.metadata.engine import Database
from cluster.metadata.schema import replayed_dead_letters
from cluster.tenancy import TenantId

# Values of one statement, well under what SQLite takes.
_MARKS_PER_QUESTION: Final = 500


class ReplayStore:
    """Reads and writes marks; every method is safe to repeat."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def marked(self, tenant: TenantId, marks: Sequence[str]) -> set[str]:
        """Those of the marks that the tenant has."""
        table = replayed_dead_letters
        found: set[str] = set()
        with self._database.reading() as connection:
            for start in range(0, len(marks), _MARKS_PER_QUESTION):
                wanted = table.c.content_hash.in_(marks[start : start + _MARKS_PER_QUESTION])
                query = select(table.c.content_hash).where(table.c.tenant_id == tenant, wanted)
                found.update(connection.scalars(query))
        return found

    def mark(self, tenant: TenantId, marks: Sequence[str]) -> None:
        """Add marks; those there are stay as they are."""
        known = self.marked(tenant, marks)
        at_us = self._clock.now_us()
        rows = [
            {"tenant_id": tenant, "content_hash": one, "replayed_at_us": at_us} for one in marks if one not in known
        ]
        if rows:
            with self._database.writing() as connection:
                connection.execute(insert(replayed_dead_letters), rows)
