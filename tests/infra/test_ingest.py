"""Files of every kind as the hub gets them: fields, times, ids, resuming, and what the command says at the end."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cluster.contract.decode import DecodeContext, Decoded, decode
from cluster.errors import BodyUnreadable, RequestInvalid
from cluster.sdk.client import HubClient, HubRefused, HubUnreachable, retry_after_s
from infra.cli.ingest import Cutting, Outcome, _pairs, send
from infra.cli.ingest_files import inspect, parcels
from infra.cli.ingest_presets import PRESETS
from infra.cli.ingest_rows import Plan, check_field, ids

NOW_US = 1_767_225_600_000_000
START_US = 1_704_067_200_000_000
CONTEXT = DecodeContext(tenant_id="t", region="local", received_at_us=NOW_US)
REQUEST = {"module": "gateway", "kind": "gateway.request"}


def decoded(path: Path, plan: Plan, *, batch: int = 1000, skip_rows: int = 0) -> list[Decoded]:
    cut = parcels(inspect(path), plan, batch=batch, skip_rows=skip_rows)
    return [decode(parcel.body, content_type=parcel.content_type, context=CONTEXT) for parcel in cut]


def rows(path: Path, plan: Plan, *, batch: int = 1000) -> list[dict[str, Any]]:
    return [row for part in decoded(path, plan, batch=batch) for row in part.events.to_pylist()]


TABLE = pa.table(
    {
        "seconds": [0.0, 1.5, 3600.25],
        "model": ["a", "b", None],
        "prompt_tokens": pa.array([10, 20, 30], pa.int32()),
        "took_s": [0.5, None, 2.0],
        "blocks": [[1, 2], [3], []],
        "note": ["x", None, "z"],
    }
)
PLAN = Plan(
    "s",
    maps={"occurred_at": "seconds", "latency_ms": "took_s * 1000", "attributes.remark": "note"},
    sets={**REQUEST, "model": "unknown", "attributes.origin": "file"},
    start_us=START_US,
)


@pytest.fixture(params=["parquet", "arrow", "csv", "feather"])
def table_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"rows.{request.param}"
    if request.param == "parquet":
        pq.write_table(TABLE, path, row_group_size=2)
    elif request.param == "csv":
        pacsv.write_csv(TABLE.set_column(4, "blocks", [["1", "2", "3"]]), path)
    elif request.param == "arrow":
        with pa.ipc.new_stream(str(path), TABLE.schema) as writer:
            writer.write_table(TABLE)
    else:
        with pa.ipc.new_file(str(path), TABLE.schema) as writer:
            writer.write_table(TABLE)
    return path


def test_columns_become_fields_and_the_rest_is_kept(table_file: Path) -> None:
    found = rows(table_file, PLAN)
    assert [row["model"] for row in found] == ["a", "b", "unknown"]
    assert [row["input_tokens"] for row in found] == [10, 20, 30]
    assert [row["latency_ms"] for row in found] == [500.0, None, 2000.0]
    micros = [round(row["occurred_at"].timestamp() * 1e6) - START_US for row in found]
    assert micros == [0, 1_500_000, 3_600_250_000]
    attributes = [json.loads(row["attributes"]) for row in found]
    assert [one["origin"] for one in attributes] == ["file"] * 3
    assert [one.get("remark") for one in attributes] == ["x", None, "z"]
    if table_file.suffix != ".csv":
        assert json.loads(found[0]["payload"]) == {"blocks": [1, 2]}


def test_ids_do_not_depend_on_how_the_file_is_cut(table_file: Path) -> None:
    whole = [row["event_id"] for row in rows(table_file, PLAN)]
    assert whole == [row["event_id"] for row in rows(table_file, PLAN, batch=1)]
    assert whole == ids("s", 0, 3).to_pylist()
    rest = [row["event_id"] for part in decoded(table_file, PLAN, skip_rows=1) for row in part.events.to_pylist()]
    assert rest == whole[1:]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_lines_keep_their_ids_and_bad_ones_go_as_they_are(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    event = {**REQUEST, "occurred_at": "2025-01-01T00:00:00Z"}
    lines = [json.dumps({**event, "event_id": "mine"}), "{broken", "", json.dumps(event), json.dumps(event)]
    path = tmp_path / ("rows.ndjson" + (".gz" if pack is gzip.compress else ""))
    path.write_bytes(pack("\n".join(lines).encode()))
    (part,) = decoded(path, Plan("s"))
    made = ids("s", 0, 4).to_pylist()
    assert part.events.column("event_id").to_pylist() == ["mine", made[2], made[3]]
    assert part.dead_letters.column("original").to_pylist() == [b"{broken"]


def test_json_documents_are_mapped_by_dotted_names_without_a_float(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"at": 1.5, "usage": {"in": 7, "price": 0.1234567890123}, "who": {"id": "u"}}, {"at": 2}]')
    plan = Plan(
        "s",
        maps={"occurred_at": "at", "input_tokens": "usage.in", "cost_usd": "usage.price", "user_id": "who.id"},
        sets=REQUEST,
        start_us=START_US,
    )
    first, second = rows(path, plan)
    assert (first["input_tokens"], first["user_id"], first["cost_usd"]) == (7, "u", Decimal("0.123456789"))
    assert second["input_tokens"] is None
    assert round(second["occurred_at"].timestamp() * 1e6) == START_US + 2_000_000


def test_otlp_files_go_to_their_own_door_cut_by_spans(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(1, 6):
        scope.spans.add(trace_id=bytes([number]) * 16, span_id=bytes([number]) * 8, name="s")
    binary, lines = tmp_path / "spans.binpb", tmp_path / "spans.jsonl"
    binary.write_bytes(request.SerializeToString())
    lines.write_text('{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"},{"name":"b"}]}]}]}\n' * 2)
    cut = list(parcels(inspect(binary), Plan("s"), batch=2))
    assert [(one.first_row, one.rows, one.signal) for one in cut] == [
        (0, 2, "traces"),
        (2, 2, "traces"),
        (4, 1, "traces"),
    ]
    names = [ExportTraceServiceRequest.FromString(one.body).resource_spans[0].scope_spans[0].spans for one in cut]
    assert [span.span_id[0] for spans in names for span in spans] == [1, 2, 3, 4, 5]
    assert [(one.rows, one.content_type) for one in parcels(inspect(lines), Plan("s"), batch=9)] == [
        (2, "application/json"),
        (2, "application/json"),
    ]


def test_presets_know_their_files_and_yield_to_what_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    table = pa.table(
        {"request_no": [0], "arrival_s": [2.0], "input_tokens": [5], "output_tokens": [6], "prefix_block_ids": [[1]]}
    )
    pq.write_table(table, path)
    with pytest.raises(RequestInvalid, match="seconds after a start"):
        rows(path, Plan("s"))
    (row,) = rows(path, Plan("s", sets={"model": "m", "status": "error"}, start_us=START_US))
    assert (row["kind"], row["model"], row["status"], row["input_tokens"]) == ("gateway.request", "m", "error", 5)
    assert len({preset.columns for preset in PRESETS}) == len(PRESETS)
    for preset in PRESETS:
        assert [check_field(name) for name in (*preset.maps, *preset.sets)]


class Door:
    """A hub's event door: takes rows, or answers what it is told to first."""

    def __init__(self, *first: httpx2.Response | Exception) -> None:
        self.first = list(first)
        self.ids: list[str] = []
        self.waits: list[float] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if self.first:
            answer = self.first.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        part = decode(request.content, content_type=request.headers["content-type"], context=CONTEXT)
        fresh = [one for one in part.events.column("event_id").to_pylist() if one not in self.ids]
        self.ids += fresh
        refused = part.dead_letters.num_rows
        errors = [{"index": one.index, "code": one.code, "message": one.message} for one in part.refusals]
        repeated = part.events.num_rows - len(fresh)
        answer = {"accepted": len(fresh), "repeated": repeated, "refused": refused, "errors": errors}
        return httpx2.Response(202, json=answer)

    def client(self, deadline_s: float = 60.0) -> HubClient:
        transport = httpx2.MockTransport(self)
        options: dict[str, Any] = {"transport": transport, "pause": self.waits.append, "chance": lambda: 0.5}
        return HubClient("http://hub", "key", compression="none", deadline_s=deadline_s, **options)


@pytest.fixture
def lines_file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.ndjson"
    path.write_text(
        "".join(json.dumps({**REQUEST, "occurred_at": NOW_US, "request_id": str(n)}) + "\n" for n in range(10))
    )
    return path


def sent(door: Door, path: Path, bookmarks: Path) -> Outcome:
    return send(door.client(), inspect(path), Plan("s"), Cutting(3, "traces", bookmarks), told=lambda outcome: None)


def test_an_interrupted_file_goes_on_where_it_was_acknowledged(lines_file: Path, tmp_path: Path) -> None:
    door = Door()
    stop = Door()
    client = stop.client()

    def told(outcome: Outcome) -> None:
        if outcome.accepted == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send(client, inspect(lines_file), Plan("s"), Cutting(3, "traces", tmp_path / "marks"), told=told)
    door.ids = stop.ids
    outcome = sent(door, lines_file, tmp_path / "marks")
    assert (outcome.resumed_at, outcome.accepted, outcome.repeated) == (6, 4, 0)
    assert not list((tmp_path / "marks").iterdir())
    again = sent(door, lines_file, tmp_path / "marks")
    assert (again.accepted, again.repeated, len(door.ids)) == (0, 10, 10)


def test_a_busy_hub_is_waited_for(lines_file: Path, tmp_path: Path) -> None:
    door = Door(httpx2.Response(429, headers={"Retry-After": "2"}), httpx2.ConnectError("gone"), httpx2.Response(503))
    assert sent(door, lines_file, tmp_path / "marks").accepted == 10
    assert door.waits == [2.05, 0.1, 0.2]


def test_a_refusal_of_the_whole_body_is_told_with_its_reason() -> None:
    problem = {"title": "Forbidden", "status": 403, "detail": "no permission", "code": "forbidden", "hint": "ask"}
    with pytest.raises(HubRefused) as raised:
        Door(httpx2.Response(403, json=problem)).client().post_events([REQUEST])
    assert (raised.value.status, raised.value.code, raised.value.hint) == (403, "forbidden", "ask")
    with pytest.raises(HubUnreachable):
        Door(httpx2.Response(503, headers={"Retry-After": "9"})).client(deadline_s=5).post_events([REQUEST])


def test_refused_rows_are_named_by_their_row_in_the_file(lines_file: Path, tmp_path: Path) -> None:
    lines_file.write_text(lines_file.read_text() + "no json\n")
    outcome = sent(Door(), lines_file, tmp_path / "marks")
    assert (outcome.accepted, outcome.refused) == (10, 1)
    assert outcome.refusals[0].startswith("row 10: json_invalid")


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("", 0.0), ("soon", 0.0), ("9999", 30.0), ("-1", 0.0)])
def test_retry_after_is_bounded(header: str, seconds: float) -> None:
    assert retry_after_s(header, NOW_US) == seconds
    assert retry_after_s("Thu, 01 Jan 2026 00:00:04 GMT", NOW_US) == 4.0


def test_wrong_words_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(RequestInvalid, match="not a field"):
        _pairs(["modle=x"], "--set")
    with pytest.raises(RequestInvalid, match="not of the form"):
        _pairs(["model"], "--map")
    path = tmp_path / "rows.txt"
    path.write_text("x")
    with pytest.raises(BodyUnreadable, match="kind of file"):
        inspect(path)
    pq.write_table(TABLE, tmp_path / "rows.parquet")
    with pytest.raises(RequestInvalid, match="cannot be computed"):
        rows(tmp_path / "rows.parquet", Plan("s", maps={"latency_ms": "no_such_column * 2"}))
