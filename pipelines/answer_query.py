"""Answers one question over more events than one node scans: `--set query=ID`, an id that the hub gave.

Ray Data reads the files block by block on all nodes, each block becomes partials, and the answer is written from their
merge as from a roll-up (models/query/blocks.py). It is kept in the table `answers`. What the job knows of itself is in
the metadata store: it beats there each second, and ends when it is told that it was cancelled, or that its time is
over. Nothing of it is kept before the one commit at its end.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import structlog

from actors.hosts import RemoteCommits
from cluster.clock import Clock, SystemClock
from cluster.contract.columns import INSTANT
from cluster.contract.told import ANSWER_SCHEMA
from cluster.errors import HubError, NotFound, RequestInvalid, Unavailable
from cluster.lake.duck import open_duck
from cluster.lake.past import check_files, snapshot_at
from cluster.lake.scan import Snapshot
from cluster.lake.stage import stage
from cluster.lake.tables import ANSWERS, TABLES
from cluster.metadata.query_jobs import BEAT_S, DONE, FAILED, Bounds, Progress, QueryJob, QueryJobStore
from cluster.metadata.schema import open_metadata
from cluster.settings import Settings
from cluster.tenancy import TenantId, TenantScope
from models.query.blocks import RELATION, Reduction, answer, in_blocks, parts_of
from models.query.kinds import Question, ask
from models.query.source import Context
from models.query.sql import Fragment, Result
from models.query.stored import Stored, read_told, taken_apart, whole
from pipelines.blocks import Block, blocks_of, cluster_cores, over_cluster, table_of
from pipelines.joining import join
from pipelines.options import chosen
from pipelines.report import reported

log = structlog.get_logger("answer_query")

_OPTIONS: Final = ("query",)
# Partials held at once; more groups than fit are no answer anybody reads.
PARTIAL_BYTES_MAX: Final = 1024 * 1024 * 1024
_MERGE_BYTES: Final = 64 * 1024 * 1024
_DUCK_BYTES: Final = 1024 * 1024 * 1024
_TOO_MANY: Final = "Group by a field with fewer values, filter, or ask for a shorter range."
_EXIT_ENDED: Final = 3


def end_process(why: str) -> None:
    """End at once: there is nothing to tidy up, and Ray ends what its job has running."""
    print(why, file=sys.stderr, flush=True)
    os._exit(_EXIT_ENDED)


class Pulse:
    """Tells the store each second that the job lives and how far it is; ends the process when it is to end."""

    def __init__(
        self,
        store: QueryJobStore,
        job: QueryJob,
        clock: Clock,
        *,
        timeout_s: float,
        leave: Callable[[str], None] = end_process,
        every_s: float = BEAT_S,
    ) -> None:
        """
        Args:
            timeout_s: the job's time, from now.
            leave: ends the process, told why.
        """
        self.progress = Progress()
        self._store = store
        self._query_id = job.query_id
        self._clock = clock
        self._timeout_s = timeout_s
        self._until_s = clock.monotonic_s() + timeout_s
        self._leave = leave
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                why = self._beat()
            except Unavailable as error:
                # The lease is many beats long.
                log.warning("beat_missed", error=error.message)
                continue
            if why:
                self._leave(why)
                return

    def _beat(self) -> str:
        """Why the job is over; empty while it is not."""
        if self._clock.monotonic_s() > self._until_s:
            message = f"the job ran over {self._timeout_s:.3g} s and was cancelled"
            hint = "Ask for a shorter range; HUB_QUERY_JOB_TIMEOUT_S is the bound."
            self._store.end(self._query_id, FAILED, code="query_timeout", message=message, hint=hint)
            return "its time is over"
        return "" if self._store.beat(self._query_id, self.progress) else "it was cancelled"


@dataclass(frozen=True, slots=True)
class Asked:
    """A job's question, read, with the version of the events that it is about."""

    scope: TenantScope
    question: Question
    snapshot: Snapshot

    @property
    def reduction(self) -> Reduction:
        return Reduction(self.question.plans)


def read_job(settings: Settings, job: QueryJob) -> Asked:
    """The question of a job.

    Raises:
        NotFound: the version it is about, or a file of it, is no longer kept.
        RequestInvalid: it cannot be answered in blocks.
    """
    scope = TenantScope.of(TenantId(job.tenant_id), job.project_id)
    snapshot = snapshot_at(settings.lake, "events", version=job.version)
    told = read_told(job.question)
    context = Context(job.now_us, scope.tenants, settings.groups_max, told.floors)
    question = ask(job.kind, whole(job.kind, told.parameters), context)
    if not in_blocks(question):
        raise RequestInvalid(f"a question of kind {job.kind} is not answered by a job")
    return Asked(scope, question, snapshot)


def answer_job(
    settings: Settings, asked: Asked, blocks: Sequence[Block], tell: Callable[[Progress], None]
) -> dict[str, Any]:
    """The answer, read by the whole cluster.

    Raises:
        RequestInvalid: the groups do not fit the memory of one process.
    """
    reduction = asked.reduction
    gathered, held_bytes = [reduction.nothing()], 0
    nodes: set[str] = set()
    progress = Progress()
    for one in over_cluster(settings.lake, asked.scope, reduction, blocks):
        gathered.append(table_of(one.partials))
        held_bytes += len(one.partials)
        if held_bytes > _MERGE_BYTES:
            gathered = [reduction.merged(gathered)]
            held_bytes = 0
            if gathered[0].nbytes > PARTIAL_BYTES_MAX:
                raise RequestInvalid(f"over {gathered[0].num_rows:,} groups do not fit", hint=_TOO_MANY)
        block = blocks[one.block]
        nodes.add(one.node)
        progress = Progress(
            file_count=progress.file_count + len(block.paths),
            row_count=progress.row_count + block.rows,
            size_bytes=progress.size_bytes + block.size_bytes,
            nodes=len(nodes),
        )
        tell(progress)
    return written(settings, asked.question, reduction.merged(gathered)) | {"version": asked.snapshot.version}


def written(settings: Settings, question: Question, partials: pa.Table) -> dict[str, Any]:
    """The answer from merged partials, without `version`."""
    with closing(open_duck(settings.lake, threads=1, memory_bytes=_DUCK_BYTES)) as connection:
        connection.register(RELATION, partials)

        def run(sql: Fragment) -> Result:
            rows = connection.execute(sql.text, list(sql.parameters)).fetchall()
            return Result(tuple(column[0] for column in connection.description or ()), rows)

        return answer(question, run)


def answer_rows(job: QueryJob, stored: Stored, told_at_us: int) -> pa.Table:
    """Rows of the table `answers`."""
    count = 1 + len(stored.entries)
    columns = {
        "query_id": pa.repeat(job.query_id, count),
        "project_id": pa.array([job.project_id] * count, pa.string()),
        "told_at": pa.repeat(pa.scalar(told_at_us, pa.int64()), count).cast(INSTANT),
        "place": pa.array(range(count), pa.int64()),
        "member": pa.repeat(stored.member, count),
        "content": pa.array([stored.head, *stored.entries], pa.string()),
    }
    return pa.table(columns, schema=ANSWER_SCHEMA)


def run_job(
    settings: Settings, store: QueryJobStore, job: QueryJob, *, leave: Callable[[str], None] = end_process
) -> dict[str, Any]:
    """Answer a claimed job, keep the answer, and say so; its report.

    Args:
        leave: ends the process when the job is over before, told why.
    """
    clock = SystemClock()
    with Pulse(store, job, clock, timeout_s=settings.query_job_timeout_s, leave=leave) as pulse:
        try:
            join(settings.namespace)
            asked = read_job(settings, job)
            blocks = blocks_of(asked.scope, asked.snapshot, parts_of(asked.question), cores=cluster_cores())
            check_files((path for block in blocks for path in block.paths), asked.snapshot)

            def tell(progress: Progress) -> None:
                pulse.progress = progress

            stored = taken_apart(answer_job(settings, asked, blocks, tell))
            rows = answer_rows(job, stored, clock.now_us())
            # A new attempt is a new job, so the id makes the files' names unique.
            staged = stage(settings.lake, TABLES[ANSWERS], rows, tenant_id=job.tenant_id, token=f"query-{job.query_id}")
            store.beat(job.query_id, pulse.progress)
            RemoteCommits(settings).commit_answer(job.query_id, staged)
        except HubError as error:
            store.end(job.query_id, FAILED, code=error.code, message=error.message, hint=error.hint)
            raise
        except Exception as error:
            # Whatever ends a job is told to who waits for it; the words of the machinery stay in its log.
            cause = _cause(error)
            store.end(job.query_id, FAILED, code=cause.code, message=cause.message, hint=cause.hint)
            raise
        ended = store.end(job.query_id, DONE)
    told = pulse.progress
    return {
        "query": job.query_id,
        "state": DONE if ended else "ended by another",
        "entries": len(stored.entries),
        "blocks": len(blocks),
        "files": told.file_count,
        "rows": told.row_count,
        "nodes": told.nodes,
    }


def _cause(error: BaseException | None) -> HubError:
    """The refusal that a task of Ray raised, else one that says no more than that the job failed."""
    while error is not None:
        inner = getattr(error, "cause", None) or error.__cause__
        if isinstance(error, HubError):
            return error
        if isinstance(error, FileNotFoundError):
            return NotFound("a file of the events went away while it was read", hint="Ask again.")
        error = inner if inner is not error else None
    return HubError("a task of the job failed", hint="The job's log names the cause: `ray job logs query-ID`.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 a failure, 2 wrong usage, 3 ended from outside."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.answer_query", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help=", ".join(_OPTIONS))
    try:
        options = chosen(parser.parse_args(arguments).set, _OPTIONS, needed=_OPTIONS)
    except RequestInvalid as error:
        parser.error(error.message)
    return reported(lambda: _run(options["query"]))


def _run(query_id: str) -> dict[str, Any]:
    settings, clock = Settings.from_environment(), SystemClock()
    with closing(open_metadata(settings, clock)) as database:
        store = QueryJobStore(database, clock, Bounds.of(settings))
        job = store.claim(query_id)
        if job is None:
            return {"query": query_id, "state": "not to be run"}
        return run_job(settings, store, job)


if __name__ == "__main__":
    sys.exit(main())
