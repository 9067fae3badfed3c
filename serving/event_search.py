"""Looks for events in the files of a snapshot, newest files first, and stops as soon as a page is full."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from typing import Any, Final

from cluster.lake.scan import ActiveFile, Snapshot, files
from cluster.tenancy import TenantScope
from models.query.search import (
    Place,
    SearchRequest,
    event_columns,
    event_json,
    events_by_key,
    page_keys,
    write_cursor,
)
from models.query.seen import owned, read_files
from models.query.sql import Run, bound, placed

# Files read at once: few at first, since the newest ones mostly hold the page, then more and more.
_FIRST_FILES: Final = 4
_GROWTH: Final = 4
# Events of one trace; beyond, the newest are left out and the answer says so.
TRACE_EVENTS_MAX: Final = 100_000
_ALL_TIME_US: Final = 2**62


def search_events(scope: TenantScope, snapshot: Snapshot, request: SearchRequest, run: Run) -> dict[str, Any]:
    """`{"events": [...], "next_cursor": text or null}`."""
    last_us = request.span.to_us if request.after is None else min(request.span.to_us, request.after.occurred_us + 1)
    found = files(scope, snapshot, request.span.from_us, last_us)
    keys: list[Place] = []
    used: list[ActiveFile] = []
    size = _FIRST_FILES
    while found:
        if len(keys) > request.limit and found[0].to_us < keys[request.limit].occurred_us:
            # What is left is older than the whole page.
            break
        part, found = found[:size], found[size:]
        size *= _GROWTH
        table = run(page_keys(request, owned(scope, read_files(one.path for one in part))))
        keys += [Place(at_us, event_id) for at_us, event_id in table.rows]
        keys.sort(key=lambda place: (place.occurred_us, place.event_id), reverse=True)
        keys = keys[: request.limit + 1]
        used += part
    more = len(keys) > request.limit
    keys = keys[: request.limit]
    return {
        "events": _events(scope, used, keys, run),
        "next_cursor": write_cursor(keys[-1], request.binding) if more else None,
    }


def _events(scope: TenantScope, used: list[ActiveFile], keys: list[Place], run: Run) -> list[dict[str, Any]]:
    if not keys:
        return []
    first, last = keys[-1].occurred_us, keys[0].occurred_us
    paths = [one.path for one in used if one.from_us <= last and one.to_us >= first]
    rows = run(events_by_key(owned(scope, read_files(paths)), keys)).dicts()
    wanted = {(place.occurred_us, place.event_id) for place in keys}
    return [event_json(row) for row in rows if (row["occurred_at"], row["event_id"]) in wanted]


def rows_of_trace(scope: TenantScope, snapshot: Snapshot, trace_id: str, run: Run) -> list[dict[str, Any]]:
    """Events of a trace, oldest first, as rows of `event_columns`; at most TRACE_EVENTS_MAX + 1."""
    found = files(scope, snapshot, 0, _ALL_TIME_US)
    if not found:
        return []
    question = placed(
        f"SELECT {event_columns()}, counted FROM ({{}}) AS r WHERE trace_id = ? "
        f"ORDER BY occurred_at, event_id LIMIT {TRACE_EVENTS_MAX + 1}",
        owned(scope, read_files(one.path for one in found)),
        bound(trace_id),
    )
    return run(question).dicts()
