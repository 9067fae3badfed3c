"""Corrections of committed rows: files of events told anew, or less, and what moves in the roll-ups, both or neither.

No commit spans two tables. So a correction is written down first; whatever dies in between, the committer that comes
next finishes what is written down before it does anything else to the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from deltalake.exceptions import DeltaError

from cluster.errors import CommitLost, HubError
from cluster.lake.commit import TableWriter
from cluster.lake.files import make_folder, replace
from cluster.lake.repeats import REPEATS, keep
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
        note: what happened, for the audit line; kept until `forget`. Empty where there is no such line.
        minutes: files of minute partials that go.
        repeats: rows of each tenant that are in `removed` and not in `files`, since they repeat others.
        number: of the account of repeats; given when the correction is applied, and what the tables remember then.
    """

    identity: str
    removed: tuple[str, ...]
    files: tuple[StagedFile, ...]
    note: dict[str, Any] = field(default_factory=dict)
    minutes: tuple[str, ...] = ()
    repeats: dict[str, int] = field(default_factory=dict)
    number: int = 0

    @property
    def transaction(self) -> tuple[str, int]:
        """What the tables remember of it; one name for all that remove repeats, since each name stays in the log."""
        return (REPEATS, self.number) if self.repeats else (self.identity, 1)

    def gone(self, table: str) -> frozenset[str]:
        """Its files that go from a table."""
        return frozenset({ANCHOR: self.removed, MINUTES: self.minutes}[table])


class Corrections:
    """Applies corrections; the caller holds the table handles."""

    def __init__(self, lake: Path, writers: Mapping[str, TableWriter]) -> None:
        self._folder = lake / "corrections"
        self._writers = writers
        self._unfinished = False

    def apply(self, correction: Correction) -> None:
        """Commit it to both tables; again does nothing.

        Raises:
            CorrectionStale: nothing was done; make it anew from what the table holds now.
            CommitLost: it is written down and will be finished by the next committer.
        """
        if correction.repeats:
            after = self._writers[ANCHOR].repeats().after(correction.repeats)
            correction = changed(correction, number=after.number)
        for name in (MINUTES, ANCHOR):
            active = {str(file["path"]) for file in self._writers[name].active_files()}
            if not self._is_in(name, correction) and not active.issuperset(correction.gone(name)):
                raise CorrectionStale(f"correction {correction.identity}: a file it takes out has left the table")
        make_folder(self._folder)
        replace(self._path(correction.identity, _OPEN), orjson.dumps(asdict(correction)))
        self._finish(correction)

    def mend(self) -> None:
        """Finish what an earlier call could not. While it is half done, nobody may move the files it takes out."""
        if self._unfinished:
            self.resume()

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
        self._unfinished = True
        # As seals are committed: partials first, then events.
        for name in (MINUTES, ANCHOR):
            self._commit(name, correction)
        path = self._path(correction.identity, _OPEN)
        if correction.note:
            path.rename(self._path(correction.identity, _DONE))
        else:
            path.unlink()
        self._unfinished = False

    def _is_in(self, name: str, correction: Correction) -> bool:
        application, number = correction.transaction
        # Not "at least": of two committers at once, the other's removal is not this one.
        return self._writers[name].last_sequence(application) == number

    def _commit(self, name: str, correction: Correction) -> None:
        writer = self._writers[name]
        files = [file for file in correction.files if file.table == name]
        gone = correction.gone(name)
        for attempt in range(_ATTEMPTS):
            if self._is_in(name, correction):
                return
            if correction.repeats and name == ANCHOR:
                keep(writer.root, changed(writer.repeats().after(correction.repeats), number=correction.number))
            removed = [file for file in writer.active_files() if str(file["path"]) in gone]
            if len(removed) < len(gone):
                raise CommitLost(f"correction {correction.identity}: {len(gone) - len(removed)} of its files are gone")
            try:
                writer.append(files, dict([correction.transaction]), removed=removed)
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
    # What a hub of before wrote down has no repeats.
    repeats = {name: told[name] for name in ("repeats", "number") if name in told}
    return Correction(
        told["identity"], tuple(told["removed"]), files, told["note"], tuple(told.get("minutes", ())), **repeats
    )
