"""Rows of an OTLP request while they are gathered, one for each span, log record or data point."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from google.protobuf.message import Message  # type: ignore[import-untyped]

from cluster.contract.columns import INSTANT
from cluster.contract.normalise import seal
from cluster.contract.rows import DecodeContext, Decoded, RawRows, Refusal
from cluster.contract.sources.arrays import columns_of, whole_numbers
from cluster.errors import BodyTooLarge


class OtlpRows:
    """Rows in the order of the request; `name` is what a message calls one of them."""

    def __init__(self, context: DecodeContext, name: str) -> None:
        self._context = context
        self._name = name
        self._rows_max = context.rows_max
        self._messages: list[Message] = []
        self._rows: list[dict[str, Any]] = []
        self._refused: list[Refusal] = []

    def add(self, message: Message, row: dict[str, Any]) -> None:
        """One more row, by column; the message is its original.

        Raises:
            BodyTooLarge: more rows than the context allows.
        """
        self._rows.append(row)
        self._messages.append(message)
        if len(self._messages) > self._rows_max:
            refuse_request(self._rows_max)

    def refuse(self, message: Message, code: str, reason: str) -> None:
        self._refused.append(Refusal(len(self._messages), code, reason))
        self._messages.append(message)
        if len(self._messages) > self._rows_max:
            refuse_request(self._rows_max)

    def __len__(self) -> int:
        """Rows added and refused."""
        return len(self._messages)

    def seal(self) -> Decoded:
        return seal(self.raw(), self._context)

    def raw(self) -> RawRows:
        """The rows before the contract's rules."""
        columns = columns_of(self._rows)
        if self._rows:
            columns["occurred_at"] = whole_numbers(row["occurred_at"] for row in self._rows).view(INSTANT)
        return RawRows(
            columns=columns,
            indexes=np.delete(np.arange(len(self._messages)), [refusal.index for refusal in self._refused]),
            original=lambda index: self._messages[index].SerializeToString(),
            row_count=len(self._messages),
            refused=self._refused,
            place=lambda index: f"{self._name} {index}",
        )


def refuse_request(rows_max: int) -> NoReturn:
    raise BodyTooLarge(f"more than {rows_max} rows in one request", hint="Set the exporter's batch size lower.")
