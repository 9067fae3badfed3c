"""What spans with the same scope, names and kinds of attributes have in common: one plan, made once and kept.

A plan says how the JSON of their attributes is put together and which attribute fills which column, by the rules of
`dialects.canonical` and `otlp_values.flat`: a later name wins, and the span's own over its scope's and resource's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cluster.contract.columns import TOKEN_FIELDS
from cluster.contract.sources import dialects
from cluster.contract.sources.otlp_documents import SEGMENT
from cluster.contract.sources.otlp_fields import CONSTANT, NONE
from cluster.contract.sources.otlp_scan import BOOL, DOUBLE, INT, STRING
from cluster.contract.sources.otlp_spans import FAILURE_NAMES, VERDICT
from cluster.contract.sources.otlp_values import dump, flat, scope_attributes
from cluster.contract.sources.otlp_wire import framed

# Columns in the order of the sources.
NUMBERS: Final = (*(name for name in TOKEN_FIELDS if name in dialects.ATTRIBUTES), "ttft_ms")
TEXTS: Final = tuple(
    sorted(frozenset(dialects.ATTRIBUTES) - {*NUMBERS, "cost_usd", "usage_semantics", *dialects.OBJECTS})
)
_TTFT: Final = NUMBERS.index("ttft_ms")
_KINDS: Final[dict[str, tuple[int, ...]]] = {
    **dict.fromkeys(TEXTS, (STRING,)),
    **dict.fromkeys(NUMBERS, (INT,)),
    "ttft_ms": (INT, DOUBLE),
    "cost_usd": (STRING, INT, DOUBLE),
    "usage_semantics": (),
    **dict.fromkeys(dialects.OBJECTS, ()),
}
# What a resource or scope may say that its spans are read one by one for.
_READ_ALONE: Final = frozenset({"ttft_ms", *dialects.OBJECTS})
# Larger keys are not kept, so that what is kept stays within a few megabytes.
_KEY_BYTES_MAX: Final = 16 * 1024


class Plan(NamedTuple):
    """Places in `segments`, `texts` and `numbers` are of this plan's own pool.

    Attributes:
        texts: (len(TEXTS), 3) sources, see `otlp_fields`.
        numbers: (len(NUMBERS), 3) sources; a constant double is its 64 bits.
        whole_seconds: the time to the first token is told as a whole number.
        cost: the attribute with it, or its text.
        failures: (attribute, -1 for a constant; its value) of what a failed span may say it failed of, in order.
        words: attribute in whose words the operation is told, "" for the hub's own.
        acts: its guardrail says what it did.
    """

    pool: bytes
    segments: npt.NDArray[Any]
    texts: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    whole_seconds: bool
    cost: int | str | None
    failures: tuple[tuple[int, Any], ...]
    words: str
    acts: bool


class Signature(NamedTuple):
    """Resource and scope as sent; names and kinds of a span's attributes in their order."""

    resource: bytes
    scope: bytes
    names: tuple[bytes, ...]
    kinds: tuple[int, ...]


def plan_of(signature: Signature) -> Plan | None:
    """The plan, or None where such spans are to be read one by one."""
    if sum(map(len, (signature.resource, signature.scope, *signature.names))) > _KEY_BYTES_MAX:
        return _make(signature)
    return _kept_plan(signature)


def pool_bases(plans: Sequence[Plan]) -> npt.NDArray[np.int64]:
    """Where each plan's pool begins once they lie one behind the other."""
    return np.cumsum([0, *(len(plan.pool) for plan in plans[:-1])])


def attributes_of(resource: bytes, scope: bytes) -> dict[str, Any]:
    """Attributes that all spans of a scope have.

    Raises:
        DecodeError: one of the two is not what it should be.
    """
    return (_attributes if len(resource) + len(scope) > _KEY_BYTES_MAX else _kept_attributes)(resource, scope)


def _attributes(resource: bytes, scope: bytes) -> dict[str, Any]:
    # As they lie in a request: how deep values may nest is counted from its root.
    inner = framed(1, resource) + framed(2, framed(1, scope))
    group = ExportTraceServiceRequest.FromString(framed(1, inner)).resource_spans[0]
    return scope_attributes(group.scope_spans[0].scope, flat(group.resource.attributes, {}))


_kept_attributes = lru_cache(maxsize=256)(_attributes)


def _make(signature: Signature) -> Plan | None:
    shared = attributes_of(signature.resource, signature.scope)
    try:
        slots = {name.decode(): slot for slot, name in enumerate(signature.names)}
    except UnicodeDecodeError:
        return None
    plan = _Draft(shared, slots, signature.kinds)
    return plan.finished() if plan.draw() else None


_kept_plan = lru_cache(maxsize=512)(_make)


class _Draft:
    """A plan while it is made. slots: the span's own names -> place among its attributes; the others are `shared`."""

    def __init__(self, shared: dict[str, Any], slots: dict[str, int], kinds: tuple[int, ...]) -> None:
        self._shared, self._slots, self._kinds = shared, slots, kinds
        self._pool = bytearray()
        self._texts = np.full((len(TEXTS), 3), (NONE, 0, 0), np.int64)
        self._numbers = np.full((len(NUMBERS), 3), (NONE, 0, 0), np.int64)
        self._cost: int | str | None = None
        self._words = ""

    def draw(self) -> bool:
        """Whether every column has a value that is taken as it is, or none."""
        for column, name, usual in dialects.chosen({**self._shared, **self._slots}):
            if name not in self._slots:
                value = self._shared[name]
                value = value if type(value) is usual else dialects.converted(column, name, value)
                # Nobody's first token comes after the same time in every span.
                if value is not None and (column in _READ_ALONE or (column, value) == ("usage_semantics", "exclusive")):
                    return False
                if value is not None:
                    self._set_constant(column, value)
                continue
            kind = self._kinds[self._slots[name]]
            if name in dialects.JSON_TEXTS or (column == "ttft_ms" and name not in dialects.SECONDS):
                return False
            if kind in _KINDS[column]:
                self._set_source(column, name)
            elif kind != BOOL or column in TEXTS or column == "usage_semantics":
                return False
        # What a guardrail found stands for what it did where it does not say that.
        return self._acts() or not (VERDICT in self._slots or VERDICT in self._shared)

    def finished(self) -> Plan:
        segments = self._segments()
        failures = tuple(
            (self._slots.get(name, -1), self._shared.get(name))
            for name in FAILURE_NAMES
            if name in self._slots or name in self._shared
        )
        ttft = int(self._numbers[_TTFT, 0])
        return Plan(
            pool=bytes(self._pool),
            segments=segments,
            texts=self._texts,
            numbers=self._numbers,
            whole_seconds=ttft >= 0 and self._kinds[ttft] == INT,
            cost=self._cost,
            failures=failures,
            words=self._words,
            acts=self._acts(),
        )

    def _acts(self) -> bool:
        return bool(self._texts[TEXTS.index("guardrail_action"), 0] != NONE)

    def _set_source(self, column: str, name: str) -> None:
        slot = self._slots[name]
        if column == "cost_usd":
            self._cost = slot
        elif column in TEXTS:
            self._texts[TEXTS.index(column), 0] = slot
            if name in dialects.OPERATION_VALUES:
                self._words = name
        else:
            self._numbers[NUMBERS.index(column), 0] = slot

    def _set_constant(self, column: str, value: Any) -> None:
        if column == "cost_usd":
            self._cost = value
        elif column in TEXTS:
            self._texts[TEXTS.index(column)] = (CONSTANT, *self._keep(value.encode()))
        elif column in NUMBERS:
            self._numbers[NUMBERS.index(column)] = (CONSTANT, value, 0)

    def _keep(self, text: bytes) -> tuple[int, int]:
        start = len(self._pool)
        self._pool += text
        return start, len(self._pool)

    def _segments(self) -> npt.NDArray[Any]:
        """Names in order, as OPT_SORT_KEYS has them: by code point, which is the order of their UTF-8."""
        rows = []
        literal = b"{"
        for number, name in enumerate(sorted({**self._shared, **self._slots})):
            literal += (b"," if number else b"") + dump(name) + b":"
            if name in self._slots:
                rows.append((*self._keep(literal), self._slots[name]))
                literal = b""
            else:
                literal += dump(self._shared[name])
        rows.append((*self._keep(literal + b"}"), -1))
        return np.array(rows, SEGMENT)
