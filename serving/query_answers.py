"""An answer, what it follows from, and the last ones kept by that."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cluster.errors import HubError, RequestInvalid
from cluster.lake.tables import MINUTES
from cluster.tenancy import TenantScope
from models.query.kinds import Question
from models.query.parameters import Parameters
from serving.last_changes import ChangedDays

# Tables whose changed days are followed.
FOLLOWED: Final = (MINUTES, "events")
# Answers of one batch, together.
BATCH_BYTES_MAX: Final = 32 * 1024 * 1024
# A kind and its parameters, not read yet.
Asked = tuple[str, Parameters]
# All that an answer follows from: scope, question, and versions since which nothing it reads changed.
AnswerKey = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON ready to send.

    Attributes:
        version: version of the table it was read from.
        etag: quoted; equal for equal questions of equal scopes at equal versions, so 304 may be said on it.
    """

    body: bytes
    version: int
    etag: str


def table_of(question: Question) -> str:
    """The table whose version an answer tells: every roll-up tier is followed to the version of the minutes."""
    return MINUTES if question.from_rollups else "events"


def since_of(scope: TenantScope, question: Question, changed: Mapping[str, ChangedDays]) -> tuple[int, ...]:
    """For each range a question reads, a version since which none of its rows changed.

    What others send, and what came for other days, does not make an answer wrong that was given before.

    Args:
        changed: by name, the `FOLLOWED` tables.
    """
    if not question.plans:
        return (changed["events"].version,)
    return tuple(
        changed[MINUTES if plan.from_rollups else "events"].last(scope, span)
        for plan in question.plans
        for span in plan.ranges
    )


def key_of(scope: TenantScope, question: Question, since: tuple[int, ...]) -> AnswerKey:
    """The key of an answer about the newest version.

    Args:
        since: see `since_of`.
    """
    return (scope, question.kind, question.request, *since)


def etag_of(version: int, key: AnswerKey) -> str:
    """Quoted; of one answer."""
    return f'"{version}-{hashlib.blake2b(repr(key).encode(), digest_size=12).hexdigest()}"'


def within_bounds(answers: Sequence[Answer | HubError]) -> list[Answer | HubError]:
    """The answers of one batch, with a refusal in place of each that goes over `BATCH_BYTES_MAX`."""
    size_bytes = 0
    found: list[Answer | HubError] = []
    for answer in answers:
        size_bytes += len(answer.body) if isinstance(answer, Answer) else 0
        too_large = RequestInvalid(
            f"the answers of this batch are over {BATCH_BYTES_MAX} bytes", hint="Ask this question by itself."
        )
        found.append(answer if size_bytes <= BATCH_BYTES_MAX else too_large)
    return found


class AnswerCache:
    """The last used answers, up to a number of bytes. Keys hold scope and version: nothing foreign, nothing stale."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._answers: OrderedDict[AnswerKey, Answer] = OrderedDict()

    def get(self, key: AnswerKey) -> Answer | None:
        """The answer of that question, scope and version, if it is kept."""
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    def put(self, key: AnswerKey, answer: Answer) -> None:
        """Keep an answer, in place of those not used for longest. One over a tenth of the limit is not kept."""
        if len(answer.body) > self._limit_bytes // 10 or key in self._answers:
            return
        self._answers[key] = answer
        self._size_bytes += len(answer.body)
        while self._size_bytes > self._limit_bytes:
            _, dropped = self._answers.popitem(last=False)
            self._size_bytes -= len(dropped.body)
