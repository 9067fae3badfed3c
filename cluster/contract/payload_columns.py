"""Fields of a payload that have a column of their own: used where the row's top level does not say them.

Only rows that miss a column have their payload opened, and only where the text holds the name of such a field.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from cluster.contract.coerce import coerce
from cluster.contract.columns import TOKEN_FIELDS
from cluster.contract.documents import OBJECT, buffers
from cluster.contract.rows import RowRefused
from cluster.contract.sources.arrays import whole_numbers

# Kind -> column -> names of the payload's fields, the first found wins.
PAYLOAD_COLUMNS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "gateway.request": {
        "model": ("served_model", "model", "requested_model"),
        "provider": ("provider",),
        "operation": ("operation", "op", "call_type"),
        "status": ("status", "status_code"),
        "latency_ms": ("total_ms", "latency_ms", "duration_ms"),
        "ttft_ms": ("ttft_ms", "time_to_first_token_ms"),
        "input_tokens": ("input_tokens", "prompt_tokens"),
        "output_tokens": ("output_tokens", "completion_tokens"),
        "cache_read_tokens": ("cache_read_tokens",),
        "cache_write_tokens": ("cache_write_tokens",),
        "reasoning_tokens": ("reasoning_tokens",),
        "cost_usd": ("cost_usd", "cost"),
        "cache_status": ("cache_status", "cache", "cache_hit"),
    },
    "observatory.span": {
        "model": ("model",),
        "provider": ("provider",),
        "operation": ("op", "operation"),
        "status": ("status", "status_code"),
        "latency_ms": ("duration_ms", "latency_ms"),
        "ttft_ms": ("ttft_ms",),
        "input_tokens": ("input_tokens", "prompt_tokens"),
        "output_tokens": ("output_tokens", "completion_tokens"),
        "cache_read_tokens": ("cache_read_tokens",),
        "cache_write_tokens": ("cache_write_tokens",),
        "reasoning_tokens": ("reasoning_tokens",),
        "cost_usd": ("cost_usd", "total_cost_usd", "cost"),
        "cache_status": ("cache_status", "cache", "cache_hit"),
        "session_id": ("session_id",),
        "user_id": ("user_id",),
    },
    "guardrails.evaluation": {
        "guardrail_action": ("action", "guardrail_action"),
        "latency_ms": ("duration_ms", "latency_ms"),
    },
}

# Buckets of a `tokens` object -> the column they add to. Inclusive totals win over exclusive buckets.
_TOKEN_TOTALS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "input_tokens": (("input",), ("input_uncached", "cache_read", "cache_write")),
    "output_tokens": (("output",), ("output_text", "reasoning")),
    "cache_read_tokens": (("cache_read",),),
    "cache_write_tokens": (("cache_write",),),
    "reasoning_tokens": (("reasoning",),),
    "other_modal_tokens": (("other_modal",),),
}


def fill_from_payload(columns: dict[str, pa.Array]) -> None:
    """Columns of `columns` with nulls replaced by what the payload of the same row says.

    A payload value that does not fit its column stays in the payload only.
    """
    payload: pa.StringArray = columns["payload"]
    size = len(payload)
    if payload.null_count == size:
        return
    data, offsets = buffers(payload)
    text = data[offsets[0] : offsets[-1]].tobytes()
    kinds = columns["kind"].dictionary_encode()
    for code, kind in enumerate(kinds.dictionary.to_pylist()):
        table = PAYLOAD_COLUMNS.get(kind)
        if table is None:
            continue
        wanted = {name: keys for name, keys in table.items() if any(f'"{key}"'.encode() in text for key in keys)}
        if b'"tokens"' in text:
            wanted |= {name: wanted.get(name, ()) for name in TOKEN_FIELDS}
        wanted = {name: keys for name, keys in wanted.items() if name not in columns or columns[name].null_count}
        if wanted:
            rows = np.flatnonzero((np.asarray(kinds.indices) == code) & np.asarray(payload.is_valid()))
            _fill(columns, rows.tolist(), wanted)


def _fill(columns: dict[str, pa.Array], rows: list[int], wanted: dict[str, tuple[str, ...]]) -> None:
    payload = columns["payload"]
    found: dict[str, dict[int, Any]] = {name: {} for name in wanted}
    missing = {name: missing_in(columns.get(name), len(payload)) for name in wanted}
    for row in rows:
        names = [name for name in wanted if missing[name][row]]
        if not names:
            continue
        fields = _members(payload[row].as_py())
        tokens = _members(fields["tokens"]) if "tokens" in fields else {}
        for name in names:
            value = _value(name, fields, wanted[name])
            if value is None and tokens and name in _TOKEN_TOTALS:
                value = _token_total(tokens, _TOKEN_TOTALS[name])
            if value is not None:
                found[name][row] = value
    for name, values in found.items():
        if values:
            columns[name] = with_values(name, columns.get(name), values, len(payload))


def missing_in(column: pa.Array | None, size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(size,) rows where a column says nothing; all where there is none."""
    return np.ones(size, np.bool_) if column is None else np.asarray(column.is_null())


def _members(text: str | bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    try:
        return OBJECT.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def _value(name: str, fields: dict[str, msgspec.Raw], keys: tuple[str, ...]) -> Any:
    for key in keys:
        if key in fields:
            try:
                value = coerce(name, bytes(fields[key]))
            except RowRefused:
                continue
            if value is not None:
                return bytes(value).decode() or None if isinstance(value, msgspec.Raw) else value
    return None


def _token_total(tokens: dict[str, msgspec.Raw], choices: tuple[tuple[str, ...], ...]) -> int | None:
    for names in choices:
        values = [_value("input_tokens", tokens, (name,)) for name in names]
        if values[0] is not None:
            return sum(value or 0 for value in values)
    return None


def with_values(name: str, column: pa.Array | None, values: dict[int, Any], size: int) -> pa.Array:
    """The column, made where there is none, with the values of some rows put in."""
    cells: list[Any] = [None] * size if column is None else column.to_pylist()
    for row, value in values.items():
        cells[row] = value
    if name in TOKEN_FIELDS:
        return whole_numbers(cells)
    if name in ("latency_ms", "ttft_ms"):
        return pa.array(cells, pa.float64())
    return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
