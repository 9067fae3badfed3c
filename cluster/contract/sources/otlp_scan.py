"""An OTLP trace export request walked in its protobuf wire form: one row for each scope, span and attribute.

Nothing is read outside the body. What breaks the wire format around spans fails the whole scan, and the parser of the
protobuf library says what is wrong; a span with anything that is not plain is marked ODD and left to it alone.
Source: https://protobuf.dev/programming-guides/encoding, opentelemetry/proto/trace/v1/trace.proto.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.compiled import compiled, compiled_step
from cluster.contract.byte_runs import Bytes, same
from cluster.contract.sources.otlp_wire import Field, is_utf8, read_field

Table = npt.NDArray[Any]

# Places are offsets in the body, from `x` up to `x_stop`; a part that was not sent is 0 to 0.
SCOPE: Final = np.dtype([(name, np.int64) for name in ("resource", "resource_stop", "scope", "scope_stop")])
# trace_id, span_id, parent_id: where 16, 8 and 8 bytes begin, -1 where there are none that count.
# began, ended: nanoseconds. first, last: rows of its attributes. shape: number of its names and kinds, see `_shape`.
SPAN: Final = np.dtype(
    [
        *((name, np.int64) for name in ("start", "stop", "scope", "trace_id", "span_id", "parent_id")),
        *((name, np.int64) for name in ("name", "name_stop", "state", "state_stop", "message", "message_stop")),
        *((name, np.int64) for name in ("kind", "code", "dropped", "first", "last", "shape", "print", "form")),
        ("began", np.uint64),
        ("ended", np.uint64),
    ]
)
# value: where a text begins, or the 64 bits of a number. text: where a double is written, see `json_text`.
# size: bytes of the value as JSON.
ATTRIBUTE: Final = np.dtype(
    [(name, np.int64) for name in ("key", "key_stop", "kind", "value", "value_stop", "text", "size")]
)

# Kinds of values, as AnyValue numbers its fields.
STRING: Final = 1
BOOL: Final = 2
INT: Final = 3
DOUBLE: Final = 4

# Forms of a span.
PLAIN: Final = 0
ODD: Final = 1
ID_INVALID: Final = 2
TIMES_INVALID: Final = 3

# A body with more than these many sets of names and kinds has the spans of the later ones ODD.
SHAPES_MAX: Final = 256
_PRIME: Final = 1_000_003


class Tables(NamedTuple):
    """Rows that `outline` and `read_spans` fill. counts: scopes, spans and attributes of the body."""

    scopes: Table
    spans: Table
    attributes: Table
    shapes: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


def tables(scopes: int, spans: int, attributes: int) -> Tables:
    return Tables(
        np.zeros(scopes, SCOPE),
        np.zeros(spans, SPAN),
        np.empty(attributes, ATTRIBUTE),
        np.empty(SHAPES_MAX, np.int64),
        np.zeros(3, np.int64),
    )


@compiled_step
def _first_field(body: Bytes, at: int, end: int) -> Field:
    """The submessage of field 1; its stop is -1 where the message is broken or has it twice, which would merge."""
    found = Field(0, 0, 0, 0)
    while at < end:
        field = read_field(body, at, end)
        if field.stop < 0 or (field.tag >> 3 == 1 and (field.tag != 10 or found.tag)):
            return Field(0, 0, -1, 0)
        if field.tag == 10:
            found = field
        at = field.stop
    return found


@compiled_step
def _attribute_count(body: Bytes, at: int, end: int) -> int:
    count = 0
    while at < end:
        field = read_field(body, at, end)
        if field.stop < 0:
            break
        count += field.tag == 74
        at = field.stop
    return count


@compiled_step
def _scope_spans(body: Bytes, at: int, end: int, into: Tables) -> bool:
    scope = _first_field(body, at, end)
    if scope.stop < 0:
        return False
    number = into.counts[0]
    into.counts[0] += 1
    if number < len(into.scopes):
        into.scopes[number].scope = scope.start
        into.scopes[number].scope_stop = scope.stop
    while at < end:
        field = read_field(body, at, end)
        if field.tag == 18:
            row = into.counts[1]
            into.counts[1] += 1
            if row >= len(into.spans):
                into.counts[2] += _attribute_count(body, field.start, field.stop)
            else:
                into.spans[row].start = field.start
                into.spans[row].stop = field.stop
                into.spans[row].scope = number
        elif field.tag >> 3 in (2, 3) and (field.tag != 26 or not is_utf8(body, field.start, field.stop)):
            return False
        at = field.stop
    return True


@compiled_step
def _resource_spans(body: Bytes, at: int, end: int, into: Tables) -> bool:
    resource = _first_field(body, at, end)
    if resource.stop < 0:
        return False
    first = into.counts[0]
    while at < end:
        field = read_field(body, at, end)
        if field.tag == 18:
            if not _scope_spans(body, field.start, field.stop, into):
                return False
        elif field.tag >> 3 in (2, 3) and (field.tag != 26 or not is_utf8(body, field.start, field.stop)):
            return False
        at = field.stop
    if into.counts[0] == first:
        # Nobody has this resource; it is listed all the same, for it may be no resource.
        into.counts[0] += 1
    for number in range(first, min(into.counts[0], len(into.scopes))):
        into.scopes[number].resource = resource.start
        into.scopes[number].resource_stop = resource.stop
    return True


@compiled
def outline(body: Bytes, into: Tables) -> bool:
    """Count scopes, spans and attributes, and note where scopes and spans lie as far as the tables have room.

    False where the body is broken around its spans, or has a part twice that would have to be merged.
    """
    into.counts[:] = 0
    at, end = 0, len(body)
    while at < end:
        field = read_field(body, at, end)
        if field.stop < 0 or (field.tag >> 3 == 1 and field.tag != 10):
            return False
        if field.tag == 10 and not _resource_spans(body, field.start, field.stop, into):
            return False
        at = field.stop
    return True


@compiled_step
def _read_attribute(body: Bytes, at: int, end: int, attribute: Any) -> bool:
    """One KeyValue; False where its value is none of text, truth, whole number or double."""
    key, value = Field(0, 0, 0, 0), Field(0, 0, 0, 0)
    while at < end:
        field = read_field(body, at, end)
        if field.stop < 0:
            return False
        number = field.tag >> 3
        if number == 1:
            if field.tag != 10 or key.tag:
                return False
            key = field
        elif number == 2:
            if field.tag != 18 or value.tag:
                return False
            value = field
        at = field.stop
    if value.start == value.stop:
        return False
    told = read_field(body, value.start, value.stop)
    # A second field would win over the first, or be one that the hub does not know.
    if told.stop != value.stop:
        return False
    attribute.key, attribute.key_stop = key.start, key.stop
    attribute.kind = told.tag >> 3
    attribute.value, attribute.value_stop = told.value, 0
    if told.tag == 10:
        attribute.value, attribute.value_stop = told.start, told.stop
        return is_utf8(body, told.start, told.stop)
    return told.tag == 16 or told.tag == 24 or told.tag == 33


@compiled_step
def _read_status(body: Bytes, at: int, end: int, span: Any) -> bool:
    seen = 0
    while at < end:
        field = read_field(body, at, end)
        number = field.tag >> 3
        if field.stop < 0 or (number <= 3 and seen >> number & 1):
            return False
        if field.tag == 18:
            span.message, span.message_stop = field.start, field.stop
            if not is_utf8(body, field.start, field.stop):
                return False
        elif field.tag == 24:
            span.code = field.value
            if field.value < 0 or field.value >> 31:
                return False
        elif number in (2, 3):
            return False
        if number <= 3:
            seen |= 1 << number
        at = field.stop
    return True


@compiled_step
def _all_zero(body: Bytes, start: int, stop: int) -> bool:
    joined = np.uint8(0)
    for place in range(start, stop):
        joined |= body[place]
    return bool(joined == 0)


@compiled_step
def _read_field(body: Bytes, field: Field, span: Any) -> bool:
    """One singular field of a span into its row; False where it is not plain."""
    tag, start, stop = field.tag, field.start, field.stop
    if tag == 10:
        span.trace_id = start if stop - start == 16 and not _all_zero(body, start, stop) else -1
    elif tag == 18:
        span.span_id = start if stop - start == 8 and not _all_zero(body, start, stop) else -1
    elif tag == 34:
        span.parent_id = start if stop > start else -1
        return stop == start or stop - start == 8
    elif tag == 26:
        span.state, span.state_stop = start, stop
        return is_utf8(body, start, stop)
    elif tag == 42:
        span.name, span.name_stop = start, stop
        return is_utf8(body, start, stop)
    elif tag == 48:
        span.kind = field.value
        return 0 <= field.value <= 5
    elif tag == 57:
        span.began = np.uint64(field.value)
    elif tag == 65:
        span.ended = np.uint64(field.value)
    elif tag in (80, 96, 112):
        span.dropped += field.value
        return field.value >> 32 == 0
    elif tag == 122:
        return _read_status(body, start, stop, span)
    else:
        # Flags tell nothing; events (11), links (13) and fields of another wire type are for the parser.
        return tag == 133 or tag >> 3 > 16
    return True


@compiled_step
def _read_span(body: Bytes, span: Any, attributes: Table) -> None:
    """A span's row, its attributes from row `first` on; its form tells whether the rest holds."""
    at, end = span.start, span.stop
    span.trace_id = span.span_id = span.parent_id = -1
    span.form, span.print, span.last = ODD, 0, span.first
    seen = 0
    while at < end:
        field = read_field(body, at, end)
        if field.stop < 0:
            return
        number = field.tag >> 3
        if field.tag == 74:
            if span.last >= len(attributes) or not _read_attribute(
                body, field.start, field.stop, attributes[span.last]
            ):
                return
            told = attributes[span.last]
            span.print = (span.print * _PRIME + told.key_stop - told.key) * 8 + told.kind
            span.last += 1
        elif number <= 16:
            if seen >> number & 1 or not _read_field(body, field, span):
                return
            seen |= 1 << number
        at = field.stop
    span.form = PLAIN
    if span.trace_id < 0 or span.span_id < 0:
        span.form = ID_INVALID
    elif span.ended and span.ended < span.began:
        span.form = TIMES_INVALID
    if span.form != PLAIN:
        # It gets no shape, with which its names would be checked.
        for row in range(span.first, span.last):
            if not is_utf8(body, attributes[row].key, attributes[row].key_stop):
                span.form = ODD


@compiled_step
def _same_names(body: Bytes, attributes: Table, one: Any, other: Any) -> bool:
    """Whether two spans have the same names and kinds in the same order."""
    if one.print != other.print or one.last - one.first != other.last - other.first:
        return False
    for place in range(one.last - one.first):
        mine, theirs = attributes[one.first + place], attributes[other.first + place]
        width = mine.key_stop - mine.key
        if mine.kind != theirs.kind or width != theirs.key_stop - theirs.key:
            return False
        if not same(body, mine.key, theirs.key, width):
            return False
    return True


@compiled
def read_spans(body: Bytes, into: Tables) -> tuple[int, int]:
    """Fill the rows of spans and attributes that `outline` made room for; how many attributes and shapes they have.

    A shape is the names and kinds of a span's attributes, in their order; `shapes` has the first span of each.
    """
    spans, attributes, shapes = into.spans, into.attributes, into.shapes
    used, known = 0, 0
    for row in range(len(spans)):
        span = spans[row]
        span.first = used
        _read_span(body, span, attributes)
        if span.form != PLAIN:
            continue
        shape = 0
        while shape < known and not _same_names(body, attributes, span, spans[shapes[shape]]):
            shape += 1
        if shape == len(shapes):
            span.form = ODD
            continue
        if shape == known:
            shapes[known] = row
            known += 1
        span.shape = shape
        used = span.last
    return used, known
