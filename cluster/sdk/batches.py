"""Events on their way: one row each when recorded, one body for many when sent."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from cluster.clock import Clock
from cluster.contract.vocabulary import FIELD_ALIASES
from cluster.sdk.requests import Compression, compress, inflate

_ID: Final = "event_id"
_TIME: Final = "occurred_at"
_OTHER_IDS: Final = frozenset(FIELD_ALIASES[_ID])
_OTHER_TIMES: Final = frozenset(FIELD_ALIASES[_TIME])


class Encoder:
    """Makes rows of events. What it writes is what is sent, however often: ids and times are put in here, once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._encode = msgspec.json.Encoder(decimal_format="number").encode
        # Unlike a UUID for each event this asks the system for randomness once; 96 bits keep processes apart.
        self._prefix = secrets.token_hex(12)
        self._number = itertools.count()

    def row(self, event: Mapping[str, Any]) -> bytes:
        """The event as one line of NDJSON, with an id and a time where it has none.

        Raises:
            TypeError, ValueError: something in it has no form in JSON, or nests too deep.
        """
        missing: dict[str, str | int] = {}
        if event.get(_ID) is None and _OTHER_IDS.isdisjoint(event):
            missing[_ID] = f"{self._prefix}-{next(self._number):x}"
        if event.get(_TIME) is None and _OTHER_TIMES.isdisjoint(event):
            # Microseconds since the epoch are one of the forms the hub reads, and cost nothing to write.
            missing[_TIME] = self._clock.now_us()
        try:
            return self._encode({**event, **missing})
        except RecursionError as error:
            raise ValueError("the event nests too deep") from error


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are sent together, compressed once.

    Attributes:
        sequence: its place among the batches of one process, from 1.
        held_bytes: what its rows took in memory when they were recorded.
    """

    sequence: int
    rows: int
    body: bytes
    encoding: Compression
    held_bytes: int = 0


def pack(sequence: int, rows: Sequence[bytes], compression: Compression) -> Batch:
    """One batch of these rows."""
    body, encoding = compress(b"\n".join(rows), compression)
    return Batch(sequence, len(rows), body, encoding, sum(map(len, rows)))


def rows_of(batch: Batch) -> list[bytes]:
    """The rows as they were recorded."""
    return inflate(batch.body, batch.encoding).split(b"\n")


def recoded(batch: Batch, compression: Compression) -> Batch:
    """The same rows in another encoding."""
    body, encoding = compress(inflate(batch.body, batch.encoding), compression)
    return replace(batch, body=body, encoding=encoding)


def event_id(row: bytes) -> str:
    """The id of a row; "" where it has none that can be read."""
    try:
        fields = msgspec.json.decode(row, type=dict[str, Any])
    except msgspec.MsgspecError:
        return ""
    return next((str(fields[name]) for name in (_ID, *_OTHER_IDS) if fields.get(name) is not None), "")
