"""Distinct counts from a mergeable sketch: exact to 384 values, then within 1.6 % (one standard error).

HyperLogLog with 4,096 registers of 4 bits from Apache DataSketches. Chosen over CPC by merge cost and by the small end:
one value takes 12 bytes (CPC 36), 200 values are counted as 200 (CPC: 197), and a sketch never exceeds 2.1 kB, which
matters because a partial of one quiet window is the common row.

Source: Flajolet et al., "HyperLogLog", AofA 2007; https://datasketches.apache.org/docs/HLL/HLL.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import datasketches

_LOG2_REGISTERS: Final = 12
_TYPE: Final = datasketches.tgt_hll_type.HLL_4

# Up to here the sketch keeps a hash of each value, so the count is exact but for a 26-bit collision.
EXACT_COUNT_MAX: Final = 384
# Relative standard error above EXACT_COUNT_MAX, merged or not: 1.04 / sqrt(4096).
STANDARD_ERROR: Final = 0.0163


def sketch_of(values: Iterable[str]) -> bytes:
    """Serialised sketch of `values`; repeats count once. 12 bytes for one value, 2.1 kB at most."""
    sketch = datasketches.hll_sketch(_LOG2_REGISTERS, _TYPE)
    update = sketch.update
    for value in values:
        update(value)
    return bytes(sketch.serialize_compact())


def merge(sketches: Sequence[bytes]) -> bytes:
    """Sketch of the union of the sets; `merge([])` is the sketch of the empty set, which changes nothing."""
    if len(sketches) == 1:
        return sketches[0]
    union = datasketches.hll_union(_LOG2_REGISTERS)
    for sketch in sketches:
        union.update(datasketches.hll_sketch.deserialize(sketch))
    return bytes(union.get_result(_TYPE).serialize_compact())


def estimate(sketch: bytes) -> int:
    """Number of distinct values, the same whatever order and grouping the sketch was merged in."""
    told = datasketches.hll_sketch.deserialize(sketch)
    union = datasketches.hll_union(_LOG2_REGISTERS)
    # A sketch that was never merged estimates from its history, a merged one from its registers. The second update
    # drops the history, so equal sets give equal counts.
    union.update(told)
    union.update(told)
    return round(float(union.get_estimate()))
