"""The measures by name: unit, the rollup columns each needs, and how a merged partial becomes a value.

A measure is a sum of columns over another column or over seconds, a largest value, a quantile of a histogram, or a
distinct count. One definition is rendered to SQL over raw events and to SQL over rollups, so the two cannot drift.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from cluster.contract import event
from models.aggregate import distinct, quantiles

Need = Literal["latency_histogram", "ttft_histogram", "users", "sessions"]
Value = int | float | Decimal | None

# Stands in `per` for the length of the bucket or range; in SQL text it is the placeholder `{seconds}`.
SECONDS: Final = "seconds"


def _sql_texts(texts: Sequence[str]) -> str:
    return "(" + ", ".join(f"'{text}'" for text in texts) + ")"


def _bit(bit: int) -> str:
    return f"(counted & {bit}) <> 0"


_LATENCY_ROWS: Final = f"{_bit(event.COUNTED_LATENCY)} AND isfinite(latency_ms)"
_TTFT_ROWS: Final = f"{_bit(event.COUNTED_TTFT)} AND isfinite(ttft_ms)"
_GUARDRAIL_ROWS: Final = f"kind = '{event.GUARDRAIL_KIND}'"
_CACHE_ROWS: Final = _bit(event.COUNTED_CACHE)

# Additive rollup column -> (what a raw row adds to it, which raw rows add). `1` means the row itself.
_ADDENDS: Final[dict[str, tuple[str, str]]] = {
    "event_count": ("1", "true"),
    "request_count": ("1", _bit(event.COUNTED_REQUEST)),
    "error_count": ("1", _bit(event.COUNTED_ERROR)),
    "guardrail_count": ("1", _GUARDRAIL_ROWS),
    "guardrail_block_count": (
        "1",
        f"{_GUARDRAIL_ROWS} AND guardrail_action IN {_sql_texts(event.BLOCKING_ACTIONS)}",
    ),
    "cache_lookup_count": ("1", _CACHE_ROWS),
    "cache_hit_count": ("1", f"{_CACHE_ROWS} AND cache_status IN {_sql_texts(event.CACHE_HITS)}"),
    "input_tokens": ("input_tokens", _bit(event.COUNTED_TOKENS)),
    "output_tokens": ("output_tokens", _bit(event.COUNTED_TOKENS)),
    "cache_read_tokens": ("cache_read_tokens", _bit(event.COUNTED_TOKENS)),
    "cache_write_tokens": ("cache_write_tokens", _bit(event.COUNTED_TOKENS)),
    "reasoning_tokens": ("reasoning_tokens", _bit(event.COUNTED_TOKENS)),
    "other_modal_tokens": ("other_modal_tokens", _bit(event.COUNTED_TOKENS)),
    "cost_usd": ("cost_usd", _bit(event.COUNTED_COST)),
    "latency_count": ("1", _LATENCY_ROWS),
    "latency_ms_sum": ("latency_ms", _LATENCY_ROWS),
    "ttft_count": ("1", _TTFT_ROWS),
    "ttft_ms_sum": ("ttft_ms", _TTFT_ROWS),
}
_FLOATS: Final = frozenset({"latency_ms_sum", "ttft_ms_sum"})

# What cannot be summed: the rollup columns that hold it, the raw column it is made of, and which raw rows add.
STATES: Final[dict[Need, tuple[tuple[str, ...], str, str]]] = {
    "latency_histogram": (("latency_buckets", "latency_bucket_counts"), "latency_ms", _LATENCY_ROWS),
    "ttft_histogram": (("ttft_buckets", "ttft_bucket_counts"), "ttft_ms", _TTFT_ROWS),
    "users": (("users_sketch",), "user_id", "user_id IS NOT NULL"),
    "sessions": (("sessions_sketch",), "session_id", "session_id IS NOT NULL"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measure. Exactly one of `terms`, `largest`, `quantile` and `needs` alone (a distinct count) defines it.

    Attributes:
        terms: rollup columns added up; a leading "-" subtracts. A difference never goes below 0: it does so only
            where a sender's buckets contradict its totals.
        per: divisor: a rollup column, `SECONDS`, or "" for none. Null where the divisor is 0.
        largest: (rollup column, raw column, raw row condition) whose maximum is the value.
        quantile: in (0, 1), of the histogram named by `needs`.
        needs: key of `STATES`; set when rollup rows must be merged outside SQL.
    """

    name: str
    unit: str
    meaning: str
    terms: tuple[str, ...] = ()
    per: str = ""
    largest: tuple[str, str, str] = ("", "", "")
    quantile: float = 0.0
    needs: Need | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Rollup columns `finalise` reads."""
        if self.needs is not None:
            return STATES[self.needs][0]
        if self.largest[0]:
            return (self.largest[0],)
        divisor = (self.per,) if self.per and self.per != SECONDS else ()
        return (*(term.lstrip("-") for term in self.terms), *divisor)

    @property
    def additive(self) -> bool:
        """The values of the parts of a whole add up to its value."""
        return bool(self.terms) and not self.per and not any(term.startswith("-") for term in self.terms)

    @property
    def rollup_sql(self) -> str | None:
        """DuckDB aggregate over ROLLUP_SCHEMA rows; None where `needs` is set. May hold `{seconds}`."""
        if self.needs is not None:
            return None
        if self.largest[0]:
            return f"max({self.largest[0]})"
        return self._combined(lambda column: part_sql(column, over="rollups"))

    @property
    def event_sql(self) -> str:
        """DuckDB aggregate over EVENT_SCHEMA rows, exact, also where `needs` is set. May hold `{seconds}`."""
        if self.needs is not None:
            _, raw, rows = STATES[self.needs]
            if self.quantile:
                return f"quantile_disc({raw}, {self.quantile}) FILTER (WHERE {rows})"
            return f"count(DISTINCT {raw})"
        if self.largest[0]:
            return f"max({self.largest[1]}) FILTER (WHERE {self.largest[2]})"
        return self._combined(lambda column: part_sql(column, over="events"))

    def _combined(self, part: Callable[[str], str]) -> str:
        text = " ".join(
            ("- " if term.startswith("-") else "+ " if index else "") + part(term.lstrip("-"))
            for index, term in enumerate(self.terms)
        )
        if any(term.startswith("-") for term in self.terms):
            text = f"greatest({text}, 0)"
        if not self.per:
            return text
        divisor = "{seconds}" if self.per == SECONDS else part(self.per)
        return f"({text})::DOUBLE / nullif({divisor}, 0)"


def part_sql(column: str, *, over: Literal["events", "rollups"]) -> str:
    """DuckDB aggregate of one additive rollup column: BIGINT, DECIMAL(38,9) for money, DOUBLE for milliseconds."""
    addend, rows = _ADDENDS[column]
    if over == "rollups":
        total = f"sum({column})"
    elif addend == "1":
        return "count(*)" if rows == "true" else f"count(*) FILTER (WHERE {rows})"
    else:
        total = f"sum({addend}) FILTER (WHERE {rows})"
    # sum() of BIGINT is HUGEINT, which Arrow has no integer for.
    kind = "DECIMAL(38,9)" if column == "cost_usd" else "DOUBLE" if column in _FLOATS else "BIGINT"
    return f"coalesce({total}, 0)::{kind}"


_LATENCY_MAX: Final = ("latency_ms_max", "latency_ms", _LATENCY_ROWS)

_TABLE: Final = (
    Measure(name="event_count", unit="count", terms=("event_count",), meaning="Every stored event."),
    Measure(name="request_count", unit="count", terms=("request_count",), meaning="Model calls, each once."),
    Measure(name="error_count", unit="count", terms=("error_count",), meaning="Model calls that failed, each once."),
    Measure(name="error_ratio", unit="ratio", terms=("error_count",), per="request_count",
            meaning="Failed calls per call; null without a call."),
    Measure(name="latency_ms_avg", unit="ms", terms=("latency_ms_sum",), per="latency_count",
            meaning="Mean duration of the calls that told one."),
    Measure(name="latency_ms_count", unit="count", terms=("latency_count",), meaning="Calls that told a duration."),
    Measure(name="latency_ms_p50", unit="ms", quantile=0.50, needs="latency_histogram", meaning="Median duration."),
    Measure(name="latency_ms_p95", unit="ms", quantile=0.95, needs="latency_histogram",
            meaning="Duration that 95 of 100 calls stay within."),
    Measure(name="latency_ms_p99", unit="ms", quantile=0.99, needs="latency_histogram",
            meaning="Duration that 99 of 100 calls stay within."),
    Measure(name="latency_ms_max", unit="ms", largest=_LATENCY_MAX, meaning="Longest duration, exact."),
    Measure(name="ttft_ms_count", unit="count", terms=("ttft_count",),
            meaning="Calls that told the wait for the first token."),
    Measure(name="ttft_ms_avg", unit="ms", terms=("ttft_ms_sum",), per="ttft_count",
            meaning="Mean wait for the first token."),
    Measure(name="ttft_ms_p50", unit="ms", quantile=0.50, needs="ttft_histogram",
            meaning="Median wait for the first token."),
    Measure(name="ttft_ms_p95", unit="ms", quantile=0.95, needs="ttft_histogram",
            meaning="Wait for the first token that 95 of 100 calls stay within."),
    Measure(name="input_tokens", unit="tokens", terms=("input_tokens",),
            meaning="Tokens sent, cache reads and writes included."),
    Measure(name="output_tokens", unit="tokens", terms=("output_tokens",),
            meaning="Tokens received, reasoning included."),
    Measure(name="total_tokens", unit="tokens", terms=("input_tokens", "output_tokens"),
            meaning="Tokens sent and received."),
    Measure(name="cache_read_tokens", unit="tokens", terms=("cache_read_tokens",),
            meaning="Input tokens the provider read from its cache."),
    Measure(name="cache_write_tokens", unit="tokens", terms=("cache_write_tokens",),
            meaning="Input tokens the provider wrote to its cache."),
    Measure(name="reasoning_tokens", unit="tokens", terms=("reasoning_tokens",),
            meaning="Output tokens spent on reasoning."),
    Measure(name="other_modal_tokens", unit="tokens", terms=("other_modal_tokens",),
            meaning="Tokens of audio, image and other modes, told beside the totals."),
    Measure(name="input_uncached_tokens", unit="tokens",
            terms=("input_tokens", "-cache_read_tokens", "-cache_write_tokens"),
            meaning="Input tokens that touched no cache."),
    Measure(name="output_text_tokens", unit="tokens", terms=("output_tokens", "-reasoning_tokens"),
            meaning="Output tokens that are not reasoning."),
    Measure(name="cost_usd", unit="usd", terms=("cost_usd",), meaning="Money, exact to the nano-dollar."),
    Measure(name="cache_hit_ratio", unit="ratio", terms=("cache_hit_count",), per="cache_lookup_count",
            meaning="Response-cache hits per call that asked the cache; null where none asked."),
    Measure(name="tokens_per_s", unit="tokens/s", terms=("input_tokens", "output_tokens"), per=SECONDS,
            meaning="Tokens sent and received per second of the bucket or range."),
    Measure(name="unique_users", unit="count", needs="users", meaning="Distinct user ids over all events."),
    Measure(name="unique_sessions", unit="count", needs="sessions", meaning="Distinct session ids over all events."),
    Measure(name="guardrail_count", unit="count", terms=("guardrail_count",), meaning="Guardrail evaluations."),
    Measure(name="guardrail_block_ratio", unit="ratio", terms=("guardrail_block_count",), per="guardrail_count",
            meaning="Evaluations that blocked or denied, per evaluation; null without an evaluation."),
)  # fmt: skip

_QUANTILE: Final = re.compile(r"(latency|ttft)_ms_p([0-9]{1,2}(?:\.[0-9]{1,6})?)")


class Measures(dict[str, Measure]):
    """The measures by name. Looked up, a quantile that is not listed is made: `latency_ms_p99.9`, `ttft_ms_p10`."""

    def __missing__(self, name: str) -> Measure:
        found = _QUANTILE.fullmatch(name)
        quantile = float(Decimal(found[2]) / 100) if found else 0.0
        if found is None or not 0 < quantile < 1:
            raise KeyError(name)
        need: Need = "latency_histogram" if found[1] == "latency" else "ttft_histogram"
        meaning = f"{'Duration' if found[1] == 'latency' else 'Wait for the first token'}, quantile {quantile:g}."
        return Measure(name=name, unit="ms", quantile=quantile, needs=need, meaning=meaning)


MEASURES: Final = Measures({measure.name: measure for measure in _TABLE})


def measure(name: str) -> Measure | None:
    """The measure of that name, listed or a quantile; None where there is none."""
    try:
        return MEASURES[name]
    except KeyError:
        return None


def finalise(measure: Measure, partial: Mapping[str, Any], *, seconds: float) -> Value:
    """The measure's value from one merged partial.

    Args:
        partial: rollup column -> value of one group, at least `measure.columns`: integers, Decimal money, float
            milliseconds, lists for the histogram columns, bytes for a sketch. Counts and sums that are None are 0.
            With `latency_ms_min` and `latency_ms_max` present a latency quantile never lies outside them.
        seconds: length of the bucket or range, > 0.

    Returns:
        int for counts and tokens, Decimal for money, float otherwise; None where nothing was told.
    """
    if measure.quantile:
        return _quantile(measure, partial)
    if measure.needs is not None:
        sketch = partial[measure.columns[0]]
        return 0 if sketch is None else distinct.estimate(sketch)
    if measure.largest[0]:
        largest: float | None = partial[measure.largest[0]]
        return largest
    total = sum(-(partial[term[1:]] or 0) if term.startswith("-") else (partial[term] or 0) for term in measure.terms)
    if any(term.startswith("-") for term in measure.terms):
        total = max(total, 0)
    if not measure.per:
        return total
    divisor = seconds if measure.per == SECONDS else partial[measure.per]
    return float(total) / divisor if divisor else None


def values(merged: pa.Table, names: Sequence[str], *, seconds: float) -> dict[str, list[Value]]:
    """Value of each named measure for each row of a merged table (`models.aggregate.rollup.merge`)."""
    chosen = [MEASURES[name] for name in names]
    wanted = {column for measure in chosen for column in measure.columns}
    if any(measure.needs == "latency_histogram" for measure in chosen):
        wanted |= {"latency_ms_min", "latency_ms_max"}
    rows = merged.select(sorted(wanted)).to_pylist()
    return {m.name: [finalise(m, row, seconds=seconds) for row in rows] for m in chosen}


def _told(value: Any) -> Any:
    return 0 if value is None else value


def _quantile(measure: Measure, partial: Mapping[str, Any]) -> float | None:
    buckets, counts = (partial[column] for column in measure.columns)
    if buckets is None:
        return None
    value = quantiles.quantile(np.asarray(buckets, np.int32), np.asarray(counts, np.int64), measure.quantile)
    if value is None or measure.needs != "latency_histogram" or partial.get("latency_ms_max") is None:
        return value
    # A bucket's middle may lie past the longest call; a p99 above the maximum reads as a fault.
    return float(min(max(value, partial["latency_ms_min"]), partial["latency_ms_max"]))
