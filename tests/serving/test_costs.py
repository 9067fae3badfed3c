"""GET /api/v1/costs: every tenant that a key covers, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving.conftest import Hub
from tests.serving.small_lake import tenants_apart
from tests.serving.sql_hub import application

RANGE = "from=2025-12-01T00:00:00Z&to=2026-01-02T00:00:00Z"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    lake = tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 300, "beta": 200, "alpha-two": 100})
    with application(lake) as (hub, _):
        hub.tenants.create("alpha-two", organisation_id="org-alpha")
        hub.made |= {
            "operator": hub.admin,
            "admin": hub.key("admin", tenant="alpha"),
            "reader": hub.key("read", tenant="alpha"),
            "north": hub.key("read", tenant="alpha", project="north"),
            "sender": hub.key("ingest", tenant="alpha"),
        }
        yield hub


def costs(hub: Hub, who: str, more: str = "") -> Any:
    return hub.call("GET", f"/api/v1/costs?{RANGE}{more}", key=hub.made[who])


def own(hub: Hub, who: str, **more: Any) -> Any:
    """What `cost_allocation` tells of the key's own tenant."""
    start, end = (text.partition("=")[2] for text in RANGE.split("&"))
    asked = {"kind": "cost_allocation", "group_by": ["tenant_id"], "from": start, "to": end, **more}
    return hub.call("POST", "/api/v1/query", key=hub.made[who], json=asked).json()


@pytest.mark.parametrize(
    ("who", "seen"),
    [("operator", {"alpha", "beta", "alpha-two"}), ("admin", {"alpha", "alpha-two"}), ("reader", {"alpha"})],
)
def test_a_key_is_told_of_the_tenants_it_covers(hub: Hub, who: str, seen: set[str]) -> None:
    answer = costs(hub, who).json()
    assert {row["group"]["tenant_id"] for row in answer["rows"]} == seen
    mine = own(hub, "reader")
    assert (
        next(row["values"] for row in answer["rows"] if row["group"]["tenant_id"] == "alpha") == mine["total"]["values"]
    )
    assert sum(row["share"] for row in answer["rows"]) == pytest.approx(1)


def test_one_tenant_is_named_and_only_one_that_is_covered(hub: Hub) -> None:
    (row,) = costs(hub, "admin", "&tenant=alpha-two").json()["rows"]
    assert row["group"] == {"tenant_id": "alpha-two"}
    assert costs(hub, "admin", "&tenant=beta").status_code == 403
    assert costs(hub, "reader", "&tenant=alpha-two").status_code == 403
    # A filter is no way around it.
    assert costs(hub, "admin", "&filter=tenant_id:eq:beta").json()["rows"] == []
    assert costs(hub, "sender").status_code == 403


def test_a_key_of_one_project_sees_its_project(hub: Hub) -> None:
    assert costs(hub, "north").json()["total"] == own(hub, "north")["total"] != own(hub, "reader")["total"]


def test_other_dimensions_are_asked_for_by_name(hub: Hub) -> None:
    rows = costs(hub, "admin", "&group_by=tenant_id&group_by=model").json()["rows"]
    assert {tuple(row["group"]) for row in rows} == {("tenant_id", "model")}
    assert costs(hub, "admin", "&group_by=nothing").status_code == 422


def test_an_answer_that_is_held_is_not_sent_again(hub: Hub) -> None:
    etag = costs(hub, "admin").headers["etag"]
    again = hub.call("GET", f"/api/v1/costs?{RANGE}", key=hub.made["admin"], headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")
