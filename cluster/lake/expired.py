"""What left a table because of its age: how far back each tenant's rows are whole, and how many have gone.

The state lies beside the Delta log, in `_expired/NUMBER.json`, durable before the commit that removes the files; that
commit carries the number as an application transaction. So the state and the removal are one: a file whose number
no commit carries is nothing. (A transaction for each tenant would need no file, but looking one up reads the log.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from deltalake import DeltaTable

from cluster.lake.files import make_folder, replace

# Application transaction of a commit that removes what is too old. Readers know an expiry from a correction by it.
EXPIRED: Final = "expired"
_FOLDER: Final = "_expired"


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
_decode: Final = msgspec.json.Decoder(Expired).decode


def keep(root: Path, state: Expired) -> None:
    """Write a state, durable; it counts once a commit carries its number."""
    make_folder(root / _FOLDER)
    replace(_path(root, state.number), msgspec.json.encode(state))


def expired(handle: DeltaTable, root: Path, known: Expired = NOTHING) -> Expired:
    """The state of a table's snapshot.

    Args:
        known: an earlier one of it, so that the log is read only when there may be another.
    """
    try:
        newest = max(int(path.stem) for path in (root / _FOLDER).iterdir() if path.suffix == ".json")
    except (FileNotFoundError, ValueError):
        return NOTHING
    if newest == known.number:
        return known
    number = int(handle.transaction_version(EXPIRED) or 0)
    if number == known.number:
        return known
    return _decode(_path(root, number).read_bytes())


def _path(root: Path, number: int) -> Path:
    return root / _FOLDER / f"{number:020d}.json"
