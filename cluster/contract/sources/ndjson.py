"""NDJSON and JSON -> raw rows. A bad row is refused with its line, reason and bytes; the others go on.

Plain rows are read by compiled code, a body at a time. An odd row is decoded into a typed struct; one that does not
fit takes the open path: fields under other names, numbers as text, unknown fields, the older 1.x form. Unknown scalar
fields are kept in `attributes`, unknown objects and arrays in `payload`, under their own names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.coerce import DOCUMENT_FIELDS, NUMBER_FIELDS, ROW_FIELDS, coerce
from cluster.contract.columns import TOKEN_FIELDS
from cluster.contract.documents import OBJECT, buffers, merged, text_column
from cluster.contract.event import TOKENS_MAX
from cluster.contract.rows import DecodeContext, RawRows, Refusal, RowRefused
from cluster.contract.sources.arrays import numbers, sliced, texts, whole_numbers
from cluster.contract.sources.ndjson_plain import BROKEN, Names, line_ends, names_of, read_plain
from cluster.contract.sources.schema_v1 import from_v1, is_v1
from cluster.contract.vocabulary import canonical_field
from cluster.errors import BodyTooLarge, BodyUnreadable

_FIELDS: Final = frozenset(ROW_FIELDS)
_RAW_FIELDS: Final = ("cost_usd", *DOCUMENT_FIELDS)
_EMPTY: Final = msgspec.Raw(b"")
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_BOM: Final = b"\xef\xbb\xbf"
# No event fits in fewer bytes; a line below it may be a blank one.
_SHORT_LINE: Final = 32

# A body of fewer rows is not worth a struct of its own.
_ALIKE_FROM: Final = 100
_SAMPLES: Final = 8

Row = Any  # a struct made by _row_type


def read_ndjson(body: bytes, context: DecodeContext) -> RawRows:
    """Rows of a body with one JSON object a line; blank lines are skipped.

    Raises:
        BodyTooLarge: more rows than the context allows.
    """
    body = body.removeprefix(_BOM)
    if body.lstrip()[:1] == b"[":
        return read_json(body, context)
    if body.lstrip()[:1] == b"{" and (rows := _read_lines(body, context)) is not None:
        return rows
    lines, numbers = _lines(body)
    rows = _read(lines, context)
    rows.place = lambda index: f"line {index + 1 if numbers is None else numbers[index]}"
    return rows


def read_json(body: bytes, context: DecodeContext) -> RawRows:
    """Rows of one JSON document: an object, an array of objects, or `{"events": [...]}`; NDJSON is accepted too.

    Raises:
        BodyUnreadable: no JSON.
        BodyTooLarge: more rows than the context allows.
    """
    body = body.removeprefix(_BOM).strip()
    try:
        if body.startswith(b"["):
            return _read(list(map(bytes, _ARRAY.decode(body))), context)
        fields = OBJECT.decode(body)
    except BROKEN as error:
        if body.startswith(b"{") and b"\n" in body:
            return read_ndjson(body, context)
        raise BodyUnreadable(
            f"the body is not JSON: {error}", hint="Send one object, an array of objects, or one object a line."
        ) from None
    if "events" in fields and bytes(fields["events"]).startswith(b"["):
        return _read(list(map(bytes, _ARRAY.decode(fields["events"]))), context)
    return _read([body], context)


def _read_lines(body: bytes, context: DecodeContext) -> RawRows | None:
    """Rows of a body of which most are plain, or None; only the odd ones are looked at one by one."""
    text = body if body.endswith(b"}\n") else body.rstrip() + b"\n"
    ends = line_ends(text)
    sizes = np.diff(ends, prepend=-1) - 1
    size = len(ends)
    # A blank line is no row, and only the other reader counts lines and rows apart.
    if size > context.rows_max or int(sizes.min()) < _SHORT_LINE:
        return None
    # Of a long body some lines between as well: a field may be in some of the rows only.
    rows = range(0, size, max(size // _SAMPLES, 1)) if size >= _ALIKE_FROM else (0,)
    names = names_of([text[int(ends[row] - sizes[row]) : int(ends[row])] for row in rows])
    plain = read_plain(text, ends, names)
    if int(sizes.max()) > context.row_bytes_max:
        plain.odd[sizes > context.row_bytes_max] = True
    if "schema_version" in plain.columns:
        plain.odd[np.asarray(pc.starts_with(plain.columns["schema_version"], "1").fill_null(False))] = True
    odd = np.flatnonzero(plain.odd)
    if odd.size * 2 > size:
        return None
    rows_read = RawRows(plain.columns, np.arange(size), plain.line, size, place=lambda index: f"line {index + 1}")
    return _with_odd(rows_read, odd, context) if odd.size else rows_read


def _with_odd(plain: RawRows, odd: npt.NDArray[np.int64], context: DecodeContext) -> RawRows:
    """The rows with the odd ones read and put in their places."""
    others = _read([plain.original(index) for index in odd.tolist()], context)
    size = len(plain)
    found = odd[others.indexes]
    source = np.arange(size)
    source[found] = np.arange(size, size + len(others))
    kept = np.ones(size, np.bool_)
    kept[np.setdiff1d(odd, found, assume_unique=True)] = False
    chosen = pa.array(source[kept])
    columns = {}
    for name in {**plain.columns, **others.columns}:
        parts = plain.columns.get(name), others.columns.get(name)
        kind = next(part.type for part in parts if part is not None)
        first, second = (pa.nulls(n, kind) if p is None else p for p, n in zip(parts, (size, len(others)), strict=True))
        columns[name] = pa.concat_arrays([first, second]).take(chosen)
    return replace(
        plain,
        columns=columns,
        indexes=np.flatnonzero(kept),
        refused=[replace(refusal, index=int(odd[refusal.index])) for refusal in others.refused],
    )


def _any_older(found: Sequence[Row]) -> bool:
    return any(version and version[0] == "1" for version in {row.schema_version for row in found})


def _lines(body: bytes) -> tuple[list[bytes], list[int] | None]:
    """Lines that hold something, and their numbers from 1 where some were skipped."""
    lines = body.split(b"\n")
    if not lines[-1].strip():
        lines.pop()
    if lines and min(map(len, lines)) >= _SHORT_LINE:
        return lines, None
    numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
    return [lines[number - 1] for number in numbers], numbers


def _read(lines: Sequence[bytes], context: DecodeContext) -> RawRows:
    if len(lines) > context.rows_max:
        raise BodyTooLarge(
            f"{len(lines)} rows in one body, at most {context.rows_max}", hint="Send the rows in several requests."
        )
    shape = _shape_of([lines[0], lines[-1]]) if lines else ()
    refused: list[Refusal] = []
    found = _read_each(lines, shape, context, refused)
    _lift_older(found, lines, refused)
    indexes = np.arange(len(lines))
    if refused:
        indexes = np.delete(indexes, [refusal.index for refusal in refused])
    return RawRows(
        columns=_columns(found, ROW_FIELDS),
        indexes=indexes,
        original=lines.__getitem__,
        row_count=len(lines),
        refused=refused,
    )


def _read_each(lines: Sequence[bytes], shape: Names, context: DecodeContext, refused: list[Refusal]) -> list[Row]:
    """Rows with any of the contract's fields, by the names of `shape` or by the open path."""
    decode = _decoder(_widened(shape)).decode
    found: list[Row] = []
    longest = max(map(len, lines), default=0)
    for index, line in enumerate(lines):
        try:
            if longest > context.row_bytes_max:
                _check_length(line, context.row_bytes_max)
            found.append(decode(line))
        except BROKEN:
            try:
                found.append(_open_row(line))
            except RowRefused as refusal:
                refused.append(Refusal(index, refusal.code, refusal.message))
        except RowRefused as refusal:
            refused.append(Refusal(index, refusal.code, refusal.message))
    return found


def _lift_older(found: list[Row], lines: Sequence[bytes], refused: list[Refusal]) -> None:
    """Rows of the 1.x form that happened to fit the struct, read again by their own adapter."""
    if not _any_older(found):
        return
    gone = {refusal.index for refusal in refused}
    indexes = [index for index in range(len(lines)) if index not in gone]
    kept: list[Row] = []
    for index, row in zip(indexes, found, strict=True):
        try:
            kept.append(_open_row(lines[index]) if (row.schema_version or "").startswith("1") else row)
        except RowRefused as refusal:
            refused.append(Refusal(index, refusal.code, refusal.message))
    found[:] = kept


def _check_length(line: bytes, row_bytes_max: int) -> None:
    size = len(line)
    if size > row_bytes_max:
        raise RowRefused("row_too_large", f"{size} bytes in one row; send at most {row_bytes_max}")


def _type_of(name: str) -> tuple[str, Any, Any]:
    if name in _RAW_FIELDS:
        return name, msgspec.Raw, _EMPTY
    if name == "occurred_at":
        return name, str | int | float | None, None
    if name in TOKEN_FIELDS:
        return name, Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)] | None, None
    return name, (float if name in NUMBER_FIELDS else str) | None, None


@lru_cache(maxsize=128)
def _row_type(shape: Names) -> Any:
    """Struct of a row with the fields of `shape`; its attributes have the canonical names."""
    fields = [_type_of(canonical) for canonical, _ in shape]
    # gc=False: rows hold no cycles, and a body of them would otherwise set the collector off many times.
    return msgspec.defstruct("Row", fields, gc=False, forbid_unknown_fields=True, rename=dict(shape))


def _widened(shape: Names) -> Names:
    """The shape with every other field of the contract under its own name."""
    sent = dict(shape)
    return tuple((name, sent.get(name, name)) for name in ROW_FIELDS)


_Row: Final = _row_type(_widened(()))


@lru_cache(maxsize=128)
def _decoder(shape: Names) -> msgspec.json.Decoder[Row]:
    return msgspec.json.Decoder(_row_type(shape))


def _shape_of(samples: Sequence[bytes]) -> Names:
    """Known fields of some rows and the names they go by there."""
    sent = dict(names_of(samples))
    return tuple((name, sent[name]) for name in ROW_FIELDS if name in sent)


def _open_row(line: bytes) -> Row:
    """A row of any shape.

    Raises:
        RowRefused: not a JSON object, or a value that cannot be what its field holds.
    """
    try:
        fields = OBJECT.decode(line)
    except BROKEN as error:
        raise RowRefused("json_invalid", f"{error}; the row is kept as sent, correct it and send it again") from None
    if is_v1(fields):
        return _Row(**from_v1(fields))
    return _Row(**open_fields(fields))


def open_fields(fields: dict[str, msgspec.Raw]) -> dict[str, Any]:
    """Values by canonical field; members under no known name are merged into `attributes` and `payload`.

    Raises:
        RowRefused: a value that cannot be what its field holds.
    """
    values: dict[str, Any] = {}
    extras: dict[str, list[tuple[str, bytes]]] = {"attributes": [], "payload": []}
    for name in sorted(fields, key=lambda name: name not in _FIELDS):
        raw = bytes(fields[name])
        canonical = name if name in _FIELDS else canonical_field(name)
        nested = raw[:1] in (b"{", b"[")
        # An alias is a guess at what the sender means: it never overrides the field itself, nor refuses the row.
        if canonical in _FIELDS and (name == canonical or not (nested or canonical in values)):
            values[canonical] = coerce(canonical, raw)
        else:
            extras["payload" if nested else "attributes"].append((name, raw))
    for document, members in extras.items():
        if members:
            values[document] = msgspec.Raw(_merge(document, values.get(document, _EMPTY), members))
    return values


def _merge(document: str, sent: msgspec.Raw, members: list[tuple[str, bytes]]) -> bytes:
    try:
        return merged(bytes(sent), members)
    except BROKEN as error:
        raise RowRefused("json_invalid", f"{document}: {error}") from None


def _columns(found: Sequence[Row], fields: Sequence[str]) -> dict[str, pa.Array]:
    """Columns of the fields that some row has."""
    if not found:
        return {}
    words: dict[str, tuple[Any, ...]] = {}
    tokens: dict[str, tuple[Any, ...]] = {}
    durations: dict[str, tuple[Any, ...]] = {}
    raws: dict[str, tuple[Any, ...]] = {}
    size = len(found)
    for name, values in zip(fields, zip(*map(msgspec.structs.astuple, found), strict=True), strict=True):
        if name in _RAW_FIELDS:
            raws[name] = values
        elif values[0] is not None or values.count(None) < size:
            kind = tokens if name in TOKEN_FIELDS else durations if name in NUMBER_FIELDS else words
            kind[name] = values
    out = sliced(words, size, texts) | sliced(durations, size, numbers)
    out |= sliced(tokens, size, whole_numbers) | sliced(raws, size, text_column)
    if "cost_usd" in out:
        out["cost_usd"] = _costs(out["cost_usd"], raws["cost_usd"])
    return out


def _costs(column: pa.StringArray, values: Sequence[msgspec.Raw]) -> pa.StringArray:
    """Texts of the numbers, without the quotes of those sent as text."""
    data, offsets = buffers(column)
    sent = data[offsets[0] : offsets[-1]].tobytes()
    if b'"' in sent or b"n" in sent or not sent.isascii():
        # A text that is not UTF-8 is no cost, and refused as such: its row, not the body.
        plain = [bytes(value).strip(b'"').decode(errors="replace").encode() for value in values]
        column = text_column([_EMPTY if text == b"null" else msgspec.Raw(text) for text in plain])
    return column
