"""A past period priced again: only what changes is told anew, the roll-ups move by exactly that, and a line is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable

# ruff: noqa: I001 -- before anything that imports Ray Serve.
from tests.serving.conftest import SMALL, Hub, event, start
from actors.corrections import Correction, CorrectionStale
from cluster.clock import SystemClock
from cluster.contract.prices import read_price
from cluster.metadata.prices import PriceStore
from cluster.sdk.client import HubClient
from cluster.tenancy import DEFAULT_TENANT, TenantScope
from models.pricing.book import PriceBook
from pipelines.reconcile import reconcile
from pipelines.reprice import Repricing, keep_audit

ALL = ("1970-01-01", "9999-12-31")
KNOWN = {"provider": "openai", "model": "gpt-5", "operation": "chat", "input_tokens": 1_000_000, "output_tokens": 0}
LATER = {**KNOWN, "model": "gpt-priced-later"}
PRICE = {"provider": "openai", "effective_from": "2020-01-01T00:00:00Z", "output_usd_per_mtok": 1}


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Hub]:
    yield from start(replace(SMALL, data=tmp_path, refresh_s=0.05, rollover_s=0.05), asks=True)


def _rows() -> list[dict[str, Any]]:
    # 0: computed. 1: sent. 2: unpriced until later. 3 and 4: one unpriced call told twice. 5: unpriced, told with a
    # cost by its span 6. 7: another model.
    one, other = {"request_id": "r-1"}, {"request_id": "r-2"}
    span = {"module": "observatory", "kind": "observatory.span"}
    return [
        event(0, **KNOWN),
        event(1, **KNOWN, cost_usd="9.5"),
        event(2, **LATER),
        event(3, **LATER, **one),
        event(4, **{**LATER, **span}, **one),
        event(5, **LATER, **other),
        event(6, **{**LATER, **span}, **other, cost_usd="0.25"),
        event(7, **{**KNOWN, "model": "gpt-4o"}),
    ]


def _book(hub: Hub) -> PriceBook:
    store = PriceStore(hub.app.state.metadata, SystemClock())
    later = {**PRICE, "model": "gpt-priced-later", "input_usd_per_mtok": "3"}
    store.add(
        DEFAULT_TENANT,
        [read_price(later, from_us=0), read_price({**PRICE, "model": "gpt-5", "input_usd_per_mtok": "2"}, from_us=0)],
    )
    return PriceBook(store.owned())


async def _committed(hub: Hub, events: int) -> None:
    engine = hub.app.state.query
    async with asyncio.timeout(30):
        while True:
            told = await engine.ledger_committed(TenantScope.of(DEFAULT_TENANT))
            if told["tenants"].get("default", {"events": 0})["events"] >= events:
                return
            await asyncio.sleep(0.02)


def _client(hub: Hub, key: str) -> HubClient:
    def answered(request: httpx2.Request) -> httpx2.Response:
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        target = str(request.url.copy_with(scheme="http", host="hub.test", port=None))
        answer = asyncio.run(hub.send(request.method, target, content=request.read(), headers=headers))
        # Read already, and so no longer encoded.
        told = {name: value for name, value in answer.headers.items() if name != "content-encoding"}
        return httpx2.Response(answer.status_code, content=answer.content, headers=told)

    return HubClient("http://hub.test", key, compression="none", transport=httpx2.MockTransport(answered))


def _costs(hub: Hub) -> dict[str, Decimal | None]:
    files = DeltaTable(str(hub.settings.lake / "events")).file_uris()
    rows = ds.dataset(files).to_table(columns=["event_id", "cost_usd"]).to_pylist()
    return {row["event_id"]: row["cost_usd"] for row in rows if row["event_id"].startswith("e-")}


def test_only_what_changes_is_told_anew_and_the_roll_ups_move_by_it(asking: Hub) -> None:
    key = asking.key("ingest", "read")
    assert asking.post(_rows(), key=key).json()["accepted"] == 8
    asking.run(_committed(asking, 8))
    before = reconcile(asking.settings.lake)
    assert before["differences"] == []
    tables = asking.pool.tables
    dry = Repricing(asking.settings.lake, tables, _book(asking), dry_run=True).run(None, ALL)
    assert (dry["rows_changed"], dry["difference_usd"]) == (7, "6.750000000")
    assert reconcile(asking.settings.lake)["events_usd"] == before["events_usd"]

    report = Repricing(asking.settings.lake, tables, _book(asking)).run(None, ALL)
    assert report["rows_changed"] == 7
    costs = _costs(asking)
    three = Decimal(3)
    # The span's own cost stays what was sent; it is counted for its call, so the gateway's new figure is not.
    assert costs == {
        "e-0": Decimal(2),
        "e-1": Decimal("9.5"),
        "e-2": three,
        "e-3": three,
        "e-4": three,
        "e-5": three,
        "e-6": Decimal("0.25"),
        "e-7": Decimal("2.5"),
    }
    after = reconcile(asking.settings.lake)
    assert (after["differences"], after["difference_usd"]) == ([], "0.000000000")
    # 2 for 1.25; 3 for the call without a cost, and for the call that is told twice once.
    moved = Decimal(after["events_usd"]) - Decimal(before["events_usd"])
    assert moved == Decimal("6.75") == Decimal(report["difference_usd"])
    again = Repricing(asking.settings.lake, tables, _book(asking)).run(None, ALL)
    assert (again["rows_looked_at"], again["rows_changed"], again["corrections"]) == (8, 0, [])

    assert keep_audit(tables, lambda tenant: _client(asking, key)) == 1
    assert keep_audit(tables, lambda tenant: _client(asking, key)) == 0
    asking.run(_committed(asking, 9))
    [line] = asking.call("GET", "/api/v1/events/search?filter=kind:audit.admin", key=key).json()["events"]
    assert line["event_id"] == report["corrections"][0]["identity"]
    assert line["payload"]["difference_usd"] == "6.750000000"


def test_a_stale_correction_does_nothing(asking: Hub) -> None:
    key = asking.key("ingest", "read")
    asking.post([event(0, **KNOWN)], key=key)
    asking.run(_committed(asking, 1))
    with pytest.raises(CorrectionStale):
        asking.pool.tables.correct(Correction("c-1", ("tenant_id=default/event_date=x/gone.parquet",), ()))
    assert _costs(asking) == {"e-0": Decimal("1.25")}
