"""The `attributes` and `payload` texts of scanned spans, written by compiled code from templates.

A template is the JSON of one plan's attributes: literals, which hold the names in order and what the resource and
scope say, and the span's own values between them. Doubles come as text that orjson wrote, all in one array.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.compiled import compiled, compiled_step
from cluster.contract.byte_runs import Bytes, put
from cluster.contract.json_text import number_size, put_number, put_text, text_size
from cluster.contract.sources.otlp_scan import BOOL, DOUBLE, INT, STRING

Places = npt.NDArray[np.int64]

# A literal's start and stop in the pool, and which of the span's attributes comes behind it; -1 for none.
SEGMENT: Final = np.dtype([("start", np.int64), ("stop", np.int64), ("slot", np.int64)])


class Scanned(NamedTuple):
    """A body, the rows `read_spans` filled, and the plan of each span (n,), -1 where it has none."""

    body: Bytes
    spans: npt.NDArray[Any]
    attributes: npt.NDArray[Any]
    plans: Places


class Templates(NamedTuple):
    """Template t is segments[bounds[t]:bounds[t + 1]]. doubles: every double of `attributes`, "[1.0,2.5]"."""

    pool: Bytes
    bounds: Places
    segments: npt.NDArray[Any]
    doubles: Bytes


class Texts(NamedTuple):
    """Rows of text in one buffer: row i is data[offsets[i]:offsets[i + 1]]."""

    offsets: npt.NDArray[np.int32]
    data: Bytes


def _pool(texts: tuple[bytes, ...]) -> tuple[Bytes, Places]:
    return np.frombuffer(b"".join(texts), np.uint8), np.cumsum([0, *map(len, texts)])


_TRUTHS, _TRUTH_AT = _pool((b"false", b"true"))
_NAMES, _NAME_AT = _pool((b'{"dropped_count":', b',"name":', b',"status_message":', b',"trace_state":', b"}"))
_DROPPED: Final = 0
_NAME: Final = 1
_MESSAGE: Final = 2
_STATE: Final = 3
# By kind; the first is not written.
_KINDS, _KIND_AT = _pool(
    (b"", *(b',"span_kind":"%s"' % word for word in (b"internal", b"server", b"client", b"producer", b"consumer")))
)


@compiled
def measure_values(attributes: npt.NDArray[Any], body: Bytes, doubles: Bytes) -> None:
    """Fill `size` of every attribute, and `text` of doubles: where theirs begins."""
    at = 1
    for row in range(len(attributes)):
        told = attributes[row]
        if told.kind == STRING:
            told.size = text_size(body, told.value, told.value_stop)
        elif told.kind == INT:
            told.size = number_size(told.value)
        elif told.kind == BOOL:
            told.size = 4 if told.value else 5
        else:
            told.text = at
            # A comma or the closing bracket.
            while doubles[at] != 44 and doubles[at] != 93:
                at += 1
            told.size = at - told.text
            at += 1


@compiled
def attribute_sizes(scanned: Scanned, templates: Templates, sizes: Places) -> None:
    """Bytes of each span's `attributes` into sizes (n,), 0 where it has no plan."""
    segments = templates.segments
    for row in range(len(sizes)):
        plan = scanned.plans[row]
        sizes[row] = 0
        if plan < 0:
            continue
        first = scanned.spans[row].first
        for place in range(templates.bounds[plan], templates.bounds[plan + 1]):
            segment = segments[place]
            sizes[row] += segment.stop - segment.start
            if segment.slot >= 0:
                sizes[row] += scanned.attributes[first + segment.slot].size


@compiled
def write_attributes(scanned: Scanned, templates: Templates, rows: Places, into: Texts) -> None:
    """`attributes` of the given spans; they lie as `attribute_sizes` has told."""
    # Out of the loop: each look into a tuple of arrays counts its users.
    body, attributes, segments, bounds = scanned.body, scanned.attributes, templates.segments, templates.bounds
    pool, doubles, out = templates.pool, templates.doubles, into.data
    for number in range(len(rows)):
        row = rows[number]
        plan, first = scanned.plans[row], scanned.spans[row].first
        at = int(into.offsets[number])
        for place in range(bounds[plan], bounds[plan + 1]):
            segment = segments[place]
            at = put(out, at, pool, (segment.start, segment.stop))
            if segment.slot < 0:
                continue
            told = attributes[first + segment.slot]
            if told.kind == STRING:
                at = put_text(out, at, body, (told.value, told.value_stop, told.size))
            elif told.kind == INT:
                at = put_number(out, at, told.value, told.size)
            elif told.kind == DOUBLE:
                at = put(out, at, doubles, (told.text, told.text + told.size))
            else:
                truth = 1 if told.value else 0
                at = put(out, at, _TRUTHS, (int(_TRUTH_AT[truth]), int(_TRUTH_AT[truth + 1])))


@compiled_step
def _literal_size(places: Places, number: int) -> int:
    return int(places[number + 1] - places[number])


@compiled
def payload_sizes(scanned: Scanned, rows: Places, sizes: Places) -> None:
    """Bytes of each given span's `payload` into sizes (m,)."""
    body = scanned.body
    for number in range(len(rows)):
        span = scanned.spans[rows[number]]
        # The name begins with a comma or the brace, and the last literal is the closing one.
        size = 1 + _literal_size(_NAME_AT, _NAME) + text_size(body, span.name, span.name_stop)
        if span.dropped:
            size += _literal_size(_NAME_AT, _DROPPED) + number_size(span.dropped)
        if span.kind:
            size += _literal_size(_KIND_AT, span.kind)
        if span.message_stop > span.message:
            size += _literal_size(_NAME_AT, _MESSAGE) + text_size(body, span.message, span.message_stop)
        if span.state_stop > span.state:
            size += _literal_size(_NAME_AT, _STATE) + text_size(body, span.state, span.state_stop)
        sizes[number] = size


@compiled_step
def _put_member(out: Bytes, at: int, body: Bytes, member: tuple[int, int, int]) -> int:
    """One name and text. member: which name, and where the text begins and ends."""
    name, start, stop = member
    at = put(out, at, _NAMES, (_NAME_AT[name], _NAME_AT[name + 1]))
    return put_text(out, at, body, (start, stop, text_size(body, start, stop)))


@compiled
def write_payloads(scanned: Scanned, rows: Places, into: Texts) -> None:
    """`payload` of the given spans, names in order; they lie as `payload_sizes` has told."""
    out, body = into.data, scanned.body
    for number in range(len(rows)):
        span = scanned.spans[rows[number]]
        first = at = int(into.offsets[number])
        if span.dropped:
            at = put(out, at, _NAMES, (_NAME_AT[_DROPPED], _NAME_AT[_DROPPED + 1]))
            at = put_number(out, at, span.dropped, number_size(span.dropped))
        at = _put_member(out, at, body, (_NAME, span.name, span.name_stop))
        out[first] = 123
        if span.kind:
            at = put(out, at, _KINDS, (_KIND_AT[span.kind], _KIND_AT[span.kind + 1]))
        if span.message_stop > span.message:
            at = _put_member(out, at, body, (_MESSAGE, span.message, span.message_stop))
        if span.state_stop > span.state:
            at = _put_member(out, at, body, (_STATE, span.state, span.state_stop))
        out[at] = 125
