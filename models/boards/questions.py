"""The questions that a board asks, by name: what a signed link may have answered, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

SQL: Final = "sql"
DEFAULT_RANGE: Final = "24h"
# A panel's id has no dot, so that these names are nobody else's.
KPIS: Final = "kpis.now"
KPI_COURSE: Final = "kpis.course"
BEFORE: Final = ".before"

Question = dict[str, Any]

_BACK: Final = re.compile(r"-([0-9]{1,6})([smhdw])")


def compares(query: Mapping[str, Any]) -> bool:
    """Whether a timeseries is drawn with the period before, which is a question of its own."""
    return query.get("kind") == "timeseries" and query.get("compare") == "previous"


def current(query: Mapping[str, Any]) -> Question:
    """The question about the range itself."""
    return {name: value for name, value in query.items() if not (name == "compare" and compares(query))}


def panel_questions(query: Mapping[str, Any], board_range: str, filters: Sequence[str] = ()) -> list[Question]:
    """What a panel asks: its question, and where it compares the same one a period earlier.

    Args:
        board_range: taken where the query names no range of its own; empty for a day.
        filters: added to its own; SQL takes none, and the range as its view.
    """
    start = query.get("from") or f"-{board_range or DEFAULT_RANGE}"
    span = {"from": start, "to": query.get("to") or "now"}
    if query.get("kind") == SQL:
        return [{**{name: value for name, value in query.items() if name not in span}, "view": span}]
    asked = current(query)
    if filters:
        own = asked.get("filter") or []
        asked["filter"] = [*(own if isinstance(own, list) else [own]), *filters]
    if asked.get("kind") == "trace":
        return [asked]
    asked = {**asked, **span}
    back = _BACK.fullmatch(str(start))
    if back is None or not compares(query):
        return [asked]
    return [asked, {**asked, "from": f"-{2 * int(back[1])}{back[2]}", "to": start}]


def kpi_questions(measures: Sequence[str], board_range: str, filters: Sequence[str] = ()) -> dict[str, Question]:
    """The key figures with the period before, and their course; nothing where there are none."""
    if not measures:
        return {}
    start = f"-{board_range or DEFAULT_RANGE}"
    asked = {"measure": list(measures), "filter": list(filters), "from": start, "to": "now"}
    return {
        KPIS: {"kind": "aggregate", **asked, "compare": "previous"},
        KPI_COURSE: {"kind": "timeseries", **asked, "fill": "zero"},
    }
