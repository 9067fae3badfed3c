"""Found anomalies, newest first, each as its latest revision tells it."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cluster.errors import NotFound, RequestInvalid
from models.query.parameters import Parameters, collect, one, parse_limit
from models.query.search import Place, read_cursor, write_cursor
from models.query.sql import Fragment, Run, joined, placed
from models.query.times import Range, format_instant, parse_range

LIMIT_MAX: Final = 500
_DEFAULT_LIMIT: Final = 100
_DEFAULT_FROM: Final = "-7d"
_TEXT_LENGTH_MAX: Final = 2_000
# Column of the parameter, and what it may be; () for any text.
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "state": ("open", "closed"),
    "severity": ("minor", "major", "critical"),
    "detector": (),
    "entity": (),
}
ALL_TIME: Final = Range(0, 2**62)
_LENGTH_MAX_US: Final = 30 * 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomaliesRequest:
    """A checked question. `binding` ties its cursors to the tenants and filters they were made for."""

    span: Range
    chosen: tuple[tuple[str, str], ...]
    limit: int
    after: Place | None
    binding: bytes


def parse_anomalies(parameters: Parameters, tenants: Sequence[str], *, now_us: int) -> AnomaliesRequest:
    """The question that (name, text) pairs ask: `state`, `severity`, `detector`, `entity`, range, `limit`, `cursor`.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit, or the cursor is of another question or tenant.
    """
    given = collect(parameters, known=(*_CHOICES, "from", "to", "limit", "cursor"), repeated=frozenset())
    chosen = []
    for name, choices in _CHOICES.items():
        text = one(given, name, "")
        if len(text) > _TEXT_LENGTH_MAX or (text and choices and text not in choices):
            raise RequestInvalid(
                f"{name}={text[:80]!r} is not one", hint=f"Use {', '.join(choices) or 'a short text'}."
            )
        if text:
            chosen.append((name, text))
    binding = hashlib.blake2b(repr(("anomalies", tuple(tenants), chosen)).encode(), digest_size=8).digest()
    return AnomaliesRequest(
        span=parse_range(one(given, "from", _DEFAULT_FROM), one(given, "to", "now"), now_us=now_us),
        chosen=tuple(chosen),
        limit=parse_limit(one(given, "limit", str(_DEFAULT_LIMIT)), most=LIMIT_MAX),
        after=read_cursor(given["cursor"][0], binding) if given["cursor"] else None,
        binding=binding,
    )


def reach(span: Range) -> Range:
    """Where rows of anomalies may have begun that reach into a range."""
    return Range(max(0, span.from_us - _LENGTH_MAX_US), span.to_us)


def anomalies_answer(request: AnomaliesRequest, rows: Fragment, run: Run) -> dict[str, Any]:
    """`{"anomalies": [...], "next_cursor": text or null}`: those that touch the range.

    Args:
        rows: SELECT of the rows that may be seen and can have begun before the end of the range.
    """
    at = "make_timestamptz(?::BIGINT)"
    touching = Fragment(f"ended_at > {at} AND started_at < {at}", (request.span.from_us, request.span.to_us))
    parts = [touching, *(Fragment(f"{name} = ?", (text,)) for name, text in request.chosen), _behind(request.after)]
    question = placed(
        f"SELECT {_COLUMNS} FROM ({{}}) AS l WHERE {{}} "
        f"ORDER BY started_at DESC, anomaly_id DESC LIMIT {request.limit + 1}",
        _latest(rows),
        joined(parts, " AND "),
    )
    found = run(question).dicts()
    page = found[: request.limit]
    last = Place(page[-1]["started_at"], page[-1]["anomaly_id"]) if len(found) > request.limit else None
    return {
        "anomalies": [told(row) for row in page],
        "next_cursor": write_cursor(last, request.binding) if last else None,
    }


def anomaly_answer(anomaly_id: str, rows: Fragment, run: Run) -> dict[str, Any]:
    """One anomaly.

    Raises:
        NotFound: the scope's tenants have none of that id.
    """
    question = placed(
        f"SELECT {_COLUMNS} FROM ({{}}) AS l WHERE {{}}", _latest(rows), Fragment("anomaly_id = ?", (anomaly_id,))
    )
    found = run(question).dicts()
    if not found:
        raise NotFound(f"no anomaly {anomaly_id[:80]!r}", hint="GET /api/v1/anomalies lists them.")
    return told(found[0])


_COLUMNS: Final = (
    "anomaly_id, revision, epoch_us(detected_at) AS detected_at, detector, model_version, entity, dimensions, "
    "epoch_us(started_at) AS started_at, epoch_us(ended_at) AS ended_at, epoch_us(peak_at) AS peak_at, score, "
    "threshold, measures, severity, state, drivers, baseline, trace_ids, changes"
)


def _latest(rows: Fragment) -> Fragment:
    return placed(
        "SELECT * FROM ({}) AS r QUALIFY row_number() OVER (PARTITION BY anomaly_id ORDER BY revision DESC) = 1", rows
    )


def _behind(after: Place | None) -> Fragment:
    if after is None:
        return Fragment("true")
    at = "make_timestamptz(?::BIGINT)"
    return Fragment(
        f"started_at <= {at} AND (started_at < {at} OR anomaly_id < ?)",
        (after.occurred_us, after.occurred_us, after.event_id),
    )


def told(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON has it."""
    inner = {
        name: msgspec.json.decode(row[name])
        for name in ("dimensions", "measures", "drivers", "baseline", "trace_ids", "changes")
    }
    return {
        "id": row["anomaly_id"],
        "detector": row["detector"],
        "model_version": row["model_version"],
        "entity": row["entity"],
        "dimensions": inner["dimensions"],
        "measures": inner["measures"],
        "from": format_instant(row["started_at"]),
        "to": format_instant(row["ended_at"]),
        "peak_at": format_instant(row["peak_at"]),
        "detected_at": format_instant(row["detected_at"]),
        "score": row["score"],
        "threshold": row["threshold"],
        "severity": row["severity"],
        "state": row["state"],
        "drivers": inner["drivers"],
        "baseline": inner["baseline"],
        "trace_ids": inner["trace_ids"],
        "changes": inner["changes"],
        "revision": row["revision"],
    }
