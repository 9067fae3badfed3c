"""Over 400 days of an injected clock: whole for 30 days, by hours for 90, by days for 365, and nothing uncounted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.accounts import settle
from actors.expiry import Expiry
from actors.rollover import COARSE, Rollover
from cluster.errors import RequestInvalid
from cluster.lake.commit import TableWriter
from cluster.lake.counts import CommittedCounts
from cluster.lake.stage import stage
from cluster.lake.tables import ANSWERS, TABLES
from cluster.retention import Retention
from cluster.tenancy import TenantId, TenantScope
from models.query.times import DAY_US, HOUR_US, MINUTE_US, format_instant
from tests.actors.test_rollover import totals
from tests.serving.small_lake import Lake, at, event

KEPT = {
    "alpha": Retention(hot_days=30, warm_days=90, cold_days=365),
    "brief": Retention(hot_days=5, warm_days=5, cold_days=10),
}
DAYS, STEP = 400, 8
ANSWER_DAYS = 7
TIERS = {"events": "hot_days", "rollup_1m": "hot_days", "rollup_1h": "warm_days", "rollup_1d": "cold_days"}


class Ages:
    """A lake whose clock goes on for 400 days, and what was put in by tenant and day."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(folder)
        self.began_us = self.lake.clock.now_us()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.cost: dict[tuple[str, int], Decimal] = {}
        writers = {name: TableWriter(self.lake.settings.lake, TABLES[name], self.lake.clock) for name in TABLES}
        # The lake's own writers commit through the same handles.
        self.lake._writers = writers
        self.rollover = Rollover(self.lake.settings, writers, clock=self.lake.clock)
        self.expiry = Expiry(
            writers, self.rollover, lambda: KEPT, default=Retention(), clock=self.lake.clock, answer_days=ANSWER_DAYS
        )
        self.numbers = 0

    def send(self, tenant: str, at_us: int) -> None:
        self.numbers += 1
        cost = Decimal(self.numbers).scaleb(-9)
        row = event(
            self.numbers, occurred_at=at_us, counted=127, latency_ms=float(self.numbers), cost_usd=cost, model="m-1"
        )
        self.lake.seal(tenant, [row])
        key = (tenant, at_us // DAY_US)
        self.requests[key] += 1
        self.cost[key] = self.cost.get(key, Decimal(0)) + cost

    def upkeep(self) -> None:
        while (due := self.rollover.choose()) is not None:
            self.rollover.commit(due, self.rollover.merge(due))
        if self.expiry.is_due():
            self.expiry.expire(self.expiry.retentions())

    def go(self) -> None:
        for day in range(0, DAYS, STEP):
            now_us = self.lake.clock.now_us()
            for tenant in KEPT:
                self.send(tenant, now_us - 3 * HOUR_US - day * MINUTE_US)
            if day % (5 * STEP) == 0:
                # Late by weeks: its minutes have mostly gone, its hours and days have not.
                self.send("alpha", now_us - 40 * DAY_US + 7 * MINUTE_US)
            self.upkeep()
            self.lake.clock.advance(STEP * 86_400)
        self.upkeep()


@pytest.fixture(scope="module")
def ages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ages]:
    ages = Ages(tmp_path_factory.mktemp("ages"))
    ages.go()
    yield ages


def test_each_tier_holds_its_days_and_every_sum_of_them(ages: Ages) -> None:
    today = ages.lake.clock.now_us() // DAY_US
    for table in ("rollup_1m", *COARSE):
        stored = {(row[0], row[1].toordinal() - 719_163): row for row in totals(ages.lake, table)}
        for tenant, retention in KEPT.items():
            floor = today - getattr(retention, TIERS[table])
            held = {day for (owner, day) in stored if owner == tenant}
            whole = {day for (owner, day) in ages.requests if owner == tenant and day >= floor}
            # What came late stays its time from when it came.
            assert whole <= held
            assert all(day >= floor - 40 for day in held)
            for day in whole:
                row = stored[tenant, day]
                assert (row[3], row[5]) == (ages.requests[tenant, day], ages.cost[tenant, day]), (table, day)


def test_the_ledger_counts_what_expired(ages: Ages) -> None:
    committed = CommittedCounts(ages.lake.settings.lake).newest(["journal-alpha", "journal-brief"])
    accepted = {tenant: sum(n for (owner, _), n in ages.requests.items() if owner == tenant) for tenant in KEPT}
    positions = {
        f"journal-{tenant}": [(committed.sequences[f"journal-{tenant}"], {tenant: accepted[tenant]})] for tenant in KEPT
    }
    accounts = settle([], positions, committed)
    for tenant in KEPT:
        account = accounts[tenant]
        assert account.expired > 0 and account.difference == 0
        assert account.committed + account.expired == account.accepted == accepted[tenant]


def ask(ages: Ages, tenant: str, kind: str, *pairs: tuple[str, str], hot_share: float = 0.5) -> dict[str, Any]:
    engine = ages.lake.engine(hot_share=hot_share)
    scope = TenantScope.of(TenantId(tenant))
    try:
        told: dict[str, Any] = json.loads(asyncio.run(engine.query(scope, kind, pairs)).body)
    finally:
        engine.close()
    return told


@pytest.mark.parametrize("hot_share", [0.5, 0.0], ids=["in memory", "from files"])
def test_a_question_over_all_ages_is_stitched_and_says_so(ages: Ages, hot_share: float) -> None:
    now_us = ages.lake.clock.now_us()
    since = now_us - 350 * DAY_US + 5 * HOUR_US + MINUTE_US
    told = ask(
        ages,
        "alpha",
        "aggregate",
        ("measure", "request_count"),
        ("measure", "cost_usd"),
        ("from", format_instant(since)),
        ("to", format_instant(now_us - 3 * HOUR_US)),
        hot_share=hot_share,
    )
    days = range(since // DAY_US, now_us // DAY_US + 1)
    values = told["rows"][0]["values"]
    assert values["request_count"] == sum(ages.requests["alpha", day] for day in days)
    assert Decimal(str(values["cost_usd"])) == sum(ages.cost.get(("alpha", day), Decimal(0)) for day in days)
    assert told["from"] == format_instant(since // DAY_US * DAY_US), "moved out to the whole day"
    assert told["tier"] == "rollup_1d" and "have expired" in told["reason"]
    assert "expired_before" not in told


def test_buckets_are_no_finer_than_what_is_left(ages: Ages) -> None:
    now_us = ages.lake.clock.now_us()
    asked = (("measure", "request_count"), ("granularity", "1m"))
    for back, granularity in ((60, "1h"), (130, "1d")):
        day = (now_us // DAY_US - back) * DAY_US
        told = ask(
            ages, "alpha", "timeseries", *asked, ("from", format_instant(day)), ("to", format_instant(day + 9 * DAY_US))
        )
        assert told["granularity"] == granularity
        points = sum(value for _, value in told["series"][0]["points"])
        whole = range(day // DAY_US, day // DAY_US + 9)
        assert points == sum(ages.requests["alpha", one] for one in whole) > 0


def test_a_short_old_range_has_buckets_of_its_own_age(ages: Ages) -> None:
    now_us = ages.lake.clock.now_us()
    for back, granularity in ((60, "1h"), (200, "1d")):
        day = (now_us // DAY_US - back) * DAY_US
        span = (("from", format_instant(day + 7 * HOUR_US)), ("to", format_instant(day + 9 * HOUR_US + 1)))
        told = ask(ages, "alpha", "timeseries", ("measure", "event_count"), *span)
        assert told["granularity"] == granularity
        rows = ask(ages, "alpha", "heatmap", ("field", "latency_ms"), *span)
        assert rows["granularity"] == granularity
    with pytest.raises(RequestInvalid):
        ask(ages, "alpha", "aggregate", ("measure", "event_count"), ("from", "-60d"), ("from", "-50d"))


def test_raw_questions_say_what_is_missing(ages: Ages) -> None:
    today = ages.lake.clock.now_us() // DAY_US
    told = ask(ages, "alpha", "search", ("from", "-60d"), ("to", "now"))
    assert told["expired_before"] <= format_instant((today - 30) * DAY_US)
    told = ask(ages, "alpha", "aggregate", ("measure", "event_count"), ("group_by", "user_id"), ("from", "-60d"))
    assert told["tier"] == "events" and "expired_before" in told
    assert "expired_before" not in ask(ages, "alpha", "search", ("from", "-7d"), ("to", "now"))


def test_a_second_look_removes_nothing(ages: Ages) -> None:
    before = CommittedCounts(ages.lake.settings.lake).newest([])
    assert ages.expiry.expire(KEPT) == 0
    assert CommittedCounts(ages.lake.settings.lake).newest([]) == before


def test_minutes_wait_until_hours_and_days_have_them(tmp_path: Path) -> None:
    ages = Ages(tmp_path)
    ages.send("brief", ages.began_us - HOUR_US)
    ages.lake.clock.advance(8 * 86_400)
    ages.expiry.expire(KEPT)
    assert totals(ages.lake, "rollup_1m"), "not rolled yet"
    assert not totals(ages.lake, "events")
    ages.upkeep()
    ages.expiry.expire(KEPT)
    assert not totals(ages.lake, "rollup_1m")
    assert [row[3] for row in totals(ages.lake, "rollup_1d")] == [1]


def test_a_coarser_form_never_goes_first() -> None:
    Retention(hot_days=0, warm_days=0, cold_days=0).check()
    Retention(hot_days=7, warm_days=7, cold_days=0).check()
    for bad in ((0, 90, 365), (30, 20, 365), (-1, 1, 1), (1, 1, 10**6)):
        with pytest.raises(RequestInvalid):
            Retention(hot_days=bad[0], warm_days=bad[1], cold_days=bad[2]).check()


def test_answers_of_jobs_leave_with_their_age_and_no_later_than_the_events(tmp_path: Path) -> None:
    ages = Ages(tmp_path)
    writer, lake = ages.lake._writers[ANSWERS], ages.lake.settings.lake
    today_us = ages.lake.clock.now_us()
    for tenant in ("alpha", "brief"):
        rows = pa.Table.from_pylist(
            [{"query_id": "q", "told_at": at(today_us), "place": 0, "member": "rows", "content": "{}"}],
            schema=TABLES[ANSWERS].schema,
        )
        writer.append(stage(lake, TABLES[ANSWERS], rows, tenant_id=tenant, token=f"query-{tenant}"), {tenant: 1})
    left = {"alpha": ANSWER_DAYS, "brief": KEPT["brief"].hot_days}
    for day in range(1, ANSWER_DAYS + 3):
        ages.lake.clock.advance(DAY_US / 1_000_000)
        ages.upkeep()
        held = {str(file["partition.tenant_id"]) for file in writer.active_files()}
        assert held == {tenant for tenant, days in left.items() if day <= days}
