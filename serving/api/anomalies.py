"""GET /api/v1/anomalies: what the detectors found; POST …/{id}/feedback: whether it was one, which moves thresholds."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from cluster.errors import BodyUnreadable, RequestInvalid
from cluster.metadata.feedback import FeedbackStore, Verdict
from models.anomaly.features import FEATURES
from models.anomaly.lessons import Lessons
from models.anomaly.threshold import Threshold
from serving.api.detectors import whole_tenant
from serving.api.reading import asked, parameters, passing, port
from serving.auth.roles import Permission

router = APIRouter(prefix="/api/v1", tags=["learning"])

_BODY: Final = {
    "type": "object",
    "required": ["label"],
    "properties": {"label": {"type": "string", "enum": ["true", "false"]}, "comment": {"type": "string"}},
}
_BODY_BYTES_MAX: Final = 16 * 1024


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """As it is sent."""

    label: Literal["true", "false"]
    comment: str = ""


@router.get(
    "/anomalies",
    response_model=None,
    openapi_extra=asked(
        ("state", "open or closed", False),
        ("severity", "minor, major or critical", False),
        ("detector", "only of this kind", False),
        ("entity", "only of this one", False),
        ("from", "RFC 3339 or relative, default -7d", False),
        ("to", "RFC 3339 or relative, default now", False),
        ("limit", "anomalies of a page, 1 to 500", False),
        ("cursor", "next_cursor of the page before", False),
    ),
)
async def anomalies(request: Request) -> Response:
    """Found anomalies that touch the range, newest first, each with drivers, traces and what was changed before."""
    principal = await request.app.state.authorise(request, Permission.ANOMALIES)
    whole_tenant(principal)
    query = port(request)
    found = orjson.loads((await query.anomalies(principal.scope, parameters(request))).body)
    store: FeedbackStore = request.app.state.feedback
    labels = await run_in_threadpool(store.labels, principal.tenant)
    for one in found["anomalies"]:
        known = labels.get(one["id"])
        one["feedback"] = None if known is None else str(known).lower()
    return passing(orjson.dumps(found))


@router.post(
    "/anomalies/{anomaly_id}/feedback",
    response_model=None,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}},
)
async def post_feedback(anomaly_id: str, request: Request) -> Response:
    """Keep what was said, and tell how high an alarm like this one has to be from now on."""
    state = request.app.state
    principal = await state.authorise(request, Permission.FEEDBACK)
    whole_tenant(principal)
    query = port(request)
    async with state.bodies.body(request, sent_max=_BODY_BYTES_MAX) as body:
        try:
            said = msgspec.json.decode(body, type=Feedback)
        except msgspec.ValidationError as error:
            raise RequestInvalid(
                str(error)[:200], hint='{"label":"true"} or {"label":"false","comment":"…"}'
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BodyUnreadable("the body is not JSON") from error
    found = orjson.loads((await query.anomaly(principal.scope, anomaly_id)).body)
    store: FeedbackStore = state.feedback
    verdict = Verdict(
        found["id"],
        found["detector"],
        found["entity"],
        is_true=said.label == "true",
        score=float(found["score"]),
        comment=said.comment,
        told_by=principal.key_id,
        drivers=tuple(found["drivers"]),
    )
    await run_in_threadpool(store.record, principal.tenant, verdict)
    verdicts = await run_in_threadpool(store.by_threshold)
    mine = verdicts.get((principal.tenant, found["detector"], found["entity"]), [])
    return passing(orjson.dumps({**_learned(found, mine), "label": said.label}))


def _learned(found: dict[str, Any], verdicts: list[Verdict]) -> dict[str, Any]:
    """What verdicts on a detector and entity make of the threshold of an alarm like the one found."""
    baseline = found["baseline"]
    lessons = Lessons.of(verdicts, int(baseline.get("features", len(FEATURES))))
    # Its own threshold was raised already by what had been said before.
    before = Threshold(float(found["threshold"]) / float(baseline.get("threshold_factor", 1.0)), 60, 1.0)
    threshold = lessons.threshold(before, found["drivers"])
    false, true = lessons.alike(found["drivers"])
    return {
        **{name: found[name] for name in ("id", "detector", "entity")},
        "verdicts": len(verdicts),
        "alike": {"false": false, "true": true},
        "threshold": threshold.level,
        "threshold_factor": threshold.factor,
    }
