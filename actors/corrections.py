"""Corrections of committed rows: files of events told anew and what that moves in the roll-ups, both or neither.

No commit spans two tables. So a correction is written down first; whatever dies in between, the committer that comes
next finishes what is written down before it does anything else to the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from deltalake.exceptions import DeltaError

from cluster.errors import CommitLost, HubError
from cluster.lake.commit import TableWriter
from cluster.lake.files import make_folder, replace
from cluster.lake.stage import StagedFile
from cluster.lake.tables import ANCHOR, MINUTES

log = structlog.get_logger("corrections")

_ATTEMPTS: Final = 5
_DONE: Final = ".done"
_OPEN: Final = ".json"


class CorrectionStale(HubError):
    """A file that the correction takes out is no longer part of the table: another one, or a compaction, was first."""

    code = "correction_stale"
    hint = "Read the table again and make the correction anew."


@dataclass(frozen=True, slots=True)
class Correction:
    """Rows of one partition told anew.

    Attributes:
        identity: names it for ever; the tables remember it, so it is applied once.
        removed: files of events that go, as the log lists their paths.
        files: staged files of events with the same rows told anew, and of minute partials that move the roll-ups.
        note: what happened, for the audit line; kept until `forget`.
    """

    identity: str
    removed: tuple[str, ...]
    files: tuple[StagedFile, ...]
    note: dict[str, Any] = field(default_factory=dict)


class Corrections:
    """Applies corrections; the caller holds the table handles."""

    def __init__(self, lake: Path, writers: Mapping[str, TableWriter]) -> None:
        self._folder = lake / "corrections"
        self._writers = writers

    def apply(self, correction: Correction) -> None:
        """Commit it to both tables; again does nothing.

        Raises:
            CorrectionStale: nothing was done; make it anew from what the table holds now.
            CommitLost: it is written down and will be finished by the next committer.
        """
        done = self._writers[ANCHOR].last_sequence(correction.identity) > 0
        active = {str(file["path"]) for file in self._writers[ANCHOR].active_files()}
        if not done and not active.issuperset(correction.removed):
            raise CorrectionStale(f"correction {correction.identity}: a file it takes out has left the table")
        make_folder(self._folder)
        replace(self._path(correction.identity, _OPEN), orjson.dumps(asdict(correction)))
        self._finish(correction)

    def resume(self) -> int:
        """Finish what was written down and not finished; how many."""
        found = [_read(path) for path in sorted(self._folder.glob(f"*{_OPEN}"))]
        for correction in found:
            self._finish(correction)
            log.info("correction_resumed", identity=correction.identity)
        return len(found)

    def notes(self) -> list[dict[str, Any]]:
        """Notes of finished corrections that nobody asked to forget."""
        found = [_read(path) for path in sorted(self._folder.glob(f"*{_DONE}"))]
        return [{"identity": one.identity, **one.note} for one in found]

    def forget(self, identity: str) -> None:
        """Its audit line is kept elsewhere."""
        self._path(identity, _DONE).unlink(missing_ok=True)

    def _finish(self, correction: Correction) -> None:
        # As seals are committed: partials first, then events.
        for name in (MINUTES, ANCHOR):
            self._commit(name, correction)
        self._path(correction.identity, _OPEN).rename(self._path(correction.identity, _DONE))

    def _commit(self, name: str, correction: Correction) -> None:
        writer = self._writers[name]
        files = [file for file in correction.files if file.table == name]
        gone = frozenset(correction.removed) if name == ANCHOR else frozenset()
        for attempt in range(_ATTEMPTS):
            if writer.last_sequence(correction.identity) > 0:
                return
            removed = [file for file in writer.active_files() if str(file["path"]) in gone]
            if len(removed) < len(gone):
                raise CommitLost(f"correction {correction.identity}: {len(gone) - len(removed)} of its files are gone")
            try:
                writer.append(files, {correction.identity: 1}, removed=removed)
                return
            except (DeltaError, CommitLost) as error:
                log.warning("correction_retry", table=name, attempt=attempt, error=str(error)[:300])
                writer.reopen()
        raise CommitLost(f"{name}: correction {correction.identity} failed {_ATTEMPTS} times")

    def _path(self, identity: str, suffix: str) -> Path:
        return self._folder / f"{identity}{suffix}"


def _read(path: Path) -> Correction:
    told = orjson.loads(path.read_bytes())
    files = tuple(StagedFile(**one) for one in told["files"])
    return Correction(told["identity"], tuple(told["removed"]), files, told["note"])
