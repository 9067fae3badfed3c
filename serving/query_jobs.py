"""Questions that run as jobs, as the doors offer them: submitted, followed, cancelled, and their answers by page."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec
import ray
import structlog
from ray.job_submission import JobSubmissionClient

from cluster.clock import Clock, format_rfc3339
from cluster.errors import Unavailable
from cluster.metadata.engine import Database
from cluster.metadata.query_jobs import DONE, FAILED, Bounds, NewQueryJob, QueryJob, QueryJobStore
from cluster.settings import Settings
from cluster.tenancy import TenantScope
from models.query.pages import DEFAULT_LIMIT, parse_page
from models.query.parameters import Parameters, collect
from models.query.stored import Told, page_limit, read_told
from models.query.times import Range
from serving.auth.principal import Principal
from serving.query_port import QueryPort
from serving.query_scan import Scan

# Starts the process that answers the question of an id; raises Unavailable.
Launch = Callable[[str], None]

_RETRY_S: Final = 5.0
_NOT_STARTED: Final = "no process could be started for it"
_log = structlog.get_logger(__name__)
_encoder = msgspec.json.Encoder()


class QueryJobs:
    """Kept as `app.state.query_jobs`. Methods are for one event loop; the store is asked in threads."""

    def __init__(self, settings: Settings, metadata: Database, clock: Clock, launch: Launch | None) -> None:
        """
        Args:
            launch: None for a hub without a cluster that runs jobs.
        """
        self._store = QueryJobStore(metadata, clock, Bounds.of(settings))
        self._launch = launch

    async def submit(self, principal: Principal, kind: str, parameters: Parameters, scan: Scan) -> QueryJob:
        """A job that answers the question.

        Raises:
            Busy: too many jobs are open.
            Unavailable: no job can be started.
        """
        if self._launch is None:
            raise Unavailable("this hub runs no jobs", retry_after_s=_RETRY_S)
        new = NewQueryJob(
            tenant_id=principal.tenant,
            project_id=principal.project_id,
            key_id=principal.key_id,
            kind=kind,
            question=Told(tuple(parameters), scan.floors).text(),
            now_us=scan.now_us,
            version=scan.version,
            reason=scan.reason,
            file_count=scan.volume.file_count,
            row_count=scan.volume.row_count,
            size_bytes=scan.volume.size_bytes,
        )
        job = await asyncio.to_thread(self._store.create, new)
        try:
            await asyncio.to_thread(self._launch, job.query_id)
        except Unavailable as error:
            await asyncio.to_thread(self._store.refuse, job.query_id, _NOT_STARTED, error.hint)
            raise
        return job

    async def find(self, scope: TenantScope, query_id: str) -> QueryJob:
        """A job of the scope; raises NotFound."""
        return await asyncio.to_thread(self._store.find, scope, query_id)

    async def newest(self, scope: TenantScope) -> list[QueryJob]:
        """Jobs of the scope, newest first."""
        return await asyncio.to_thread(self._store.newest, scope)

    async def cancel(self, scope: TenantScope, query_id: str) -> QueryJob:
        """The job of the scope, ended; raises NotFound."""
        return await asyncio.to_thread(self._store.cancel, scope, query_id)


async def told_with_answer(scope: TenantScope, job: QueryJob, query: QueryPort, parameters: Parameters) -> bytes:
    """A job as JSON; with `answer` once it is done.

    Args:
        parameters: `limit` and `cursor` of the page.

    Raises:
        RequestInvalid: another parameter, or one that does not fit.
        NotFound: the answer is not kept.
    """
    given = collect(parameters, known=("limit", "cursor"), repeated=frozenset())
    asked = page_limit(job.kind, read_told(job.question).parameters)
    page = parse_page({**given, "query": [job.query_id]}, default=int(asked or DEFAULT_LIMIT))
    told = told_of(job)
    if job.state == DONE:
        span = Range(job.started_at_us or 0, (job.ended_at_us or 0) + 1)
        told["answer"] = msgspec.Raw(await query.stored(scope, job.query_id, page, span))
    return _encoder.encode(told)


def told_of(job: QueryJob) -> dict[str, Any]:
    """A job as JSON takes it: state, progress, and the planner's reason."""
    asked = read_told(job.question)
    question: dict[str, Any] = {"kind": job.kind}
    for name, text in asked.parameters:
        question.setdefault(name, []).append(text)
    done = job.done
    told: dict[str, Any] = {
        "query_id": job.query_id,
        "state": job.state,
        "question": question,
        "reason": job.reason,
        "version": job.version,
        "progress": {
            "files": [done.file_count, job.file_count],
            "rows": [done.row_count, job.row_count],
            "bytes": [done.size_bytes, job.size_bytes],
            "nodes": done.nodes,
        },
        "created_at": format_rfc3339(job.created_at_us),
        "started_at": _at(job.started_at_us),
        "ended_at": _at(job.ended_at_us),
    }
    if job.state == FAILED:
        told["error"] = {"code": job.error_code, "detail": job.error_message, "hint": job.error_hint}
    return told


def launch_by_ray(query_id: str) -> None:
    """Submit the job that answers a question, through Ray's job API.

    It gets the environment of the cluster's own processes, and is told no other: who sees jobs would see it.

    Raises:
        Unavailable: the job API does not answer or refuses.
    """
    words = [sys.executable, "-m", "pipelines.answer_query", "--set", f"query={query_id}"]
    try:
        client = JobSubmissionClient(ray.get_runtime_context().gcs_address)
        client.submit_job(entrypoint=shlex.join(words), submission_id=f"query-{query_id}")
    except (RuntimeError, ConnectionError, ValueError, OSError) as error:
        _log.error("job_refused", query=query_id, error=str(error)[:300])
        raise Unavailable("the job API does not take the job", retry_after_s=_RETRY_S) from error


def _at(us: int | None) -> str | None:
    return None if us is None else format_rfc3339(us)
