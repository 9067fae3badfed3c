"""The reading routes over HTTP: shapes, refusals, ETags, and that no tenant or project ever sees another's rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.serving.conftest import Hub
from tests.serving.small_lake import DAY_US, NOW_US, Lake, event, tenants_apart
from tests.serving.sql_hub import application

READING = ("from", "2025-12-29T00:00:00Z"), ("to", "2026-01-01T00:00:00Z")
TIMESERIES, AGGREGATES = "/api/v1/metrics/timeseries", "/api/v1/metrics/aggregates"
SEARCH, TRACES, QUERY = "/api/v1/events/search", "/api/v1/traces", "/api/v1/query"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 300, "beta": 200})
    lake.seal(
        "beta", [event(1, event_id="beta-only", trace_id="shared", user_id="secret-user", payload='{"t":"needle"}')]
    )
    lake.seal("beta", [event(3, trace_id="beta-trace", session_id="beta-session", user_id="secret-user", counted=15)])
    lake.seal("alpha", [event(2, event_id="alpha-only", trace_id="shared", span_id="s", latency_ms=5.0)])
    return lake


@pytest.fixture(scope="module")
def hub(lake: Lake) -> Iterator[Hub]:
    with application(lake) as (hub, _):
        yield hub


def get(hub: Hub, path: str, *pairs: tuple[str, str], tenant: str = "alpha", **more: Any) -> Any:
    return hub.call("GET", f"{path}?{urlencode(pairs)}", key=key(hub, tenant), **more)


def key(hub: Hub, tenant: str, project: str | None = None) -> str:
    name = f"{tenant}/{project}"
    if name not in hub.made:
        hub.made[name] = hub.key("read", tenant=tenant, project=project)
    return hub.made[name]


def test_a_timeseries_has_the_promised_shape(hub: Hub) -> None:
    answer = get(
        hub,
        TIMESERIES,
        *READING,
        ("measure", "cost_usd"),
        ("measure", "error_ratio"),
        ("group_by", "model"),
        ("fill", "zero"),
    )
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert {"granularity", "tier", "version", "series", "from", "to"} <= told.keys()
    assert told["tier"] == "rollup_1h" and told["granularity"] == "1h"
    first = told["series"][0]
    assert first.keys() == {"measure", "unit", "group", "points"} and first["unit"] == "usd"
    assert len(first["points"]) == 72 and first["points"][0][0] == "2025-12-29T00:00:00.000000Z"
    # Where nothing happened nothing was paid; the ratio of nothing is no number.
    empty = [points[1] for points in told["series"][-1]["points"] if points[1] is None]
    assert empty and told["series"][-1]["measure"] == "error_ratio"


def test_aggregates_order_limit_having_and_compare(hub: Hub) -> None:
    asked = [("measure", "event_count"), ("group_by", "model"), ("compare", "previous"), ("from", "-1d")]
    whole = get(hub, AGGREGATES, *asked).json()
    counts = [row["values"]["event_count"] for row in whole["rows"]]
    assert counts == sorted(counts, reverse=True) and whole["group_count"] == len(counts)
    assert all(row["previous"]["event_count"] > 0 for row in whole["rows"])
    bounded = get(
        hub, AGGREGATES, *asked, ("having", f"event_count:lt:{counts[0]}"), ("order", "model"), ("limit", "2")
    )
    rows = bounded.json()["rows"]
    assert len(rows) == 2 and rows[0]["group"]["model"] < rows[1]["group"]["model"]
    assert all(row["values"]["event_count"] < counts[0] for row in rows)


def test_money_is_told_with_all_its_digits(hub: Hub, lake: Lake) -> None:
    answer = get(hub, AGGREGATES, *READING, ("measure", "cost_usd"))
    told = json.loads(answer.text, parse_float=Decimal)["rows"][0]["values"]["cost_usd"]
    paid = [row["cost_usd"] for row in lake.rows["alpha"] if row["counted"] & 4 and row["cost_usd"] is not None]
    assert told == sum(paid, Decimal(0)) and "E" not in answer.text.split("cost_usd")[1][:30]


def test_the_same_question_as_json(hub: Hub) -> None:
    by_url = get(hub, AGGREGATES, *READING, ("measure", "event_count"), ("group_by", "module"))
    body = {"kind": "aggregate", "measure": ["event_count"], "group_by": ["module"], **dict(READING)}
    by_body = hub.call("POST", QUERY, key=key(hub, "alpha"), json=body)
    assert by_body.json() == by_url.json()
    for wrong in (b"", b"{", b"[" * 100_000, b"null", b'{"kind":"forecast"}', b"\xff\xfe"):
        assert 400 <= hub.call("POST", QUERY, key=key(hub, "alpha"), content=wrong).status_code < 500


def test_an_answer_already_held_is_not_sent_again(hub: Hub) -> None:
    first = get(hub, AGGREGATES, *READING, ("measure", "event_count"))
    again = get(hub, AGGREGATES, *READING, ("measure", "event_count"), headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content
    foreign = get(hub, AGGREGATES, *READING, ("measure", "event_count"), tenant="beta")
    assert foreign.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize("path", [TIMESERIES, AGGREGATES, SEARCH, TRACES])
def test_unknown_parameters_are_refused_with_the_near_ones(hub: Hub, path: str) -> None:
    answer = get(hub, path, ("measure", "event_count"), ("fliter", "model:x"))
    assert answer.status_code in (400, 422) and answer.json()["code"] == "request_invalid"
    assert path in (SEARCH, TRACES) or "filter" in answer.json()["hint"]


@pytest.mark.parametrize("path", [TIMESERIES, AGGREGATES, SEARCH, TRACES, f"{TRACES}/shared", "/api/v1/catalog"])
def test_nothing_is_told_without_a_key_that_may_read(hub: Hub, path: str) -> None:
    assert hub.call("GET", path).status_code == 401
    assert hub.call("GET", path, key=hub.key("ingest", tenant="alpha")).status_code == 403


def test_pages_of_a_search_hold_every_event_once_newest_first(hub: Hub, lake: Lake) -> None:
    told: list[dict[str, Any]] = []
    cursor: tuple[tuple[str, str], ...] = ()
    while True:
        page = get(hub, SEARCH, *READING, ("limit", "37"), ("filter", "module:ne:audit"), *cursor).json()
        told += page["events"]
        if page["next_cursor"] is None:
            break
        cursor = (("cursor", page["next_cursor"]),)
    times = [event["occurred_at"] for event in told]
    assert times == sorted(times, reverse=True)
    inside = [row["event_id"] for row in lake.rows["alpha"] if row["occurred_at"] >= NOW_US - 3 * DAY_US]
    assert sorted(event["event_id"] for event in told) == sorted(inside)


def test_search_finds_text_and_ids_and_tells_json_as_json(hub: Hub) -> None:
    found = get(hub, SEARCH, ("q", "NEEDLE"), tenant="beta").json()["events"]
    assert [event["event_id"] for event in found] == ["beta-only"] and found[0]["payload"] == {"t": "needle"}
    assert [event["event_id"] for event in get(hub, SEARCH, ("q", "alpha-only")).json()["events"]] == ["alpha-only"]
    assert "1.50" in get(hub, SEARCH, ("limit", "1"), ("filter", "attributes.team:red")).text


def test_no_route_tells_another_tenants_rows(hub: Hub) -> None:
    assert get(hub, SEARCH, ("q", "needle")).json()["events"] == []
    assert get(hub, SEARCH, ("filter", "event_id:beta-only")).json()["events"] == []
    trace = get(hub, f"{TRACES}/shared").json()
    assert [event["event_id"] for span in trace["spans"] for event in span["events"]] == ["alpha-only"]
    assert "secret-user" not in get(hub, AGGREGATES, ("measure", "event_count"), ("group_by", "user_id")).text
    for measure, by in (("event_count", "tenant_id"), ("unique_users", "tenant_id")):
        rows = get(
            hub, AGGREGATES, ("measure", measure), ("group_by", by), ("filter", "tenant_id:in:alpha,beta")
        ).json()["rows"]
        assert [row["group"]["tenant_id"] for row in rows] == ["alpha"]
    assert get(hub, AGGREGATES, ("measure", "event_count"), ("tenant", "beta")).status_code in (403, 404)
    shared = next(one for one in get(hub, TRACES, ("from", "-2h")).json()["traces"] if one["trace_id"] == "shared")
    assert shared["event_count"] == 1


def test_a_cursor_of_another_tenant_is_refused(hub: Hub) -> None:
    cursor = get(hub, SEARCH, *READING, ("limit", "1"), tenant="beta").json()["next_cursor"]
    answer = get(hub, SEARCH, *READING, ("limit", "1"), ("cursor", cursor))
    assert answer.json()["code"] == "request_invalid"


def test_a_project_key_sees_its_project_only(hub: Hub, lake: Lake) -> None:
    query = urlencode([*READING, ("measure", "event_count"), ("group_by", "project_id")])
    for path in (f"{AGGREGATES}?{query}", f"{AGGREGATES}?{query}&filter=user_id:exists:true"):
        rows = hub.call("GET", path, key=key(hub, "alpha", "north")).json()["rows"]
        assert [row["group"]["project_id"] for row in rows] == ["north"]
    events = hub.call("GET", f"{SEARCH}?limit=1000", key=key(hub, "alpha", "north")).json()["events"]
    assert events and {event["project_id"] for event in events} == {"north"}


ATTACKS = [
    "' OR 1=1 --",
    "x') UNION SELECT * FROM read_text('/etc/passwd') --",
    "1; DROP TABLE hot_empty",
    "%27%20OR%201%3D1",
    "$$; ATTACH 'x.db'",
    "{seconds}{}{0}",
    "\\",
    '"',
    "?",
    "a\x00b",
    "\ud7ff\uffff",
    "x" * 10_000,
    "/a~1b/~0",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_values_or_refusals(hub: Hub, attack: str) -> None:
    measure = ("measure", "event_count")
    whole = get(hub, AGGREGATES, *READING, measure).json()["rows"][0]["values"]["event_count"]
    for path, pairs in [
        (AGGREGATES, [measure, ("filter", f"model:eq:{attack}")]),
        (AGGREGATES, [measure, ("filter", f"attributes.{attack}:eq:x")]),
        (AGGREGATES, [measure, ("filter", f"model:in:{attack},{attack}")]),
        (AGGREGATES, [measure, ("group_by", attack)]),
        (AGGREGATES, [measure, ("order", attack)]),
        (AGGREGATES, [measure, ("having", attack)]),
        (AGGREGATES, [("measure", attack)]),
        (AGGREGATES, [measure, (attack, "x")]),
        (TIMESERIES, [measure, ("granularity", attack)]),
        (TIMESERIES, [measure, ("from", attack)]),
        (TIMESERIES, [measure, ("group_by", f"attributes.{attack}")]),
        (SEARCH, [("q", attack)]),
        (SEARCH, [("cursor", attack)]),
        (TRACES, [("filter", f"trace_id:prefix:{attack}")]),
    ]:
        answer = get(hub, path, *pairs)
        assert answer.status_code < 500, (path, pairs, answer.text)
        assert "root:" not in answer.text
        if answer.status_code == 200 and "rows" in answer.json() and "group_by" not in dict(pairs):
            assert answer.json()["rows"][0]["values"]["event_count"] == 0
    assert get(hub, f"{TRACES}/{quote(attack[:200], safe='')}").status_code in (400, 404, 422)
    assert get(hub, AGGREGATES, *READING, measure).json()["rows"][0]["values"]["event_count"] == whole


def test_the_catalogue_names_every_measure(hub: Hub) -> None:
    told = get(hub, "/api/v1/catalog").json()
    assert {"request_count", "cost_usd"} <= {one["name"] for one in told["measures"]}
    assert told["kinds"]["gateway"] and "attributes.NAME" in [one["name"] for one in told["dimensions"]]


# A question of each kind that names no measure of its own; `beta` alone has the session, user and trace it looks for.
EVERY_KIND: dict[str, dict[str, Any]] = {
    "timeseries": {"measure": ["event_count"], "group_by": ["user_id"]},
    "aggregate": {"measure": ["event_count"], "group_by": ["tenant_id", "user_id"]},
    "percentile": {"group_by": ["user_id"]},
    "histogram": {"group_by": ["user_id"], "limit": 100},
    "heatmap": {"filter": ["user_id:secret-user"]},
    "top": {"measure": ["event_count"], "group_by": ["user_id"], "limit": 100},
    "ratio": {"numerator": "event_count", "numerator_filter": ["user_id:secret-user"], "group_by": ["user_id"]},
    "compare": {"measure": ["event_count"], "group_by": ["user_id"]},
    "search": {"q": "needle"},
    "trace": {"trace_id": "beta-trace"},
    "session": {"session_id": "beta-session"},
    "cost_allocation": {"group_by": ["user_id"], "limit": 1000},
    "cohort": {"filter": ["user_id:secret-user"]},
    "funnel": {"step": ["user_id:secret-user", "user_id:secret-user"]},
    "distinct": {"field": "tenant_id", "group_by": ["user_id"]},
    "as_of": {"of": "top", "version": 11, "measure": ["event_count"], "group_by": ["user_id"], "limit": 100},
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_no_kind_tells_another_tenants_rows(hub: Hub, lake: Lake, kind: str) -> None:
    question = {"kind": kind, **EVERY_KIND[kind], **({} if kind == "trace" else dict(READING))}
    told = {tenant: hub.call("POST", QUERY, key=key(hub, tenant), json=question) for tenant in ("alpha", "beta")}
    assert told["beta"].status_code == 200, told["beta"].text
    if kind in ("trace", "session"):
        assert told["alpha"].status_code == 404
    else:
        assert told["alpha"].status_code == 200 and told["alpha"].headers["etag"] != told["beta"].headers["etag"]
    for secret in ("secret-user", "needle", "beta-session", "beta-trace"):
        echoed = secret in json.dumps(question)
        assert echoed or secret not in told["alpha"].text
    assert hub.call("POST", QUERY, json=question).status_code == 401
    assert hub.call("POST", QUERY, key=hub.key("ingest", tenant="alpha"), json=question).status_code == 403


def test_a_project_key_asks_every_kind_about_its_project_only(hub: Hub, lake: Lake) -> None:
    rows = [row for row in lake.rows["alpha"] if row["project_id"] == "north"]
    whole = {"measure": ["event_count"], **dict(READING)}
    for kind, path in (("aggregate", "rows"), ("top", "rows")):
        question = {"kind": kind, **whole, "group_by": ["project_id"]}
        told = hub.call("POST", QUERY, key=key(hub, "alpha", "north"), json=question).json()
        assert [(row["group"], row["values"]) for row in told[path]] == [
            ({"project_id": "north"}, {"event_count": len(rows)})
        ]
    question = {"kind": "distinct", "field": "event_id", **dict(READING)}
    told = hub.call("POST", QUERY, key=key(hub, "alpha", "north"), json=question).json()
    assert told["rows"][0]["value"] == len(rows)


@pytest.mark.parametrize("attack", [*ATTACKS, "(a+)+$", "__import__('os').system('id')", "1;DROP TABLE hot"])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_attacks_on_every_kind_are_values_or_refusals(hub: Hub, kind: str, attack: str) -> None:
    sound = {"kind": kind, **EVERY_KIND[kind]}
    shaped = {
        **dict.fromkeys(("field", "entity", "session_id", "trace_id", "q", "window", "period"), attack),
        "measure": f"x={attack}",
        "calculate": f"{attack}=1",
        "group_by": f"attributes.{attack}",
        "filter": f"model:in:{attack}",
        "step": f"attributes.{attack}:eq:x",
    }
    for name, text in shaped.items():
        answer = hub.call("POST", QUERY, key=key(hub, "alpha"), json={**sound, name: text})
        assert answer.status_code < 500 and "root:" not in answer.text, (name, text, answer.text)
        if answer.status_code != 200:
            assert answer.headers["content-type"] == "application/problem+json" and answer.json()["hint"]
