"""Keys of event ids of whole files, read for little: two columns, and of those only row groups that can matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.contract.columns import INSTANT
from cluster.hashing import hash128, seed_of

Keys = npt.NDArray[np.uint64]
Minutes = npt.NDArray[np.int64]

_SEED: Final = seed_of("repeats")
_MINUTE_US: Final = 60_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Group:
    """One row group of a file of events.

    Attributes:
        first: place of its first row in the file.
        keys: (n,) of the ids; equal ids have equal keys, others hardly ever.
        rows: (n,) the columns asked for.
    """

    first: int
    keys: Keys
    rows: pa.Table


def groups(path: Path, minutes: Minutes | None, columns: Sequence[str] = ("event_id",)) -> Iterator[Group]:
    """Row groups that may hold a row of one of the minutes, page checksums verified.

    Args:
        minutes: since 1970, ascending; None for all of the file.
        columns: `event_id` among them.
    """
    file = pq.ParquetFile(path, page_checksum_verification=True)
    place = file.schema.names.index("occurred_at")
    first = 0
    for number in range(file.num_row_groups):
        told = file.metadata.row_group(number)
        if minutes is None or touches(minutes, *_span(told.column(place))):
            rows = file.read_row_group(number, columns=list(columns), use_threads=False)
            ids = rows.column("event_id").combine_chunks()
            yield Group(first, np.ascontiguousarray(hash128(ids, _SEED)[:, 0]), rows)
        first += told.num_rows


def minutes_of(occurred_at: pa.ChunkedArray) -> Minutes:
    """Minute since 1970 of each instant, (n,)."""
    minutes: Minutes = occurred_at.cast(INSTANT).cast(pa.int64()).to_numpy() // _MINUTE_US
    return minutes


def touches(minutes: Minutes, from_us: int, to_us: int) -> bool:
    """Whether one of the minutes, ascending, has an instant in [from_us, to_us]."""
    place = int(np.searchsorted(minutes, from_us // _MINUTE_US))
    return place < minutes.size and int(minutes[place]) <= to_us // _MINUTE_US


def span_of(file: Mapping[str, object], column: str) -> tuple[int, int]:
    """First and last instant of a file in microseconds, as the log tells them; all time where it does not."""
    low, high = file.get(f"min.{column}"), file.get(f"max.{column}")
    if not isinstance(low, datetime) or not isinstance(high, datetime):
        return 0, 2**62
    return _us(low), _us(high)


def _span(column: pq.ColumnChunkMetaData) -> tuple[int, int]:
    statistics = column.statistics
    if statistics is None or not statistics.has_min_max:
        return 0, 2**62
    low, high = (int(pa.scalar(one, INSTANT).cast(pa.int64()).as_py()) for one in (statistics.min, statistics.max))
    return low, high


def _us(at: datetime) -> int:
    return (at.replace(tzinfo=at.tzinfo or UTC) - _EPOCH) // timedelta(microseconds=1)
