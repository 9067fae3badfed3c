"""Rows that left the events table as repeats: how many of each tenant, for the ledger.

As with what left because of its age, the state lies beside the Delta log (`cluster.lake.beside`) and counts once a
commit carries its number, so a removal and its account are one.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cluster.lake.beside import Beside

# Application transaction of commits that take repeats out, in events and in minutes: the number of the state.
REPEATS: Final = "repeats"
_APART: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Repeats:
    """The state of the events table.

    Attributes:
        number: of the removal that made it; 0 before the first.
        rows: rows of each tenant that were taken out.
    """

    number: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)

    def after(self, rows: Mapping[str, int]) -> Repeats:
        """The state once these rows have gone as well.

        Its number is above this one's and nobody else's: of two committers at once, neither writes over the other's
        file.
        """
        added = {tenant: self.rows.get(tenant, 0) + count for tenant, count in rows.items()}
        return Repeats(self.number + 1 + secrets.randbelow(_APART), {**self.rows, **added})


NONE: Final = Repeats()
_beside: Final = Beside(REPEATS, NONE)
keep: Final = _beside.keep
repeats: Final = _beside.of
