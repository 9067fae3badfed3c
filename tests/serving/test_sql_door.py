"""What the SQL door answers: the known rows, the same in every form, of one scope, now and in the past."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from cluster.clock import format_rfc3339
from tests.serving.small_lake import event
from tests.serving.sql_hub import ARROW, CSV, JSON, SqlHub, serving, two_tenants


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlHub]:
    with serving(two_tenants(tmp_path_factory.mktemp("lake")), sql_workers=1) as hub:
        yield hub


def exact(answer: Any) -> Any:
    """The JSON of an answer with every digit of its numbers."""
    return json.loads(answer.text, parse_float=Decimal)


def test_rows_are_the_ones_that_were_put_in(hub: SqlHub) -> None:
    rows = hub.rows("SELECT event_id, model, occurred_at FROM events ORDER BY event_id")
    known = sorted(hub.lake.rows["alpha"], key=lambda row: row["event_id"])
    assert rows == [
        {"event_id": row["event_id"], "model": row["model"], "occurred_at": format_rfc3339(row["occurred_at"])}
        for row in known
    ]


def test_groups_and_money_are_exact(hub: SqlHub) -> None:
    answer = exact(hub.ask("SELECT model, count(*) AS n, sum(cost_usd) AS cost FROM events GROUP BY model"))
    counts = Counter(row["model"] for row in hub.lake.rows["alpha"])
    assert {row["model"]: row["n"] for row in answer["rows"]} == dict(counts)
    for row in answer["rows"]:
        known = [one["cost_usd"] for one in hub.lake.rows["alpha"] if one["model"] == row["model"]]
        assert row["cost"] == sum(cost for cost in known if cost is not None)
    assert set(answer["versions"]) == {"events"}


@pytest.mark.parametrize("table", ["rollup_1m", "rollup_1h", "rollup_1d"])
def test_roll_ups_hold_what_the_events_do(hub: SqlHub, table: str) -> None:
    rows = hub.rows(f"SELECT CAST(sum(event_count) AS BIGINT) AS n FROM {table}")
    assert rows == [{"n": len(hub.lake.rows["alpha"])}]


def test_a_table_without_a_commit_is_empty(hub: SqlHub) -> None:
    answer = hub.ask("SELECT * FROM dead_letters")
    assert answer.json()["rows"] == []
    assert "reason_code" in answer.json()["columns"]


def test_every_form_holds_the_same_rows(hub: SqlHub) -> None:
    statement = (
        "SELECT event_id, occurred_at, event_date, cost_usd, latency_ms, input_tokens, cost_usd IS NULL AS free, model "
        "FROM events ORDER BY event_id LIMIT 50"
    )
    of_json = exact(hub.ask(statement, accept=JSON))
    arrow = hub.ask(statement, accept=ARROW)
    assert arrow.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert table.schema.names == of_json["columns"]
    assert [str(one.type) for one in table.schema] == of_json["types"]
    known = sorted(hub.lake.rows["alpha"], key=lambda row: row["event_id"])[:50]
    assert table.column("cost_usd").to_pylist() == [row["cost_usd"] for row in known]
    assert [row["cost_usd"] for row in of_json["rows"]] == [row["cost_usd"] for row in known]
    answer = hub.ask(statement, accept=CSV)
    assert answer.headers["content-type"].startswith(CSV)
    for cells, row in zip(csv.DictReader(io.StringIO(answer.text)), of_json["rows"], strict=True):
        assert cells["event_id"] == row["event_id"]
        assert cells["occurred_at"] == row["occurred_at"]
        assert cells["event_date"] == row["event_date"]
        assert cells["free"] == str(row["free"]).lower()
        for name in ("cost_usd", "latency_ms", "input_tokens"):
            assert (Decimal(cells[name]) if cells[name] else None) == row[name]


def test_a_text_is_no_formula_in_a_spreadsheet(hub: SqlHub) -> None:
    assert hub.ask("SELECT '=1+1' AS a, -1 AS b", accept=CSV).text == "a,b\r\n'=1+1,-1\r\n"


def test_names_that_come_twice_are_told_apart(hub: SqlHub) -> None:
    assert hub.rows("SELECT 1 AS a, 2 AS a") == [{"a": 1, "a_1": 2}]


def test_times_without_a_zone_are_utc(hub: SqlHub) -> None:
    assert hub.rows("SELECT TIMESTAMP '2026-01-02 03:04:05' AS t") == [{"t": "2026-01-02T03:04:05Z"}]


@pytest.mark.parametrize(
    ("accept", "form"),
    [("*/*", JSON), ("text/*", CSV), ("text/html, text/csv;q=0.5", CSV), (f"text/csv;q=0.1, {ARROW}", ARROW)],
)
def test_accept_chooses_the_form(hub: SqlHub, accept: str, form: str) -> None:
    answer = hub.ask("SELECT 1 AS a", accept=accept)
    assert answer.headers["content-type"].startswith(form)
    assert answer.headers["x-row-count"] == "1"


@pytest.mark.parametrize("accept", ["text/html", "application/xml;q=1", "application/json;q=0"])
def test_another_form_is_406(hub: SqlHub, accept: str) -> None:
    answer = hub.ask("SELECT 1", accept=accept)
    assert answer.status_code == 406
    assert answer.json()["code"] == "not_acceptable"
    assert "text/csv" in answer.json()["hint"]


def test_parameters_are_values(hub: SqlHub) -> None:
    name = "m'; DROP TABLE events; --"
    known = sum(row["model"] == name for row in hub.lake.rows["alpha"])
    for statement, parameters in (
        ("SELECT count(*) AS n FROM events WHERE model = ?", [name]),
        ("SELECT count(*) AS n FROM events WHERE model = $m", {"m": name}),
        ("SELECT count(*) AS n FROM events WHERE model IN (SELECT unnest(?))", [[name]]),
    ):
        assert hub.rows(statement, parameters=parameters) == [{"n": known}]
    assert hub.rows("SELECT ? AS text", parameters=["(SELECT 1)"]) == [{"text": "(SELECT 1)"}]


def test_a_view_bounds_a_statement_that_names_it(hub: SqlHub) -> None:
    counted = "SELECT count(*) AS n FROM events"
    total = hub.rows(counted)[0]["n"]
    ends = hub.rows("SELECT min(occurred_at) AS first, max(occurred_at) AS last FROM events")[0]
    span = f"{counted} WHERE occurred_at >= $from AND occurred_at < $to"
    view = {"from": ends["first"], "to": ends["last"]}
    inside = hub.rows(span, view=view)[0]["n"]
    assert 0 < inside < total
    # What the statement does not name changes nothing, and neither does a choice that nobody made.
    chosen = f"{counted} WHERE $model IS NULL OR model = $model"
    models = {row["model"]: row["n"] for row in hub.rows("SELECT model, count(*) AS n FROM events GROUP BY 1")}
    one = next(name for name in models if name)
    assert hub.rows(counted, view=view)[0]["n"] == hub.rows(chosen, view=view)[0]["n"] == total
    assert hub.rows(chosen, view={**view, "where": {"model": one}})[0]["n"] == models[one]
    # A value is a value, whatever it spells.
    evil = "x' OR '1'='1"
    assert hub.rows(chosen, view={**view, "where": {"model": evil}})[0]["n"] == 0
    assert hub.rows("SELECT $model AS m", view={**view, "where": {"model": evil}}) == [{"m": evil}]
    # Instants are instants: the day before the first one.
    assert hub.rows("SELECT $from - INTERVAL 1 DAY < $from AS b", view=view) == [{"b": True}]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"sql": "SELECT $modle", "view": {"from": "-1h"}}, "$modle"),
        ({"sql": "SELECT ?", "parameters": [1], "view": {"from": "-1h"}}, "`?`"),
        ({"sql": "SELECT 1", "view": {"from": "-1h", "where": {"nothing": "x"}}}, "nothing"),
        ({"sql": "SELECT 1", "view": {"to": "now"}}, "view.from"),
        ({"sql": "SELECT $from"}, "from"),
    ],
)
def test_a_view_that_cannot_be_bound_is_refused(hub: SqlHub, body: dict[str, Any], words: str) -> None:
    answer = hub.ask(**body)
    assert answer.status_code == 422 and words in answer.json()["detail"]


def test_a_project_sees_its_own_rows(hub: SqlHub) -> None:
    known = sum(row["project_id"] == "north" for row in hub.lake.rows["alpha"])
    for name, column in (("events", "count(*)"), ("rollup_1m", "sum(event_count)"), ("rollup_1d", "sum(event_count)")):
        rows = hub.rows(f"SELECT project_id, CAST({column} AS BIGINT) AS n FROM {name} GROUP BY 1", project="north")
        assert rows == [{"project_id": "north", "n": known}]


def test_tenants_see_their_own_rows(hub: SqlHub) -> None:
    for tenant in ("alpha", "beta"):
        rows = hub.rows("SELECT tenant_id, count(*) AS n FROM events GROUP BY 1", tenant=tenant)
        assert rows == [{"tenant_id": tenant, "n": len(hub.lake.rows[tenant])}]


@pytest.mark.parametrize(
    ("statement", "detail", "hint"),
    [
        ("SELECT ocurred_at FROM events", "ocurred_at", "occurred_at"),
        ("SELEC 1", "at character 1", "PostgreSQL"),
        ("SELECT * FROM event", "'event'", "events"),
        ("SELECT summ(cost_usd) FROM events", "'summ'", "sum"),
        ("SELECT CAST(event_id AS INTEGER) FROM events", "INT", "TRY_CAST"),
        ("SELECT ? AS a", "parameters", "for each"),
        ("SELECT sum(model) FROM events", "sum(VARCHAR)", "Cast"),
    ],
)
def test_a_fault_is_named_with_a_remedy(hub: SqlHub, statement: str, detail: str, hint: str) -> None:
    answer = hub.ask(statement)
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]
    assert hint in answer.json()["hint"]


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"sql": ""}, {"sql": 1}, {"sql": "SELECT 1", "limit": 0}, {"sql": "SELECT 1", "limit": 10**9}),
        *({"sql": "SELECT 1", "limit": True}, {"sql": "SELECT 1", "tenant": "beta"}, {"sql": "SELECT 1\x00"}),
        *({"sql": "SELECT ?", "parameters": [{"a": 1}]}, {"sql": "SELECT 1", "parameters": "x"}),
        *({"sql": "SELECT 1", "as_of": True}, {"sql": "SELECT 1", "as_of": {}}, {"sql": "SELECT 1", "as_of": "soon"}),
        *({"sql": "SELECT 1", "as_of": {"nope": 1}}, {"sql": "SELECT " + "1," * 60_000 + "1"}, [], 1, None),
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_a_request_that_makes_no_sense_is_refused(hub: SqlHub, body: Any) -> None:
    key = hub.hub.key("read", tenant="alpha")
    answer = hub.hub.call("POST", "/api/v1/sql", key=key, json=body)
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"] and answer.json()["hint"]


def test_a_key_that_may_not_read_is_refused(hub: SqlHub) -> None:
    assert hub.hub.call("POST", "/api/v1/sql", json={"sql": "SELECT 1"}).status_code == 401
    key = hub.hub.key("ingest", tenant="alpha")
    assert hub.hub.call("POST", "/api/v1/sql", key=key, json={"sql": "SELECT 1"}).status_code == 403


def test_the_past_is_read_by_version_and_by_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    lake = two_tenants(tmp_path_factory.mktemp("past"))
    with serving(lake, sql_workers=1) as hub:
        before = hub.ask("SELECT count(*) AS n FROM events").json()
        lake.seal("alpha", [event(7, event_id="late")])
        hub.engine.refresh()
        count = "SELECT count(*) AS n FROM events"
        assert hub.rows(count) == [{"n": 301}]
        version = before["versions"]["events"]
        for as_of in (version, {"events": version}):
            past = hub.ask(count, as_of=as_of).json()
            assert past["rows"] == before["rows"]
            assert past["versions"] == before["versions"]
        assert hub.rows(count, as_of="now") == [{"n": 301}]
        assert hub.ask(count, as_of="2001-01-01T00:00:00Z").status_code == 404
        assert hub.ask(count, as_of=10**6).status_code == 404
        # Only the tables whose version was named are there.
        assert hub.ask("SELECT * FROM rollup_1m", as_of={"events": version}).status_code == 422
