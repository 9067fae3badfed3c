"""Price a past period again by the price book of today; only rows whose cost is another then are told anew.

`python -m pipelines.reprice [--set tenant=NAME] [--set from=YYYY-MM-DD] [--set to=YYYY-MM-DD] [--set dry_run=true]
[--set url=URL] [--set key=KEY]`, also through `llmhub job reprice`. Days are [from, to). A cost that was sent stays.
Each day of a tenant is one correction: its changed files of events and what that moves in the roll-ups, both or
neither. Each correction leaves an audit line, an event of kind `audit.admin` of that tenant. Prints one JSON object.

A run that ends half-way has corrected whole days; another run does the others, and keeps the audit lines that are due.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import uuid4

import numpy as np
import pyarrow as pa

from actors.calls import count, recall
from actors.corrections import Correction, CorrectionStale
from actors.hosts import RemoteCommits
from actors.seen import Seen
from cluster.clock import SystemClock, format_rfc3339
from cluster.contract.columns import EVENT_SCHEMA
from cluster.contract.event import COUNTED_COST
from cluster.errors import RequestInvalid
from cluster.lake.recent import identities
from cluster.lake.scan import ActiveFile, TableReader, files, read_rows
from cluster.lake.stage import StagedFile, stage
from cluster.lake.tables import ANCHOR, MINUTES, TABLES
from cluster.metadata.prices import PriceStore
from cluster.metadata.schema import open_metadata
from cluster.sdk.client import HubClient
from cluster.settings import Settings
from cluster.tenancy import TenantId, TenantScope, tenant_id
from models.aggregate.groups import nano_usd
from models.aggregate.rollup import merge
from models.pricing.book import PriceBook
from models.pricing.reprice import Repriced, correction, counting, reprice
from pipelines import hub_door
from pipelines.joining import join
from pipelines.options import chosen
from pipelines.report import reported

_OPTIONS: Final = ("tenant", "from", "to", "dry_run", *hub_door.OPTIONS)
_END_US: Final = 253_402_300_800_000_000  # year 10000
_ATTEMPTS: Final = 5
# Calls that are remembered while new costs are counted; each is told of within a day or so.
_CALLS_MAX: Final = 20_000_000
_MOVES_SHOWN: Final = 20


class Tables(Protocol):
    """The committer, as this job sees it."""

    def correct(self, correction: Correction) -> None: ...

    def notes(self) -> list[dict[str, Any]]: ...

    def forget(self, identity: str) -> None: ...


@dataclass(slots=True)
class _Day:
    """What one tenant's day comes to."""

    looked: int = 0
    changed: int = 0
    before_nano: int = 0
    after_nano: int = 0
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    removed: list[str] = field(default_factory=list)
    staged: list[StagedFile] = field(default_factory=list)
    partials: list[pa.Table] = field(default_factory=list)


class Repricing:
    """One run over the tables of a region."""

    def __init__(self, lake: Path, tables: Tables, book: PriceBook, *, dry_run: bool = False) -> None:
        self._lake = lake
        self._tables = tables
        self._book = book
        self._dry_run = dry_run
        self._reader = TableReader(lake, ANCHOR)

    def run(self, tenant: str | None, days: tuple[str, str]) -> dict[str, Any]:
        """Correct all days of the period; the report.

        Args:
            tenant: only this one; None for all.
            days: [from, to) as ISO dates.

        Raises:
            CorrectionStale: a day changed under us again and again.
        """
        corrections: list[dict[str, Any]] = []
        looked = 0
        found = self._reader.refresh().by_tenant if tenant is None else [tenant]
        for name in sorted(found):
            for day in sorted({one.event_date for one in self._files(name, days)}):
                told, rows = self._one_day(tenant_id(name), day)
                looked += rows
                corrections += [told] if told else []
        total = sum((Decimal(one["difference_usd"]) for one in corrections), Decimal(0))
        return {
            "dry_run": self._dry_run,
            "rows_looked_at": looked,
            "rows_changed": sum(one["rows_changed"] for one in corrections),
            "difference_usd": f"{total:f}",
            "corrections": corrections,
        }

    def _files(self, tenant: str, days: tuple[str, str]) -> list[ActiveFile]:
        scope = TenantScope.operator((tenant_id(tenant),), reason="reprice prices all calls of a period again")
        found = files(scope, self._reader.snapshot, 0, _END_US)
        return [one for one in found if days[0] <= one.event_date < days[1]]

    def _one_day(self, tenant: TenantId, day: str) -> tuple[dict[str, Any] | None, int]:
        for _ in range(_ATTEMPTS):
            self._reader.refresh()
            made = self._made_again(tenant, day)
            if not made.changed:
                return None, made.looked
            note = _note(tenant, day, made)
            if self._dry_run:
                return note, made.looked
            try:
                self._tables.correct(self._correction(tenant, made, note))
            except CorrectionStale:
                # A compaction was quicker; the staged files are left for the vacuum.
                continue
            return note, made.looked
        raise CorrectionStale(f"{tenant}, {day}: its files changed {_ATTEMPTS} times while it was priced again")

    def _made_again(self, tenant: TenantId, day: str) -> _Day:
        made = _Day()
        calls = _Calls(lambda: [one.path for one in self._files(tenant, _around(day))], tenant)
        token = f"reprice-{uuid4().hex}"
        for number, one in enumerate(self._files(tenant, (day, _after(day)))):
            before = _batch(one.path)
            made.looked += before.num_rows
            found = reprice(before, self._book, tenant)
            if not found.changed.any():
                continue
            after = counting(found.rows, calls.counted(found))
            _count(made, before, after, found)
            made.partials.append(correction(before, after))
            if not self._dry_run:
                made.removed.append(str(Path(one.path).relative_to(Path(self._lake / ANCHOR).absolute())))
                rows = pa.Table.from_batches([after])
                made.staged += stage(self._lake, TABLES[ANCHOR], rows, tenant_id=tenant, token=f"{token}-{number:06d}")
        return made

    def _correction(self, tenant: TenantId, made: _Day, note: dict[str, Any]) -> Correction:
        identity = note["identity"]
        partials = merge(made.partials)
        staged = [*made.staged, *stage(self._lake, TABLES[MINUTES], partials, tenant_id=tenant, token=identity)]
        return Correction(identity, tuple(made.removed), tuple(staged), note)


class _Calls:
    """Which rows that had no cost count for their call: none where another teller's cost is counted already."""

    def __init__(self, paths: Callable[[], Iterable[str]], tenant: TenantId) -> None:
        self._paths = paths
        self._tenant = tenant
        self._seen: Seen | None = None

    def counted(self, found: Repriced) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(n,) rows whose cost counts from now on."""
        mask = np.zeros(found.rows.num_rows, np.bool_)
        if not found.newly.any():
            return mask
        if self._seen is None:
            self._seen = Seen(_CALLS_MAX)
            for path in self._paths():
                for batch in identities(path):
                    recall(batch, self._tenant, self._seen)
        rows = np.flatnonzero(found.newly)
        told = count(found.rows.take(pa.array(rows)), self._tenant, self._seen)
        mask[rows] = (told.counted & COUNTED_COST) != 0
        return mask


def keep_audit(tables: Tables, client_of: Callable[[str], HubClient]) -> int:
    """Send the audit line of every correction that has none yet; how many. Sent twice it is one event.

    Raises:
        HubError: the hub did not take a line; it is sent by the next run.
    """
    due: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for note in tables.notes():
        due[note["tenant_id"]].append(note)
    for tenant, notes in due.items():
        with client_of(tenant) as client:
            client.post_events(map(_audit_line, notes))
        for note in notes:
            tables.forget(note["identity"])
    return sum(map(len, due.values()))


def _audit_line(note: dict[str, Any]) -> dict[str, Any]:
    return {
        "event_id": note["identity"],
        "occurred_at": note["at"],
        "module": "audit",
        "kind": "audit.admin",
        "severity": "warning",
        "status": "ok",
        "attributes": {"actor": "reprice", "action": "reprice", "resource": note["event_date"], "outcome": "success"},
        "payload": note,
    }


def _note(tenant: str, day: str, made: _Day) -> dict[str, Any]:
    return {
        "identity": f"reprice-{uuid4().hex}",
        "at": format_rfc3339(SystemClock().now_us()),
        "tenant_id": tenant,
        "event_date": day,
        "rows_looked_at": made.looked,
        "rows_changed": made.changed,
        "before_usd": _usd(made.before_nano),
        "after_usd": _usd(made.after_nano),
        "difference_usd": _usd(made.after_nano - made.before_nano),
        "versions": [
            {"from": old, "to": new, "rows": rows} for (old, new), rows in made.moves.most_common(_MOVES_SHOWN)
        ],
    }


def _count(made: _Day, before: pa.RecordBatch, after: pa.RecordBatch, found: Repriced) -> None:
    made.changed += int(found.changed.sum())
    for name, batch in (("before_nano", before), ("after_nano", after)):
        counted = (np.asarray(batch.column("counted")) & COUNTED_COST) != 0
        money = nano_usd(batch.column("cost_usd"))[counted & found.changed]
        setattr(made, name, getattr(made, name) + sum(money.tolist()))
    rows = pa.array(np.flatnonzero(found.changed))
    old, new = (batch.column("price_version").take(rows).fill_null("").to_pylist() for batch in (before, after))
    made.moves.update(zip(old, new, strict=True))


def _batch(path: str) -> pa.RecordBatch:
    rows = read_rows(path).select(EVENT_SCHEMA.names).cast(EVENT_SCHEMA).combine_chunks()
    [batch] = rows.to_batches() or [pa.RecordBatch.from_pylist([], EVENT_SCHEMA)]
    return batch


def _around(day: str) -> tuple[str, str]:
    """The day and its neighbours: a call near midnight may be told of on either side."""
    at = date.fromisoformat(day)
    return (at - timedelta(days=1)).isoformat(), (at + timedelta(days=2)).isoformat()


def _after(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def _usd(nano: int) -> str:
    return f"{Decimal(nano).scaleb(-9):f}"


def _period(options: dict[str, str]) -> tuple[str, str]:
    days = options.get("from", "1970-01-01"), options.get("to", "9999-12-31")
    try:
        first, last = (date.fromisoformat(day).isoformat() for day in days)
    except ValueError as error:
        raise RequestInvalid(f"{days} are not dates like 2026-01-31") from error
    return first, last


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 a failure, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.reprice", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help=", ".join(_OPTIONS))
    try:
        options = chosen(parser.parse_args(arguments).set, _OPTIONS)
        days = _period(options)
        dry_run = {"true": True, "false": False}[options.get("dry_run", "false")]
    except (RequestInvalid, KeyError) as error:
        parser.error(getattr(error, "message", "dry_run is true or false"))
    return reported(lambda: _run(options, days, dry_run=dry_run))


def _run(options: dict[str, str], days: tuple[str, str], *, dry_run: bool) -> dict[str, Any]:
    settings, clock = Settings.from_environment(), SystemClock()
    with closing(open_metadata(settings, clock)) as database:
        join(settings.namespace)
        tables = RemoteCommits(settings)
        book = PriceBook(PriceStore(database, clock).owned())
        report = Repricing(settings.lake, tables, book, dry_run=dry_run).run(options.get("tenant"), days)
        report["audit_lines"] = keep_audit(tables, lambda tenant: hub_door.client_of(options, settings, tenant))
        return report


if __name__ == "__main__":
    sys.exit(main())
