"""What a question stands on and what it reads from; the engine that answers is somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from models.query.partials import Partials
from models.query.plan import NO_FLOORS, Floors, Plan
from models.query.search import SearchRequest
from models.query.sql import Fragment, Run
from models.query.times import Range

# SELECT of the plan's table rows that may be seen and can lie in the range.
Rows = Callable[[Range], Fragment]


@runtime_checkable
class Remembers(Protocol):
    """A `Run` that holds partials in memory, so that sums of them need no SQL."""

    def partials(self, plan: Plan, span: Range) -> Partials | None:
        """The partials that answer a plan over a range; None when memory has not all of them."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a question is read with.

    Attributes:
        now_us: what relative times stand on.
        tenants: whose rows will be seen.
        groups_max: groups an answer may tell one by one.
        floors: what has expired of the tenants' rows.
    """

    now_us: int
    tenants: tuple[str, ...]
    groups_max: int
    floors: Floors = NO_FLOORS


class PlannedSource(Protocol):
    """What plans read of one scope's rows, in one version of the tables."""

    @property
    def run(self) -> Run:
        """Answers one SELECT; what it raises comes through."""

    def rows(self, plan: Plan) -> Rows:
        """Relations of the plan's table."""


class Source(PlannedSource, Protocol):
    """The rows of one scope, in one version of the tables."""

    def events(self, span: Range) -> Fragment:
        """SELECT of the events that may be seen and can lie in the range."""

    def page(self, request: SearchRequest) -> dict[str, Any]:
        """One page of a search, newest events first."""

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """Events of a trace, oldest first."""
