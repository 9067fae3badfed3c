"""Many questions in one request, each answered or refused by itself: a board is refreshed with one round trip."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cluster.errors import HubError, QueryTimeout, RequestInvalid
from models.query.parameters import parse_body
from serving import problem
from serving.auth.principal import Principal
from serving.query_answers import Answer, Asked
from serving.query_port import QueryPort
from serving.quotas import Quotas
from serving.sql_job import SqlRows

BATCH: Final = "batch"
QUESTIONS_MAX: Final = 50
_NAMES: Final = ("kind", "queries", "etags")


Outcome = Answer | SqlRows | HubError


@dataclass(frozen=True, slots=True)
class Part:
    """One question of a batch: a body of `parse_body`, and the ETag of the answer that the asker holds."""

    question: Any
    held: str | None


def parse_batch(body: dict[str, Any]) -> tuple[Part, ...]:
    """The parts of a batch; what is wrong with one question is found when it is asked.

    Raises:
        RequestInvalid: a member is unknown, or is no list of the right length.
    """
    unknown = [name for name in body if name not in _NAMES]
    if unknown:
        raise RequestInvalid(f"{unknown[0][:80]!r} is not known in a batch", hint="It has queries, and etags.")
    queries = body.get("queries")
    if not isinstance(queries, list) or not 1 <= len(queries) <= QUESTIONS_MAX:
        raise RequestInvalid(
            f"queries is not a list of 1 to {QUESTIONS_MAX} questions",
            hint='{"kind":"batch","queries":[{"kind":"top"}]}',
        )
    etags = parse_etags(body.get("etags"), len(queries))
    return tuple(Part(question, held) for question, held in zip(queries, etags, strict=True))


def parse_etags(etags: Any, count: int) -> list[str | None]:
    """The ETag that is held for each of the questions; none is held where none are told.

    Raises:
        RequestInvalid: it is no list of texts and nulls of that length.
    """
    told = etags or [None] * count
    sound = isinstance(told, list) and len(told) == count
    if not sound or not all(etag is None or isinstance(etag, str) for etag in told):
        raise RequestInvalid(
            "etags is not a list with a text or null for each of the questions",
            hint="Send the etag of each answer you hold, null where you hold none.",
        )
    return list(told)


class Batch:
    """Asks the parts of one batch for one principal."""

    def __init__(self, query: QueryPort, quotas: Quotas, principal: Principal) -> None:
        self._query = query
        self._quotas = quotas
        self._principal = principal

    async def answer(self, parts: tuple[Part, ...], now_us: int) -> tuple[bytes, str | None]:
        """The body of the answer, and its ETag where none of the parts was refused for a passing reason.

        Args:
            now_us: what relative times of all of them stand on.
        """
        # The request itself has taken the first.
        outcomes = await self.outcomes([part.question for part in parts], now_us, taken=1)
        return written(outcomes, [part.held for part in parts])

    async def outcomes(self, questions: Sequence[Any], now_us: int, *, taken: int = 0) -> list[Outcome]:
        """The answer to each question, or why there is none.

        Args:
            taken: how many of them count against the tenant's quota already.
        """
        read = [self._read(question, counts=place >= taken) for place, question in enumerate(questions)]
        asked = [one for one in read if not isinstance(one, HubError)]
        answers = iter(await self._query.batch(self._principal.scope, asked, now_us=now_us) if asked else [])
        return [one if isinstance(one, HubError) else next(answers) for one in read]

    def _read(self, question: Any, *, counts: bool) -> Asked | HubError:
        try:
            if counts:
                self._quotas.take_question(self._principal)
            return parse_question(question)
        except HubError as error:
            return error


def parse_question(question: Any) -> Asked:
    """Kind and parameters of one question that is no batch.

    Raises:
        RequestInvalid: see `parse_body`, or it is a batch.
    """
    kind, pairs = parse_body(question)
    if kind == BATCH:
        raise RequestInvalid("a batch holds no batch", hint="Put its queries into the outer one.")
    return kind, pairs


def written(outcomes: Sequence[Outcome], held: Sequence[str | None]) -> tuple[bytes, str | None]:
    """The body that tells them in their order, and its ETag where a moment later they would be the same."""
    told = [_told(outcome, etag) for outcome, etag in zip(outcomes, held, strict=True)]
    body = b'{"answers":[' + b",".join(text for text, _ in told) + b"]}"
    marks = [mark for _, mark in told if mark is not None]
    return body, _mark("|".join(marks).encode()) if len(marks) == len(told) else None


def _told(outcome: Outcome, held: str | None) -> tuple[bytes, str | None]:
    """One entry of the answer, and what stands for it in the ETag; None for what may be another a moment later."""
    if isinstance(outcome, SqlRows):
        return b'{"status":200,"answer":%b}' % outcome.body, None
    if isinstance(outcome, HubError):
        answer = problem.answer(outcome)
        text = b'{"status":%d,"problem":%b}' % (answer.status_code, bytes(answer.body))
        passing = problem.retry_after_s(outcome) is not None or isinstance(outcome, QueryTimeout)
        return text, None if passing else _mark(text)
    etag = msgspec.json.encode(outcome.etag)
    if outcome.etag == held:
        return b'{"status":304,"etag":%b}' % etag, outcome.etag
    return b'{"status":200,"etag":%b,"answer":%b}' % (etag, outcome.body), outcome.etag


def _mark(text: bytes) -> str:
    return f'"{hashlib.blake2b(text, digest_size=16).hexdigest()}"'
