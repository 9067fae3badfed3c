"""Events of one trace to a tree over all modules, with the spans that decided how long it took.

The tree is a flat list in depth-first order with parents, children and depths, because a chain of ten thousand spans
nested in JSON would break every parser it meets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

from cluster.contract import event
from models.correlate.critical import critical_times
from models.query.answer import number
from models.query.search import as_json
from models.query.times import format_instant

Row = dict[str, Any]
Link = Literal["root", "parent", "cause", "request", "trace", "orphan", "cycle"]

# Which event speaks for a span that several modules tell of.
_SPOKESMEN: Final = ("observatory.span", "gateway.request")
_SPAN_FIELDS: Final = (
    *("module", "kind", "service", "provider", "model", "operation", "status", "severity", "environment"),
    *("user_id", "session_id", "request_id", "correlation_id", "cache_status", "guardrail_action"),
    *("latency_ms", "ttft_ms", "usage_conflict"),
)
_EVENT_FIELDS: Final = ("event_id", "module", "kind", "status", "severity", "guardrail_action")


@dataclass(slots=True)
class Node:
    """A span, or an event that belongs to none.

    Attributes:
        id: span id, or `event:` and the event id.
        rows: its events, the one that speaks for it first.
        link: why it hangs where it does; `orphan` where its parent never arrived, `cycle` where spans named each
            other as parents and the ring was opened here.
    """

    id: str
    rows: list[Row]
    start_us: int = 0
    end_us: int = 0
    parent: str | None = None
    link: Link = "root"
    children: list[str] = field(default_factory=list)
    depth: int = 0


def assemble(trace_id: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The trace: `roots`, `spans` depth first, `critical_path`, `totals`, `modules`.

    Args:
        rows: events of one trace with the columns of EVENT_SCHEMA, at least one; `occurred_at` in microseconds.
    """
    nodes = _nodes(rows)
    roots = _linked(nodes)
    ordered = _depth_first(nodes, roots)
    longest = max((nodes[root] for root in roots), key=lambda node: (node.end_us - node.start_us, -node.start_us))
    critical = critical_times(longest.id, {one.id: (one.start_us, one.end_us, one.children) for one in ordered})
    start_us, end_us = min(one.start_us for one in ordered), max(one.end_us for one in ordered)
    path = sorted(critical, key=lambda name: (nodes[name].start_us, nodes[name].depth))
    return {
        "trace_id": trace_id,
        "started_at": format_instant(start_us),
        "ended_at": format_instant(end_us),
        "duration_ms": (end_us - start_us) / 1_000,
        "event_count": len(rows),
        "span_count": sum(1 for one in ordered if not one.id.startswith("event:")),
        "modules": _tally(rows),
        "totals": _totals(rows),
        "roots": roots,
        "critical_path": [{"id": name, "critical_ms": critical[name] / 1_000} for name in path],
        "spans": [_span_json(one, on_path=one.id in critical) for one in ordered],
    }


def _nodes(rows: Sequence[Row]) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    for row in rows:
        name = row["span_id"] or f"event:{row['event_id']}"
        if name in nodes:
            nodes[name].rows.append(row)
        else:
            nodes[name] = Node(name, [row])
    for node in nodes.values():
        node.rows.sort(key=_rank)
        node.start_us = node.rows[0]["occurred_at"]
        node.end_us = node.start_us + _duration_us(node.rows[0])
    return nodes


def _rank(row: Row) -> tuple[int, bool, int, str]:
    place = _SPOKESMEN.index(row["kind"]) if row["kind"] in _SPOKESMEN else len(_SPOKESMEN)
    return (place, row["latency_ms"] is None, row["occurred_at"], row["event_id"])


def _duration_us(row: Row) -> int:
    latency = row["latency_ms"]
    # A column of doubles can hold what the door refuses, if another writer filled it.
    return int(latency * 1_000) if latency is not None and 0 <= latency <= event.LATENCY_MS_MAX else 0


def _linked(nodes: dict[str, Node]) -> list[str]:
    """Set every node's parent, children and link; ids of the roots, the first started first."""
    by_request: dict[str, str] = {}
    by_event: dict[str, str] = {}
    for node in nodes.values():
        for row in node.rows:
            by_event[row["event_id"]] = node.id
            if row["span_id"] and row["request_id"]:
                by_request.setdefault(row["request_id"], node.id)
    for node in nodes.values():
        node.parent, node.link = _parent(node, nodes, by_request, by_event)
    tops = sorted((one for one in nodes.values() if one.parent is None), key=lambda one: (one.start_us, one.id))
    spans = [one for one in tops if not one.id.startswith("event:")]
    for one in tops:
        # An event that names nothing but the trace hangs below its first span, so that five modules make one tree.
        if spans and one.id.startswith("event:") and one.link == "root":
            one.parent, one.link = spans[0].id, "trace"
    for node in sorted(nodes.values(), key=lambda one: (one.start_us, one.id)):
        if node.parent is not None:
            nodes[node.parent].children.append(node.id)
    roots = [one.id for one in tops if one.parent is None]
    return roots + _opened_rings(nodes, roots)


def _parent(
    node: Node, nodes: dict[str, Node], by_request: dict[str, str], by_event: dict[str, str]
) -> tuple[str | None, Link]:
    named = next((row["parent_span_id"] for row in node.rows if row["parent_span_id"]), None)
    if named is not None:
        return (named, "parent") if named in nodes else (None, "orphan")
    for row in node.rows:
        cause = by_event.get(row["causation_id"] or "")
        if cause is not None and cause != node.id:
            return cause, "cause"
    if node.id.startswith("event:"):
        request = by_request.get(node.rows[0]["request_id"] or "")
        if request is not None:
            return request, "request"
    return None, "root"


def _opened_rings(nodes: dict[str, Node], roots: list[str]) -> list[str]:
    """Open every ring of parents at its first started node; ids of the nodes that became roots."""
    reached: set[str] = set()
    _reach(nodes, roots, reached)
    opened: list[str] = []
    for node in sorted(nodes.values(), key=lambda one: (one.start_us, one.id)):
        if node.id in reached:
            continue
        seen: dict[str, int] = {}
        walker = node.id
        while walker not in seen:
            seen[walker] = len(seen)
            walker = nodes[walker].parent or walker
        ring = [name for name, place in seen.items() if place >= seen[walker]]
        first = nodes[min(ring, key=lambda name: (nodes[name].start_us, name))]
        nodes[first.parent or first.id].children.remove(first.id)
        first.parent, first.link = None, "cycle"
        opened.append(first.id)
        _reach(nodes, [first.id], reached)
    return opened


def _reach(nodes: dict[str, Node], starts: list[str], reached: set[str]) -> None:
    stack = list(starts)
    while stack:
        name = stack.pop()
        reached.add(name)
        stack.extend(nodes[name].children)


def _depth_first(nodes: dict[str, Node], roots: list[str]) -> list[Node]:
    ordered: list[Node] = []
    stack = [(name, 0) for name in reversed(roots)]
    while stack:
        name, depth = stack.pop()
        nodes[name].depth = depth
        ordered.append(nodes[name])
        stack.extend((child, depth + 1) for child in reversed(nodes[name].children))
    return ordered


def _span_json(node: Node, *, on_path: bool) -> dict[str, Any]:
    speaker = node.rows[0]
    told = {name: next((row[name] for row in node.rows if row[name] is not None), None) for name in _SPAN_FIELDS}
    cost = next((row["cost_usd"] for row in node.rows if row["cost_usd"] is not None), None)
    return {
        "id": node.id,
        "span_id": speaker["span_id"],
        "parent_span_id": next((row["parent_span_id"] for row in node.rows if row["parent_span_id"]), None),
        "parent": node.parent,
        "link": node.link,
        "depth": node.depth,
        "children": node.children,
        "on_critical_path": on_path,
        "started_at": format_instant(node.start_us),
        "ended_at": format_instant(node.end_us),
        **told,
        "tokens": _tokens(node.rows),
        "cost_usd": number(cost),
        "attributes": as_json(speaker["attributes"] or "{}"),
        "payload": as_json(speaker["payload"] or "{}"),
        "events": [
            {**{name: row[name] for name in _EVENT_FIELDS}, "occurred_at": format_instant(row["occurred_at"])}
            for row in node.rows
        ],
    }


def _tokens(rows: list[Row]) -> dict[str, int] | None:
    """The six exclusive buckets, all from the first event that tells any; None where none does.

    Totals follow OpenTelemetry, so what is inside a total is taken out of it; never below 0, which happens only where
    `usage_conflict` says that the sender contradicts itself.
    """
    names = ("input_tokens", "output_tokens", "other_modal_tokens")
    row = next((one for one in rows if any(one[name] is not None for name in names)), None)
    if row is None:
        return None
    read, write = row["cache_read_tokens"] or 0, row["cache_write_tokens"] or 0
    reasoning = row["reasoning_tokens"] or 0
    return {
        "input_uncached": max(0, (row["input_tokens"] or 0) - read - write),
        "cache_read": read,
        "cache_write": write,
        "output_text": max(0, (row["output_tokens"] or 0) - reasoning),
        "reasoning": reasoning,
        "other_modal": row["other_modal_tokens"] or 0,
    }


def _totals(rows: Sequence[Row]) -> dict[str, Any]:
    """Sums over the trace, each call counted once however many modules told of it."""

    def total(name: str, bit: int) -> int:
        return sum(row[name] or 0 for row in rows if row["counted"] & bit)

    cost = sum((row["cost_usd"] or Decimal(0) for row in rows if row["counted"] & event.COUNTED_COST), Decimal(0))
    return {
        "request_count": sum(1 for row in rows if row["counted"] & event.COUNTED_REQUEST),
        "error_count": sum(1 for row in rows if row["counted"] & event.COUNTED_ERROR),
        "input_tokens": total("input_tokens", event.COUNTED_TOKENS),
        "output_tokens": total("output_tokens", event.COUNTED_TOKENS),
        "cost_usd": number(cost),
    }


def _tally(rows: Sequence[Row]) -> dict[str, int]:
    tally: dict[str, int] = {}
    for row in rows:
        tally[row["module"]] = tally.get(row["module"], 0) + 1
    return dict(sorted(tally.items()))
