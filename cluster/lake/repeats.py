"""Rows that left the events table as repeats: how many of each tenant, for the ledger.

As with what left because of its age (`cluster.lake.expired`), the state lies beside the Delta log and counts once a
commit carries its number, so a removal and its account are one.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from deltalake import DeltaTable

from cluster.lake.files import make_folder, replace

# Application transaction of commits that take repeats out, in events and in minutes: the number of the state.
REPEATS: Final = "repeats"
_FOLDER: Final = "_repeats"
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
_decode: Final = msgspec.json.Decoder(Repeats).decode


def keep(root: Path, state: Repeats) -> None:
    """Write a state, durable; it counts once a commit carries its number."""
    make_folder(root / _FOLDER)
    replace(_path(root, state.number), msgspec.json.encode(state))


def repeats(handle: DeltaTable, root: Path, known: Repeats = NONE) -> Repeats:
    """The state of a snapshot of the events table.

    Args:
        known: an earlier one of it, so that the log is read only when there may be another.
    """
    try:
        newest = max(int(path.stem) for path in (root / _FOLDER).iterdir() if path.suffix == ".json")
    except (FileNotFoundError, ValueError):
        return NONE
    if newest == known.number:
        return known
    number = int(handle.transaction_version(REPEATS) or 0)
    if number in (known.number, 0):
        return known
    return _decode(_path(root, number).read_bytes())


def _path(root: Path, number: int) -> Path:
    return root / _FOLDER / f"{number:020d}.json"
