"""What must hold after every fault: acknowledged = committed, once each; roll-ups = events; the ledger adds up."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from cluster.errors import HubError
from cluster.lake.tables import TABLES
from infra.runtime import processes
from tests.journeys.chaos_senders import Told
from tests.journeys.local_hub import LocalHub

_DIMENSIONS = "tenant_id, model, status"
_MEASURES = "input_tokens, output_tokens, latency_ms"


def settled_ledger(hub: LocalHub, told: Told, *, deadline_s: float) -> dict[str, int]:
    """The ledger's total once it knows all that was acknowledged and nothing is in flight; else as last told.

    A door may tell the ledger it read a moment ago, so that nothing in flight alone could be of before the fault.
    """
    client = hub.client(deadline_s=30.0)
    found: dict[str, int] = {}

    def is_settled() -> bool:
        try:
            found.update(client.get("/api/v1/ledger")["total"])
        except HubError:
            return False
        is_known = found["accepted"] >= len(told.acknowledged)
        return is_known and found["in_flight"] == found["difference"] == 0

    processes.wait_until(is_settled, deadline_s=deadline_s, every_s=0.05)
    client.close()
    return found


def differences(lake: Path, told: Told, ledger: dict[str, int]) -> list[str]:
    """What does not hold while nobody sends; empty when all does. Read by another engine from the Delta log's files."""
    with duckdb.connect() as connection:
        for name in ("events", "rollup_1m", "dead_letters"):
            _view(connection, lake, name)
        connection.register("acknowledged", pa.table({"event_id": pa.array(told.acknowledged, pa.string())}))
        rows, distinct = _one(connection, "SELECT count(*), count(DISTINCT event_id) FROM events")
        known = "event_id IN (SELECT event_id FROM acknowledged)"
        (common,) = _one(connection, f"SELECT count(DISTINCT event_id) FROM events WHERE {known}")
        kept = "SELECT json_extract_string(decode(original), '$.event_id') FROM dead_letters"
        letters = {name for (name,) in connection.sql(kept).fetchall()}
        uneven = len(connection.sql(_UNEVEN).fetchall())
    due = len(told.acknowledged)
    facts = {
        "acknowledged events are not committed": due - common,
        "committed events were never acknowledged": distinct - common,
        "events are there twice": rows - distinct,
        "refused rows are not kept": len(told.refused - letters),
        "groups of roll-ups differ from their events": uneven,
        "events is the ledger's difference": ledger.get("difference", -1),
        "events are in flight for the ledger": ledger.get("in_flight", -1),
        "events more are accepted by the ledger than acknowledged": ledger.get("accepted", -1) - due,
        "events more are committed by the ledger than acknowledged": ledger.get("committed", -1) - due,
    }
    return [f"{count} {what}" for what, count in facts.items() if count]


_UNEVEN = f"""
    WITH told AS (
        SELECT {_DIMENSIONS}, count(*) AS events, sum(input_tokens) AS inputs, sum(output_tokens) AS outputs,
            sum(CASE WHEN counted & 1 <> 0 THEN 1 ELSE 0 END) AS requests
        FROM events GROUP BY ALL
    ), rolled AS (
        SELECT {_DIMENSIONS}, sum(event_count) AS events, sum(input_tokens) AS inputs, sum(output_tokens) AS outputs,
            sum(request_count) AS requests
        FROM rollup_1m GROUP BY ALL
    )
    (SELECT * FROM told EXCEPT SELECT * FROM rolled) UNION ALL (SELECT * FROM rolled EXCEPT SELECT * FROM told)
"""


def _view(connection: duckdb.DuckDBPyConnection, lake: Path, name: str) -> None:
    files = DeltaTable(str(lake / name)).file_uris()
    if files:
        relation = connection.read_parquet(files, hive_partitioning=True)
    else:
        relation = connection.from_arrow(TABLES[name].full_schema.empty_table())
    relation.create_view(name)


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, ...]:
    ((*row,),) = connection.sql(sql).fetchall()
    return tuple(row)
