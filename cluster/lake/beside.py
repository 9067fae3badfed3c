"""A small state of a table that lies beside its Delta log, one with the commit that brings it.

It is written, durable, to `_NAME/NUMBER.json` before the commit, which carries the number as an application
transaction: a file whose number no commit carries is nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec
from deltalake import DeltaTable

from cluster.lake.files import make_folder, replace


class Numbered(Protocol):
    """A state; 0 is the number of the first, which no file holds."""

    @property
    def number(self) -> int: ...


State = TypeVar("State", bound=Numbered)


class Beside(Generic[State]):
    """Reads and writes the states of one name."""

    def __init__(self, name: str, nothing: State) -> None:
        """
        Args:
            name: of the application transaction, and of the folder behind `_`.
            nothing: the state before the first commit.
        """
        self._name = name
        self._nothing = nothing
        self._decode = msgspec.json.Decoder(type(nothing)).decode

    def keep(self, root: Path, state: State) -> None:
        """Write a state, durable; it counts once a commit carries its number."""
        make_folder(self._folder(root))
        replace(self._path(root, state.number), msgspec.json.encode(state))

    def of(self, handle: DeltaTable, root: Path, known: State | None = None) -> State:
        """The state of a table's snapshot.

        Args:
            known: an earlier one of it, so that the log is read only when there may be another.
        """
        known = self._nothing if known is None else known
        try:
            newest = max(int(path.stem) for path in self._folder(root).iterdir() if path.suffix == ".json")
        except (FileNotFoundError, ValueError):
            return self._nothing
        if newest == known.number:
            return known
        number = int(handle.transaction_version(self._name) or 0)
        if number == known.number:
            return known
        return self._decode(self._path(root, number).read_bytes()) if number else self._nothing

    def _folder(self, root: Path) -> Path:
        return root / f"_{self._name}"

    def _path(self, root: Path, number: int) -> Path:
        return self._folder(root) / f"{number:020d}.json"
