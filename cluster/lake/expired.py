"""What left a table because of its age: how far back each tenant's rows are whole, and how many have gone.

The state lies beside the Delta log (`cluster.lake.beside`) and counts once the commit that removes the files carries
its number, so the state and the removal are one. (A transaction for each tenant would need no file, but looking one up
reads the log.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cluster.lake.beside import Beside

# Application transaction of a commit that removes what is too old. Readers know an expiry from a correction by it.
EXPIRED: Final = "expired"


@dataclass(frozen=True, slots=True)
class Expired:
    """The state of one table.

    Attributes:
        number: of the expiry that made it; 0 before the first.
        floors: days since 1970, by tenant, from which on every row is there.
        rows: rows of each tenant that have gone.
    """

    number: int = 0
    floors: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)


NOTHING: Final = Expired()
_beside: Final = Beside(EXPIRED, NOTHING)
keep: Final = _beside.keep
expired: Final = _beside.of
