"""The Arrow schema of answers that jobs gave: one row for the answer, and one for each of its rows, series or cells."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from cluster.contract.columns import INSTANT

ANSWER_SCHEMA: Final = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("project_id", pa.string()),
        # When it was answered; decides the date it is filed under.
        pa.field("told_at", INSTANT, nullable=False),
        # 0 the answer without its list, then the entries of the list in their order.
        pa.field("place", pa.int64(), nullable=False),
        # Name of that list in the answer: rows, series or cells.
        pa.field("member", pa.string(), nullable=False),
        # JSON, money with every digit.
        pa.field("content", pa.string(), nullable=False),
    ]
)
