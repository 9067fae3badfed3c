"""OTLP values as plain ones: attributes flattened to dotted names, ids of OTLP/JSON, sizes kept within the row."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar, cast

import orjson
from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue

from cluster.contract.event import ATTRIBUTES_BYTES_MAX
from cluster.errors import BodyUnreadable, MediaTypeUnsupported

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
_PROTOBUF_TYPES: Final = (PROTOBUF, "application/protobuf", "application/octet-stream")
_ID_NAMES: Final = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})
# Values longer than this leave `attributes` for `payload` once the attributes are over their limit.
_LONG: Final = 1024
_DEPTH_MAX: Final = 32
_MICRO: Final = 1_000

Request = TypeVar("Request")


def parse(kind: Callable[[], Request], body: bytes, content_type: str) -> Request:
    """The export request in a body.

    Raises:
        MediaTypeUnsupported: neither protobuf nor JSON.
        BodyUnreadable: not an OTLP request in that encoding.
    """
    media_type = _media_type(content_type)
    try:
        if media_type in _PROTOBUF_TYPES:
            message: Any = kind()
            message.ParseFromString(body)
            return cast(Request, message)
        if media_type == JSON:
            document = orjson.loads(body)
            _base64_ids(document)
            message = kind()
            json_format.ParseDict(document, message, ignore_unknown_fields=True)
            return cast(Request, message)
    except (DecodeError, json_format.ParseError, orjson.JSONDecodeError, RecursionError) as error:
        reason = str(error)[:200]
        raise BodyUnreadable(f"not an OTLP request: {reason}", hint=f"Send {PROTOBUF} or {JSON}.") from None
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        # ParseDict lets some of what it stumbles over through as it is.
        raise BodyUnreadable(f"not an OTLP request: {str(error)[:200]}", hint=f"Send {PROTOBUF} or {JSON}.") from None
    raise MediaTypeUnsupported(f"no OTLP decoder for {media_type[:80]!r}", hint=f"Send {PROTOBUF} or {JSON}.")


def is_protobuf(content_type: str) -> bool:
    return _media_type(content_type) in _PROTOBUF_TYPES


def _media_type(content_type: str) -> str:
    return content_type.split(";", 1)[0].strip().lower()


def flat(attributes: Iterable[KeyValue], into: dict[str, Any]) -> dict[str, Any]:
    """`into` with the attributes added; maps become dotted names, bytes base64, a later name wins."""
    for pair in attributes:
        value = pair.value
        # Most values are texts that are not empty, or counts; asking for the kind costs as much as all the rest.
        if text := value.string_value:
            into[pair.key] = text
            continue
        if number := value.int_value:
            into[pair.key] = number
            continue
        kind = value.WhichOneof("value")
        if kind == "kvlist_value":
            for name, member in flat(value.kvlist_value.values, {}).items():
                into[f"{pair.key}.{name}"] = member
        elif kind is not None:
            into[pair.key] = plain(value)
    return into


def plain(value: AnyValue, depth: int = 0) -> Any:
    """One value, with arrays as lists and maps as dicts; too deep a nest is cut to its type's name."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if depth > _DEPTH_MAX:
        return kind
    if kind == "array_value":
        return [plain(member, depth + 1) for member in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: plain(pair.value, depth + 1) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)


def scope_attributes(scope: InstrumentationScope, resource: dict[str, Any]) -> dict[str, Any]:
    """Resource attributes with the scope's own added."""
    out = flat(scope.attributes, dict(resource))
    if scope.name:
        out["otel.scope.name"] = scope.name
    if scope.version:
        out["otel.scope.version"] = scope.version
    return out


def documents(attributes: dict[str, Any], payload: dict[str, Any]) -> tuple[str, str | None]:
    """Both documents as JSON text. Prompts and other long values move to the payload where attributes are too large."""
    text = dump(attributes)
    if len(text) > ATTRIBUTES_BYTES_MAX:
        long = {name: value for name, value in attributes.items() if len(dump(value)) > _LONG}
        text = dump({name: value for name, value in attributes.items() if name not in long})
        payload = {**payload, "attributes": long}
    return text.decode(), dump(payload).decode() if payload else None


def dump(value: Any) -> bytes:
    # Sorted, so that the same attributes are the same text whatever order an exporter keeps them in.
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def micros(nanos: int) -> int:
    """Microseconds of OTLP nanoseconds; they fit, for OTLP's largest is 64 bits of nanoseconds."""
    return nanos // _MICRO


def _base64_ids(node: Any) -> None:
    """OTLP/JSON writes ids in hexadecimal where protobuf JSON means base64; turned in place."""
    if isinstance(node, list):
        for member in node:
            _base64_ids(member)
    elif isinstance(node, dict):
        for name, member in node.items():
            if name in _ID_NAMES and isinstance(member, str):
                node[name] = _base64_of_hex(member)
            elif isinstance(member, dict | list):
                _base64_ids(member)


def _base64_of_hex(text: str) -> str:
    try:
        return base64.b64encode(bytes.fromhex(text)).decode()
    except ValueError:
        # No id: the row is refused for it, the others go on.
        return ""
