"""Money over real traces, reconciled, and four planted faults found: `llmhub bench reconcile --data DIR`.

Real traces go through decoder, price book, shard and committer into tables of their own, priced by the starter table
(conversations) or with the cost that was recorded (usage objects). Reconciled, the difference must be 0. Then, on a
copy each, a roll-up row is lost, an event doubled with its roll-up, a cost changed, a bill made wrong: each is named.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.committer import Committer
from actors.shard import Shard
from cluster.clock import SystemClock
from cluster.contract.columns import MONEY
from cluster.contract.decode import decode
from cluster.contract.rows import DecodeContext
from cluster.lake.commit import TableWriter
from cluster.lake.scan import read_rows
from cluster.lake.stage import stage
from cluster.lake.tables import TABLES
from cluster.metadata.prices import starter_prices
from cluster.settings import Settings
from models.aggregate.rollup import MINUTE_US, roll
from models.pricing.book import PriceBook
from models.pricing.cost import price
from pipelines.reconcile import CHANGED, DOUBLED, LOST, WRONG_BILL, reconcile

_BATCH: Final = 2_000
_TENANT: Final = "default"
_START: Final = datetime(2026, 3, 1, tzinfo=UTC)
_NANO: Final = Decimal(1).scaleb(-9)
_CALL: Final = {"module": "gateway", "kind": "gateway.request", "operation": "chat", "status": "ok"}
_TRACES: Final = ("azure_llm_2023_conv", "mooncake_conversation")
_MODELS: Final = (("openai", "gpt-4o"), ("openai", "gpt-5-mini"), ("anthropic", "claude-haiku-4-5"))


def calls(data: Path) -> Iterator[dict[str, Any]]:
    """Events of the traces; three models take turns, since the traces name none."""
    folder = data / "llm_requests"
    for name in _TRACES:
        rows = pq.read_table(folder / f"{name}.parquet", columns=["arrival_s", "input_tokens", "output_tokens"])
        for number, row in enumerate(rows.to_pylist()):
            provider, model = _MODELS[number % len(_MODELS)]
            yield {
                **_CALL,
                "event_id": f"{name}-{number}",
                "occurred_at": (_START + timedelta(seconds=row["arrival_s"])).isoformat(),
                "provider": provider,
                "model": model,
                "input_tokens": row["input_tokens"],
                "output_tokens": row["output_tokens"],
            }
    for row in pq.read_table(folder / "llm_api_usage_bodies.parquet").to_pylist():
        [told, *_] = json.loads(row["extracted_json"])
        reading = next((one for one in told["extractors"] if {"input_price", "output_price"} <= one.keys()), None)
        cost = Decimal(reading["input_price"]) + Decimal(reading["output_price"]) if reading else None
        yield {
            **_CALL,
            "event_id": f"usage-{row['record_no']}",
            "occurred_at": (_START + timedelta(seconds=row["record_no"])).isoformat(),
            "provider": reading["provider_id"] if reading else None,
            "model": row["model"],
            "input_tokens": told["usage"].get("input_tokens"),
            "output_tokens": told["usage"].get("output_tokens"),
            "cache_read_tokens": told["usage"].get("cache_read_tokens"),
            "cache_write_tokens": told["usage"].get("cache_write_tokens"),
            "reasoning_tokens": told["usage"].get("output_reasoning_tokens"),
            "cost_usd": None if cost is None else f"{cost:.9f}",
        }


def fill(folder: Path, events: Sequence[dict[str, Any]]) -> Settings:
    """Tables with the events, sealed, committed, rolled up to days and compacted."""
    settings = Settings(data=folder, seal_age_s=0.2, commit_linger_s=0.0, rollover_s=0.2, compact_files=4)
    clock, book = SystemClock(), PriceBook(("", one) for one in starter_prices())
    committer = Committer(settings, clock=clock)
    shard = Shard(settings, 0, shards=1, commits=committer, clock=clock)
    for first in range(0, len(events), _BATCH):
        body = "\n".join(map(json.dumps, events[first : first + _BATCH])).encode()
        context = DecodeContext(tenant_id=_TENANT, region="local", received_at_us=clock.now_us())
        decoded = decode(body, content_type="application/x-ndjson", context=context)
        if decoded.refusals:
            raise SystemExit(f"refused: {decoded.refusals[0].message}")
        shard.admit(_TENANT, price(decoded.events, book, _TENANT).serialize(), None)
    shard.drain()
    deadline_s = time.monotonic() + 60.0
    while _rolled(settings.lake) < TableWriter(settings.lake, TABLES["rollup_1m"]).version:
        if time.monotonic() > deadline_s:
            raise SystemExit("the roll-ups of days never caught up")
        time.sleep(0.2)
    committer.drain()
    return settings


def _rolled(lake: Path) -> int:
    return min(TableWriter(lake, TABLES[name]).last_sequence("rollup_1m") for name in ("rollup_1h", "rollup_1d"))


Change = Callable[[pa.Table], pa.Table]


def tamper(lake: Path, name: str, change: Change) -> None:
    """One file of a table told anew by somebody who is not the committer."""
    writer = TableWriter(lake, TABLES[name])
    file = max(writer.active_files(), key=lambda one: int(str(one["num_records"])))
    rows = read_rows(writer.root / str(file["path"])).select(TABLES[name].schema.names).cast(TABLES[name].schema)
    staged = stage(lake, TABLES[name], change(rows), tenant_id=str(file["partition.tenant_id"]), token="tampered")
    writer.append(staged, {}, removed=[file])


def lose_rollup(lake: Path) -> None:
    """A partial that counts an event and its money is gone from the minutes."""

    def without(rows: pa.Table) -> pa.Table:
        paid = pc.index(pc.greater(rows.column("cost_usd"), pa.scalar(Decimal(0), MONEY)), True).as_py()
        return pa.concat_tables([rows.slice(0, paid), rows.slice(paid + 1)])

    tamper(lake, "rollup_1m", without)


def double_event(lake: Path) -> None:
    """An event is committed a second time, with its partial: all sums agree."""
    writer = TableWriter(lake, TABLES["events"])
    file = writer.active_files()[0]
    row = read_rows(writer.root / str(file["path"])).slice(0, 1).select(TABLES["events"].schema.names)
    row = row.cast(TABLES["events"].schema)
    for name, rows in (("rollup_1m", roll(row, MINUTE_US)), ("events", row)):
        staged = stage(lake, TABLES[name], rows, tenant_id=_TENANT, token="doubled")
        TableWriter(lake, TABLES[name]).append(staged, {"fault": 1})


def change_cost(lake: Path) -> None:
    """A nano-dollar more on one event."""
    tamper(lake, "events", _dearer)


def wrong_bill(lake: Path) -> None:
    """A nano-dollar more on one day's bill."""
    tamper(lake, "rollup_1d", _dearer)


def _dearer(rows: pa.Table) -> pa.Table:
    place = rows.schema.get_field_index("cost_usd")
    costs = rows.column("cost_usd").to_pylist()
    paid = next(number for number, cost in enumerate(costs) if cost)
    costs[paid] += _NANO
    return rows.set_column(place, rows.schema.field(place), pa.array(costs, MONEY))


FAULTS: Final[dict[str, tuple[Callable[[Path], None], str]]] = {
    "a lost roll-up row": (lose_rollup, LOST),
    "a doubled event": (double_event, DOUBLED),
    "a changed cost": (change_cost, CHANGED),
    "a wrong bill": (wrong_bill, WRONG_BILL),
}


def measure(folder: Path, events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of a sound run and of each planted fault."""
    settings = fill(folder / "sound", events)
    began_s = time.monotonic()
    sound = reconcile(settings.lake)
    took_s = time.monotonic() - began_s
    names = ("events", "events_usd", "rollups_usd", "bills_usd", "difference_usd", "faults")
    sent = [line for line in sound["sent_costs"] if line["events_that_differ"]]
    figures: dict[str, Any] = {
        "sound": {name: sound[name] for name in names} | {"seconds": round(took_s, 2)},
        "sent_costs": {
            "events": sum(line["events"] for line in sound["sent_costs"]),
            "events_that_differ": sum(line["events_that_differ"] for line in sent),
            "by_model": sent,
        },
        "unpriced": sum(line["events"] for line in sound["unpriced"]),
        "planted": {},
    }
    for number, (name, (plant, expected)) in enumerate(FAULTS.items()):
        lake = folder / f"fault-{number}"
        shutil.copytree(settings.lake, lake)
        plant(lake)
        found = reconcile(lake)["faults"]
        figures["planted"][name] = {"named": any(one["fault"] == expected for one in found), "faults": found[:3]}
    return figures


def is_sound(figures: dict[str, Any]) -> bool:
    """Whether the difference was 0 and every fault named."""
    clean = not figures["sound"]["faults"] and Decimal(figures["sound"]["difference_usd"]) == 0
    return clean and all(one["named"] for one in figures["planted"].values())


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Exit code 1 where a difference is not 0 or a fault is not named."""
    parser = argparse.ArgumentParser(prog="llmhub bench reconcile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), list(calls(chosen.data)))
    text = json.dumps(figures, indent=2)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    if not is_sound(figures):
        sys.exit(1)
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
