"""Bodies that are almost right: valid ones of every decoder, and the ways in which senders and wires spoil them."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cluster.contract.coerce import ROW_FIELDS
from cluster.contract.sources import dialects

CORPUS: Final = Path(__file__).parents[1] / "cluster" / "contract" / "corpus"
AT_US: Final = 1_767_225_600_000_000
# Pieces that parsers stumble over.
_TOKENS: Final = tuple(
    text.encode("utf-8", "surrogatepass")
    for text in (
        *("{", "}", "[", "]", '"', ":", ",", "\\", "\n", "\r", "\x00", "\ufeff", "\u2028", "null", "true", "NaN"),
        *(
            "Infinity",
            "-0",
            "1e999",
            "-1",
            "1e-400",
            "e-40004875",
            "0.1",
            "9223372036854775808",
            "18446744073709551616",
            "1" * 400,
        ),
        *("\\u0000", "\\ud800", "\\udfff\\ud800", "\\u00", "\\x", "{}", "[]", '""', '"":', "[" * 70, '{"a":' * 70),
        *("2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0000-00-00", "1767225600", "é", "\U0001f600", "\udc80"),
        *(f'"{name}":' for name in ("payload", "attributes", "schema_version", "cost_usd", "event_id", "usage")),
    )
)
_SCALARS: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 5e-324, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1),
    *(
        "",
        " ",
        "a",
        "\x00",
        "é",
        "x" * 513,
        "y" * 5_000,
        "-1",
        "1e5",
        "1e-40004875",
        "1e-48",
        "NaN",
        "1.0.0",
        "2.9.9",
        "3.0.0",
        "gateway",
    ),
    *("2026-01-01T00:00:00Z", "1767225600", "\u202e", "null", "{}", "[]", "tenant", "request", [], {}, [[]], {"a": {}}),
)


def corpus_bodies(door: str) -> list[Any]:
    """Bodies of the golden corpus that go through a door."""
    cases = [case for path in sorted(CORPUS.glob("*.json")) for case in json.loads(path.read_text())]
    return [case["body"] for case in cases if case["door"] == door]


SPANS: Final = tuple(enumerate(corpus_bodies("span")))


def rows() -> list[dict[str, Any]]:
    """Valid rows, one with every field."""
    full: dict[str, Any] = dict.fromkeys(ROW_FIELDS, "text")
    full |= {name: 7 for name in ROW_FIELDS if name.endswith(("_tokens", "_ms"))}
    full |= {"event_id": "e0", "occurred_at": "2026-01-01T00:00:00Z", "module": "gateway", "kind": "gateway.request"}
    full |= {"tenant_id": "acme", "schema_version": "2.0.0", "cost_usd": "0.000000123"}
    full |= {"attributes": {"a": 1, "user.id": "u"}, "payload": {"tokens": {"input": 3}, "note": "x"}}
    return [full, *(row for body in corpus_bodies("events") for row in body)]


def traces(choose: random.Random | None = None) -> ExportTraceServiceRequest:
    """Spans of every form: plain, with events and links, nested values, refused ones; a few of them, or all."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "api"
    scope = group.scope_spans.add()
    scope.scope.name = "instrument"
    for number, body in choose.sample(SPANS, choose.choice([1, 2, 4])) if choose else SPANS:
        span = scope.spans.add(trace_id=bytes(range(16)), span_id=(number + 1).to_bytes(8, "big"), name=body["name"])
        span.start_time_unix_nano = AT_US * 1_000
        span.end_time_unix_nano = span.start_time_unix_nano + number * 1_000
        span.kind = number % 6
        span.status.code = number % 3
        for name, value in body["attributes"].items():
            _set(span.attributes.add(key=name).value, value)
        if number % 5 == 0:
            span.events.add(name=dialects.EVALUATION_EVENT).attributes.add(key="gen_ai.evaluation.name")
            span.links.add(trace_id=bytes(range(16)), span_id=bytes(8))
            nested = span.attributes.add(key="nested").value.kvlist_value.values.add(key="inner")
            nested.value.array_value.values.add(bytes_value=b"\x00\xff")
    return request


def logs() -> ExportLogsServiceRequest:
    """Log records with and without a trace, one an evaluation."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for name in ("", "gen_ai.client.inference.operation.details", dialects.EVALUATION_EVENT):
        record = records.add(time_unix_nano=AT_US * 1_000, severity_number=9, severity_text="INFO", event_name=name)
        record.body.string_value = "told"
        record.trace_id = bytes(range(16))
        record.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 3
    return request


def metrics() -> ExportMetricsServiceRequest:
    """A metric of each type."""
    request = ExportMetricsServiceRequest()
    many = request.resource_metrics.add().scope_metrics.add().metrics
    at = {"time_unix_nano": AT_US * 1_000, "start_time_unix_nano": AT_US * 1_000 - 1}
    many.add(name="g").gauge.data_points.add(as_double=1.5, **at)
    many.add(name="s").sum.data_points.add(as_int=7, **at)
    histogram = many.add(name="h", unit="s").histogram.data_points.add(count=3, sum=1.5, min=0.1, max=1.0, **at)
    histogram.bucket_counts.extend([1, 2])
    histogram.explicit_bounds.append(0.5)
    exponential = many.add(name="e").exponential_histogram.data_points.add(count=2, scale=3, **at)
    exponential.positive.bucket_counts.extend([1, 1])
    many.add(name="q").summary.data_points.add(count=1, sum=2.0, **at).quantile_values.add(quantile=0.5, value=2.0)
    return request


def _set(slot: Any, value: Any) -> None:
    if isinstance(value, list):
        for member in value:
            _set(slot.array_value.values.add(), member)
        return
    kinds = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}
    setattr(slot, kinds[type(value)], value)


def as_json(message: Message) -> Any:
    """OTLP/JSON: ids in hexadecimal where protobuf's own JSON has base64."""
    document = json_format.MessageToDict(message, use_integers_for_enums=True)
    nodes: list[Any] = [document]
    while nodes:
        node = nodes.pop()
        members = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for name, member in list(members):
            if name in ("traceId", "spanId", "parentSpanId"):
                node[name] = base64.b64decode(member).hex()
            nodes.append(member)
    return document


def damaged(body: bytes, others: Sequence[bytes], choose: random.Random) -> bytes:
    """The body after a few accidents: flipped bits, lost, doubled and foreign pieces, an end that is missing."""
    out = bytearray(body)
    for _ in range(choose.choice([0, 1, 1, 1, 2, 3, 5, 8])):
        size = len(out)
        start = choose.randrange(size + 1)
        end = min(size, start + choose.choice([1, 1, 2, 4, 16, 64, 512]))
        accident = choose.randrange(8)
        if accident == 0 and start < size:
            out[start] ^= 1 << choose.randrange(8)
        elif accident == 1 and start < size:
            out[start] = choose.choice([0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x5C, 0x0A, choose.randrange(256)])
        elif accident == 2:
            del out[start:end]
        elif accident == 3:
            out[start:start] = out[start:end] * choose.choice([1, 1, 2, 40])
        elif accident == 4:
            foreign = choose.choice(others)
            at = choose.randrange(len(foreign) + 1)
            out[start:end] = foreign[at : at + choose.choice([1, 8, 64, 1_024])]
        elif accident == 5:
            out[start:start] = choose.choice(_TOKENS)
        elif accident == 6:
            del out[start:]
        else:
            out[start:end] = choose.randbytes(end - start)
    return bytes(out)


def _varint(body: bytes, at: int) -> tuple[int, int] | None:
    value = shift = 0
    while at < len(body) and shift < 64:
        value |= (body[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if body[at - 1] < 128:
            return value, at
    return None


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def fields_of(message: bytes) -> list[tuple[int, bytes]] | None:
    """(tag, content) of a message on the wire, the content of varints as sent; None where it is none."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(message):
        tag = _varint(message, at)
        if tag is None or tag[0] < 8:
            return None
        number, at = tag
        length = {0: _varint(message, at), 1: (8, at), 2: _varint(message, at), 5: (4, at)}.get(number & 7)
        if length is None:
            return None
        start, stop = (at, length[1]) if number & 7 == 0 else (length[1], length[1] + length[0])
        if stop > len(message):
            return None
        found.append((number, message[start:stop]))
        at = stop
    return found


def reframed(message: bytes, others: Sequence[bytes], choose: random.Random) -> bytes:
    """A protobuf message with an accident somewhere deep inside, all lengths around it right."""
    fields = fields_of(message)
    if not fields or choose.random() < 0.1:
        return damaged(message, others, choose)
    place = choose.randrange(len(fields))
    act = choose.randrange(8)
    number, content = fields[place]
    if act == 0:
        del fields[place]
    elif act == 1:
        fields.insert(choose.randrange(len(fields) + 1), fields[place])
    elif act == 2:
        fields[place] = (max(8, number ^ 1 << choose.randrange(6)), content)
    elif number & 7 == 0:
        fields[place] = (
            number,
            _as_varint(choose.choice([0, 1, 2, 127, 2**31, 2**63, 2**64 - 1, choose.getrandbits(64)])),
        )
    else:
        fields[place] = (number, reframed(content, others, choose))
    choose.shuffle(fields) if choose.random() < 0.1 else None
    return b"".join(
        _as_varint(tag) + (_as_varint(len(content)) if tag & 7 == 2 else b"") + content for tag, content in fields
    )


def altered(document: Any, choose: random.Random, depth: int = 0) -> Any:
    """A JSON document with some values of another type, members gone, doubled or under another's name."""
    if isinstance(document, dict) and document and (depth == 0 or choose.random() < 0.7):
        out = dict(document)
        for name in choose.sample(list(out), min(len(out), choose.choice([1, 1, 2, 3]))):
            act = choose.randrange(5)
            if act == 0:
                del out[name]
            elif act == 1:
                out[choose.choice([*ROW_FIELDS, *out, "usage_semantics", "x" * 70])] = out[name]
            else:
                out[name] = altered(out[name], choose, depth + 1)
        return out
    if isinstance(document, list) and document and (depth == 0 or choose.random() < 0.7):
        place = choose.randrange(len(document))
        return [
            *document[:place],
            altered(document[place], choose, depth + 1),
            *document[place + choose.randrange(2) :],
        ]
    if choose.random() < 0.05:
        value: Any = choose.choice(_SCALARS)
        for _ in range(choose.choice([3, 63, 64, 65, 300])):
            value = [value] if choose.random() < 0.5 else {"n": value}
        return value
    return choose.choice(_SCALARS)


def written(document: Any) -> bytes:
    """JSON text, of numbers beyond 64 bits and of any nesting as well."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
