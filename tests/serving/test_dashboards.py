"""Boards over HTTP: kept, changed, shared; and links that show one board of one tenant and nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.clock import ManualClock, SystemClock
from cluster.tenancy import TenantId
from tests.serving.conftest import Hub
from tests.serving.small_lake import tenants_apart
from tests.serving.sql_hub import application

BOARDS = "/api/v1/dashboards"
RANGE = {"from": "2025-12-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
TOTAL = {"kind": "aggregate", "measure": ["event_count"], **RANGE}
NOBODY = "a" * 24


def panel(name: str, x: int, query: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "title": name, "kind": "stat", "query": query, "place": {"x": x, "y": 0, "w": 3, "h": 3}}


def board(**more: Any) -> dict[str, Any]:
    return {
        "title": "Mine",
        "panels": [
            panel("total", 0, TOTAL),
            panel("sql", 3, {"kind": "sql", "sql": "SELECT count(*) AS n FROM events"}),
        ],
        **more,
    }


NARROW = board(panels=[panel("total", 0, TOTAL), panel("models", 3, {**TOTAL, "group_by": ["model"]})])


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    lake = tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 300, "beta": 200})
    with application(lake) as (hub, _):
        hub.tenants.create("alpha-two", organisation_id="org-alpha")
        hub.made |= {
            "owner": hub.key("read", tenant="alpha"),
            "mate": hub.key("read", tenant="alpha"),
            "admin": hub.key("admin", tenant="alpha"),
            "sister": hub.key("read", tenant="alpha-two"),
            "stranger": hub.key("admin", tenant="beta"),
            "sender": hub.key("ingest", tenant="alpha"),
        }
        yield hub


def call(hub: Hub, method: str, path: str, who: str = "owner", **more: Any) -> Any:
    return hub.call(method, f"{BOARDS}{path}", key=hub.made[who], **more)


def made(hub: Hub, spec: dict[str, Any] | None = None, **sharing: str) -> str:
    answer = call(hub, "POST", "", json=spec or board())
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["dashboard_id"]
    if sharing:
        assert call(hub, "PUT", f"/{name}/sharing", json=sharing).status_code == 200
    return name


def linked(hub: Hub, name: str, who: str = "owner", **more: Any) -> tuple[str, dict[str, Any]]:
    answer = call(hub, "POST", f"/{name}/links", who, json=more)
    assert answer.status_code == 201, answer.text
    return answer.json()["token"], answer.json()


def embed(hub: Hub, path: str, token: str) -> Any:
    return hub.call("GET", f"/api/v1/embed/{path}", headers={"authorization": f"Bearer {token}"})


def test_a_board_is_kept_changed_copied_and_restored(hub: Hub) -> None:
    name = made(hub)
    got = call(hub, "GET", f"/{name}")
    assert (got.json()["board"], got.headers["etag"], got.json()["right"]) == (board(), '"v1"', "own")
    changed = call(hub, "PUT", f"/{name}", json=board(title="New"), headers={"if-match": '"v1"'})
    assert (changed.status_code, changed.headers["etag"], changed.json()["title"]) == (200, '"v2"', "New")
    late = call(hub, "PUT", f"/{name}", json=board(title="Late"), headers={"if-match": '"v1"'})
    assert (late.status_code, late.json()["code"]) == (412, "version_changed")
    for held in ({}, {"if-match": "*"}, {"if-match": "v2"}):
        assert call(hub, "PUT", f"/{name}", json=board(), headers=held).status_code == 422
    assert call(hub, "GET", f"/{name}/versions/1").json()["board"]["title"] == "Mine"
    restored = call(hub, "POST", f"/{name}/versions/1/restore", headers={"if-match": '"v2"'})
    assert (restored.headers["etag"], restored.json()["board"]) == ('"v3"', board())
    assert [one["version"] for one in call(hub, "GET", f"/{name}/versions").json()["versions"]] == [3, 2, 1]
    export = call(hub, "GET", f"/{name}/export")
    assert export.headers["content-disposition"].startswith("attachment")
    imported = call(hub, "POST", "", "stranger", content=export.content)
    assert imported.status_code == 201 and imported.json()["board"] == board()
    copy = call(hub, "POST", f"/{name}/copy").json()
    assert (copy["title"], copy["version"], copy["board"]["panels"]) == ("Copy of Mine", 1, board()["panels"])
    assert call(hub, "DELETE", f"/{name}").status_code == 204
    assert call(hub, "GET", f"/{name}").status_code == 404


@pytest.mark.parametrize("right", ["none", "view", "edit"])
@pytest.mark.parametrize("who", ["mate", "sister", "stranger", "admin", "sender"])
def test_what_each_key_may_do(hub: Hub, right: str, who: str) -> None:
    name = made(hub, tenant=right, organisation=right)
    etag = {"if-match": '"v1"'}
    statuses = [
        call(hub, "GET", f"/{name}", who).status_code,
        call(hub, "GET", f"/{name}/export", who).status_code,
        call(hub, "GET", f"/{name}/versions", who).status_code,
        call(hub, "PUT", f"/{name}", who, json=board(), headers=etag).status_code,
        call(hub, "PUT", f"/{name}/sharing", who, json={"tenant": right, "organisation": right}).status_code,
        call(hub, "POST", f"/{name}/links", who, json={}).status_code,
        call(hub, "GET", f"/{name}/links", who).status_code,
        call(hub, "DELETE", f"/{name}", who).status_code,
    ]
    held = "own" if who == "admin" else "none" if who == "stranger" else right
    expected = {
        "none": [404] * 8,
        "view": [200, 200, 200, 403, 403, 403, 403, 403],
        "edit": [200, 200, 200, 200, 403, 403, 403, 403],
        "own": [200, 200, 200, 200, 200, 201, 200, 204],
    }
    assert statuses == ([403] * 8 if who == "sender" else expected[held])
    assert hub.call("GET", f"{BOARDS}/{name}").status_code == 401


def test_lists_hold_what_may_be_seen(hub: Hub) -> None:
    private, shared = made(hub), made(hub, tenant="view", organisation="none")

    def listed(who: str) -> set[str]:
        return {one["dashboard_id"] for one in call(hub, "GET", "", who).json()["dashboards"]} & {private, shared}

    assert [listed(who) for who in ("owner", "admin", "mate", "sister", "stranger")] == [
        {private, shared}, {private, shared}, {shared}, set(), set(),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", b""),
        ("POST", "", b"[" * 90_000),
        ("POST", "", b'{"title":"x","panels":[{}]}'),
        ("POST", "", b'{"title":"x","panels":[],"html":"<script>"}'),
        ("POST", "", b'{"title":"\\ud800","panels":[]}'),
        ("PUT", "/%00", b"{}"),
        ("GET", "/../keys/x", b""),
        ("GET", f"/{NOBODY}/versions/-1", b""),
        ("GET", f"/{NOBODY}/versions/99999999999999999999", b""),
        ("PUT", f"/{NOBODY}/sharing", b'{"tenant":"own","organisation":"none"}'),
        ("POST", f"/{NOBODY}/links", b'{"expires_in_s":1}'),
        ("POST", f"/{NOBODY}/links", b'{"tenant":"beta"}'),
        ("DELETE", f"/{NOBODY}/links/x", b""),
    ],
)
def test_bad_requests_are_problems(hub: Hub, method: str, path: str, body: bytes) -> None:
    answer = call(hub, method, path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 404, 405, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_refusal_names_the_json_path_and_size_has_its_limit(hub: Hub) -> None:
    wrong = board(panels=[panel("a", 0, TOTAL), panel("b", 3, {**TOTAL, "measure": ["cost"]})])
    answer = call(hub, "POST", "", json=wrong)
    assert answer.status_code == 422 and "$.panels[1].query" in answer.json()["detail"]
    assert call(hub, "POST", "", content=b" " * (256 * 1024 + 1)).status_code == 413


def test_a_link_answers_its_boards_questions_for_its_makers_rows(hub: Hub) -> None:
    name = made(hub)
    token, told = linked(hub, name)
    assert told["path"] == f"/embed/{name}?token={token}"
    shown = embed(hub, name, token)
    assert (shown.status_code, shown.json()["board"]) == (200, board())
    direct = hub.call("POST", "/api/v1/query", key=hub.made["owner"], json=TOTAL).json()
    total = embed(hub, f"{name}/answers/total", token)
    assert total.json()["rows"] == direct["rows"] and total.headers["etag"]
    assert total.json()["rows"][0]["values"]["event_count"] == 300
    assert embed(hub, f"{name}/answers/sql", token).json()["rows"] == [{"n": 300}]
    for question in ("nothing", "total.before", "kpis.now", "%00", "..%2f"):
        assert embed(hub, f"{name}/answers/{question}", token).status_code == 404
    listed = call(hub, "GET", f"/{name}/links")
    assert token not in listed.text and token.split(".")[1] not in listed.text


def several(hub: Hub, name: str, token: str, **body: Any) -> Any:
    headers = {"authorization": f"Bearer {token}"}
    return hub.call("POST", f"/api/v1/embed/{name}/answers", headers=headers, json=body)


def test_a_link_answers_several_questions_in_one_request(hub: Hub) -> None:
    spec = board()
    spec["panels"].append(panel("bad", 6, {"kind": "sql", "sql": "SELECT nothing FROM events"}))
    name = made(hub, spec)
    token, _ = linked(hub, name)
    names = ["sql", "total", "nothing", "bad"]
    answer = several(hub, name, token, questions=names)
    parts = answer.json()["answers"]
    assert [part["status"] for part in parts] == [200, 200, 404, 422]
    assert parts[0]["answer"]["rows"] == [{"n": 300}]
    one = embed(hub, f"{name}/answers/total", token)
    assert (parts[1]["answer"], parts[1]["etag"]) == (one.json(), one.headers["etag"])
    assert "nothing" in parts[3]["problem"]["detail"]
    held = several(hub, name, token, questions=["total", "sql"], etags=[parts[1]["etag"], None]).json()["answers"]
    assert held[0] == {"status": 304, "etag": parts[1]["etag"]} and held[1]["status"] == 200
    # Of questions that are not SQL the whole has an ETag.
    assert several(hub, name, token, questions=["total"]).headers["etag"]
    assert several(hub, name, token[:-2], questions=["total"]).status_code == 401


@pytest.mark.parametrize(
    "body",
    [{}, {"questions": []}, {"questions": ["a"] * 51}, {"questions": [1]}, {"questions": ["a"], "etags": [1]}, []],
)
def test_names_that_are_no_list_of_names_are_refused(hub: Hub, body: Any) -> None:
    name = made(hub)
    token, _ = linked(hub, name)
    headers = {"authorization": f"Bearer {token}"}
    assert hub.call("POST", f"/api/v1/embed/{name}/answers", headers=headers, json=body).status_code == 422


def test_a_statement_of_a_board_is_told_the_boards_range(hub: Hub) -> None:
    sql = "SELECT $to - $from = INTERVAL 7 DAY AS week, $model IS NULL AS any_model"
    panels = [
        panel("own", 0, {"kind": "sql", "sql": sql, "from": "2026-01-01T00:00:00Z", "to": "2026-01-08T00:00:00Z"}),
        panel("wide", 3, {"kind": "sql", "sql": "SELECT count(*) AS n FROM events WHERE occurred_at >= $from"}),
    ]
    name = made(hub, board(panels=panels, range="1h"))
    token, _ = linked(hub, name)
    assert embed(hub, f"{name}/answers/own", token).json()["rows"] == [{"week": True, "any_model": True}]
    # Its rows are of days ago.
    assert embed(hub, f"{name}/answers/wide", token).json()["rows"] == [{"n": 0}]
    for wrong in ({"from": "soon"}, {"from": "now", "to": "-1h"}):
        refused = call(hub, "POST", "", json=board(panels=[panel("own", 0, {"kind": "sql", "sql": sql, **wrong})]))
        assert refused.status_code == 422 and "$.panels[0].query" in refused.json()["detail"]


def test_a_link_opens_no_other_door(hub: Hub) -> None:
    name, other = made(hub), made(hub)
    token, _ = linked(hub, name)
    for path in (BOARDS, f"{BOARDS}/{name}", "/api/v1/catalog", "/api/v1/events/search", "/api/v1/keys"):
        assert hub.call("GET", path, headers={"authorization": f"Bearer {token}"}).status_code == 401
    assert embed(hub, other, token).status_code == 401
    # And a key opens no embedded board: it would be read as a link.
    assert embed(hub, name, hub.made["owner"]).status_code == 401
    assert hub.call("GET", f"/api/v1/embed/{name}").status_code == 401


def test_a_link_of_a_narrowed_key_shows_its_project_only(hub: Hub) -> None:
    north = hub.key("read", tenant="alpha", project="north")
    hub.made["north"] = north
    name = call(hub, "POST", "", "north", json=board()).json()["dashboard_id"]
    token, _ = linked(hub, name, "north")
    direct = hub.call("POST", "/api/v1/query", key=north, json=TOTAL).json()
    assert embed(hub, f"{name}/answers/total", token).json()["rows"] == direct["rows"]


def test_fixed_filters_narrow_every_question(hub: Hub) -> None:
    name = made(hub, NARROW)
    models = hub.call("POST", "/api/v1/query", key=hub.made["owner"], json=NARROW["panels"][1]["query"]).json()["rows"]
    one = next(row["group"]["model"] for row in models if row["group"]["model"])
    token, _ = linked(hub, name, filters=[f"model:eq:{one}"])
    rows = embed(hub, f"{name}/answers/models", token).json()["rows"]
    assert [row["group"]["model"] for row in rows] == [one]
    total = embed(hub, f"{name}/answers/total", token).json()["rows"][0]["values"]["event_count"]
    assert total == rows[0]["values"]["event_count"] < 300
    open_sql = call(hub, "POST", f"/{made(hub)}/links", json={"filters": [f"model:eq:{one}"]})
    assert open_sql.status_code == 422 and "$.panels[1].query" in open_sql.json()["detail"]


def flipped(token: str, place: int) -> str:
    return token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]


def test_an_altered_token_opens_nothing(hub: Hub) -> None:
    name = made(hub)
    token, _ = linked(hub, name)
    body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    claims[3] = "beta"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    altered = [flipped(token, place) for place in range(len(token))]
    altered += [f"{forged}.{signature}", body, f"{body}.", f".{signature}", f"{token}=", f"{token}.x", "", "x" * 70_000]
    assert {embed(hub, name, one).status_code for one in altered} == {401}
    assert embed(hub, name, token).status_code == 200


@pytest.mark.parametrize("end", ["revoked", "deleted", "key"])
def test_an_ended_link_opens_nothing(hub: Hub, end: str) -> None:
    hub.made["passing"] = hub.key("read", tenant="alpha")
    name = call(hub, "POST", "", "passing", json=board()).json()["dashboard_id"]
    token, told = linked(hub, name, "passing")
    assert embed(hub, name, token).status_code == 200
    if end == "revoked":
        ended = call(hub, "DELETE", f"/{name}/links/{told['link_id']}", "passing")
        assert ended.status_code == 200 and ended.json()["revoked_at"]
    elif end == "deleted":
        assert call(hub, "DELETE", f"/{name}", "passing").status_code == 204
    else:
        hub.keys.revoke(hub.made["passing"].split("_")[1], among={TenantId("alpha")})
    for path in (name, f"{name}/answers/total"):
        answer = embed(hub, path, token)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_a_link_ends_when_its_time_is_over(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    name = made(hub)
    token, _ = linked(hub, name, expires_in_s=60)
    assert embed(hub, name, token).status_code == 200
    later = ManualClock(SystemClock().now_us() + 61_000_000)
    monkeypatch.setattr(hub.app.state.links, "_clock", later)
    assert embed(hub, name, token).status_code == 401


def test_the_page_of_a_link_may_be_framed_and_no_other(hub: Hub) -> None:
    name = made(hub)
    token, told = linked(hub, name)
    framed = hub.call("GET", told["path"])
    assert framed.status_code in (200, 503) and "frame-ancestors *" in framed.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in hub.call("GET", "/").headers["content-security-policy"]
    for path in (f"/embed/{name}", f"/embed/{name}?token={flipped(token, 5)}", f"/embed/{NOBODY}?token={token}"):
        refused = hub.call("GET", path)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
        assert "frame-ancestors 'none'" in refused.headers["content-security-policy"]
