"""The job over real Delta tables: no difference where there is none, and the place and amount where there is one."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from pipelines.reconcile import LOST, reconcile
from tests.bench.reconcile import is_sound, measure
from tests.models.aggregate.events import START_US, Row
from tests.pipelines.test_rebuild_rollups import seal

COSTS: list[Row] = [
    {"occurred_at": START_US, "model": f"m{number % 2}", "cost_usd": Decimal(number + 1).scaleb(-9), "input_tokens": 1}
    for number in range(5)
]
UNPRICED: Row = {"occurred_at": START_US, "model": "m9", "input_tokens": 1}


def test_sound_tables_differ_by_nothing_and_unpriced_rows_are_counted(tmp_path: Path) -> None:
    seal(tmp_path, 1, {"acme": [*COSTS, UNPRICED], "globex": COSTS})
    report = reconcile(tmp_path)
    assert report["difference_usd"] == "0.000000000"
    assert report["differences"] == []
    assert report["bills"] == {"acme": "0.000000015", "globex": "0.000000015"}
    assert [(one["model"], one["events"]) for one in report["unpriced"]] == [("m9", 1)]


def test_a_planted_fault_is_named(tmp_path: Path) -> None:
    seal(tmp_path, 1, {"acme": COSTS, "globex": COSTS}, forget="globex")
    report = reconcile(tmp_path)
    [found] = report["differences"]
    assert (found["tenant_id"], found["model"], found["difference_usd"]) == ("globex", "m0", "0.000000001")
    assert (found["fault"], found["events_missing"]) == (LOST, 1)
    assert report["difference_usd"] == "0.000000001"


def test_each_of_four_planted_faults_is_named_and_sent_costs_are_told_apart(tmp_path: Path) -> None:
    call = {"module": "gateway", "kind": "gateway.request", "operation": "chat", "provider": "openai", "model": "gpt-5"}
    at = "2026-03-01T00:00:00Z"
    events = [
        {**call, "event_id": f"e-{n}", "occurred_at": at, "input_tokens": 1_000 + n, "output_tokens": 0}
        for n in range(20)
    ]
    events += [{**events[0], "event_id": "sent", "cost_usd": "0.5"}]
    figures = measure(tmp_path, events)
    assert is_sound(figures), figures
    assert (figures["sound"]["events"], figures["unpriced"]) == (21, 0)
    [line] = figures["sent_costs"]["by_model"]
    assert (line["sent_usd"], line["computed_usd"]) == ("0.500000000", "0.001250000")
    named = figures["planted"]
    assert named["a doubled event"]["faults"][0]["times"] == 2
    assert named["a changed cost"]["faults"][0]["difference_usd"] == "0.000000001"
