"""The price book: which price holds for a model, a tier and an instant. Immutable; a change makes another book."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from cluster.contract.prices import Price

Timeline = tuple[tuple[int, Price | None], ...]

_ALWAYS: Final = -(2**62)
_TIMELINES_KEPT: Final = 8_192


class PriceBook:
    """Prices of everybody and of single tenants; one of a tenant's own goes before everybody's while it holds.

    Args:
        owned: (tenant, price); "" stands for everybody. Of two that begin at one instant the later in the row wins.
    """

    def __init__(self, owned: Iterable[tuple[str, Price]]) -> None:
        self._exact: dict[tuple[str, str, str, str], list[Price]] = {}
        self._prefixes: dict[tuple[str, str, str], set[str]] = {}
        for tenant, price in owned:
            for name in price.matches:
                self._exact.setdefault((tenant, price.provider, price.tier, name), []).append(price)
                if name.endswith("*"):
                    self._prefixes.setdefault((tenant, price.provider, price.tier), set()).add(name)
        self.timeline = lru_cache(_TIMELINES_KEPT)(self._timeline)

    def at(self, tenant: str, names: tuple[str, str, str], at_us: int) -> Price | None:
        """The price of (provider, model, tier) at an instant; None where none is known."""
        holds = None
        for from_us, price in self.timeline(tenant, *names):
            if from_us <= at_us:
                holds = price
        return holds

    def _timeline(self, tenant: str, provider: str, model: str, tier: str) -> Timeline:
        """What holds from when on, ascending from the beginning of time; None is no price."""
        name = model.lower().removeprefix(f"{provider}/")
        layers = [self._of((owner, provider, tier), name) for owner in (tenant, "")]
        starts = {at for layer in layers for price in layer for at in (price.from_us, price.to_us) if at is not None}
        told: list[tuple[int, Price | None]] = [(_ALWAYS, None)]
        for at_us in sorted(starts):
            holding = next((price for layer in layers if (price := _holding(layer, at_us)) is not None), None)
            if holding is not told[-1][1]:
                told.append((at_us, holding))
        return tuple(told)

    def _of(self, owner: tuple[str, str, str], name: str) -> list[Price]:
        found = self._exact.get((*owner, name))
        if found is not None:
            return found
        # The longest beginning is the closest kin.
        fitting = [one for one in self._prefixes.get(owner, ()) if name.startswith(one[:-1])]
        return self._exact[*owner, max(fitting, key=len)] if fitting else []


def _holding(layer: list[Price], at_us: int) -> Price | None:
    begun = [price for price in layer if price.from_us <= at_us and (price.to_us is None or at_us < price.to_us)]
    # The last of the greatest: max() would take the first.
    return max(reversed(begun), key=lambda price: price.from_us, default=None)
