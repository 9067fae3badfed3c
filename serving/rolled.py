"""Where the minute partials lie once they are rolled: the files of each tier, by day and tenant."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from cluster.lake.changes import Changes, changes, day_start_us
from cluster.lake.scan import Snapshot
from cluster.lake.tables import MINUTES, ROLLUPS, uri
from cluster.tenancy import TenantScope
from models.query.plan import Plan
from models.query.sql import Fragment, joined, placed
from models.query.times import DAY_US, Range
from serving.relations import file_rows

# Start of a day -> tenant -> paths.
ByDay = dict[int, dict[str, list[str]]]


class RolledFiles:
    """The files of one set of snapshots that hold each row of the minute partials once, for each tier.

    Those of the tier's own table with the minute files that are not rolled into it. Of days that lost rows, and of all
    days where the log does not tell which were rolled, the minute files alone; but never of days whose minutes expired.
    """

    def __init__(self, lake: Path, snapshots: Mapping[str, Snapshot]) -> None:
        """
        Args:
            snapshots: of all roll-up tables, the minutes' no older than what the others have rolled in.
        """
        self._root = Path(uri(lake, MINUTES)).absolute()
        self._snapshots = snapshots

    def by_day(self, name: str) -> ByDay:
        """Paths of a tier by the day and the tenant of their rows."""
        return self._tiers[name]

    def rows(self, scope: TenantScope, plan: Plan, span: Range) -> Fragment:
        """SELECT of the scope's partials that answer a plan over a range, read from files."""
        listed = ", ".join(sorted({"tenant_id", "project_id", *plan.columns}))
        arms = []
        for piece in plan.pieces(span):
            days = self._tiers[piece.tier]
            first, end = piece.span.from_us // DAY_US * DAY_US, piece.span.to_us
            paths = [
                path
                for start_us, of_day in days.items()
                if first <= start_us < end
                for tenant in scope.tenants
                for path in of_day.get(tenant, ())
            ]
            inside = Fragment(
                "window_start >= make_timestamptz(?::BIGINT) AND window_start < make_timestamptz(?::BIGINT)",
                (piece.span.from_us, piece.span.to_us),
            )
            rows = file_rows(scope, piece.tier, paths)
            arms.append(placed(f"SELECT {listed} FROM ({{}}) AS f WHERE {{}}", rows, inside))
        return joined(arms, " UNION ALL ")

    @cached_property
    def _tiers(self) -> dict[str, ByDay]:
        found: dict[str, ByDay] = {}
        for name in ROLLUPS:
            found[name] = {}
            for tenant, event_date, path in self._files(name):
                found[name].setdefault(day_start_us(event_date), {}).setdefault(tenant, []).append(path)
        return found

    def _files(self, name: str) -> Iterator[tuple[str, str, str]]:
        minutes, own = self._snapshots[MINUTES], self._snapshots[name]
        if name == MINUTES:
            yield from _listed(own)
            return
        lacking = changes(self._root, own.rolled + 1, minutes.version)
        for tenant, event_date, path in _listed(own):
            if not _anew(tenant, event_date, lacking, minutes):
                yield tenant, event_date, path
        for (tenant, event_date), path in lacking.appended if lacking else ():
            yield tenant, event_date, str(self._root / path)
        for tenant, event_date, path in _listed(minutes) if lacking is None or lacking.rewritten else ():
            if _anew(tenant, event_date, lacking, minutes):
                yield tenant, event_date, path


def _listed(snapshot: Snapshot) -> Iterator[tuple[str, str, str]]:
    for tenant, files in snapshot.by_tenant.items():
        for one in files:
            yield tenant, one.event_date, one.path


def _anew(tenant: str, event_date: str, lacking: Changes | None, minutes: Snapshot) -> bool:
    """Whether a day is read from the minutes rather than from what was rolled."""
    if lacking is not None and (tenant, event_date) not in lacking.rewritten:
        return False
    return day_start_us(event_date) >= minutes.floors.get(tenant, 0)
