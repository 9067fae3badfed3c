"""Calls of four entities of one tenant that share a load and a day's rhythm, as minute partials."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa

from cluster.contract import event
from models.aggregate.rollup import MINUTE_US, roll
from models.anomaly.features import entity_series
from models.anomaly.series import Series, told_features
from models.anomaly.together import STEP_S
from tests.models.aggregate.events import Row, batch_of

# A midnight.
START_US = 1_767_225_600_000_000
ROW_US = STEP_S * 1_000_000
DAY_ROWS = 86_400 // STEP_S
ENTITIES = tuple((service, model) for service in ("chat", "search") for model in ("m", "n"))
_COUNTED = event.COUNTED_REQUEST | event.COUNTED_TOKENS | event.COUNTED_LATENCY


def name_of(service: str, model: str) -> str:
    return f"service={service},provider=p,model={model},operation=chat"


@cache
def minutes(rows: int, *, slow: tuple[int, int] = (0, 0), start_us: int = START_US) -> pa.Table:
    """Partials of so many five minutes, each told in one of its minutes.

    Args:
        slow: rows [from, to) in which `search` with `m`, and it alone, takes three times as long.
    """
    told = [one for row in range(rows) for one in calls_of(row, start_us=start_us, slow=slow)]
    return roll(pa.Table.from_batches([batch_of(told)]), MINUTE_US)


def calls_of(row: int, *, start_us: int, slow: tuple[int, int] = (0, 0)) -> list[Row]:
    """The calls of five minutes, all in one of its minutes."""
    source, told = np.random.default_rng(row), []
    load = 1.0 + 0.4 * np.sin(2 * np.pi * row / DAY_ROWS) + 0.2 * source.standard_normal()
    for service, model in ENTITIES:
        is_slow = (service, model) == ("search", "m") and slow[0] <= row < slow[1]
        for number in range(2 + int(2 * max(load, 0))):
            one: Row = {
                "occurred_at": start_us + row * ROW_US + (row % 5) * MINUTE_US + number,
                "event_id": f"{row}-{service}-{model}-{number}",
                "kind": "gateway.request",
                "service": service,
                "provider": "p",
                "model": model,
                "operation": "chat",
                "counted": _COUNTED,
                "latency_ms": float(source.lognormal(5 + 0.2 * load, 0.1)) * (3.0 if is_slow else 1.0),
                "input_tokens": int(source.lognormal(7, 0.1)),
                "output_tokens": int(source.lognormal(5, 0.1)),
            }
            told.append(one)
    return told


def series_of_rows(first: int, last: int, table: pa.Table, features: tuple[str, ...] = ()) -> dict[str, Series]:
    """Rows [first, last) as a fleet reads them."""
    span = {"from_us": START_US + first * ROW_US, "to_us": START_US + last * ROW_US}
    found = {str(name): one for name, one in entity_series(table, step_s=STEP_S, **span).items()}
    chosen = features or told_features(list(found.values()))
    return {name: one.only(chosen) for name, one in found.items()}
