"""Where the minute partials lie once they are rolled: the files of each tier, and partials from memory or from them."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from cluster.lake.changes import changes, day_start_us
from cluster.lake.scan import Snapshot
from cluster.lake.tables import MINUTES, uri
from cluster.tenancy import TenantScope
from models.query.plan import Piece, Plan
from models.query.sql import Fragment, joined, placed
from models.query.times import DAY_US, Range
from serving.relations import file_rows


class RolledFile(NamedTuple):
    """A file of partials of one tenant and one day, which begins at `start_us`."""

    tenant_id: str
    start_us: int
    path: str


class Hot(Protocol):
    """Partials in memory, see `serving.hot_rollups`."""

    def covers(self, name: str, from_us: int) -> bool:
        """Whether a tier holds all rows from that instant on."""

    def rows(self, scope: TenantScope, pieces: list[Piece], columns: Iterable[str]) -> Fragment:
        """SELECT of the partials in the pieces."""


def rollup_rows(
    scope: TenantScope, plan: Plan, span: Range, *, hot: Hot, lake: Path, snapshots: Mapping[str, Snapshot]
) -> Fragment:
    """SELECT of the scope's partials that answer a plan over a range: from memory, or from files where that ends.

    Args:
        snapshots: of all roll-up tables, the minutes' no older than what the others have rolled in.
    """
    pieces = plan.pieces(span)
    here = [piece for piece in pieces if hot.covers(piece.tier, piece.span.from_us)]
    arms = [hot.rows(scope, here, plan.columns)] if here else []
    listed = ", ".join(sorted({"tenant_id", "project_id", *plan.columns}))
    for piece in pieces:
        if piece in here:
            continue
        first, end = piece.span.from_us // DAY_US * DAY_US, piece.span.to_us
        found = rolled_files(piece.tier, snapshots, Path(uri(lake, MINUTES)).absolute())
        paths = [one.path for one in found if one.tenant_id in scope.tenants and first <= one.start_us < end]
        inside = Fragment(
            "window_start >= make_timestamptz(?::BIGINT) AND window_start < make_timestamptz(?::BIGINT)",
            (piece.span.from_us, end),
        )
        arms.append(placed(f"SELECT {listed} FROM ({{}}) AS f WHERE {{}}", file_rows(scope, piece.tier, paths), inside))
    return joined(arms, " UNION ALL ")


def rolled_files(name: str, snapshots: Mapping[str, Snapshot], root: Path) -> list[RolledFile]:
    """Files that hold each row of the minute partials once, in windows of the tier or finer.

    Those of the tier's own table with the minute files that are not rolled into it; where the log does not tell
    which those are, the minute files alone.

    Args:
        root: folder of the minute table.
    """
    minutes, own = snapshots[MINUTES], snapshots[name]
    if name == MINUTES:
        return active_files(minutes)
    lacking = changes(root, own.rolled + 1, minutes.version)
    if lacking is None or lacking.rewritten:
        return active_files(minutes)
    pending = [
        RolledFile(tenant_id, day_start_us(event_date), str(root / path))
        for (tenant_id, event_date), path in lacking.appended
    ]
    return active_files(own) + pending


def active_files(snapshot: Snapshot) -> list[RolledFile]:
    """Files of a snapshot, of all tenants."""
    return [
        RolledFile(one.tenant_id, day_start_us(one.event_date), one.path)
        for files in snapshot.by_tenant.values()
        for one in files
    ]
