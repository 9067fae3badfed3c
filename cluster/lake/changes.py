"""What the commits between two versions of a table did to its rows, read from the Delta log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from cluster.errors import HubError
from cluster.lake.expired import EXPIRED

Partition = tuple[str, str]
_EPOCH: Final = date(1970, 1, 1)


class _Checkpoint(msgspec.Struct):
    version: int


class TableUnreadable(HubError):
    """The table uses a feature that reading its files directly would get wrong."""

    code = "table_unreadable"
    hint = "Rewrite the table without deletion vectors and with its files inside its folder."


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows gained and lost. Compactions, which only move rows to other files, are not among them.

    Attributes:
        appended: (partition, path below the table) of each file that brought rows, in the order of commits. It may
            have been compacted away since; it stays on disk until vacuum.
        rewritten: partitions, (tenant_id, event_date), that lost rows: only reading them anew is surely right.
        expired: partitions that left because of their age; what was rolled from them stays.
    """

    appended: tuple[tuple[Partition, str], ...] = ()
    rewritten: frozenset[Partition] = frozenset()
    expired: frozenset[Partition] = frozenset()

    @property
    def partitions(self) -> frozenset[Partition]:
        """All of which any row came or went."""
        return frozenset(partition for partition, _ in self.appended) | self.rewritten | self.expired


def has_newer(root: Path, version: int) -> bool:
    """Whether the table has a version after this one. Two looks at files, where listing a long log takes milliseconds.

    Args:
        root: folder of the table.
    """
    log = root / "_delta_log"
    if (log / f"{version + 1:020d}.json").exists():
        return True
    # Whoever is far behind finds the next versions cleaned up, but then there is a later checkpoint.
    try:
        told = msgspec.json.decode((log / "_last_checkpoint").read_bytes(), type=_Checkpoint)
    except (FileNotFoundError, msgspec.MsgspecError):
        return not (log / f"{version:020d}.json").exists()
    return told.version > version


def changes(root: Path, first: int, last: int) -> Changes | None:
    """What versions `first` to `last`, both included, changed; None when the log does not tell any more.

    Raises:
        TableUnreadable: a file lies outside the table's folder.
    """
    appended: list[tuple[Partition, str]] = []
    rewritten: set[Partition] = set()
    expired: set[Partition] = set()
    for version in range(first, last + 1):
        try:
            log = (root / "_delta_log" / f"{version:020d}.json").read_bytes()
        except FileNotFoundError:
            return None
        moves, aged = _moves(log)
        for kind, told in moves:
            values = told.get("partitionValues")
            if not values:
                # Foreign writers may leave them out of a removal.
                return None
            partition = (str(values["tenant_id"]), str(values["event_date"]))
            if kind == "add":
                appended.append((partition, inside(unquote(str(told["path"])))))
            else:
                (expired if aged else rewritten).add(partition)
    kept = tuple((partition, path) for partition, path in appended if partition not in rewritten)
    return Changes(kept, frozenset(rewritten), frozenset(expired - rewritten))


def arrivals(root: Path, first: int, last: int) -> tuple[tuple[Partition, str], ...] | None:
    """Files whose rows came with versions `first` to `last`; None when the log does not tell any more.

    What a commit puts in the place of rows that it removes was in the table before.
    """
    found: list[tuple[Partition, str]] = []
    for version in range(first, last + 1):
        try:
            moves, _ = _moves((root / "_delta_log" / f"{version:020d}.json").read_bytes())
        except FileNotFoundError:
            return None
        if all(kind == "add" for kind, _ in moves):
            for _, told in moves:
                values = told["partitionValues"]
                partition = (str(values["tenant_id"]), str(values["event_date"]))
                found.append((partition, inside(unquote(str(told["path"])))))
    return tuple(found)


def day_start_us(event_date: str) -> int:
    """First instant of a partition's day, microseconds since 1970 UTC."""
    return (date.fromisoformat(event_date) - _EPOCH).days * 86_400_000_000


def inside(path: str) -> str:
    """The path of a table's file, below the table.

    Raises:
        TableUnreadable: it leads out of the table.
    """
    if path.startswith("/") or "://" in path or ".." in path.split("/"):
        raise TableUnreadable(f"the log names a file outside its table: {path[:120]!r}")
    return path


def _moves(log: bytes) -> tuple[list[tuple[str, dict[str, Any]]], bool]:
    """Files that brought or took rows, and whether it was their age that took them."""
    moves: list[tuple[str, dict[str, Any]]] = []
    aged = False
    for line in log.splitlines():
        action = msgspec.json.decode(line)
        aged = aged or action.get("txn", {}).get("appId") == EXPIRED
        moves += [(k, action[k]) for k in ("add", "remove") if k in action and action[k].get("dataChange", True)]
    return moves, aged
