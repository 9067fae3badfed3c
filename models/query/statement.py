"""What a statement of the SQL door may hold, checked on its syntax tree: everything that is not named is refused.

The tree is DuckDB's own (`json_serialize_sql`), so what is checked is what will run; text is never looked at.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.query.statement_functions import FUNCTIONS, TABLE_FUNCTIONS

Node = Mapping[str, Any]

_QUERIES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE"})
_RELATIONS: Final = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "EMPTY", "EXPRESSION_LIST", "TABLE_FUNCTION"})
_EXPRESSIONS: Final = frozenset(
    {
        *("BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "DEFAULT"),
        *("FUNCTION", "LAMBDA", "OPERATOR", "PARAMETER", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "TYPE", "WINDOW"),
    }
)
# A condition of a thousand terms is a long one; the deepest tree that is walked at all.
_DEPTH_MAX: Final = 1_000
_TABLES_HINT: Final = "The tables are {}."


def referenced(tree: Node, tables: Iterable[str]) -> frozenset[str]:
    """The tables a statement reads.

    Args:
        tree: what `json_serialize_sql` made of the text.
        tables: names that may be read.
    Raises:
        RequestInvalid: the statement is not one SELECT, or holds a table, function or form that is not offered.
    """
    if tree.get("error"):
        raise RequestInvalid(
            "only a SELECT can be asked; this is another kind of statement",
            hint="Write one SELECT. PIVOT, EXPLAIN, COPY, SET and statements that change anything are not offered.",
        )
    statements = tree["statements"]
    if len(statements) != 1:
        raise RequestInvalid("send one statement", hint="Send each statement in a request of its own.")
    offered = tuple(tables)
    found: set[str] = set()
    for node, visible in _nodes(statements[0]["node"]):
        _check_form(node)
        if "function_name" in node:
            _check_function(node)
        if node.get("type") == "BASE_TABLE":
            found |= _table(node, offered, visible)
        elif node.get("type") == "TABLE_FUNCTION":
            _check_table_function(node["function"])
    return frozenset(found)


def _nodes(root: Node) -> Iterator[tuple[Node, frozenset[str]]]:
    """Every object of the tree, with the names that `WITH` gives where it stands."""
    waiting: list[tuple[Any, frozenset[str], int]] = [(root, frozenset(), 0)]
    while waiting:
        node, visible, depth = waiting.pop()
        if depth > _DEPTH_MAX:
            raise RequestInvalid("the statement is nested too deeply", hint="Split it, or write lists with IN.")
        if isinstance(node, list):
            waiting.extend((one, visible, depth + 1) for one in node)
        elif isinstance(node, dict):
            yield node, visible
            waiting.extend((child, seen, depth + 1) for child, seen in _children(node, visible))


def _children(node: Node, visible: frozenset[str]) -> Iterator[tuple[Any, frozenset[str]]]:
    inner = visible
    # A named query sees those before it and not itself: there its name means whatever the catalogue has by it.
    for one in node.get("cte_map", {}).get("map", ()):
        yield one["value"], inner
        inner |= {str(one["key"]).lower()}
    for name, child in node.items():
        if name == "cte_map":
            continue
        if name == "child" and "cte_name" in node:
            yield child, inner | {str(node["cte_name"]).lower()}
        elif name == "function" and node.get("type") == "TABLE_FUNCTION":
            # Its name is no function of a value.
            yield child["arguments"], inner
        else:
            yield child, inner


def _check_form(node: Node) -> None:
    kind = str(node.get("type", ""))
    if kind == "RECURSIVE_CTE_NODE":
        raise RequestInvalid(
            "WITH RECURSIVE is not offered", hint="GET /api/v1/traces/{trace_id} answers with the tree of a trace."
        )
    if kind == "SHOW_REF":
        raise RequestInvalid(
            "SHOW, DESCRIBE and SUMMARIZE are not offered", hint="SELECT * FROM events LIMIT 0 names all columns."
        )
    if "cte_map" in node and kind not in _QUERIES:
        raise RequestInvalid(f"{_words(kind)} is not offered", hint="Write one SELECT.")
    relation = "sample" in node and "class" not in node and "cte_map" not in node
    if relation and kind not in _RELATIONS:
        raise RequestInvalid(f"{_words(kind)} is not offered", hint="Write it as SELECT with GROUP BY or JOIN.")
    if "class" in node and node["class"] not in _EXPRESSIONS:
        raise RequestInvalid(f"{_words(str(node['class']))} is not offered", hint="Write it with plain functions.")
    if node.get("at_clause"):
        raise RequestInvalid("AT is not offered", hint='Send "as_of" beside "sql": a time, or {"events": version}.')


def _check_function(node: Node) -> None:
    name = str(node["function_name"])
    if node.get("catalog") or node.get("schema") not in ("", "main", None):
        raise RequestInvalid(f"functions of a schema are not offered: {_short(name)}", hint="Write the bare name.")
    # What is no identifier is an operator.
    if name.lower() not in FUNCTIONS and (name.isidentifier() or not node.get("is_operator")):
        raise RequestInvalid(f"the function {_short(name)} is not offered", hint=_near(name, FUNCTIONS))


def _check_table_function(function: Node) -> None:
    name = str(function.get("function_name", ""))
    if name.lower() not in TABLE_FUNCTIONS or function.get("catalog") or function.get("schema"):
        raise RequestInvalid(
            f"the table function {_short(name)} is not offered",
            hint=f"Of table functions there are {', '.join(sorted(TABLE_FUNCTIONS))}.",
        )


def _table(node: Node, offered: tuple[str, ...], visible: frozenset[str]) -> set[str]:
    name = str(node["table_name"])
    qualified = [str(part) for part in node.get("qualified_name", {}).get("path", [name])]
    if len(qualified) == 1 and not node.get("catalog_name") and not node.get("schema_name"):
        if name.lower() in visible:
            return set()
        if name.lower() in offered:
            return {name.lower()}
    named = _short(".".join(qualified))
    raise RequestInvalid(
        # A path is not said again.
        "files and addresses cannot be read" if "/" in named else f"there is no table {named}",
        hint=_TABLES_HINT.format(", ".join(offered) or "none yet"),
    )


def _near(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name[:80].lower(), list(names), n=4, cutoff=0.6)
    return f"Near names: {', '.join(close)}." if close else "docs/api.md lists the functions of the SQL door."


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")


def _words(kind: str) -> str:
    return kind.replace("_", " ")[:40] or "this form"
