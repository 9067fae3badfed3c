"""Calculated measures: what the grammar takes, what it refuses, and that values are exact and never raise."""

from __future__ import annotations

import ast
import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RequestInvalid
from models.measures import MEASURES, measure
from models.query.answer import number
from models.query.expression import Calculation, parse_calculation

VALUES = {"request_count": 7, "error_count": 0, "cost_usd": Decimal("1.250000001"), "latency_ms_avg": None}

ENCODER = msgspec.json.Encoder(decimal_format="number")


def value(text: str) -> Any:
    return parse_calculation(f"x={text}").value(VALUES)


def written() -> st.SearchStrategy[str]:
    leaves = st.one_of(st.integers(0, 9).map(str), st.sampled_from(["request_count", "error_count", "cost_usd"]))

    def grown(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pair = st.tuples(parts, st.sampled_from("+-*/"), parts).map(" ".join)
        return st.one_of(pair, pair.map("({})".format), parts.map("-({})".format))

    return st.recursive(leaves, grown, max_leaves=12)


def exactly(node: ast.AST) -> Fraction | None:
    """What Python's own parser and exact fractions make of the same text; None where a divisor is 0."""
    if isinstance(node, ast.Expression):
        return exactly(node.body)
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.Name):
        return Fraction(str(VALUES[node.id]))
    if isinstance(node, ast.UnaryOp):
        inner = exactly(node.operand)
        return None if inner is None else -inner
    assert isinstance(node, ast.BinOp)
    left, right = exactly(node.left), exactly(node.right)
    if left is None or right is None or (isinstance(node.op, ast.Div) and not right):
        return None
    if isinstance(node.op, ast.Div):
        return left / right
    sums = {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}
    return sums[type(node.op)]


@given(written())
def test_an_expression_is_worth_what_arithmetic_says(text: str) -> None:
    found, expected = value(text), exactly(ast.parse(text, mode="eval"))
    if "/" not in text:
        assert expected is not None and Fraction(found) == expected
    elif expected is None or found is None:
        # A difference of quotients that is exactly 0 may be off by one bit as a float, and then is a divisor.
        assert found is expected or text.count("/") > 1
    elif text.count("/") == 1:
        assert math.isclose(float(found), float(expected), rel_tol=1e-9, abs_tol=1e-9)


def test_divisors_of_zero_and_nothing_give_null() -> None:
    assert value("cost_usd / error_count") is None
    assert value("1 + latency_ms_avg") is None
    assert value("cost_usd / request_count") == pytest.approx(1.250000001 / 7)
    assert value("cost_usd*2 - cost_usd") == Decimal("1.250000001")
    assert value("2+3*4-(2+3)*4") == -6
    assert value("--2") == 2


def test_huge_numbers_are_null_or_numbers_never_an_error() -> None:
    product = "*".join(["request_count"] * 20)
    for values in ({"request_count": 10**18}, {"request_count": Decimal(10**18)}):
        whole = parse_calculation(f"x={product}").value(values)
        assert json.loads(ENCODER.encode(number(whole))) == 10**360
        assert number(parse_calculation(f"x={product}/2").value(values)) is None
    assert number(parse_calculation(f"x={product}").value({"request_count": 1e18})) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "x=", "=1", "x=1+", "x=(1", "x=1)", "x=1 2", "x=*1", "x=request_count(", "x=1**2", "x=__import__",
        "x=requests", "x=a.b.c", "x=1;2", "x=os.system('x')", "x=request_count[0]", "x=1e9", "x=0x10", "x='a'",
        "x=\u0661", "X=1", "1x=1", "a b=1", "request_count=1", "x" * 65 + "=1", "x=" + "1+" * 40 + "1",
        "x=" + "(" * 40 + "1" + ")" * 40, "x=" + "-" * 40 + "1", "x=" + "9" * 400, "x=" + "(" * 100_000, "x\x00=1",
        "x=" + "request_cnt", "x=1==1", "x=lambda: 1", "x=1 if 1 else 2",
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        parse_calculation(text)
    assert refused.value.hint and len(refused.value.message) < 300


@given(st.text(alphabet="abcdef_()+-*/.0123456789 \t=\x00é", max_size=60))
def test_noise_is_refused_or_read(text: str) -> None:
    try:
        assert isinstance(parse_calculation("x=" + text), Calculation)
    except RequestInvalid as refused:
        assert refused.hint


def test_units_follow_from_the_parts() -> None:
    units = {
        text: parse_calculation(f"x={text}").unit
        for text in ("cost_usd/request_count", "error_count/request_count", "cost_usd*1000", "cost_usd+request_count")
    }
    assert list(units.values()) == ["usd/count", "ratio", "usd", ""]


def test_any_quantile_is_a_measure_and_nothing_else() -> None:
    for name in ("latency_ms_p99.9", "ttft_ms_p1", "latency_ms_p0.000001", "latency_ms_p50"):
        found = measure(name)
        assert found is not None and 0 < found.quantile < 1
    assert MEASURES["latency_ms_p99.9"].quantile == 0.999
    for name in ("latency_ms_p0", "latency_ms_p100", "latency_ms_p", "cost_usd_p50", "latency_ms_p1e2", "p50"):
        assert measure(name) is None and name not in MEASURES
