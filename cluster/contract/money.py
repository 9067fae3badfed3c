"""Cost as senders write it -> decimal(18,9) USD, from the number's text and never through a float.

More than nine decimals are rounded half to even, so that a long sum of rounded rows has no drift.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.cells import NO_CAST
from cluster.contract.columns import MONEY
from cluster.contract.documents import buffers
from cluster.contract.event import COST_NANO_USD_MAX

COST_MAX: Final = Decimal(COST_NANO_USD_MAX).scaleb(-9)
_STEP: Final = Decimal(1).scaleb(-9)
_TEXT_MAX: Final = 64
# Of doubles in nano-dollars: up to here their steps are far below a half, and so much error is never reached.
_SURE_NANO_MAX: Final = float(min(COST_NANO_USD_MAX, 1 << 47))
_SURE_MARGIN: Final = 2.0**-50
# So many decimals and those of an exponent of one digit stay inside Arrow's table, which ends 38 places from nine.
_DIGITS_MAX: Final = 24
_FEW_DECIMALS: Final = rf"^[^eE]{{0,{_DIGITS_MAX}}}([eE][+-]?0?[0-9])?$"
# Enough digits for any text within the length limit; exponents beyond the bounds are out of range anyway.
_EXACT: Final = Context(prec=_TEXT_MAX + 40, rounding=ROUND_HALF_EVEN)

Mask = npt.NDArray[np.bool_]


def money_of(text: str) -> Decimal | None:
    """The amount in dollars to nine decimals, or None where it is no number in [0, COST_MAX]."""
    if not text or len(text) > _TEXT_MAX or "_" in text:
        return None
    try:
        amount = _EXACT.create_decimal(text)
        if not amount.is_finite() or not 0 <= amount <= COST_MAX:
            return None
        return amount.quantize(_STEP, context=_EXACT)
    except (DecimalException, ValueError):
        return None


def _in_range(money: pa.Array) -> bool:
    if money.null_count:
        low, high = pc.min_max(money).values()
        return bool(low.as_py() >= 0 and high.as_py() <= COST_MAX)
    # 18 digits fit the low half of the 16 bytes; the high one only repeats the sign.
    words = np.frombuffer(money.buffers()[1], "<i8", 2 * len(money), offset=16 * money.offset)[::2]
    return int(words.min()) >= 0 and int(words.max()) <= COST_NANO_USD_MAX


def read_money(column: pa.Array) -> tuple[pa.Array, Mask]:
    """The column in MONEY, null where it was null, and the mask of rows that are no cost.

    Args:
        column: decimal texts, decimals, integers or floats. A float becomes its shortest text, as JSON would write it.
    """
    if column.null_count == len(column):
        return pa.nulls(len(column), MONEY), np.zeros(len(column), np.bool_)
    if pa.types.is_float64(column.type):
        return _of_doubles(column)
    # Narrow floats go by text: their binary value has digits the sender never meant.
    source = column.cast(pa.string()) if pa.types.is_floating(column.type) else column
    try:
        money = source.cast(MONEY) if not pa.types.is_string(source.type) or _castable(source) else None
        if money is not None and _in_range(money):
            return money, np.zeros(len(column), np.bool_)
    except NO_CAST:
        pass
    texts = [None if value is None else str(value) for value in source.to_pylist()]
    amounts = [None if text is None else money_of(text) for text in texts]
    bad = np.fromiter((t is not None and a is None for t, a in zip(texts, amounts, strict=True)), np.bool_, len(texts))
    return pa.array(amounts, MONEY), bad


def _castable(texts: pa.StringArray) -> bool:
    """Whether Arrow may cast the texts to MONEY.

    It looks the power of ten for a text's decimals up without a bound: the exponent of "1e-40004875" ends the process,
    a smaller one reads what lies behind the table.
    """
    data, offsets = buffers(texts)
    sent = data[offsets[0] : offsets[-1]].tobytes()
    if int((offsets[1:] - offsets[:-1]).max()) <= _DIGITS_MAX and b"e" not in sent and b"E" not in sent:
        return True
    return bool(pc.all(pc.match_substring_regex(texts, _FEW_DECIMALS)).as_py())


def _of_doubles(column: pa.Array) -> tuple[pa.Array, Mask]:
    """`read_money` of 64-bit floats.

    A double is within 2^-53 of its shortest text, and its product with 1e9 within as much of the true one. So both
    round to the same whole number unless that product is as near to a half as such errors reach; those go by text.
    """
    dollars = np.asarray(column.fill_null(0.0))
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = dollars * 1e9
        to_half = np.abs(scaled - np.floor(scaled) - 0.5)
        sure = (scaled >= 0) & (scaled <= _SURE_NANO_MAX) & (to_half > scaled * _SURE_MARGIN)
    nano = np.rint(np.where(sure, scaled, 0.0)).astype(np.int64)
    bad = np.zeros(len(column), np.bool_)
    for row in np.flatnonzero(~sure).tolist():
        amount = money_of(str(dollars[row].item()))
        bad[row] = amount is None
        nano[row] = int((amount or Decimal(0)).scaleb(9))
    return money_of_nano(nano, np.asarray(column.is_valid()) & ~bad), bad


def rounded_nano_usd(whole: npt.NDArray[np.int64], millionths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(n,) nano-dollars of `whole` + `millionths` / 1,000,000, half to even: the only place where a cost is rounded.

    Args:
        millionths: (n,) not negative.
    """
    quotient, rest = np.divmod(millionths, 1_000_000)
    up = (rest > 500_000) | ((rest == 500_000) & ((whole + quotient) & 1 == 1))
    rounded: npt.NDArray[np.int64] = whole + quotient + up
    return rounded


def money_of_nano(nano: npt.NDArray[np.int64], known: Mask) -> pa.Array:
    """(n,) nano-dollars as MONEY, null where not known."""
    # Little-endian 128-bit words: the value, then its sign.
    words = np.stack([nano, nano >> 63], axis=1)
    valid = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.Array.from_buffers(MONEY, len(nano), [valid, pa.py_buffer(np.ascontiguousarray(words))])
