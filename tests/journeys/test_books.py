"""The books of a running hub stay right: a past day priced again, and rows sent again that were forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cluster.sdk.client import HubClient
from pipelines.reconcile import reconcile
from tests.journeys.life_cycle import job
from tests.journeys.local_hub import LocalHub, local_hub

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

LATEST = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) - timedelta(days=5)
EARLIER = LATEST - timedelta(days=1)
CALL = {"module": "gateway", "kind": "gateway.request", "operation": "chat", "provider": "openai", "status": "ok"}
MODEL = "journey-priced"
# More ids than a shard that remembers 500 can hold in both of its generations.
FORGOTTEN_BEHIND = 5_000
WITHIN_S = 120.0


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """A forgetful hub of its own, that looks for repeats all the time."""
    data: Path = tmp_path_factory.mktemp("books") / "data"
    with local_hub(data, seen_limit=500, repeats_s=0.5, rollover_s=0.5, detector=0, scorer_replicas=1) as running:
        yield running


def calls(name: str, count: int, at: datetime, **more: Any) -> list[dict[str, Any]]:
    """Calls of a thousand tokens, a second apart."""
    tokens = {"input_tokens": 1_000, "output_tokens": 0}
    return [
        {**CALL, **tokens, "event_id": f"{name}-{n}", "occurred_at": (at + timedelta(seconds=n)).isoformat(), **more}
        for n in range(count)
    ]


def price(usd_per_mtok: str, effective: datetime) -> dict[str, Any]:
    told = {"effective_from": effective.isoformat(), "input_usd_per_mtok": usd_per_mtok, "output_usd_per_mtok": 1}
    row = {"module": "registry", "kind": "registry.price.changed", "provider": "openai", "model": MODEL}
    return {**row, "event_id": f"price-{usd_per_mtok}", "occurred_at": effective.isoformat(), "payload": told}


def until(told: Callable[[], Any], wanted: Any) -> None:
    end_s = time.monotonic() + WITHIN_S
    while (answer := told()) != wanted:
        assert time.monotonic() < end_s, (answer, wanted)


def account(client: HubClient) -> dict[str, int]:
    found: dict[str, int] = client.get("/api/v1/ledger")["total"]
    return found


def spent(client: HubClient, day: datetime) -> Decimal:
    """Dollars of one day by /api/v1/costs."""
    start = day.replace(hour=0)
    period = [("from", start.isoformat()), ("to", (start + timedelta(days=1)).isoformat())]
    return Decimal(client.get("/api/v1/costs", period)["total"]["values"]["cost_usd"])


def test_a_past_day_is_priced_again(hub: LocalHub) -> None:
    with hub.client() as client:
        client.post_events([price("2", EARLIER - timedelta(days=1))])
        client.post_events(calls("earlier", 30, EARLIER, model=MODEL))
        client.post_events(calls("latest", 40, LATEST, model=MODEL))
        client.post_events(calls("other", 20, LATEST, model="gpt-5"))
        client.post_events(calls("sent", 10, LATEST, model=MODEL, cost_usd="0.5"))
        until(lambda: account(client)["committed"], 101)
        # 2 USD for a million tokens; 1.25 for those of the hub's own table; 10 calls that told their cost.
        until(lambda: spent(client, LATEST), Decimal("5.105"))
        assert spent(client, EARLIER) == Decimal("0.06")

        client.post_events([price("3", LATEST - timedelta(hours=1))])
        until(lambda: account(client)["committed"], 102)
        period = [f"from={EARLIER.date()}", f"to={(LATEST + timedelta(days=1)).date()}"]
        report = job(hub, "reprice", *period)
        assert (report["rows_changed"], report["difference_usd"], report["audit_lines"]) == (50, "0.040000000", 1)
        # Those that told their cost keep it; only what the hub would have taken is told anew.
        until(lambda: spent(client, LATEST), Decimal("5.145"))
        assert spent(client, EARLIER) == Decimal("0.06")
        until(lambda: account(client)["committed"], 103)
        [line] = client.get("/api/v1/events/search", [("filter", "kind:audit.admin")])["events"]
        assert line["payload"]["rows_changed"] == 50
        assert line["payload"]["event_date"] == str(LATEST.date())
        told = reconcile(hub.layout.data / "lake" / "local")
        assert (told["faults"], told["difference_usd"]) == ([], "0.000000000")
        assert account(client)["difference"] == 0


def test_rows_that_were_forgotten_and_come_again_are_taken_out(hub: LocalHub) -> None:
    with hub.client() as client:
        before = account(client)
        rows = calls("again", 200, LATEST + timedelta(hours=2), model=MODEL, user_id="ann")
        assert client.post_events(rows).accepted == 200
        client.post_events(calls("between", FORGOTTEN_BEHIND, LATEST + timedelta(hours=4), model="gpt-5"))
        assert client.post_events(rows).accepted == 200
        until(lambda: account(client)["repeats_removed"] - before["repeats_removed"], 200)
        until(lambda: account(client)["in_flight"], 0)
        after = account(client)
        assert after["difference"] == 0
        assert after["accepted"] - before["accepted"] == 400 + FORGOTTEN_BEHIND
        assert after["committed"] - before["committed"] == 200 + FORGOTTEN_BEHIND
        until(lambda: spent(client, LATEST), Decimal("5.145") + Decimal("0.6") + Decimal("6.25"))
        told = client.aggregate("request_count", "unique_users", from_="-10d", filter="user_id:ann")
        assert [row["values"] for row in told["rows"]] == [{"request_count": 200, "unique_users": 1}]
        assert reconcile(hub.layout.data / "lake" / "local")["faults"] == []
