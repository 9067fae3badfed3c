"""Costs at the door: what was sent stays, what was not is priced, and a price event moves its tenant alone."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

from cluster.clock import SystemClock
from cluster.contract.decode import decode
from cluster.contract.rows import DecodeContext, Decoded
from cluster.metadata.first_start import bootstrap_admin
from cluster.metadata.prices import PriceStore
from cluster.metadata.schema import open_metadata
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT, TenantId
from serving.pricing import Pricing
from tests.serving.conftest import event, ndjson

CALL = {"provider": "openai", "model": "gpt-5", "input_tokens": 1_000_000, "output_tokens": 0}


def body(*rows: dict[str, object]) -> Decoded:
    told = DecodeContext(tenant_id=DEFAULT_TENANT, region="local", received_at_us=SystemClock().now_us())
    return decode(
        ndjson([event(n, **row) for n, row in enumerate(rows)]), content_type="application/x-ndjson", context=told
    )


def costs(decoded: Decoded) -> list[Decimal | None]:
    found: list[Decimal | None] = decoded.events.column("cost_usd").to_pylist()
    return found


def test_a_price_event_moves_its_tenant_here_and_after_a_restart(tmp_path: Path) -> None:
    clock, settings = SystemClock(), Settings(data=tmp_path)
    bootstrap_admin(settings, clock=clock)
    database = open_metadata(settings, clock)
    store = PriceStore(database, clock)
    with ThreadPoolExecutor(1) as executor:
        pricing = Pricing(store, clock=clock, executor=executor)
        assert costs(pricing.priced(DEFAULT_TENANT, body(CALL, {**CALL, "cost_usd": 9}))) == [Decimal("1.25"), 9]
        prices = {"effective_from": "2026-01-01T00:00:00Z", "input_usd_per_mtok": 3, "output_usd_per_mtok": "4.5"}
        change = {**CALL, "module": "registry", "kind": "registry.price.changed", "payload": prices}
        damaged = {**change, "payload": {"input_usd_per_mtok": -1}}
        learnt = asyncio.run(pricing.learn(DEFAULT_TENANT, body(damaged, change, CALL)))
        assert costs(learnt) == [None, None, Decimal(3)]
        again = Pricing(store, clock=clock, executor=executor)
        for one in (pricing, again):
            assert costs(one.priced(DEFAULT_TENANT, body(CALL))) == [Decimal(3)]
            assert costs(one.priced(TenantId("globex"), body(CALL))) == [Decimal("1.25")]
    assert store.count() == 1
    database.close()
