"""Dead letters: refused rows newest first, page by page, with their counts by reason."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.query.parameters import Parameters, collect, one, parse_limit
from models.query.search import Place, read_cursor, write_cursor
from models.query.sql import Fragment, Run, bound, joined, placed
from models.query.times import Range, format_instant, parse_range

# Each may bring 64 KiB of its original.
LIMIT_MAX: Final = 200
_DEFAULT_LIMIT: Final = 50
_DEFAULT_FROM: Final = "-7d"
_TEXT_LENGTH_MAX: Final = 200
# Reasons are codes of ours, some dozens; the bound holds whatever a table may contain.
_REASONS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLettersRequest:
    """A checked question. `binding` ties its cursors to the tenants and filters they were made for."""

    span: Range
    reason_code: str
    source: str
    limit: int
    after: Place | None
    binding: bytes


def parse_dead_letters(parameters: Parameters, tenants: Sequence[str], *, now_us: int) -> DeadLettersRequest:
    """The question that (name, text) pairs ask: `reason_code`, `source`, `from`, `to`, `limit`, `cursor`.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit, or the cursor is of another question or tenant.
    """
    given = collect(parameters, known=("reason_code", "source", "from", "to", "limit", "cursor"), repeated=frozenset())
    reason_code, source = one(given, "reason_code", ""), one(given, "source", "")
    for name, text in (("reason_code", reason_code), ("source", source)):
        if len(text) > _TEXT_LENGTH_MAX:
            raise RequestInvalid(f"{name} is over {_TEXT_LENGTH_MAX} characters", hint="by_reason lists them.")
    told = repr(("dead_letters", tuple(tenants), reason_code, source))
    binding = hashlib.blake2b(told.encode(), digest_size=8).digest()
    return DeadLettersRequest(
        span=parse_range(one(given, "from", _DEFAULT_FROM), one(given, "to", "now"), now_us=now_us),
        reason_code=reason_code,
        source=source,
        limit=parse_limit(one(given, "limit", str(_DEFAULT_LIMIT)), most=LIMIT_MAX),
        after=read_cursor(given["cursor"][0], binding) if given["cursor"] else None,
        binding=binding,
    )


def dead_letters_answer(request: DeadLettersRequest, rows: Fragment, run: Run) -> dict[str, Any]:
    """`{"dead_letters": [...], "by_reason": [...], "next_cursor": text or null}`; counts are of the whole range.

    Args:
        rows: SELECT of the dead letters that may be seen and can lie in the range.
    """
    reasons = run(
        placed(
            "SELECT reason_code, count(*) AS count FROM ({}) AS r WHERE {} "
            f"GROUP BY reason_code ORDER BY count DESC, reason_code LIMIT {_REASONS_MAX}",
            rows,
            _chosen(request),
        )
    ).dicts()
    # The places first: reading every original to keep a page of them would read the whole range.
    found = run(
        placed(
            "SELECT epoch_us(received_at) AS at_, dead_letter_id FROM ({}) AS r WHERE {} "
            f"ORDER BY received_at DESC, dead_letter_id DESC LIMIT {request.limit + 1}",
            rows,
            joined([_chosen(request), _behind(request.after)], " AND "),
        )
    ).rows
    places = [Place(at_us, letter_id) for at_us, letter_id in found]
    page = places[: request.limit]
    letters = run(_of_page(rows, page)).dicts() if page else []
    wanted = {(place.occurred_us, place.event_id) for place in page}
    return {
        "dead_letters": [_told(row) for row in letters if (row["received_at"], row["dead_letter_id"]) in wanted],
        "by_reason": reasons,
        "next_cursor": write_cursor(page[-1], request.binding) if len(places) > request.limit else None,
    }


def _chosen(request: DeadLettersRequest) -> Fragment:
    """Condition: in the range, of the reason and source that were asked."""
    parts = [_inside(request.span)]
    for name, text in (("reason_code", request.reason_code), ("source", request.source)):
        if text:
            parts.append(Fragment(f"{name} = ?", (text,)))
    return joined(parts, " AND ")


def _behind(after: Place | None) -> Fragment:
    if after is None:
        return Fragment("true")
    at = "make_timestamptz(?::BIGINT)"
    return Fragment(
        f"received_at <= {at} AND (received_at < {at} OR dead_letter_id < ?)",
        (after.occurred_us, after.occurred_us, after.event_id),
    )


def _of_page(rows: Fragment, page: Sequence[Place]) -> Fragment:
    instants = [place.occurred_us for place in page]
    marks = ", ".join("?" * len(page))
    return placed(
        "SELECT dead_letter_id, tenant_id, epoch_us(received_at) AS received_at, source, row_index, reason_code, "
        f"message, original, original_size_bytes FROM ({{}}) AS r WHERE {{}} AND dead_letter_id IN ({marks}) "
        "ORDER BY received_at DESC, dead_letter_id DESC",
        rows,
        _inside(Range(min(instants), max(instants) + 1)),
        bound(*(place.event_id for place in page)),
    )


def _inside(span: Range) -> Fragment:
    return Fragment(
        "received_at >= make_timestamptz(?::BIGINT) AND received_at < make_timestamptz(?::BIGINT)",
        (span.from_us, span.to_us),
    )


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """A dead letter as JSON; the original as text where it is one, else in base64."""
    original = bytes(row.pop("original"))
    told = {**row, "received_at": format_instant(row["received_at"])}
    told["is_complete"] = len(original) == row["original_size_bytes"]
    try:
        told["original"] = original.decode()
    except UnicodeDecodeError:
        told["original_base64"] = base64.b64encode(original).decode()
    return told
