"""Every compiled function called once: `python -m actors.warm` at set-up, so that no hub compiles as it starts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa

from actors.memory import Memory
from actors.seen import SeenTable
from cluster.contract import warm as contract
from cluster.contract.columns import EVENT_SCHEMA
from cluster.contract.prices import read_price
from cluster.tenancy import TenantId
from cluster.topology import split
from models.pricing.book import PriceBook
from models.pricing.cost import price

_SHARDS: Final = 2
# Keys that make a table grow.
_MANY: Final = 4096


def warm() -> None:
    """Takes tens of seconds the first time on a machine, then a fraction of one."""
    contract.warm()
    warm_pricing()
    warm_shard()


def warm_pricing() -> None:
    """What a door runs to price what it takes in."""
    told = {"provider": "warm", "model": "m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
    at = datetime(2026, 1, 1, tzinfo=UTC)
    row = {"event_id": "e", "occurred_at": at, "received_at": at, "kind": "gateway.request", "counted": 0}
    call = {"operation": "chat", "provider": "warm", "model": "m", "input_tokens": 1, "output_tokens": 1}
    events = pa.RecordBatch.from_pylist([row | call], EVENT_SCHEMA)
    price(events, PriceBook([("", read_price(told, from_us=0))]), "warm")


def warm_shard() -> None:
    """What a shard runs, and the routing to it."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    row = {"event_id": "e", "occurred_at": at, "received_at": at, "kind": "gateway.request", "counted": 0}
    call = {"trace_id": "t", "span_id": "s", "request_id": "r", "operation": "chat", "status": "ok"}
    events = pa.RecordBatch.from_pylist([row, row | call], EVENT_SCHEMA)
    memory, tenant = Memory(1), TenantId("warm")
    for part in split(events, tenant, _SHARDS).values():
        # Twice, with a memory of one key: found, forgotten and grown.
        for _ in range(2):
            _, keys = memory.take_events(part, tenant)
            memory.learn(keys)
    table = SeenTable()
    table.exchange(np.zeros((_MANY, 2), np.uint64), np.zeros(_MANY, np.uint8))


if __name__ == "__main__":
    warm()
