"""Where a question of the catalogue reads: the newest snapshots with the partials in memory, or one past version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.lake.past import check_files
from cluster.lake.scan import Snapshot, files
from cluster.tenancy import TenantScope
from models.query.partials import Partials
from models.query.plan import Plan
from models.query.search import SearchRequest
from models.query.source import Rows
from models.query.sql import Fragment, Result, Run
from models.query.times import Range
from serving.event_search import rows_of_trace, search_events
from serving.hot_rollups import HotRollups
from serving.relations import lake_rows


@dataclass(frozen=True, slots=True)
class HotRun:
    """Answers SQL, and knows the partials in memory."""

    scope: TenantScope
    sql: Run
    hot: HotRollups

    def __call__(self, question: Fragment) -> Result:
        return self.sql(question)

    def partials(self, plan: Plan, span: Range) -> Partials | None:
        """See `models.query.source.Remembers`."""
        return self.hot.partials(self.scope, plan, span) if plan.from_rollups else None


@dataclass(frozen=True, slots=True)
class NewestSource:
    """The newest version.

    Attributes:
        of_plan: relations of a plan, see `QueryEngine`.
        snapshot: the newest one of the events, taken anew each time: a retry must not name files that went away.
    """

    scope: TenantScope
    run: Run
    of_plan: Callable[[TenantScope, Plan], Rows]
    snapshot: Callable[[], Snapshot]

    def rows(self, plan: Plan) -> Rows:
        return self.of_plan(self.scope, plan)

    def events(self, span: Range) -> Fragment:
        return lake_rows(self.scope, self.snapshot(), span)

    def page(self, request: SearchRequest) -> dict[str, Any]:
        return search_events(self.scope, self.snapshot(), request, self.run)

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        return rows_of_trace(self.scope, self.snapshot(), trace_id, self.run)


@dataclass(frozen=True, slots=True)
class PastSource:
    """One version of one table, from its files alone.

    Raises:
        NotFound: files that a question needs are no longer kept.
    """

    scope: TenantScope
    run: Run
    snapshot: Snapshot

    def rows(self, plan: Plan) -> Rows:
        return self.events

    def events(self, span: Range) -> Fragment:
        check_files((one.path for one in files(self.scope, self.snapshot, span.from_us, span.to_us)), self.snapshot)
        return lake_rows(self.scope, self.snapshot, span)

    def page(self, request: SearchRequest) -> dict[str, Any]:
        return search_events(self.scope, self.snapshot, request, self.run)

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        return rows_of_trace(self.scope, self.snapshot, trace_id, self.run)
