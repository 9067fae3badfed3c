"""How long rows stay in which form: whole, by hours, by days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cluster.errors import RequestInvalid

DAYS_MAX: Final = 36_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Days, 0 for ever; each at least as long as the one before.

    Attributes:
        hot_days: events, dead letters and minute roll-ups.
        warm_days: hour roll-ups.
        cold_days: day roll-ups.
    """

    hot_days: int = 30
    warm_days: int = 90
    cold_days: int = 365

    def check(self) -> None:
        """Raises:
        RequestInvalid: a value is out of its range, or a coarser form would go before a finer one.
        """
        ages = (self.hot_days, self.warm_days, self.cold_days)
        if not all(0 <= days <= DAYS_MAX for days in ages):
            raise RequestInvalid(f"hot_days, warm_days and cold_days are from 0, for ever, to {DAYS_MAX}")
        lasting = [days or DAYS_MAX + 1 for days in ages]
        if lasting != sorted(lasting):
            raise RequestInvalid(
                "hot_days, warm_days and cold_days must not fall",
                hint="Hours are kept at least as long as events, and days at least as long as hours.",
            )


def kept_days(table: str, retention: Retention) -> int:
    """Days that a table of the lake keeps its rows; 0 for ever."""
    if table == "rollup_1h":
        return retention.warm_days
    if table == "rollup_1d":
        return retention.cold_days
    return retention.hot_days
