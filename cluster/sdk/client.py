"""HubClient: records events in the background, sends them at once, and reads answers; what people import.

Sending twice is safe: rows are recognised by `event_id`, or by their content where they have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from cluster.clock import format_rfc3339
from cluster.sdk.answers import Answer, HubRefused, HubUnreachable, NoAnswer, Receipt, RowError, receipt
from cluster.sdk.background import Background
from cluster.sdk.counts import Counts
from cluster.sdk.recording import Recording, Refused
from cluster.sdk.requests import (
    ARROW_STREAM,
    JSON,
    NDJSON,
    PROTOBUF,
    Compression,
    Parameters,
    Request,
    Signal,
    arrow_stream,
    decoded,
    lines,
)
from cluster.sdk.retry import Trouble, retry_after_s

__all__ = [
    "ARROW_STREAM",
    "JSON",
    "NDJSON",
    "PROTOBUF",
    "Compression",
    "Counts",
    "HubClient",
    "HubRefused",
    "HubUnreachable",
    "Parameters",
    "Receipt",
    "Recording",
    "Refused",
    "RowError",
    "Signal",
    "Trouble",
    "retry_after_s",
    "utc",
]

utc = format_rfc3339


class HubClient(Background):
    """One hub, one key; for any number of threads. Its arguments are those of `Background`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def flush(self, timeout_s: float = 30.0) -> Counts:
        """Wait until the hub has answered for everything recorded so far, at most this long."""
        return self._recorder.flush(timeout_s) if self._recorder else Counts()

    def close(self, timeout_s: float | None = None) -> Counts:
        """Flush, at most `timeout_s` or `Recording.close_s`; spool what is left or count it as dropped; disconnect."""
        return self._close_background(timeout_s)

    # At once.

    def post_events(self, events: Iterable[Mapping[str, Any]], *, module: str | None = None) -> Receipt:
        """Send events as NDJSON. Times may be datetimes and money Decimals.

        Raises:
            HubRefused: the body as a whole was refused; single refused rows are in the receipt.
            HubUnreachable: no acknowledgement within the deadline.
        """
        return self.post_body(lines(events), NDJSON, module)

    def post_arrow(self, rows: Any, *, module: str | None = None) -> Receipt:
        """Send a pyarrow RecordBatch or Table as one Arrow IPC stream; columns are named as the fields of an event.

        Raises: as `post_events`.
        """
        return self.post_body(arrow_stream(rows), ARROW_STREAM, module)

    def post_body(self, body: bytes, content_type: str, module: str | None = None) -> Receipt:
        """Send rows that are encoded already.

        Raises: as `post_events`.
        """
        return receipt(self._answer(self._hub.events(body, content_type, module)))

    def post_otlp(self, signal: Signal, body: bytes, *, content_type: str = PROTOBUF) -> bytes:
        """Send an OTLP export request; gives the export response, in the encoding of the request.

        Raises: as `post_events`.
        """
        return self._answer(self._hub.otlp(signal, body, content_type)).content

    # Answers.

    def get(self, path: str, parameters: Parameters = ()) -> Any:
        """The JSON answer of a reading path, e.g. /api/v1/metrics/aggregates; numbers are exact (Decimal or int).

        Raises: as `post_events`.
        """
        return decoded(self._answer(self._hub.get(path, parameters)).content)

    def query(self, kind: str, *, exact: bool = True, **parameters: Any) -> dict[str, Any]:
        """The answer to one question of docs/api.md: `kind` is "timeseries" or "aggregate".

        Args:
            exact: numbers with a fraction, money among them, come as Decimal; else as float.
            parameters: as in docs/api.md, lists where they repeat; `from` is written `from_`, None is left out.

        Raises: as `post_events`.
        """
        answer: dict[str, Any] = decoded(self._answer(self._hub.query(kind, parameters)).content, exact=exact)
        return answer

    def timeseries(self, *measures: str, exact: bool = True, **parameters: Any) -> dict[str, Any]:
        """One series for each measure and group: `client.timeseries("cost_usd", group_by=["model"], from_="-7d")`.

        Raises: as `post_events`.
        """
        return self.query("timeseries", exact=exact, measure=list(measures), **parameters)

    def aggregate(self, *measures: str, exact: bool = True, **parameters: Any) -> dict[str, Any]:
        """One row for each group: `client.aggregate("cost_usd", group_by=["model"], order="-cost_usd", limit=5)`.

        Raises: as `post_events`.
        """
        return self.query("aggregate", exact=exact, measure=list(measures), **parameters)

    def _answer(self, request: Request) -> Answer:
        attempts = self._attempts(request)
        while True:
            try:
                answer = self._send(request)
            except NoAnswer as error:
                wait_s = attempts.failed(error)
            else:
                if answer.status < 300:
                    return answer
                wait_s = attempts.answered(answer)
            self._pause(wait_s)
