"""How large a part of each tenant's rows was refused lately, and who is above the limit."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import structlog

from cluster.clock import Clock
from cluster.metadata.tenants import TENANTS_MAX
from cluster.settings import Settings

# Below this a share says nothing: one bad row of two is no alarm.
_ROWS_MIN: Final = 100

_log = structlog.get_logger("dead_letters")


@dataclass(slots=True)
class _Half:
    rows: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Window:
    """The half window that runs since `began_s`, and the one before it."""

    began_s: float
    current: _Half
    before: _Half
    is_above: bool = False


class DeadLetterAlarm:
    """Shares over between half a window and a whole one, of the rows that came through this replica."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._share_max = settings.dead_letter_share_max
        self._half_s = settings.dead_letter_window_s / 2
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def record(self, tenant: str, *, rows: int, refused: int) -> None:
        """Note the rows of one body; the log says when its tenant passes the limit, once each way."""
        window = self._windows.setdefault(tenant, _Window(self._clock.monotonic_s(), _Half(), _Half()))
        self._windows.move_to_end(tenant)
        if len(self._windows) > TENANTS_MAX:
            self._windows.popitem(last=False)
        self._turn(window)
        window.current.rows += rows
        window.current.refused += refused
        share = self._share(window)
        if (share > self._share_max) != window.is_above:
            window.is_above = not window.is_above
            event = "dead_letter_share_high" if window.is_above else "dead_letter_share_normal"
            _log.warning(event, tenant=tenant, share=round(share, 4), limit=self._share_max)

    def shares(self) -> dict[str, float]:
        """Part of each tenant's rows that was refused, 0 to 1; 0 where too few came to tell."""
        for window in self._windows.values():
            self._turn(window)
        return {tenant: self._share(window) for tenant, window in self._windows.items()}

    def above(self) -> int:
        """Tenants over the limit now."""
        return sum(share > self._share_max for share in self.shares().values())

    def _turn(self, window: _Window) -> None:
        halves = int((self._clock.monotonic_s() - window.began_s) / self._half_s)
        if halves:
            window.before = window.current if halves == 1 else _Half()
            window.current = _Half()
            window.began_s += halves * self._half_s

    def _share(self, window: _Window) -> float:
        rows = window.current.rows + window.before.rows
        return (window.current.refused + window.before.refused) / rows if rows >= _ROWS_MIN else 0.0
