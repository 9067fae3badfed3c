"""Every attack is refused or harmless, and leaves the door as it was: no foreign row, no path, no 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.lake.scan import TableReader
from tests.serving.sql_attacks import HARMLESS, REFUSED
from tests.serving.sql_hub import SECRETS, SqlHub, serving, two_tenants


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlHub]:
    lake = two_tenants(tmp_path_factory.mktemp("lake"))
    with serving(lake, sql_timeout_s=3.0, sql_memory_bytes=256 * 1024 * 1024, sql_workers=1) as hub:
        yield hub


def _told(hub: SqlHub, statement: str) -> str:
    lake = hub.lake.settings.lake
    by_tenant = TableReader(lake, "events").refresh().by_tenant
    places = {"lake": str(lake), "own": by_tenant["alpha"][0].path, "foreign": by_tenant["beta"][0].path}
    for name, place in places.items():
        statement = statement.replace("{" + name + "}", place)
    return statement


def _check_alive(hub: SqlHub, said: str) -> None:
    assert hub.rows("SELECT count(*) AS n FROM events") == [{"n": 300}]
    assert not any(word in said for word in SECRETS)
    # A text that was sent may come back, cut at its paths; no path comes from us.
    for part in ("/tmp/", "/etc/", ".parquet", str(hub.lake.folder), "Traceback", 'File "'):
        assert part not in said, said
    assert not list(Path("/tmp").glob("sql-attack*"))


def test_there_are_enough() -> None:
    assert len(set(REFUSED)) >= 80
    assert len(set(REFUSED)) == len(REFUSED)


@pytest.mark.parametrize("statement", REFUSED, ids=lambda text: text[:60].encode("ascii", "replace").decode())
def test_it_is_refused(hub: SqlHub, statement: str) -> None:
    answer = hub.ask(_told(hub, statement))
    assert answer.status_code in (400, 422), answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["detail"] and problem["hint"]
    _check_alive(hub, answer.text)


@pytest.mark.parametrize("statement", HARMLESS)
def test_it_is_harmless(hub: SqlHub, statement: str) -> None:
    answer = hub.ask(statement)
    assert answer.status_code == 200, answer.text
    assert "beta" not in str([row.get("tenant_id") for row in answer.json()["rows"]])
    # The text of the statement may stand in the names of columns.
    _check_alive(hub, str([list(row.values()) for row in answer.json()["rows"][:500]]))
