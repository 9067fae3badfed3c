"""Calculated measures: `cost_per_request=cost_usd/request_count`, read by a grammar of our own and never executed.

expression = term (("+" | "-") term)*; term = factor (("*" | "/") factor)*; factor = number | measure | "-" factor |
"(" expression ")". Sums, differences and products of counts and money are exact; a quotient is a float.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from cluster.errors import RequestInvalid
from models.measures import MEASURES, Value, measure
from models.query.fields import near

CALCULATIONS_MAX: Final = 12
_TEXT_LENGTH_MAX: Final = 300
_TOKENS_MAX: Final = 64
_DEPTH_MAX: Final = 16
_TOKEN: Final = re.compile(r"[ \t]*(?:([0-9]{1,15}(?:\.[0-9]{1,9})?)|([A-Za-z_][A-Za-z0-9_]*(?:\.[0-9]+)?)|([-+*/()]))")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_HINT: Final = "Write NAME=EXPRESSION with + - * / ( ), numbers and measures: cost_per_request=cost_usd/request_count."


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a calculation: a number, a measure, or an operator (`neg` for a leading minus) over its parts."""

    operator: str
    parts: tuple[Node, ...] = ()
    number: Decimal = Decimal(0)
    name: str = ""


@dataclass(frozen=True, slots=True)
class Calculation:
    """A measure made of measures, by a name of the caller's."""

    name: str
    text: str
    root: Node

    @property
    def measures(self) -> tuple[str, ...]:
        """Measures it is made of, each once, as they are written."""
        return tuple(dict.fromkeys(_names(self.root)))

    @property
    def unit(self) -> str:
        """Unit of the value, such as `usd/count`; empty where the units do not tell one."""
        return _unit(self.root)

    def value(self, values: Mapping[str, Value]) -> Value:
        """The value over one group's measures; None where a part has no value or a divisor is 0."""
        try:
            return _value(self.root, values)
        except OverflowError:
            return None


def parse_calculation(text: str) -> Calculation:
    """`name=expression`.

    Raises:
        RequestInvalid: too long or deep, a name that is taken or not fit, or an expression that cannot be read.
    """
    name, equals, body = text.partition("=")
    name = name.strip()
    if not equals or not _NAME.fullmatch(name):
        raise RequestInvalid(f"calculate {text[:80]!r} has no name of a-z, 0-9 and _", hint=_HINT)
    if name in MEASURES:
        raise RequestInvalid(f"calculate: {name} is a measure already", hint="Give it another name.")
    if len(body) > _TEXT_LENGTH_MAX:
        raise RequestInvalid(f"calculate {name}: over {_TEXT_LENGTH_MAX} characters", hint="Calculate it in two parts.")
    tokens = _tokens(name, body)
    root, rest = _sum(name, tokens, 0)
    if rest:
        raise RequestInvalid(f"calculate {name}: {rest[0]!r} is not expected there", hint=_HINT)
    return Calculation(name, body.strip(), root)


def _tokens(name: str, text: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise RequestInvalid(f"calculate {name}: {text[at : at + 20]!r} cannot be read", hint=_HINT)
        tokens.append(found[0].strip())
        at = found.end()
    if len(tokens) > _TOKENS_MAX:
        raise RequestInvalid(f"calculate {name}: over {_TOKENS_MAX} parts", hint="Calculate it in two parts.")
    return tokens


# Each reads what it can from the front of the tokens and gives the rest back.
def _sum(name: str, tokens: list[str], depth: int) -> tuple[Node, list[str]]:
    node, rest = _product(name, tokens, depth)
    while rest and rest[0] in "+-":
        operator = rest[0]
        right, rest = _product(name, rest[1:], depth)
        node = Node(operator, (node, right))
    return node, rest


def _product(name: str, tokens: list[str], depth: int) -> tuple[Node, list[str]]:
    node, rest = _factor(name, tokens, depth)
    while rest and rest[0] in "*/":
        operator = rest[0]
        right, rest = _factor(name, rest[1:], depth)
        node = Node(operator, (node, right))
    return node, rest


def _factor(name: str, tokens: list[str], depth: int) -> tuple[Node, list[str]]:
    if depth > _DEPTH_MAX:
        raise RequestInvalid(f"calculate {name}: nested over {_DEPTH_MAX} deep", hint="Use fewer brackets.")
    if not tokens:
        raise RequestInvalid(f"calculate {name}: the expression ends too early", hint=_HINT)
    first, rest = tokens[0], tokens[1:]
    if first == "-":
        node, rest = _factor(name, rest, depth + 1)
        return Node("neg", (node,)), rest
    if first == "(":
        node, rest = _sum(name, rest, depth + 1)
        if not rest or rest[0] != ")":
            raise RequestInvalid(f"calculate {name}: a bracket is not closed", hint=_HINT)
        return node, rest[1:]
    if first[0].isdigit():
        return Node("number", number=Decimal(first)), rest
    if first[0] in "+*/)":
        raise RequestInvalid(f"calculate {name}: {first!r} is not expected there", hint=_HINT)
    if measure(first) is None:
        raise RequestInvalid(f"calculate {name}: measure {first[:80]!r} is not known", hint=near(first, MEASURES))
    return Node("measure", name=first), rest


def _names(node: Node) -> list[str]:
    return [node.name] if node.operator == "measure" else [name for part in node.parts for name in _names(part)]


def _value(node: Node, values: Mapping[str, Value]) -> Value:
    if node.operator == "number":
        whole = node.number == node.number.to_integral_value()
        return int(node.number) if whole else node.number
    if node.operator == "measure":
        return values[node.name]
    told = [_value(part, values) for part in node.parts]
    if any(value is None for value in told):
        return None
    numbers = [value for value in told if value is not None]
    if node.operator == "/":
        return float(numbers[0]) / float(numbers[1]) if numbers[1] else None
    if any(isinstance(value, float) for value in numbers):
        numbers = [float(value) for value in numbers]
    return _exact(node.operator, numbers)


def _exact(operator: str, numbers: list[int | float | Decimal]) -> Value:
    # All of them are floats, or none is: Decimal and float do not mix.
    left: int = numbers[0]  # type: ignore[assignment]
    right: int = numbers[-1]  # type: ignore[assignment]
    if operator == "neg":
        return -left
    if operator == "+":
        return left + right
    return left - right if operator == "-" else left * right


def _unit(node: Node) -> str:
    if node.operator == "number":
        return ""
    if node.operator == "measure":
        return MEASURES[node.name].unit
    units = [_unit(part) for part in node.parts]
    if node.operator == "neg":
        return units[0]
    left, right = units
    if node.operator == "/":
        return "ratio" if left == right else f"{left or 1}/{right}" if right else left
    if node.operator == "*":
        return f"{left}*{right}" if left and right else left or right
    return left if left == right else ""
