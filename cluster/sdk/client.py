"""HubClient: sends events to a hub and reads its answers, over HTTP; what people and our own commands import.

A batch is sent until it is acknowledged or the deadline is over. Sending it twice is safe: rows are recognised by
`event_id`, or by their content where they have none.
"""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import urlencode, urlsplit

import httpx2
import msgspec
import pyarrow as pa
import zstandard

from cluster.clock import Clock, Deadline, SystemClock
from cluster.errors import HubError

Compression = Literal["zstd", "gzip", "none"]
Signal = Literal["traces", "logs", "metrics"]
Parameters = Iterable[tuple[str, str]]

NDJSON: Final = "application/x-ndjson"
JSON: Final = "application/json"
ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"
PROTOBUF: Final = "application/x-protobuf"

# The statuses that invite to send the same again; 502 and 504 are a proxy whose hub is being restarted.
_AGAIN: Final = frozenset({429, 502, 503, 504})
_BACKOFF_FIRST_S: Final = 0.1
_BACKOFF_LAST_S: Final = 5.0
# A hub that asks for more is heard, but checked on at this pace.
_RETRY_AFTER_MAX_S: Final = 30.0
# Below this the frame costs more than it saves.
_COMPRESS_FROM_BYTES: Final = 1024
# Money must not pass through a float on its way.
_EXACT: Final = msgspec.json.Decoder(float_hook=Decimal)
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class HubRefused(HubError):
    """The hub answered that it will not take or answer this; sending the same again will not help.

    Attributes:
        status: HTTP status.
        code: the hub's own code, as in cluster.errors.
    """

    def __init__(self, message: str, *, status: int, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class HubUnreachable(HubError):
    """No acknowledgement within the deadline; the batch may or may not have been taken, so send it again."""

    code = "hub_unreachable"
    hint = "`llmhub status` tells whether the hub runs; --url or HUB_URL names another one."


class RowError(msgspec.Struct, frozen=True):
    """Why one row was not taken; `index` counts the rows of the body from 0."""

    index: int
    code: str
    message: str


class Receipt(msgspec.Struct, frozen=True):
    """What became of the rows of one body: accepted + repeated + refused = rows sent.

    Attributes:
        errors: the first hundred refused rows; the hub keeps all of them as dead letters.
    """

    accepted: int = 0
    repeated: int = 0
    refused: int = 0
    errors: tuple[RowError, ...] = ()

    @property
    def rows(self) -> int:
        return self.accepted + self.repeated + self.refused


@dataclass(slots=True)
class Trouble:
    """Answers that made the client wait, counted since it was made."""

    busy: int = 0
    unavailable: int = 0
    unreachable: int = 0

    @property
    def retries(self) -> int:
        return self.busy + self.unavailable + self.unreachable


class HubClient:
    """One hub, one key. Not for use by several threads at once; make one for each.

    Args:
        url: base, e.g. http://127.0.0.1:8000.
        tenant: another tenant that an admin key covers; the key's own by default.
        deadline_s: budget of one batch, retries included.
        timeout_s: budget of one attempt.
        transport, clock, pause, chance: for tests; chance gives the jitter, in [0, 1).
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        tenant: str | None = None,
        compression: Compression = "zstd",
        deadline_s: float = 120.0,
        timeout_s: float = 30.0,
        transport: httpx2.BaseTransport | None = None,
        clock: Clock | None = None,
        pause: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.url = url.rstrip("/")
        self.trouble = Trouble()
        self._tenant = tenant
        self._compression = compression
        self._deadline_s = deadline_s
        self._clock = clock or SystemClock()
        self._pause = pause
        self._chance = chance
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_s,
            transport=transport,
            # A proxy of the environment cannot reach a hub on this machine.
            trust_env=urlsplit(self.url).hostname not in _LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def post_events(self, events: Iterable[Mapping[str, Any]], *, module: str | None = None) -> Receipt:
        """Send events as NDJSON. Times may be datetimes and money Decimals.

        Raises:
            HubRefused: the body as a whole was refused; single refused rows are in the receipt.
            HubUnreachable: no acknowledgement within the deadline.
        """
        return self.post_body(msgspec.json.Encoder(decimal_format="number").encode_lines(list(events)), NDJSON, module)

    def post_arrow(self, rows: pa.RecordBatch | pa.Table, *, module: str | None = None) -> Receipt:
        """Send rows as one Arrow IPC stream; columns are named as the fields of an event.

        Raises: as `post_events`.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write(rows)
        return self.post_body(sink.getvalue().to_pybytes(), ARROW_STREAM, module)

    def post_body(self, body: bytes, content_type: str, module: str | None = None) -> Receipt:
        """Send rows that are encoded already.

        Raises: as `post_events`.
        """
        parameters = [("module", module)] if module else []
        answer = self._send("POST", "/api/v1/events", parameters, (body, content_type))
        return msgspec.json.decode(answer.content, type=Receipt)

    def post_otlp(self, signal: Signal, body: bytes, *, content_type: str = PROTOBUF) -> bytes:
        """Send an OTLP export request; gives the export response, in the encoding of the request.

        Raises: as `post_events`.
        """
        return self._send("POST", f"/v1/{signal}", [], (body, content_type)).content

    def get(self, path: str, parameters: Parameters = ()) -> Any:
        """The JSON answer of a reading path, e.g. /api/v1/metrics/aggregates; numbers are exact (Decimal or int).

        Raises: as `post_events`.
        """
        return _EXACT.decode(self._send("GET", path, list(parameters), None).content)

    def _send(
        self, method: str, path: str, parameters: list[tuple[str, str]], content: tuple[bytes, str] | None
    ) -> httpx2.Response:
        body, headers = self._encoded(*content) if content else (None, {})
        if self._tenant:
            parameters = [*parameters, ("tenant", self._tenant)]
        url = self.url + path + ("?" + urlencode(parameters) if parameters else "")
        deadline = Deadline.after(self._clock, self._deadline_s)
        backoff_s = _BACKOFF_FIRST_S
        while True:
            wait_s = 0.0
            try:
                answer = self._http.request(method, url, content=body, headers=headers)
            except httpx2.TransportError as error:
                self.trouble.unreachable += 1
                reason = f"{type(error).__name__}: {error}"
            else:
                if answer.status_code < 300:
                    return answer
                if answer.status_code not in _AGAIN:
                    raise _refusal(answer)
                self._count(answer.status_code)
                reason = str(_refusal(answer))
                wait_s = retry_after_s(answer.headers.get("retry-after", ""), self._clock.now_us())
            # Full jitter on top of what the hub asked for, so that refused senders do not come back together.
            wait_s += backoff_s * self._chance()
            backoff_s = min(2 * backoff_s, _BACKOFF_LAST_S)
            if self._clock.monotonic_s() + wait_s >= deadline.at_s:
                raise HubUnreachable(
                    f"{method} {self.url}{path}: not acknowledged in {self._deadline_s:.0f} s; {reason}"
                )
            self._pause(wait_s)

    def _encoded(self, body: bytes, content_type: str) -> tuple[bytes, dict[str, str]]:
        headers = {"Content-Type": content_type}
        if self._compression == "none" or len(body) < _COMPRESS_FROM_BYTES:
            return body, headers
        headers["Content-Encoding"] = self._compression
        packed = zstandard.compress(body, 1) if self._compression == "zstd" else gzip.compress(body, 1)
        return packed, headers

    def _count(self, status: int) -> None:
        if status == 429:
            self.trouble.busy += 1
        else:
            self.trouble.unavailable += 1


def retry_after_s(header: str, now_us: int) -> float:
    """Seconds that a Retry-After header asks for, in [0, 30]; 0 where it cannot be read."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        seconds = at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now_us / 1e6
    return min(max(0.0, seconds), _RETRY_AFTER_MAX_S) if seconds == seconds else 0.0


def _refusal(answer: httpx2.Response) -> HubRefused:
    """The hub's problem+json, or what a proxy said instead of it."""
    try:
        problem = msgspec.json.decode(answer.content, type=dict[str, Any])
    except msgspec.MsgspecError:
        problem = {}
    detail = str(problem.get("detail") or answer.text[:200] or "no reason given")
    return HubRefused(
        f"HTTP {answer.status_code}: {detail}",
        status=answer.status_code,
        code=str(problem.get("code") or "http_error"),
        hint=str(problem.get("hint") or ""),
    )


def utc(at_us: int) -> str:
    """RFC 3339 of microseconds since the epoch, as an event's `occurred_at`."""
    seconds, micros = divmod(at_us, 1_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"
