"""Rows of an OTLP request while they are gathered, one for each span, log record or data point."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from google.protobuf.message import Message  # type: ignore[import-untyped]

from cluster.contract.columns import INSTANT, TEXT_FIELDS, TOKEN_FIELDS
from cluster.contract.normalise import seal
from cluster.contract.rows import DecodeContext, Decoded, RawRows, Refusal
from cluster.errors import BodyTooLarge

_TEXTS: Final = ("event_id", *TEXT_FIELDS, "attributes", "payload", "cost_usd")
_TYPES: Final[dict[str, pa.DataType]] = {
    **dict.fromkeys(_TEXTS, pa.string()),
    **dict.fromkeys(TOKEN_FIELDS, pa.int64()),
    "latency_ms": pa.float64(),
    "ttft_ms": pa.float64(),
    "occurred_at": pa.int64(),
}


class OtlpRows:
    """Rows in the order of the request; `name` is what a message calls one of them."""

    def __init__(self, context: DecodeContext, name: str) -> None:
        self._context = context
        self._name = name
        self._messages: list[Message] = []
        self._rows: list[dict[str, Any]] = []
        self._refused: list[Refusal] = []

    def add(self, message: Message, row: dict[str, Any]) -> None:
        """One more row, by column; the message is its original.

        Raises:
            BodyTooLarge: more rows than the context allows.
        """
        self._rows.append(row)
        self._take(message)

    def refuse(self, message: Message, code: str, reason: str) -> None:
        self._refused.append(Refusal(len(self._messages), code, reason))
        self._take(message)

    def seal(self) -> Decoded:
        told: set[str] = set().union(*self._rows)
        columns = {
            name: pa.array([row.get(name) for row in self._rows], kind) for name, kind in _TYPES.items() if name in told
        }
        if "occurred_at" in columns:
            columns["occurred_at"] = columns["occurred_at"].cast(INSTANT)
        rows = RawRows(
            columns=columns,
            indexes=np.delete(np.arange(len(self._messages)), [refusal.index for refusal in self._refused]),
            original=lambda index: self._messages[index].SerializeToString(),
            row_count=len(self._messages),
            refused=self._refused,
            place=lambda index: f"{self._name} {index}",
        )
        return seal(rows, self._context)

    def _take(self, message: Message) -> None:
        self._messages.append(message)
        if len(self._messages) > self._context.rows_max:
            raise BodyTooLarge(
                f"more than {self._context.rows_max} rows in one request", hint="Set the exporter's batch size lower."
            )
