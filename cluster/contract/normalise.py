"""Raw rows -> canonical events: the contract's rules, a column at a time. Rows that break one become dead letters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.clock import format_rfc3339
from cluster.contract import vocabulary
from cluster.contract.cells import cell_value
from cluster.contract.columns import EVENT_SCHEMA, LATER_COLUMNS, TEXT_FIELDS, TOKEN_FIELDS
from cluster.contract.documents import buffers, check_documents, single
from cluster.contract.event import (
    FUTURE_US_MAX,
    LATENCY_MS_MAX,
    MODULES,
    OCCURRED_AT_MIN_US,
    SCHEMA_MAJOR,
    SCHEMA_VERSION,
    TEXT_LENGTH_MAX,
    TOKENS_MAX,
)
from cluster.contract.identity import fill_event_ids
from cluster.contract.instants import instants, read_instants
from cluster.contract.money import COST_MAX, read_money
from cluster.contract.payload_columns import fill_from_payload
from cluster.contract.rows import (
    REFUSALS_LISTED_MAX,
    DecodeContext,
    Decoded,
    Problems,
    RawRows,
    dead_letters,
    numbers,
    shown,
)

Mask = npt.NDArray[np.bool_]

_WORDS: Final[dict[str, Callable[[str], str]]] = {
    "severity": vocabulary.severity_of,
    "status": vocabulary.status_of,
    "operation": vocabulary.operation_of,
    "provider": vocabulary.provider_of,
    "cache_status": vocabulary.cache_status_of,
    "guardrail_action": vocabulary.guardrail_action_of,
}
_TEXTS: Final = ("event_id", "tenant_id", *TEXT_FIELDS)
_HEX_IDS: Final = ("trace_id", "span_id", "parent_span_id")
# Reading the names off the schema makes a Python object of every field each time.
_EVENT_COLUMNS: Final = tuple(EVENT_SCHEMA.names)
# A gateway forwards model calls; one that does not say which kind of call means the usual one.
_DEFAULT_OPERATION: Final = {"gateway.request": "chat"}


def seal(rows: RawRows, context: DecodeContext) -> Decoded:
    """Events and dead letters of a body; every row sent is in exactly one of them."""
    problems = Problems()
    columns = dict(rows.columns)
    for name, mask in rows.unreadable.items():
        problems.mark(mask, "field_type", lambda row, name=name: f"{name} does not have the type of its field")  # type: ignore[misc]
    _check_texts(columns, len(rows), problems)
    _check_owner(columns, context, problems)
    _set_kinds(columns, context, problems)
    for name in ("attributes", "payload"):
        columns[name] = check_documents(name, columns.get(name, pa.nulls(len(rows), pa.string())), problems)
    fill_from_payload(columns)
    for name, canonical in _WORDS.items():
        columns[name] = _map_words(columns[name], canonical)
    _set_defaults(columns, context, problems)
    columns["occurred_at"] = _occurred_at(columns.get("occurred_at"), len(rows), context, problems)
    _check_numbers(columns, len(rows), problems)
    return _outcome(rows, columns, context, problems)


def _outcome(rows: RawRows, columns: dict[str, pa.Array], context: DecodeContext, problems: Problems) -> Decoded:
    size = len(rows)
    columns["received_at"] = instants(np.full(size, context.received_at_us, np.int64))
    told = columns.get("usage_conflict")
    columns["usage_conflict"] = _usage_conflict(columns)
    if told is not None:
        # A decoder that summed up buckets saw more than the columns show.
        columns["usage_conflict"] = pc.or_(columns["usage_conflict"], told.fill_null(False))
    columns["counted"] = _zeros(size, pa.int16())
    # Told by the hub alone, when it prices the rows.
    columns |= {name: pa.nulls(size, EVENT_SCHEMA.field(name).type) for name in LATER_COLUMNS}
    chosen = [columns[name] for name in _EVENT_COLUMNS]
    refused = [replace(refusal, message=f"{rows.place(refusal.index)}: {refusal.message}") for refusal in rows.refused]
    indexes = rows.indexes
    if problems:
        keep = pa.array(problems.keep(size))
        chosen, indexes = [column.filter(keep) for column in chosen], indexes[problems.keep(size)]
        refused = sorted([*refused, *problems.refusals(rows)], key=lambda refusal: refusal.index)
    chosen[0] = fill_event_ids(dict(zip(_EVENT_COLUMNS, chosen, strict=True)), context.idempotency_key, indexes)
    events = pa.RecordBatch.from_arrays(chosen, schema=EVENT_SCHEMA)
    letters = dead_letters(refused, rows.original, context)
    return Decoded(events, letters, refused[:REFUSALS_LISTED_MAX], rows.row_count)


def _check_texts(columns: dict[str, pa.Array], size: int, problems: Problems) -> None:
    """Text columns with empty text as null; rows over the length limit are marked."""
    said = {name: columns[name] for name in _TEXTS if name in columns and columns[name].null_count < size}
    none = pa.nulls(size, pa.string())
    columns.update(dict.fromkeys(_TEXTS, none))
    if not said:
        return
    # One matrix for all columns: each NumPy call costs the same for one row as for hundreds.
    offsets = np.concatenate([buffers(column)[1] for column in said.values()]).reshape(len(said), size + 1)
    lengths = offsets[:, 1:] - offsets[:, :-1]
    longest, shortest = lengths.max(axis=1).tolist(), lengths.min(axis=1).tolist()
    for place, (name, column) in enumerate(said.items()):
        plain = longest[place] <= TEXT_LENGTH_MAX and shortest[place]
        columns[name] = column if plain else _text(name, column, lengths[place], problems)
        if name in _HEX_IDS:
            columns[name] = _hex_ids(columns[name])


def _text(name: str, column: pa.StringArray, lengths: npt.NDArray[np.int32], problems: Problems) -> pa.StringArray:
    if int(lengths.max()) > TEXT_LENGTH_MAX:
        characters = np.asarray(pc.utf8_length(column).fill_null(0))
        problems.mark(
            characters > TEXT_LENGTH_MAX,
            "text_too_long",
            lambda row: f"{name} has {characters[row]} characters; send at most {TEXT_LENGTH_MAX}",
        )
    empty = lengths == 0
    if empty.any() and not np.asarray(column.is_null())[empty].all():
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    return column


def _hex_ids(column: pa.StringArray) -> pa.StringArray:
    """Trace and span ids in lower case and without dashes where they are hexadecimal; other ids as sent."""
    data, offsets = buffers(column)
    letters = data[offsets[0] : offsets[-1]]
    # What is below "A" wraps round to far above 26.
    if not ((letters - np.uint8(ord("A"))) < np.uint8(26)).any() and b"-" not in letters.tobytes():
        return column
    plain = pc.utf8_lower(pc.replace_substring(column, "-", ""))
    return pc.if_else(pc.match_substring_regex(plain, r"^[0-9a-f]+$"), plain, column)


def _check_owner(columns: dict[str, pa.Array], context: DecodeContext, problems: Problems) -> None:
    tenant = columns["tenant_id"]
    if tenant.null_count < len(tenant):
        problems.mark(
            _flags(pc.not_equal(tenant, context.tenant_id)),
            "tenant_mismatch",
            lambda row: f"tenant_id is {shown(tenant[row].as_py())}, the key belongs to another tenant; leave it out",
        )
    project = columns["project_id"]
    if context.project_id is not None:
        problems.mark(
            _flags(pc.not_equal(project, context.project_id)),
            "project_mismatch",
            lambda row: f"project_id is {shown(project[row].as_py())}, the key is of another project; leave it out",
        )
        columns["project_id"] = _constant(context.project_id, len(project))
    region = columns["region"]
    alike = region.null_count == len(region)
    columns["region"] = _constant(context.region, len(region)) if alike else region.fill_null(context.region)


def _set_kinds(columns: dict[str, pa.Array], context: DecodeContext, problems: Problems) -> None:
    module, kind = columns["module"], columns["kind"]
    if _set_one_kind(columns, context):
        return
    # U+001F keeps the pair apart; a word that holds one is no module and no kind.
    pairs = pc.binary_join_element_wise(
        module, kind, "\x1f", null_handling="replace", null_replacement=""
    ).dictionary_encode()
    words = [_module_and_kind(pair, context.module) for pair in pairs.dictionary.to_pylist()]
    codes = np.asarray(pairs.indices)

    def describe(row: int) -> str:
        sent = f"module {shown(module[row].as_py())}, kind {shown(kind[row].as_py())}"
        return f"{sent}: {_KIND_REMEDIES[str(words[codes[row]])]}"

    for code in _KIND_REMEDIES:
        problems.mark(np.fromiter((w == code for w in words), np.bool_, len(words))[codes], code, describe)
    pairs_ok = [("", "") if isinstance(word, str) else word for word in words]
    columns["module"] = pa.array([pair[0] for pair in pairs_ok], pa.string()).take(pairs.indices)
    columns["kind"] = pa.array([pair[1] for pair in pairs_ok], pa.string()).take(pairs.indices)


def _set_one_kind(columns: dict[str, pa.Array], context: DecodeContext) -> bool:
    """Whether all rows say one module and kind, and those are known; most bodies come from one place."""
    module, kind = columns["module"], columns["kind"]
    size = len(kind)
    sent_kind = single(kind)
    sent_module = "" if module.null_count == size else single(module)
    if sent_kind is None or sent_module is None:
        return False
    words = _module_and_kind(f"{sent_module}\x1f{sent_kind}", context.module)
    if isinstance(words, str):
        return False
    columns["module"] = module if words[0] == sent_module else pa.repeat(words[0], size)
    columns["kind"] = kind if words[1] == sent_kind else pa.repeat(words[1], size)
    return True


_KIND_REMEDIES: Final = {
    "kind_missing": 'send `kind`, e.g. "gateway.request"',
    "module_missing": "send `module`, or ?module= for the whole body",
    "unknown_module": f"the module must be one of {', '.join(MODULES)}",
    "kind_invalid": "the kind must be words of a-z, 0-9 and _ joined by dots, and begin with its module",
}


def _module_and_kind(pair: str, default_module: str | None) -> tuple[str, str] | str:
    """(module, kind), or the code of what is wrong with them."""
    module, kind = pair.split("\x1f", 1)
    if not kind:
        return "kind_missing"
    named = vocabulary.module_of(module) if module else default_module
    if named is None and "." not in kind:
        return "module_missing"
    if named is not None and named not in MODULES:
        return "unknown_module"
    known = vocabulary.kind_of(named, kind)
    if known is None:
        return "kind_invalid"
    return known if known[0] in MODULES else "unknown_module"


def _map_words(column: pa.StringArray, canonical: Callable[[str], str]) -> pa.StringArray:
    if column.null_count == len(column):
        return column
    word = single(column)
    if word is not None:
        known = canonical(word) or None
        return column if known == word else pa.repeat(pa.scalar(known, pa.string()), len(column))
    encoded = column.dictionary_encode()
    words = encoded.dictionary.to_pylist()
    mapped = [canonical(word) or None for word in words]
    return column if mapped == words else pa.array(mapped, pa.string()).take(encoded.indices)


def _set_defaults(columns: dict[str, pa.Array], context: DecodeContext, problems: Problems) -> None:
    for kind, operation in _DEFAULT_OPERATION.items():
        if not columns["operation"].null_count:
            break
        missing = pc.and_(columns["operation"].is_null(), pc.equal(columns["kind"], kind))
        if pc.any(missing).as_py():
            columns["operation"] = pc.if_else(missing, operation, columns["operation"])
    version = columns["schema_version"]
    if version.null_count == len(version):
        columns["schema_version"] = _constant(SCHEMA_VERSION, len(version))
        return
    version = version.fill_null(SCHEMA_VERSION)
    encoded = version.dictionary_encode()
    known = [text.split(".", 1)[0] in ("1", str(SCHEMA_MAJOR)) for text in encoded.dictionary.to_pylist()]
    problems.mark(
        ~np.array(known, np.bool_)[np.asarray(encoded.indices)],
        "schema_version_unknown",
        lambda row: f"schema_version is {shown(version[row].as_py())}; send {SCHEMA_VERSION}, or the older 1.0.0",
    )
    columns["schema_version"] = version


def _occurred_at(column: pa.Array | None, size: int, context: DecodeContext, problems: Problems) -> pa.Array:
    if column is None:
        column = pa.nulls(size, pa.string())
    at_us, readable = read_instants(column)
    latest = context.received_at_us + FUTURE_US_MAX
    if size and readable.all() and int(at_us.min()) >= OCCURRED_AT_MIN_US and int(at_us.max()) <= latest:
        return instants(at_us)
    sent = np.asarray(column.is_valid())
    problems.mark(
        ~sent, "occurred_at_missing", lambda row: "no `occurred_at`; send the time it happened, RFC 3339 in UTC"
    )
    problems.mark(
        ~readable,
        "occurred_at_unreadable",
        lambda row: f"occurred_at is {shown(cell_value(column[row]))}; send RFC 3339, e.g. 2026-01-01T12:00:00.000Z",
    )

    def describe(row: int) -> str:
        bounds = f"{format_rfc3339(OCCURRED_AT_MIN_US)} to a day ahead of the hub, {format_rfc3339(latest)}"
        return f"occurred_at {shown(cell_value(column[row]))} is outside {bounds}; check the sender's clock and unit"

    problems.mark((at_us < OCCURRED_AT_MIN_US) | (at_us > latest), "occurred_at_out_of_range", describe)
    return instants(at_us)


def _check_numbers(columns: dict[str, pa.Array], size: int, problems: Problems) -> None:
    for name in TOKEN_FIELDS:
        columns[name] = _within(name, columns.get(name), (size, pa.int64(), TOKENS_MAX), problems)
    for name in ("latency_ms", "ttft_ms"):
        columns[name] = _within(name, columns.get(name), (size, pa.float64(), LATENCY_MS_MAX), problems)
    cost = columns.get("cost_usd", pa.nulls(size, pa.string()))
    columns["cost_usd"], bad = read_money(cost)
    problems.mark(
        bad,
        "cost_out_of_range",
        lambda row: f"cost_usd is {shown(cost[row].as_py())}; send US dollars from 0 to {COST_MAX} as a plain number",
    )


def _within(name: str, column: pa.Array | None, form: tuple[int, pa.DataType, float], problems: Problems) -> pa.Array:
    size, kind, most = form
    if column is None or column.null_count == size:
        return pa.nulls(size, kind)
    values = numbers(column)
    # Written so that NaN, which compares false with everything, is outside.
    if float(values.min()) >= 0 and float(values.max()) <= most:
        return column
    outside = ~((values >= 0) & (values <= most))
    code = "tokens_out_of_range" if name in TOKEN_FIELDS else "duration_out_of_range"
    problems.mark(
        outside, code, lambda row: f"{name} is {values[row]}; send a number from 0 to {most:.0f}, or leave it out"
    )
    return column


def _usage_conflict(columns: dict[str, pa.Array]) -> pa.BooleanArray:
    """Parts over their total: cache reads and writes are part of input, reasoning is part of output."""
    size = len(columns["input_tokens"])
    conflict = np.zeros(size, np.bool_)
    parts = (("input_tokens", ("cache_read_tokens", "cache_write_tokens")), ("output_tokens", ("reasoning_tokens",)))
    for total, names in parts:
        if columns[total].null_count == size or all(columns[name].null_count == size for name in names):
            continue
        spent = sum(numbers(columns[name]) for name in names if columns[name].null_count < size)
        over = spent > numbers(columns[total])
        if over.any():
            conflict |= over & np.asarray(columns[total].is_valid())
    return pa.array(conflict) if conflict.any() else _zeros(size, pa.bool_())


def _flags(mask: pa.BooleanArray) -> Mask:
    return np.asarray(mask.fill_null(False))


@lru_cache(maxsize=8)
def _zeros(size: int, kind: pa.DataType) -> pa.Array:
    return pa.repeat(pa.scalar(0).cast(kind), size)


# The words are the hub's own and few; the bound is for the sizes of the bodies.
@lru_cache(maxsize=8)
def _constant(text: str, size: int) -> pa.StringArray:
    return pa.repeat(pa.scalar(text, pa.string()), size)
