"""The sole writer of the region's tables: commits the staged files of many shards, once."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog
from deltalake.exceptions import DeltaError

from actors.corrections import Correction, Corrections
from actors.expiry import Retentions
from actors.intake import Registration, Seal
from actors.upkeep import Upkeep
from cluster.clock import Clock
from cluster.errors import CommitLost, Fenced, HubError, SequenceGap
from cluster.lake.commit import TableWriter
from cluster.lake.files import make_folder, replace
from cluster.lake.stage import StagedFile
from cluster.lake.tables import ANCHOR, ANSWERS, TABLES
from cluster.lake.upgrade import upgrade
from cluster.settings import Settings

log = structlog.get_logger("committer")

_ATTEMPTS: Final = 5
# Seals noted for each journal; more than can be in one commit of one journal and the one before it.
_NOTES: Final = 8
Positions = dict[str, list[tuple[int, dict[str, int]]]]
SEALS_PER_COMMIT_MAX: Final = 256
# The table of what detectors found; no seal has files for it.
FOUND: Final = "anomalies"


@dataclass(slots=True)
class _Waiting:
    seal: Seal
    done: Future[int]


class Committer:
    """Commits seals in the order of each journal; one lock guards every table handle."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        on_fatal: Callable[[Exception], None] = lambda e: None,
        retentions: Retentions = dict,
    ) -> None:
        """
        Args:
            retentions: what each tenant keeps; the settings count for those it does not name.
        """
        self._settings = settings
        self._clock = clock
        self._on_fatal = on_fatal
        make_folder(settings.lake)
        self._positions_path = settings.lake / "positions.json"
        self._positions: Positions = {}
        self._incarnations: dict[int, Registration] = {}
        self._load()
        self._writers = {name: TableWriter(settings.lake, table, clock) for name, table in TABLES.items()}
        for name, writer in self._writers.items():
            if rewritten := upgrade(settings.lake, writer, clock):
                log.info("table_upgraded", table=name, files=rewritten)
        self._corrections = Corrections(settings.lake, self._writers)
        self._corrections.resume()
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(maxsize=4096)
        self._lock = threading.Lock()
        self._commits = 0
        self._last_commit_s = clock.monotonic_s()
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()
        self._upkeep = Upkeep(
            settings, self._writers, self._lock, clock=clock, corrections=self._corrections, retentions=retentions
        )

    # What shards call

    def last_sequence(self, journal: str) -> int:
        """Last sequence of the journal in the anchor table, 0 when there is none."""
        with self._lock:
            return self._writers[ANCHOR].last_sequence(journal)

    def commit(self, seal: Seal) -> int:
        """Commit the seal unless it is in already; returns the last committed sequence of its journal.

        Raises:
            SequenceGap: the seal before this one was never committed.
        """
        waiting = _Waiting(seal, Future())
        self._waiting.put(waiting)
        return waiting.done.result()

    def found_sequence(self, journal: str) -> int:
        """Last sequence of a detector in the table of anomalies, 0 when there is none."""
        with self._lock:
            return self._writers[FOUND].last_sequence(journal)

    def commit_found(self, journal: str, sequence: int, files: Sequence[StagedFile]) -> int:
        """Add staged anomalies unless that sequence is in already; the last sequence of the journal.

        Raises:
            SequenceGap: another writer of the same journal is ahead, or a sequence is missing.
            CommitLost: it is not known whether they are in; asking again tells.
        """
        return self._add(FOUND, journal, sequence, files)

    def commit_answer(self, query_id: str, files: Sequence[StagedFile]) -> int:
        """Add the staged answer of a question that ran as a job, unless it is in already; its version of the table.

        Raises: as `commit_found`.
        """
        self._add(ANSWERS, f"query-{query_id}", 1, files)
        return self._writers[ANSWERS].version

    def _add(self, table: str, journal: str, sequence: int, files: Sequence[StagedFile]) -> int:
        with self._lock:
            writer = self._writers[table]
            last = writer.last_sequence(journal)
            if sequence == last + 1:
                try:
                    writer.append(files, {journal: sequence})
                except (DeltaError, CommitLost) as error:
                    writer.reopen()
                    raise CommitLost(f"{table}: {str(error)[:300]}") from error
            elif sequence > last:
                raise SequenceGap(f"journal {journal}: {sequence} came after {last}")
            return writer.last_sequence(journal)

    def register(self, shard: int, journal: str) -> Registration:
        """Begin an incarnation of a shard; seals of earlier ones are refused from now on.

        Args:
            journal: identity of the journal it will write, "" when that is not decided yet.
        """
        with self._lock:
            known = self._incarnations.get(shard, Registration(0, ""))
            answer = Registration(known.epoch + 1, known.previous)
            self._incarnations[shard] = Registration(answer.epoch, journal or known.previous)
            self._save()
        return answer

    # What jobs call

    def correct(self, correction: Correction) -> None:
        """Put rows told anew in place of committed ones, in events and roll-ups.

        Raises: as `Corrections.apply`.
        """
        with self._lock:
            self._corrections.apply(correction)

    def notes(self) -> list[dict[str, Any]]:
        """Notes of corrections whose audit line is not yet kept."""
        with self._lock:
            return self._corrections.notes()

    def forget(self, identity: str) -> None:
        """The audit line of a correction is kept."""
        with self._lock:
            self._corrections.forget(identity)

    def positions(self) -> Positions:
        """For each journal its latest seals, each with the events accepted by then, by tenant."""
        with self._lock:
            return dict(self._positions)

    def status(self) -> dict[str, object]:
        """Versions of the tables, commits made, and seals that wait."""
        with self._lock:
            return {
                "versions": {name: writer.version for name, writer in self._writers.items()},
                "commits": self._commits,
                "waiting": self._waiting.qsize(),
                "since_commit_s": self._clock.monotonic_s() - self._last_commit_s,
                "compacted_files": self._upkeep.compactor.compacted_files,
                "repeats_removed": self._upkeep.repeats.removed,
            }

    def drain(self) -> None:
        """Commit what waits and end the threads."""
        self._waiting.put(None)
        self._thread.join()
        self._upkeep.end()

    # The one thread that writes

    def _run(self) -> None:
        while True:
            batch = self._gather()
            if batch is None:
                return
            if batch:
                self._commit_batch(batch)

    def _gather(self) -> list[_Waiting] | None:
        """Seals that came within the linger of the first, or until every shard sent one; None when drained.

        A shard has one commit in flight, so once all have sent there is nothing to wait for. Empty when none came.
        """
        try:
            first = self._waiting.get(timeout=1.0)
        except queue.Empty:
            return []
        if first is None:
            return None
        batch = [first]
        end_s = self._clock.monotonic_s() + self._settings.commit_linger_s
        while len(batch) < SEALS_PER_COMMIT_MAX:
            lacking = len({waiting.seal.shard for waiting in batch}) < len(self._incarnations)
            left_s = end_s - self._clock.monotonic_s() if lacking else 0.0
            try:
                another = self._waiting.get(timeout=left_s) if left_s > 0 else self._waiting.get_nowait()
            except queue.Empty:
                break
            if another is None:
                self._waiting.put(None)
                break
            batch.append(another)
        return batch

    def _commit_batch(self, batch: list[_Waiting]) -> None:
        try:
            with self._lock:
                refused = self._refusals(batch)
                seals = [waiting.seal for waiting in batch if waiting.seal.journal not in refused]
                self._commit_seals(seals)
        except Exception as error:
            # The outcome is unknown: shards send the seals again and the tables decide what is in.
            log.error("commit_failed", error=str(error)[:500], seals=len(batch))
            for waiting in batch:
                waiting.done.set_exception(CommitLost(f"the commit failed: {str(error)[:300]}"))
            self._on_fatal(error)
            return
        for waiting in batch:
            if waiting.seal.journal in refused:
                waiting.done.set_exception(refused[waiting.seal.journal])
            else:
                waiting.done.set_result(self._writers[ANCHOR].last_sequence(waiting.seal.journal))

    def _refusals(self, batch: list[_Waiting]) -> dict[str, HubError]:
        """Journals whose writer was replaced, or whose next seal is missing: a commit past a gap would hide a loss."""
        refused: dict[str, HubError] = {}
        for journal, seals in _by_journal(waiting.seal for waiting in batch).items():
            last = self._writers[ANCHOR].last_sequence(journal)
            for seal in seals:
                if seal.epoch < self._incarnations.get(seal.shard, Registration(0, "")).epoch:
                    refused[journal] = Fenced(f"shard {seal.shard}: incarnation {seal.epoch} was replaced")
                if seal.sequence > last + 1:
                    refused[journal] = SequenceGap(f"journal {journal}: seal {seal.sequence} came after {last}")
                last = max(last, seal.sequence)
        return refused

    def _commit_seals(self, seals: list[Seal]) -> None:
        if not seals:
            return
        self._note(seals)
        order = [name for name in TABLES if name != ANCHOR] + [ANCHOR]
        for name in order:
            self._commit_table(name, seals)
        self._commits += 1
        self._last_commit_s = self._clock.monotonic_s()

    def _load(self) -> None:
        if not self._positions_path.exists():
            return
        found = orjson.loads(self._positions_path.read_bytes())
        for journal, notes in found["journals"].items():
            self._positions[journal] = [(note[0], note[1]) for note in notes]
        for shard, (epoch, journal) in found["shards"].items():
            self._incarnations[int(shard)] = Registration(epoch, journal)

    def _save(self) -> None:
        shards = {str(shard): (known.epoch, known.previous) for shard, known in self._incarnations.items()}
        replace(self._positions_path, orjson.dumps({"journals": self._positions, "shards": shards}))

    def _note(self, seals: list[Seal]) -> None:
        """Write down, before the commit, what each journal will have accepted after it: the account of a lost node."""
        for seal in seals:
            notes = [note for note in self._positions.get(seal.journal, []) if note[0] != seal.sequence]
            self._positions[seal.journal] = sorted([*notes, (seal.sequence, seal.accepted)], key=lambda note: note[0])[
                -_NOTES:
            ]
        self._save()

    def _commit_table(self, name: str, seals: list[Seal]) -> None:
        writer = self._writers[name]
        for attempt in range(_ATTEMPTS):
            files: list[StagedFile] = []
            sequences: dict[str, int] = {}
            for seal in seals:
                own = [file for file in seal.files if file.table == name]
                if seal.sequence > writer.last_sequence(seal.journal) and (own or name == ANCHOR):
                    files += own
                    sequences[seal.journal] = max(seal.sequence, sequences.get(seal.journal, 0))
            if not sequences:
                return
            try:
                writer.append(files, sequences)
                return
            except (DeltaError, CommitLost) as error:
                # Another writer, or a commit that may or may not be there: read the table and look again.
                log.warning("commit_retry", table=name, attempt=attempt, error=str(error)[:300])
                writer.reopen()
        raise CommitLost(f"{name}: {_ATTEMPTS} commits failed")


def _by_journal(seals: Iterable[Seal]) -> dict[str, list[Seal]]:
    found: dict[str, list[Seal]] = defaultdict(list)
    for seal in seals:
        found[seal.journal].append(seal)
    for group in found.values():
        group.sort(key=lambda seal: seal.sequence)
    return found
