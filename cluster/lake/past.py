"""Time travel: a table as it was at an earlier version, for as long as its log and its files are kept."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from cluster.errors import NotFound
from cluster.lake.scan import Snapshot, TableReader
from cluster.lake.tables import uri

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HINT: Final = "Versions are kept for 30 days and their files for 7 after a compaction; ask for a newer one."


def snapshot_at(lake: Path, table: str, *, version: int | None = None, at_us: int | None = None) -> Snapshot:
    """One version of a table: the given one, or the newest that was committed by an instant.

    Args:
        version: Delta version; or
        at_us: microseconds since 1970, by the clock of the commits.

    Raises:
        NotFound: there is no such version, or not any more.
        TableUnreadable: see `TableReader.refresh`.
    """
    location = uri(lake, table)
    if not DeltaTable.is_deltatable(location):
        raise NotFound(f"{table} has no versions yet", hint="The table is made with the first commit.")
    newest = DeltaTable(location)
    try:
        handle = DeltaTable(location, version=version if at_us is None else _version_at(newest, table, at_us))
    except DeltaError as error:
        hint = _HINT if version is None or version <= newest.version() else f"The newest is {newest.version()}."
        raise NotFound(f"{table} has no version {version}", hint=hint) from error
    return _PastReader(lake, table, handle).refresh()


def check_files(paths: Iterable[str], snapshot: Snapshot) -> None:
    """Raises:
    NotFound: a file of the version was removed since; it cannot be answered from any more.
    """
    if not all(Path(path).exists() for path in paths):
        raise NotFound(f"files of {snapshot.table} version {snapshot.version} are no longer kept", hint=_HINT)


class _PastReader(TableReader):
    def __init__(self, lake: Path, table: str, handle: DeltaTable) -> None:
        super().__init__(lake, table)
        self._past = handle

    def _newest(self) -> DeltaTable:
        return self._past


def _version_at(newest: DeltaTable, table: str, at_us: int) -> int:
    handle = DeltaTable(newest.table_uri)
    handle.load_as_version(_EPOCH + timedelta(microseconds=at_us))
    # The library takes the oldest version it has for any instant before that.
    if handle.history(1)[0]["timestamp"] * 1_000 > at_us:
        raise NotFound(f"{table} has no version of that time", hint=_HINT)
    return int(handle.version())
