"""/api/v1/queries: questions that run as jobs, because one node should not scan what they read."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.metadata.query_jobs import QueryJob
from serving.answers import json_answer
from serving.api.reading import asked, parameters, passing, port
from serving.auth.authorise import AsReader
from serving.query_jobs import QueryJobs, told_of, told_with_answer

_ACCEPTED: Final = 202

router = APIRouter(prefix="/api/v1/queries", tags=["reading"])


@router.get("", response_model=None)
async def get_queries(request: Request, principal: AsReader) -> Response:
    """The jobs of the tenant, newest first, without their answers."""
    return json_answer({"queries": [told_of(job) for job in await _jobs(request).newest(principal.scope)]})


@router.get(
    "/{query_id}",
    response_model=None,
    openapi_extra=asked(
        ("limit", "entries of the answer, 1 to 10000", False), ("cursor", "next_cursor of the page before", False)
    ),
)
async def get_query(request: Request, principal: AsReader, query_id: str) -> Response:
    """One job: its state, how far it is, why it is one, and its answer once it is done."""
    job = await _jobs(request).find(principal.scope, query_id)
    return passing(await told_with_answer(principal.scope, job, port(request), parameters(request)))


@router.delete("/{query_id}", response_model=None)
async def delete_query(request: Request, principal: AsReader, query_id: str) -> Response:
    """End a job; one that has ended stays as it is."""
    return json_answer(told_of(await _jobs(request).cancel(principal.scope, query_id)))


def submitted(job: QueryJob) -> Response:
    """The answer to a question that became a job: where it is followed."""
    path = f"{router.prefix}/{job.query_id}"
    return json_answer(told_of(job), _ACCEPTED, {"Location": path, "Retry-After": "1", "cache-control": "no-store"})


def _jobs(request: Request) -> QueryJobs:
    jobs: QueryJobs = request.app.state.query_jobs
    return jobs
