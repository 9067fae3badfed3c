"""Turn a cut buffer into committed rows: roll up, stage, commit. One seal is committed while the next is staged."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import structlog

from actors.intake import Buffer, CommitPort, Seal
from cluster.contract.columns import DEAD_LETTER_SCHEMA
from cluster.contract.words import joined
from cluster.errors import HubError, JournalFailed
from cluster.lake.stage import StagedFile, stage
from cluster.lake.tables import TABLES
from models.aggregate.rollup import roll

log = structlog.get_logger("sealer")

MINUTE_US = 60_000_000


def stage_buffer(lake: Path, buffer: Buffer) -> tuple[StagedFile, ...]:
    """Write a buffer's rows and their roll-up partials under the tables.

    Raises:
        OSError: the disk refused; nothing is committed, and another call stages under new names.
    """
    token = f"{buffer.sequence:012d}-{uuid4().hex}"
    staged: list[StagedFile] = []
    for tenant, batches in buffer.events.items():
        rows = joined(batches)
        staged += stage(lake, TABLES["rollup_1m"], roll(rows, MINUTE_US), tenant_id=tenant, token=token)
        staged += stage(lake, TABLES["events"], rows, tenant_id=tenant, token=token)
    for tenant, batches in buffer.dead_letters.items():
        rows = pa.Table.from_batches(batches, DEAD_LETTER_SCHEMA)
        staged += stage(lake, TABLES["dead_letters"], rows, tenant_id=tenant, token=token)
    return tuple(staged)


class Sealer:
    """Commits buffers of one journal in order, one commit in flight behind the staging."""

    def __init__(
        self,
        lake: Path,
        commits: CommitPort,
        *,
        shard: int,
        epoch: int,
        on_commit: Callable[[Buffer], None],
        on_failure: Callable[[HubError], None],
    ) -> None:
        self._lake = lake
        self._shard = shard
        self._epoch = epoch
        self._commits = commits
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._flight: Future[None] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")

    def seal(self, journal: str, buffer: Buffer) -> None:
        """Stage the buffer and send it to be committed; returns when the seal before it is committed.

        Raises:
            OSError: the disk refused; the buffer is as before and may be sealed again.
        """
        files = stage_buffer(self._lake, buffer)
        self.wait()
        accepted = {tenant: counts.accepted for tenant, counts in buffer.totals.items()}
        seal = Seal(self._shard, self._epoch, journal, buffer.sequence, files, accepted)
        self._flight = self._pool.submit(self._commit, seal, buffer)

    def wait(self) -> None:
        """Return once the commit in flight, if any, is done."""
        if self._flight is not None:
            self._flight.result()
            self._flight = None

    def _commit(self, seal: Seal, buffer: Buffer) -> None:
        try:
            self._commits.commit(seal)
            self._on_commit(buffer)
        except HubError as error:
            self._on_failure(error)
        except OSError as error:
            # Committed, but the journal's folder takes nothing more: a new incarnation goes on from what is there.
            self._on_failure(JournalFailed(f"the keys of committed rows could not be kept: {error.strerror}"))
