"""The requests a hub understands, built but not sent: addresses, bodies, encodings. Both clients send these."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal
from urllib.parse import urlencode

import msgspec

Compression = Literal["zstd", "gzip", "none"]
Signal = Literal["traces", "logs", "metrics"]
Parameters = Iterable[tuple[str, str]]

NDJSON: Final = "application/x-ndjson"
JSON: Final = "application/json"
ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"
PROTOBUF: Final = "application/x-protobuf"

# Below this the frame costs more than it saves.
_COMPRESS_FROM_BYTES: Final = 1024
_LEVEL: Final = 1
# Money must not pass through a float on its way, in either direction.
_WRITER: Final = msgspec.json.Encoder(decimal_format="number")
_EXACT: Final = msgspec.json.Decoder(float_hook=Decimal)
_PLAIN: Final = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to be sent any number of times.

    Attributes:
        what: method and address without parameters, for messages.
    """

    method: str
    url: str
    what: str
    body: bytes | None
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Hub:
    """Where one hub is and how bodies are sent to it.

    Attributes:
        url: without a slash at the end.
        tenant: another tenant that an admin key covers.
    """

    url: str
    tenant: str | None
    compression: Compression

    def events(self, body: bytes, content_type: str, module: str | None) -> Request:
        """Rows in one of the forms of the event door."""
        packed, encoding = compress(body, self.compression)
        return self.packed_events(packed, content_type, encoding=encoding, module=module)

    def packed_events(self, body: bytes, content_type: str, *, encoding: Compression, module: str | None) -> Request:
        """Rows that are compressed already."""
        parameters = [("module", module)] if module else []
        return self._request("POST", "/api/v1/events", parameters, (body, content_type, encoding))

    def otlp(self, signal: Signal, body: bytes, content_type: str) -> Request:
        """An OTLP export request."""
        packed, encoding = compress(body, self.compression)
        return self._request("POST", f"/v1/{signal}", [], (packed, content_type, encoding))

    def get(self, path: str, parameters: Parameters) -> Request:
        """A question in the address."""
        return self._request("GET", path, list(parameters), None)

    def query(self, kind: str, parameters: Mapping[str, Any]) -> Request:
        """A question in the body; names end in "_" where Python keeps the word for itself, and None is left out."""
        asked = {name.rstrip("_"): value for name, value in parameters.items() if value is not None}
        return self._request("POST", "/api/v1/query", [], (_WRITER.encode({"kind": kind, **asked}), JSON, "none"))

    def _request(
        self, method: str, path: str, parameters: list[tuple[str, str]], content: tuple[bytes, str, Compression] | None
    ) -> Request:
        if self.tenant:
            parameters = [*parameters, ("tenant", self.tenant)]
        url = self.url + path + ("?" + urlencode(parameters) if parameters else "")
        what = f"{method} {self.url}{path}"
        if content is None:
            return Request(method, url, what, None, {})
        body, content_type, encoding = content
        headers = {"Content-Type": content_type}
        if encoding != "none":
            headers["Content-Encoding"] = encoding
        return Request(method, url, what, body, headers)


def lines(events: Iterable[Mapping[str, Any]]) -> bytes:
    """Events as NDJSON. Times may be datetimes and money Decimals."""
    return _WRITER.encode_lines(list(events))


def arrow_stream(rows: Any) -> bytes:
    """A pyarrow RecordBatch or Table as one Arrow IPC stream."""
    # Who has such rows has imported it already; nobody else should wait for it.
    import pyarrow as pa  # noqa: PLC0415

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write(rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def decoded(content: bytes, *, exact: bool = True) -> Any:
    """JSON of an answer.

    Args:
        exact: numbers with a fraction come as Decimal, else as float.
    """
    return (_EXACT if exact else _PLAIN).decode(content)


def compress(body: bytes, compression: Compression) -> tuple[bytes, Compression]:
    """The body as it is sent, and its encoding: small ones go plain, and gzip stands in where zstandard is missing."""
    if compression == "none" or len(body) < _COMPRESS_FROM_BYTES:
        return body, "none"
    if compression == "zstd":
        try:
            import zstandard  # noqa: PLC0415 - the one library of the SDK that a program may lack
        except ImportError:
            return gzip.compress(body, _LEVEL), "gzip"
        return zstandard.compress(body, _LEVEL), "zstd"
    return gzip.compress(body, _LEVEL), "gzip"


def inflate(body: bytes, encoding: Compression) -> bytes:
    """What `compress` was given."""
    if encoding == "none":
        return body
    if encoding == "gzip":
        return gzip.decompress(body)
    import zstandard  # noqa: PLC0415 - as above

    return zstandard.decompress(body)
