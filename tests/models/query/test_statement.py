"""What a statement may hold, on the tree that DuckDB makes of it."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

from cluster.errors import RequestInvalid
from models.query.statement import referenced
from models.query.statement_functions import FUNCTIONS, TABLE_FUNCTIONS

TABLES = ("events", "rollup_1m")


def tree(sql: str) -> Any:
    with duckdb.connect(":memory:") as connection:
        found = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    assert found is not None
    return json.loads(found[0])


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1", set()),
        ("SELECT count(*) FROM Events", {"events"}),
        ("SELECT * FROM events AS e JOIN rollup_1m AS r USING (tenant_id)", {"events", "rollup_1m"}),
        ("WITH a AS (SELECT * FROM events), b AS (SELECT * FROM a) SELECT * FROM b", {"events"}),
        (
            "SELECT (SELECT max(a) FROM (SELECT 1 AS a) AS x) FROM rollup_1m UNION ALL FROM events",
            {"events", "rollup_1m"},
        ),
        ("SELECT list_transform([1], x -> x + 1), CAST('1' AS INT), a[1:2] FROM (SELECT [1] AS a)", set()),
        ("SELECT n FROM range(3) AS r(n) WHERE n BETWEEN 1 AND 2 AND n NOT IN (7)", set()),
        ("SELECT sum(1) OVER (PARTITION BY model ORDER BY occurred_at) FROM events QUALIFY true", {"events"}),
    ],
)
def test_tables_are_found_wherever_they_stand(sql: str, tables: set[str]) -> None:
    assert referenced(tree(sql), TABLES) == tables


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("SELECT * FROM others", "others"),
        ("WITH a AS (SELECT * FROM a) SELECT 1", "'a'"),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT 1", "'b'"),
        ("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a), a", "'a'"),
        ("SELECT current_setting('threads')", "current_setting"),
        ("SELECT * FROM glob('*')", "glob"),
        ("WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT 1 FROM a) SELECT * FROM a", "RECURSIVE"),
        ("SHOW TABLES", "SHOW"),
        ("DROP TABLE events", "SELECT"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT * FROM x.events", "'x.events'"),
        ("SELECT x.upper('a')", "schema"),
    ],
)
def test_what_is_not_named_is_refused(sql: str, word: str) -> None:
    with pytest.raises(RequestInvalid, match=word) as refused:
        referenced(tree(sql), TABLES)
    assert refused.value.hint


def test_a_function_that_does_not_exist_is_not_listed() -> None:
    with duckdb.connect(":memory:") as connection:
        known = {
            row[0].lower() for row in connection.execute("SELECT function_name FROM duckdb_functions()").fetchall()
        }
    # The parser makes forms of their own of these.
    forms = {"coalesce", "ifnull", "grouping", "grouping_id", "current_timestamp"}
    assert known >= TABLE_FUNCTIONS
    windows = {"row_number", "rank", "dense_rank", "rank_dense", "percent_rank", "cume_dist", "ntile"}
    windows |= {"lag", "lead", "first_value", "last_value", "nth_value", "fill"}
    assert sorted(FUNCTIONS - known - forms - windows) == []
