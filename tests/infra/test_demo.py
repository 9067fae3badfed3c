"""The simulated platform: the same story each time, told once however it is cut, with its incidents in the numbers."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import httpx2
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cluster.clock import SystemClock
from cluster.contract.decode import DecodeContext, decode
from cluster.contract.event import KINDS, MODULES
from cluster.contract.sources.otlp import decode_traces
from cluster.sdk.client import NDJSON, PROTOBUF, HubClient
from infra.demo import incidents as happening
from infra.demo.events import events
from infra.demo.incidents import Incident, schedule
from infra.demo.platform import MODELS, rhythm
from infra.demo.sender import ENCODER, Notebook, Sender
from infra.demo.spans import export_request
from infra.demo.traffic import BLOCK_US, OK, RATE_LIMITED, Calls, Traffic

BEGIN_US = 1_767_225_600_000_000
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


@pytest.fixture(scope="module")
def story() -> tuple[Traffic, list[Incident]]:
    incidents = schedule(BEGIN_US, DAY_US, 3)
    return Traffic(7, incidents), incidents


def one(incidents: list[Incident], kind: str) -> Incident:
    return next(happening.of_kind(incidents, kind))


def calls_in(traffic: Traffic, from_us: int, to_us: int) -> Calls:
    blocks = [traffic.block(number).calls for number in range(from_us // BLOCK_US, -(-to_us // BLOCK_US))]
    calls = Calls.joined(blocks)
    return calls.take((calls.at_us >= from_us) & (calls.at_us < to_us))


def context() -> DecodeContext:
    return DecodeContext(tenant_id="t", region="local", received_at_us=BEGIN_US + DAY_US)


def ids(traffic: Traffic, incidents: list[Incident], cuts: list[int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for from_us, to_us in itertools.pairwise(cuts):
        for block in traffic.window(from_us, to_us):
            found.update(event["event_id"] for event in events(block, incidents))
            request = ExportTraceServiceRequest.FromString(export_request(block, traffic.world)[0])
            for resource in request.resource_spans:
                found.update(span.span_id.hex() for scope in resource.scope_spans for span in scope.spans)
    return found


def test_the_same_seed_tells_the_same_story(story: tuple[Traffic, list[Incident]]) -> None:
    traffic, incidents = story
    number = BEGIN_US // BLOCK_US + 30
    again = Traffic(7, incidents).block(number)
    other = Traffic(8, incidents).block(number)
    assert np.array_equal(traffic.block(number).calls.span, again.calls.span)
    assert events(traffic.block(number), incidents) == events(again, incidents)
    assert not np.array_equal(again.calls.at_us, other.calls.at_us)


def test_windows_tell_everything_once_however_long_they_are(story: tuple[Traffic, list[Incident]]) -> None:
    traffic, incidents = story
    outage = one(incidents, happening.PROVIDER_OUTAGE)
    from_us, to_us = outage.from_us - 7_000_001, outage.from_us + BLOCK_US + 123_457
    whole = ids(traffic, incidents, [from_us, to_us])
    parts = ids(traffic, incidents, [*range(from_us, to_us, 61_000_007), to_us])
    assert whole == parts
    assert set(whole.values()) == {1}


def test_every_event_and_span_is_taken_by_the_contract(story: tuple[Traffic, list[Incident]]) -> None:
    traffic, incidents = story
    modules: set[str] = set()
    for incident in incidents[:5]:
        block = traffic.block(incident.from_us // BLOCK_US)
        told = events(block, incidents)
        decoded = decode(ENCODER.encode_lines(told), content_type=NDJSON, context=context())
        assert decoded.refusals == []
        modules |= set(decoded.events.column("module").to_pylist())
        assert set(decoded.events.column("kind").to_pylist()) <= {kind for kinds in KINDS.values() for kind in kinds}
        body, count = export_request(block, traffic.world)
        spans = decode_traces(body, PROTOBUF, context())
        assert (spans.refusals, spans.events.num_rows) == ([], count)
    assert modules == set(MODULES)


def test_gateway_and_span_say_the_same_of_each_call(story: tuple[Traffic, list[Incident]]) -> None:
    """In every dialect: same ids, model, tokens and status, so that the hub counts each call once."""
    traffic, incidents = story
    block = traffic.block(one(incidents, happening.RETRY_STORM).from_us // BLOCK_US)
    told = [event for event in events(block, incidents) if event["kind"] == "gateway.request"]
    by_gateway = decode(ENCODER.encode_lines(told), content_type=NDJSON, context=context()).events.to_pylist()
    spans = decode_traces(export_request(block, traffic.world)[0], PROTOBUF, context()).events.to_pylist()
    by_span = {(row["trace_id"], row["span_id"]): row for row in spans}
    assert len(by_gateway) == len(block.calls) > 0
    for row in by_gateway:
        span = by_span[(row["trace_id"], row["span_id"])]
        same = ("model", "provider", "operation", "input_tokens", "output_tokens", "occurred_at")
        assert [span[name] for name in same] == [row[name] for name in same]
        assert span["latency_ms"] == pytest.approx(row["latency_ms"], abs=0.002)
        assert (span["status"] == "ok") == (row["status"] == "ok")


def test_cost_follows_the_price_in_force(story: tuple[Traffic, list[Incident]]) -> None:
    traffic, incidents = story
    change = one(incidents, happening.PRICE_CHANGE)
    at = [model.name for model in MODELS].index(change.entities["model"])
    calls = calls_in(traffic, change.from_us - HOUR_US, change.from_us + HOUR_US)
    calls = calls.take((calls.model == at) & (calls.status == OK))
    sent, output, read, write, _ = calls.tokens.T
    fresh, from_cache, to_cache, answered = MODELS[at].prices
    listed = (sent - read - write) * fresh + read * from_cache + write * to_cache + output * answered
    after = calls.at_us >= change.from_us
    assert np.array_equal(calls.cost_nano[~after], listed[~after])
    assert np.array_equal(calls.cost_nano[after] * 10, listed[after] * 16)


@pytest.mark.parametrize(
    "kind", [happening.LATENCY_REGRESSION, happening.RETRY_STORM, happening.GUARDRAIL_BURST, happening.PROVIDER_OUTAGE]
)
def test_an_incident_shows_where_the_truth_says(kind: str, story: tuple[Traffic, list[Incident]]) -> None:
    traffic, incidents = story
    incident = one(incidents, kind)
    length = incident.to_us - incident.from_us
    assert _sign(kind, traffic, incident, 0) > 2 * _sign(kind, traffic, incident, -2 * length)


def _sign(kind: str, traffic: Traffic, incident: Incident, shift_us: int) -> float:
    """What the incident drives up, in its stretch of time moved by `shift_us`."""
    from_us, to_us = incident.from_us + shift_us, incident.to_us + shift_us
    if kind == happening.GUARDRAIL_BURST:
        verdicts = [traffic.block(number).verdicts for number in range(from_us // BLOCK_US, to_us // BLOCK_US + 1)]
        return float(sum(((v.action == 2) & (v.at_us >= from_us) & (v.at_us < to_us)).sum() for v in verdicts))
    calls = calls_in(traffic, from_us, to_us)
    names = incident.entities.get("models") or [incident.entities["model"]]
    hit = np.isin(calls.model, [traffic.world.model_index[name] for name in names])
    if kind == happening.LATENCY_REGRESSION:
        return float(np.median(calls.latency_ms[hit & (calls.status == OK)]))
    if kind == happening.RETRY_STORM:
        return float((calls.status[hit] == RATE_LIMITED).mean())
    return float((calls.status[hit] != OK).mean())


def test_days_have_a_rhythm() -> None:
    hours = rhythm(np.arange(24) * 3600.0)
    assert hours.argmax() == 10
    assert hours.max() == 1.0
    assert hours.min() > 0.2


def test_a_later_start_goes_on_where_the_story_was_left(tmp_path: Path) -> None:
    now_us = SystemClock().now_us()
    first = Notebook.open(tmp_path, seed=7, period_us=DAY_US, now_us=now_us)
    first.told_us = now_us
    first.save(tmp_path)
    again = Notebook.open(tmp_path, seed=99, period_us=DAY_US, now_us=now_us + HOUR_US)
    assert (again.seed, again.begin_us, again.told_us) == (7, first.begin_us, now_us)
    late = Notebook.open(tmp_path, seed=7, period_us=DAY_US, now_us=now_us + 30 * DAY_US)
    assert late.told_us == now_us + 29 * DAY_US
    truth = json.loads((tmp_path / "ground_truth.json").read_text())
    assert [incident["kind"] for incident in truth["incidents"]] == [
        happening.LATENCY_REGRESSION,
        happening.RETRY_STORM,
        happening.GUARDRAIL_BURST,
        happening.PRICE_CHANGE,
        happening.PROVIDER_OUTAGE,
    ]


def test_the_past_is_sent_again_after_a_failure_under_the_same_ids() -> None:
    incidents = schedule(BEGIN_US, DAY_US, 1)
    seen: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.content)
        if len(seen) == 1:
            return httpx2.Response(429, headers={"Retry-After": "1"})
        if request.url.path == "/v1/traces":
            return httpx2.Response(200, content=b"")
        return httpx2.Response(202, json={"accepted": 1, "repeated": 0, "refused": 0, "errors": []})

    waits: list[float] = []
    client = HubClient(
        "http://hub", "k", transport=httpx2.MockTransport(answer), pause=waits.append, chance=lambda: 0.0
    )
    sender = Sender(client, Traffic(7, incidents), incidents)
    sender.send(BEGIN_US + HOUR_US, BEGIN_US + HOUR_US + BLOCK_US)
    assert waits == [1.0]
    assert seen[0] == seen[1]
