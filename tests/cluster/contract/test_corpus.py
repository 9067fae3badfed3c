"""The golden corpus: payloads as the public products send them, and the columns each must give.

`corpus/*.json` has one file a dialect: cases with a door, a body and, for each event, the columns that are expected;
a column that is not named is not looked at. Cases marked `same_call` tell of one call.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from cluster.contract.columns import TOKEN_FIELDS
from cluster.contract.decode import Decoded, decode
from cluster.contract.sources.hooks.products import DECODE_HOOK
from cluster.contract.sources.otlp import decode_traces
from tests.cluster.contract.bodies import CONTEXT, NDJSON, arrow_body, checked
from tests.cluster.contract.test_otlp import hexed, traces

CASES: list[dict[str, Any]] = [
    {**case, "file": path.stem}
    for path in sorted(Path(__file__).with_name("corpus").glob("*.json"))
    for case in json.loads(path.read_text())
]
USAGE_AND_MODEL = ("model", *TOKEN_FIELDS)


def outcomes(case: dict[str, Any]) -> list[Decoded]:
    """What the hub makes of a case, through every form in which its door takes it."""
    door, body = case["door"], case["body"]
    if door == "span":
        request = traces(body, resource=body.get("resource"))
        request.resource_spans[0].scope_spans[0].spans[0].status.code = body.get("status", 0)
        return [
            decode_traces(request.SerializeToString(), "application/x-protobuf", CONTEXT),
            decode_traces(hexed(request), "application/json", CONTEXT),
        ]
    if door == "events":
        forms = [(NDJSON, b"\n".join(map(orjson.dumps, body))), ("application/json", orjson.dumps(body))]
        return [decode(sent, content_type=form, context=CONTEXT) for form, sent in forms]
    form = case["content_type"]
    sent = b"\n".join(map(orjson.dumps, body)) if form == NDJSON else orjson.dumps(body)
    return [DECODE_HOOK[door.removeprefix("hooks/")](sent, {"content-type": form}, CONTEXT)]


def shown(value: Any) -> Any:
    """A cell as the corpus writes it: money and times as text."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float) else f"{value:.9f}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['file']}: {case['name']}")
def test_a_payload_gives_its_columns(case: dict[str, Any]) -> None:
    for decoded in outcomes(case):
        checked(decoded)
        assert decoded.refusals == []
        found = decoded.events.to_pylist()
        assert len(found) == len(case["expected"])
        for row, expected in zip(found, case["expected"], strict=True):
            assert {name: shown(row[name]) for name in expected} == expected


def test_the_corpus_is_large_and_of_every_dialect() -> None:
    assert len(CASES) >= 60
    assert len({case["file"] for case in CASES}) >= 12


def call_of(case: dict[str, Any]) -> list[pa.RecordBatch]:
    """The one row of each outcome that tells of the call's usage."""
    batches = [decoded.events for decoded in outcomes(case)]
    return [batch.filter(batch.column("input_tokens").is_valid()) for batch in batches]


def sealed(batch: pa.RecordBatch, columns: tuple[str, ...]) -> bytes:
    """The columns' cells, byte for byte as Arrow keeps them."""
    return arrow_body(pa.Table.from_batches([batch.select(columns)]).slice(0, 1))


def test_one_call_told_in_every_dialect_has_the_same_usage_model_and_cost() -> None:
    same = [case for case in CASES if case["same_call"]]
    calls = [(case["file"], batch) for case in same for batch in call_of(case)]
    assert len({file for file, _ in calls}) >= 10
    assert len({sealed(batch, USAGE_AND_MODEL) for _, batch in calls}) == 1
    # OpenTelemetry and those nearest to it tell no cost.
    priced = [(file, batch) for file, batch in calls if batch.column("cost_usd").null_count == 0]
    assert len({file for file, _ in priced}) >= 7
    assert len({sealed(batch, (*USAGE_AND_MODEL, "cost_usd")) for _, batch in priced}) == 1


def test_a_hook_sent_again_gives_the_same_events_and_dead_letters() -> None:
    for case in CASES:
        if case["door"].startswith("hooks/"):
            (first,), (again,) = outcomes(case), outcomes(case)
            assert first.events.equals(again.events)
            assert len(set(first.events.column("event_id").to_pylist())) == first.events.num_rows
