"""Scanned spans -> Arrow columns by canonical name, as `normalise.seal` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.documents import buffers
from cluster.contract.instants import instants
from cluster.contract.sources import dialects
from cluster.contract.sources.otlp_documents import (
    Places,
    Scanned,
    Templates,
    Texts,
    payload_sizes,
    write_attributes,
    write_payloads,
)
from cluster.contract.sources.otlp_fields import (
    Ids,
    NumberColumns,
    TextColumns,
    Times,
    fill_ids,
    fill_numbers,
    fill_texts,
    fill_times,
    measure_texts,
)
from cluster.contract.sources.otlp_plans import NUMBERS, TEXTS, Plan, pool_bases
from cluster.contract.sources.otlp_scan import DOUBLE, INT, STRING
from cluster.contract.sources.otlp_spans import STATUS_ERROR, failure
from cluster.errors import BodyTooLarge

# An Arrow column of texts has 31 bits of places; half of that leaves room for the spans that are read one by one.
_TEXT_BYTES_MAX: Final = 1 << 30

Sizes = npt.NDArray[np.int64]


class PlainSpans:
    """The spans that have a plan.

    Args:
        scanned: with the number of each span's plan.
        plans: plan by number.
        sources: the plans' literals, constants and templates together.
    """

    def __init__(self, scanned: Scanned, plans: Sequence[Plan], templates: Templates) -> None:
        self._scanned = scanned
        self._plans = plans
        self._templates = templates

    def columns(self, rows: Places, sizes: Sizes) -> dict[str, pa.Array]:
        """Columns of these spans. sizes: bytes of each one's `attributes`.

        Raises:
            BodyTooLarge: more text than a column can hold.
        """
        columns = self._ids(rows) | self._times(rows) | self._texts(rows) | self._numbers(rows)
        columns |= self._kinds(columns, len(rows))
        columns["status"] = self._status(rows)
        cost = self._cost(rows)
        if cost is not None:
            columns["cost_usd"] = cost
        documents = _room(sizes)
        write_attributes(self._scanned, self._templates, rows, documents)
        columns["attributes"] = _text_array(documents)
        payloads = np.empty(len(rows), np.int64)
        payload_sizes(self._scanned, rows, payloads)
        documents = _room(payloads)
        write_payloads(self._scanned, rows, documents)
        columns["payload"] = _text_array(documents)
        return columns

    def _ids(self, rows: Places) -> dict[str, pa.Array]:
        size = len(rows)
        has_parent = self._scanned.spans["parent_id"][rows] >= 0
        widths = (48, 32, 16)
        events, traces, own = (np.empty(size * width, np.uint8) for width in widths)
        ids = Ids(events, traces, own, np.empty(int(has_parent.sum()) * 16, np.uint8))
        fill_ids(self._scanned, rows, ids)
        names = ("event_id", "trace_id", "span_id")
        columns = {
            name: _text_array(Texts(np.arange(size + 1, dtype=np.int32) * np.int32(width), data))
            for name, width, data in zip(names, widths, ids[:3], strict=True)
        }
        if len(ids.parents):
            offsets = np.zeros(size + 1, np.int32)
            np.cumsum(has_parent * np.int32(16), out=offsets[1:])
            columns["parent_span_id"] = _text_array(Texts(offsets, ids.parents), has_parent)
        return columns

    def _times(self, rows: Places) -> dict[str, pa.Array]:
        size = len(rows)
        times = Times(np.empty(size, np.int64), np.empty(size, np.float64), np.empty(size, np.uint8))
        fill_times(self._scanned.spans, rows, times)
        columns = {"occurred_at": instants(times.began_us)}
        if times.valid.any():
            columns["latency_ms"] = _number_array(pa.float64(), times.latency_ms, times.valid)
        return columns

    def _texts(self, rows: Places) -> dict[str, pa.Array]:
        size = len(rows)
        sources = np.stack([plan.texts for plan in self._plans])
        sources[:, :, 1:] += pool_bases(self._plans)[:, None, None]
        into = TextColumns(
            sources,
            self._templates.pool,
            np.empty((len(TEXTS), size + 1), np.int32),
            np.empty((len(TEXTS), size), np.uint8),
        )
        total = measure_texts(self._scanned, rows, into)
        if total > _TEXT_BYTES_MAX:
            refuse_texts()
        data = np.empty(total, np.uint8)
        fill_texts(self._scanned, rows, into, data)
        told = _any(into.valid)
        columns = {
            name: _text_array(Texts(into.offsets[place], data), into.valid[place])
            for place, name in enumerate(TEXTS)
            if told[place]
        }
        if any(plan.words for plan in self._plans):
            columns["operation"] = self._operations(columns["operation"], rows)
        return columns

    def _operations(self, column: pa.StringArray, rows: Places) -> pa.StringArray:
        """Operations told in a dialect's own words, in the hub's."""
        names = sorted({plan.words for plan in self._plans})
        encoded = column.dictionary_encode()
        words = encoded.dictionary.to_pylist()
        known = [
            dialects.OPERATION_VALUES[name].get(word.lower(), word) if name else word
            for name in names
            for word in words
        ]
        dialect = np.array([names.index(plan.words) for plan in self._plans])[self._scanned.plans[rows]]
        places = pc.add(encoded.indices.cast(pa.int64()), pa.array(dialect * len(words)))
        return pa.array(known, pa.string()).take(places)

    def _numbers(self, rows: Places) -> dict[str, pa.Array]:
        shape = (len(NUMBERS), len(rows))
        into = NumberColumns(
            np.stack([plan.numbers for plan in self._plans]), np.empty(shape, np.int64), np.empty(shape, np.uint8)
        )
        fill_numbers(self._scanned, rows, into)
        columns = {}
        for place, told in enumerate(_any(into.valid)):
            values, valid = into.values[place], into.valid[place]
            if told and NUMBERS[place] == "ttft_ms":
                columns["ttft_ms"] = self._ttft(rows, values, valid)
            elif told:
                columns[NUMBERS[place]] = _number_array(pa.int64(), values, valid)
        return columns

    def _ttft(self, rows: Places, bits: npt.NDArray[np.int64], valid: npt.NDArray[np.uint8]) -> pa.DoubleArray:
        seconds = bits.view(np.float64)
        whole = np.array([plan.whole_seconds for plan in self._plans])
        if whole.any():
            seconds = np.where(whole[self._scanned.plans[rows]], bits.astype(np.float64), seconds)
        valid = valid & np.isfinite(seconds)
        with np.errstate(over="ignore"):
            return _number_array(pa.float64(), np.where(valid, seconds, 0.0) * 1000.0, valid)

    def _kinds(self, columns: dict[str, pa.Array], size: int) -> dict[str, pa.Array]:
        guards = np.zeros(size, np.bool_)
        if "guardrail_action" in columns:
            guards |= np.asarray(columns["guardrail_action"].is_valid())
        if "operation" in columns:
            data, offsets = buffers(columns["operation"])
            # To look through the bytes of all is cheap, to compare each row is not.
            if dialects.GUARDRAIL_OPERATION.encode() in data[offsets[0] : offsets[-1]].tobytes():
                guards |= np.asarray(pc.equal(columns["operation"], dialects.GUARDRAIL_OPERATION).fill_null(False))
        if not guards.any():
            return {"module": _alike("observatory", size), "kind": _alike("observatory.span", size)}
        places = pa.array(guards.astype(np.int8))
        return {
            "module": pa.array(["observatory", "guardrails"]).take(places),
            "kind": pa.array(["observatory.span", "guardrails.evaluation"]).take(places),
        }

    def _status(self, rows: Places) -> pa.StringArray:
        failed = np.flatnonzero(self._scanned.spans["code"][rows] == STATUS_ERROR)
        if not len(failed):
            return _alike("ok", len(rows))
        words = ["ok"]
        places = np.zeros(len(rows), np.int32)
        known: dict[tuple[Any, ...], int] = {}
        for number in failed.tolist():
            row = int(rows[number])
            plan = int(self._scanned.plans[row])
            told = tuple(self._value(row, *source) for source in self._plans[plan].failures)
            # Of one plan the values have the same types; else True would be taken for 1.
            key = (plan, *map(str, told))
            if key not in known:
                known[key] = len(words)
                words.append(failure(told))
            places[number] = known[key]
        return pa.array(words).take(pa.array(places))

    def _cost(self, rows: Places) -> pa.StringArray | None:
        if all(plan.cost is None for plan in self._plans):
            return None
        cells: list[str | None] = []
        for row in rows.tolist():
            cost = self._plans[self._scanned.plans[row]].cost
            cells.append(str(self._value(row, cost, None)) if isinstance(cost, int) else cost)
        return pa.array(cells, pa.string())

    def _value(self, row: int, slot: int, constant: Any) -> Any:
        """What the span's attribute says, or the constant where `slot` is -1."""
        if slot < 0:
            return constant
        told = self._scanned.attributes[self._scanned.spans[row]["first"] + slot]
        kind, value = int(told["kind"]), told["value"]
        if kind == STRING:
            return self._scanned.body[int(value) : int(told["value_stop"])].tobytes().decode()
        if kind == DOUBLE:
            return float(value.view(np.float64))
        return int(value) if kind == INT else bool(value)


def refuse_texts() -> None:
    """
    Raises:
        BodyTooLarge: always.
    """
    raise BodyTooLarge(
        f"the attributes of the spans, with those of their resource, take over {_TEXT_BYTES_MAX} bytes",
        hint="Send fewer spans at a time, or fewer attributes of the resource.",
    )


def _any(valid: npt.NDArray[np.uint8]) -> list[bool]:
    """Which rows of a matrix say something."""
    told: list[bool] = valid.max(axis=1).astype(np.bool_).tolist()
    return told


def _room(sizes: Sizes) -> Texts:
    """Offsets of texts of these sizes, and room for them."""
    ends = np.cumsum(sizes)
    if ends[-1] > _TEXT_BYTES_MAX:
        refuse_texts()
    offsets = np.zeros(len(sizes) + 1, np.int32)
    offsets[1:] = ends
    return Texts(offsets, np.empty(int(ends[-1]), np.uint8))


def _validity(valid: npt.NDArray[Any]) -> tuple[pa.Buffer | None, int]:
    """Bitmap and count of the missing ones."""
    missing = len(valid) - int(np.count_nonzero(valid))
    return pa.py_buffer(np.packbits(valid, bitorder="little")) if missing else None, missing


def _text_array(texts: Texts, valid: npt.NDArray[Any] | None = None) -> pa.StringArray:
    bitmap, missing = (None, 0) if valid is None else _validity(valid)
    data = pa.py_buffer(texts.data)
    return pa.StringArray.from_buffers(len(texts.offsets) - 1, pa.py_buffer(texts.offsets), data, bitmap, missing)


def _number_array(kind: pa.DataType, values: npt.NDArray[Any], valid: npt.NDArray[Any]) -> pa.Array:
    bitmap, missing = _validity(valid)
    return pa.Array.from_buffers(kind, len(values), [bitmap, pa.py_buffer(values)], missing)


# The words are the hub's own and few; the bound is for the sizes of the bodies.
@lru_cache(maxsize=16)
def _alike(word: str, size: int) -> pa.StringArray:
    return pa.repeat(pa.scalar(word), size)
