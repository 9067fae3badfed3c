"""GET /api/v1/health and /api/v1/ready: alive at all, and able to serve."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serving.answers import json_answer
from serving.dead_letter_alarm import DeadLetterAlarm
from serving.query_port import QueryPort
from serving.readings import Readings, freshness_s, shard_reason

router = APIRouter(tags=["health"])

# Answers promise to be five seconds fresh; behind by more than this, they are not.
_LAG_MAX_S: Final = 30.0
_CHECK_WITHIN_S: Final = 6.0


@router.get("/api/v1/health", response_model=None)
async def get_health() -> Response:
    """This process answers. Open to everybody; tells nothing else."""
    return json_answer({"status": "ok"})


@router.get("/api/v1/ready", response_model=None)
async def get_ready(request: Request) -> Response:
    """Whether the hub can serve. Open to everybody, since load balancers hold no key; names parts, never tenants.

    "ready": everything works. "degraded" (200 too): it serves, and a reason says what does not: taking every door
    away because one shard stopped would turn a part's failure into the whole's. "not_ready" (503): it cannot serve.
    """
    readings: Readings = request.app.state.readings
    blocking: list[str] = []
    degrading: list[str] = []
    if not await asyncio.to_thread(request.app.state.metadata.is_reachable):
        blocking.append("metadata: the store does not answer")
    try:
        async with asyncio.timeout(_CHECK_WITHIN_S):
            shards, committer = await asyncio.gather(readings.shards(), readings.committer())
    except TimeoutError:
        blocking.append("shards: no answer in time")
    else:
        idle = [shard for shard in shards if shard["state"] != "serving"]
        told = [_told(shard) for shard in idle]
        (blocking if len(idle) == len(shards) else degrading).extend(told or ([] if shards else ["shards: none"]))
        if not committer:
            degrading.append("committer: does not answer")
        lag_s = freshness_s(shards)
        if lag_s > _LAG_MAX_S:
            degrading.append(f"committer: {lag_s:.0f} s behind")
    if not await _answers_questions(request.app.state.query):
        degrading.append("query: does not answer")
    status = "not_ready" if blocking else "degraded" if degrading else "ready"
    # What senders do wrong takes nothing away from what the hub can do.
    alarm: DeadLetterAlarm = request.app.state.alarm
    if above := alarm.above():
        share_max = request.app.state.settings.dead_letter_share_max
        degrading.append(f"dead letters: {above} tenants have over {share_max:.0%} of their rows refused")
    headers = {"Retry-After": "2"} if blocking else None
    return json_answer({"status": status, "reasons": blocking + degrading}, 503 if blocking else 200, headers)


def _told(shard: Mapping[str, Any]) -> str:
    why = shard_reason(shard)
    return f"shard {shard['shard']}: {shard['state']}" + (f", {why}" if why else "")


async def _answers_questions(query: QueryPort | None) -> bool:
    if query is None:
        return False
    try:
        await asyncio.wait_for(query.catalog(), _CHECK_WITHIN_S)
    except Exception:
        # Whatever it raises, whether ours or Ray's, it did not answer.
        return False
    return True
