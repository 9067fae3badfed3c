"""Commit staged files to one Delta table, once, by journal sequence.

delta-rs neither skips a repeated application transaction nor fsyncs (docs/decisions/0001). So the last sequence is
looked up and the commit is made on the same handle, whose snapshot fences a second writer; the log is fsynced and
the table read again before anybody is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.transaction import AddAction, RemoveAction

from cluster.clock import Clock, SystemClock
from cluster.errors import CommitLost
from cluster.lake.expired import NOTHING, Expired, expired
from cluster.lake.files import sync_file, sync_folder
from cluster.lake.repeats import NONE, Repeats, repeats
from cluster.lake.stage import StagedFile
from cluster.lake.tables import PARTITION_COLUMNS, Table, open_or_create

CHECKPOINT_EVERY: Final = 50
_SYSTEM: Final = SystemClock()
_NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class TableWriter:
    """The only writer of one table in one region. Not thread-safe; the committer owns it."""

    def __init__(self, lake: Path, table: Table, clock: Clock = _SYSTEM) -> None:
        self.table = table
        self._clock = clock
        # Folder that the paths of its files are below.
        self.root = lake / table.name
        self._handle = open_or_create(lake, table)
        self._expired = NOTHING
        self._repeats = NONE
        self._since_checkpoint = 0
        self._known: dict[str, int] = {}

    @property
    def version(self) -> int:
        """Version of the snapshot this writer stands on."""
        return int(self._handle.version())

    def last_sequence(self, journal: str) -> int:
        """Sequence of the last seal of this journal that is in the table; 0 when there is none."""
        found = self._handle.transaction_version(journal)
        return 0 if found is None else int(found)

    def reopen(self) -> None:
        """Read the table from storage again, after a commit whose outcome is unknown."""
        self._handle = DeltaTable(str(self.root))

    def append(
        self, files: Sequence[StagedFile], sequences: Mapping[str, int], *, removed: Sequence[Mapping[str, object]] = ()
    ) -> int:
        """Add files and move each journal to its sequence, in one commit.

        The caller has left out what `last_sequence` says is in.

        Args:
            removed: rows of `active_files` whose rows are told anew in `files`.

        Returns:
            The new table version, durable and re-read.

        Raises:
            CommitLost: the table does not show the commit when read again.
            deltalake.exceptions.CommitFailedError: another writer committed for the same journal.
        """
        now_ms = self._clock.now_us() // 1_000
        actions: list[AddAction | RemoveAction] = [
            RemoveAction(
                path=str(file["path"]),
                data_change=True,
                deletion_timestamp=now_ms,
                size=int(str(file["size_bytes"])),
                partition_values={
                    "tenant_id": str(file["partition.tenant_id"]),
                    "event_date": str(file["partition.event_date"]),
                },
            )
            for file in removed
        ]
        actions += [
            AddAction(
                path=file.path,
                size=file.size_bytes,
                partition_values={"tenant_id": file.tenant_id, "event_date": file.event_date},
                modification_time=now_ms,
                data_change=True,
                stats=file.stats,
            )
            for file in files
        ]
        return self._commit(actions, [Transaction(journal, last) for journal, last in sequences.items()])

    def replace(self, removed: Sequence[RemoveAction], added: Sequence[StagedFile]) -> int:
        """Put compacted files in place of small ones with the same rows, in one commit.

        Returns:
            The new table version, durable and re-read.
        """
        now_ms = self._clock.now_us() // 1_000
        actions: list[AddAction | RemoveAction] = [*removed]
        actions += [
            AddAction(
                path=file.path,
                size=file.size_bytes,
                partition_values={"tenant_id": file.tenant_id, "event_date": file.event_date},
                modification_time=now_ms,
                data_change=False,
                stats=file.stats,
            )
            for file in added
        ]
        return self._commit(actions, [])

    def expired(self) -> Expired:
        """What left the table because of its age."""
        self._expired = expired(self._handle, self.root, self._expired)
        return self._expired

    def repeats(self) -> Repeats:
        """What left the table as repeats."""
        self._repeats = repeats(self._handle, self.root, self._repeats)
        return self._repeats

    def active_files(self) -> list[dict[str, object]]:
        """Files of the current snapshot: `path`, `size_bytes`, `num_records`, `modification_time`, partitions."""
        rows: list[dict[str, object]] = pa.table(self._handle.get_add_actions(flatten=True)).to_pylist()
        return rows

    def _commit(self, actions: list[AddAction | RemoveAction], transactions: list[Transaction]) -> int:
        before = self.version
        self._handle.create_write_transaction(
            actions,
            "append",
            self.table.full_schema,
            list(PARTITION_COLUMNS),
            commit_properties=CommitProperties(app_transactions=transactions or None, max_commit_retries=0),
            post_commithook_properties=_NO_HOOKS,
        )
        version = before + 1
        log = self.root / "_delta_log"
        sync_file(log / f"{version:020d}.json")
        sync_folder(log)
        self._handle.update_incremental()
        self._verify(version, transactions)
        self._checkpoint(version)
        return version

    def _verify(self, version: int, transactions: list[Transaction]) -> None:
        if self.version < version:
            raise CommitLost(f"{self.table.name}: version {version} was committed, {self.version} was read back")
        for transaction in transactions:
            if self.last_sequence(transaction.app_id) < transaction.version:
                raise CommitLost(
                    f"{self.table.name}: journal {transaction.app_id} did not move to {transaction.version}"
                )

    def _checkpoint(self, version: int) -> None:
        self._since_checkpoint += 1
        if self._since_checkpoint < CHECKPOINT_EVERY:
            return
        self._since_checkpoint = 0
        log = self.root / "_delta_log"
        self._handle.create_checkpoint()
        for path in log.glob(f"{version:020d}.checkpoint*.parquet"):
            sync_file(path)
        sync_file(log / "_last_checkpoint")
        sync_folder(log)
