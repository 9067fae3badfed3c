"""What Ray raises when a part of the hub is away or overrun, in the hub's own words."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from ray.exceptions import PendingCallsLimitExceeded, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from cluster.errors import Busy, HubError, Unavailable
from serving.problem import answer

_OVERRUN_RETRY_AFTER_S: Final = 1.0
_AWAY_RETRY_AFTER_S: Final = 2.0


def translated(error: Exception) -> HubError | None:
    """The hub's error for one of Ray's; None for a fault in our own code, which waiting does not mend."""
    if isinstance(error, HubError):
        return error
    if isinstance(error, (BackPressureError, PendingCallsLimitExceeded)):
        return Busy("too many requests wait for this part of the hub", retry_after_s=_OVERRUN_RETRY_AFTER_S)
    if isinstance(error, RayTaskError):
        return None
    if isinstance(error, (RayError, RayServeException)):
        return Unavailable("a part of the hub is restarting", retry_after_s=_AWAY_RETRY_AFTER_S)
    return None


def install(app: FastAPI) -> None:
    """Answer Ray's errors as problems; without it each would be a 500, which senders do not repeat."""
    for kind in (RayTaskError, RayError, RayServeException):
        app.add_exception_handler(kind, _on_ray_error)


async def _on_ray_error(_: Request, error: Exception) -> Response:
    known = translated(error)
    if known is None:
        raise error
    return answer(known)
