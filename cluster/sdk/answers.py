"""What a hub answers, as the client sees it: an answer, a receipt, a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from cluster.errors import HubError


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read to its end.

    Attributes:
        retry_after: the header as it came, "" where there is none.
    """

    status: int
    content: bytes
    retry_after: str = ""


class HubRefused(HubError):
    """The hub answered that it will not take or answer this; sending the same again will not help.

    Attributes:
        status: HTTP status.
        code: the hub's own code, as in cluster.errors.
    """

    def __init__(self, message: str, *, status: int, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class HubUnreachable(HubError):
    """No acknowledgement within the deadline; the batch may or may not have been taken, so send it again."""

    code = "hub_unreachable"
    hint = "`llmhub status` tells whether the hub runs; --url or HUB_URL names another one."


class NoAnswer(HubError):
    """One try brought no whole answer: no connection, cut, or too slow. Never leaves the SDK."""

    code = "no_answer"


class RowError(msgspec.Struct, frozen=True):
    """Why one row was not taken; `index` counts the rows of the body from 0."""

    index: int
    code: str
    message: str


class Receipt(msgspec.Struct, frozen=True):
    """What became of the rows of one body: accepted + repeated + refused = rows sent.

    Attributes:
        errors: the first hundred refused rows; the hub keeps all of them as dead letters.
    """

    accepted: int = 0
    repeated: int = 0
    refused: int = 0
    errors: tuple[RowError, ...] = ()

    @property
    def rows(self) -> int:
        return self.accepted + self.repeated + self.refused


def receipt(answer: Answer) -> Receipt:
    """The receipt of an event door.

    Raises:
        msgspec.MsgspecError: something else answered in the hub's place.
    """
    return msgspec.json.decode(answer.content, type=Receipt)


def refusal(answer: Answer) -> HubRefused:
    """The hub's problem+json, or what a proxy said instead of it."""
    try:
        problem = msgspec.json.decode(answer.content, type=dict[str, Any])
    except msgspec.MsgspecError:
        problem = {}
    detail = str(problem.get("detail") or answer.content[:200].decode(errors="replace") or "no reason given")
    return HubRefused(
        f"HTTP {answer.status}: {detail}",
        status=answer.status,
        code=str(problem.get("code") or "http_error"),
        hint=str(problem.get("hint") or ""),
    )
