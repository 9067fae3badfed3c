"""Dated prices as the starter table and `registry.price.changed` write them: USD for a million tokens, by bucket.

A price names a provider, a model, a service tier and the instant it begins. Amounts are integers of nano-dollars
for a million tokens, so nothing about money passes through a float.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException
from typing import Any, Final

from cluster.contract.vocabulary import provider_of
from cluster.errors import RequestInvalid

PRICE_KIND: Final = "registry.price.changed"
# Order of the amounts of a step. Input here is what no cache served; the one-hour cache write is priced apart.
BUCKETS: Final = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning", "other_modal")
STANDARD: Final = "standard"
TIERS: Final = (STANDARD, "batch", "flex", "priority")
# No amount was told and no rule gives one: calls that use the bucket have no cost.
UNPRICED: Final = -1
# 1,000 dollars for a million tokens: keeps the sum over the buckets within 64 bits for every count of tokens.
AMOUNT_MAX: Final = 10**12
STEPS_MAX: Final = 8
MATCHES_MAX: Final = 32
_TEXT_MAX: Final = 160
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A bucket without an amount of its own is billed as another one; the first told wins.
_BILLED_AS: Final[dict[str, tuple[str, ...]]] = {
    "cache_read": ("input",),
    "cache_write": ("input",),
    "cache_write_1h": ("cache_write", "input"),
    "reasoning": ("output",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Amounts of calls whose whole input is over `input_tokens_above`, cached input included.

    Attributes:
        amounts: nano-dollars for a million tokens, in the order of BUCKETS; UNPRICED where none is known.
    """

    input_tokens_above: int
    amounts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one service tier of one model costs from an instant on.

    Attributes:
        matches: names of the model in lower case; one that ends in `*` stands for all that begin so.
        to_us: first instant it no longer holds; None: until the next price.
        steps: ascending by `input_tokens_above`, the first at -1, which no call is below.
        version: names these amounts and no others: a price that says anything else has another version.
    """

    provider: str
    model: str
    tier: str
    from_us: int
    to_us: int | None
    matches: tuple[str, ...]
    steps: tuple[Step, ...]
    version: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        said = repr((self.provider, self.model, self.tier, self.from_us, self.to_us, self.matches, self.steps))
        digest = hashlib.blake2b(said.encode(), digest_size=5).hexdigest()
        version = f"{self.provider}/{self.model}@{_rfc3339(self.from_us)[:10]}:{self.tier}#{digest}"
        object.__setattr__(self, "version", version)


def read_price(said: Mapping[str, Any], *, from_us: int) -> Price:
    """A price from its JSON members; amounts are `BUCKET_usd_per_mtok`.

    Args:
        from_us: when it begins where `effective_from` does not say so.

    Raises:
        RequestInvalid: a member is missing or not what it must be; the message names it.
    """
    provider, model = provider_of(_text(said, "provider")), _text(said, "model").lower()
    tier = _text({"tier": STANDARD, **said}, "tier").lower()
    if tier not in TIERS:
        raise RequestInvalid(f"tier {tier!r} is not one of {', '.join(TIERS)}")
    above = said.get("above", [])
    if not isinstance(above, list) or len(above) >= STEPS_MAX or not all(isinstance(one, Mapping) for one in above):
        raise RequestInvalid(f"above is not a list of fewer than {STEPS_MAX} objects")
    steps = [Step(input_tokens_above=-1, amounts=_amounts(said))]
    for one in above:
        start = one.get("input_tokens_above")
        if not isinstance(start, int) or isinstance(start, bool) or not steps[-1].input_tokens_above < start < 2**53:
            raise RequestInvalid("input_tokens_above must be whole numbers that ascend")
        steps.append(Step(input_tokens_above=start, amounts=_amounts(one)))
    begins = _instant(said, "effective_from")
    ends = _instant(said, "effective_to")
    begins = from_us if begins is None else begins
    if ends is not None and ends <= begins:
        raise RequestInvalid("effective_to is not after effective_from")
    return Price(
        provider=provider,
        model=model,
        tier=tier,
        from_us=begins,
        to_us=ends,
        matches=_matches(said, model),
        steps=tuple(steps),
    )


def price_json(price: Price) -> dict[str, Any]:
    """The members that `read_price` reads the same price from."""
    first, *more = price.steps
    ends = None if price.to_us is None else _rfc3339(price.to_us)
    return {
        "provider": price.provider,
        "model": price.model,
        "matches": list(price.matches),
        "tier": price.tier,
        "effective_from": _rfc3339(price.from_us),
        **({"effective_to": ends} if ends else {}),
        **_amounts_json(first),
        "above": [{"input_tokens_above": step.input_tokens_above, **_amounts_json(step)} for step in more],
    }


def price_text(price: Price) -> str:
    """`price_json` as text."""
    return json.dumps(price_json(price), sort_keys=True)


def _amounts_json(step: Step) -> dict[str, str]:
    told = zip(BUCKETS, step.amounts, strict=True)
    return {f"{name}_usd_per_mtok": str(Decimal(amount).scaleb(-9)) for name, amount in told if amount != UNPRICED}


def _amounts(said: Mapping[str, Any]) -> tuple[int, ...]:
    told = {name: _amount(said, f"{name}_usd_per_mtok") for name in BUCKETS}
    if told["input"] is None:
        raise RequestInvalid("input_usd_per_mtok is missing")
    found = []
    for name in BUCKETS:
        candidates = [told[one] for one in (name, *_BILLED_AS.get(name, ()))]
        found.append(next((one for one in candidates if one is not None), UNPRICED))
    return tuple(found)


def _amount(said: Mapping[str, Any], name: str) -> int | None:
    value = said.get(name)
    if value is None:
        return None
    try:
        amount = Decimal(str(value)).scaleb(9) if not isinstance(value, bool) else Decimal("NaN")
        if not amount.is_finite() or not 0 <= amount <= AMOUNT_MAX or amount != int(amount):
            raise RequestInvalid(f"{name} is not a price from 0 to {AMOUNT_MAX // 10**9} with nine decimals at most")
    except DecimalException as error:
        raise RequestInvalid(f"{name} is not a number") from error
    return int(amount)


def _matches(said: Mapping[str, Any], model: str) -> tuple[str, ...]:
    names = said.get("matches", [])
    fits = isinstance(names, list) and len(names) <= MATCHES_MAX
    if not fits or not all(isinstance(name, str) and 0 < len(name) <= _TEXT_MAX for name in names):
        raise RequestInvalid(f"matches is not a list of {MATCHES_MAX} names at most")
    return tuple(dict.fromkeys([model, *(name.lower() for name in names)]))


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _TEXT_MAX or not value.isprintable():
        raise RequestInvalid(f"{name} is not a text of 1 to {_TEXT_MAX} printable characters")
    return value


def _rfc3339(at_us: int) -> str:
    # Of integers: a float of microseconds would lose the last one.
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat()


def _instant(said: Mapping[str, Any], name: str) -> int | None:
    value = said.get(name)
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(str(value))
        if at.tzinfo is None:
            raise ValueError("no zone")
        return (at - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise RequestInvalid(f"{name} is not an instant like 2026-01-01T00:00:00Z") from error
