"""Faults at random over a real hub while senders send; after each, what was promised must hold.

`llmhub bench chaos [--faults 200] [--seed N] [--seconds S]` prints figures as JSON. The seed decides the faults, their
order and what senders send; when each happens depends on the machine.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from cluster.errors import HubError
from infra.runtime import processes
from tests.journeys.chaos_checks import differences, settled_ledger
from tests.journeys.chaos_faults import FAULTS, NOISY_TENANT, OF_HEAD, ON_SMALL_DISK, Ground
from tests.journeys.chaos_senders import Senders
from tests.journeys.local_hub import LocalHub, local_hub

DISK_BYTES = 4 * 1024**3
DEADLINE_S = 180.0


@dataclass(frozen=True)
class Outcome:
    """One fault.

    Attributes:
        acknowledged_s: from the fault, or its end where it lasts, to the acknowledgement of a batch sent after it.
        settled_s: likewise, until nothing was in flight and the ledger's difference was 0; senders pause for it.
        violations: what did not hold afterwards.
    """

    kind: str
    acknowledged_s: float
    settled_s: float
    violations: list[str] = field(default_factory=list)


def plan(seed: int, count: int, *, has_disk: bool) -> list[str]:
    """Kinds of faults in the order they happen: decks of all kinds by their weights, shuffled one after the other."""
    random, kinds = Random(seed), []
    deck = [
        kind for kind, (_, weight) in FAULTS.items() for _ in range(weight) if has_disk or kind not in ON_SMALL_DISK
    ]
    while len(kinds) < count:
        kinds += random.sample(deck, len(deck))
    return kinds[:count]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of its own on a file under `folder`; None where this user may not mount one."""
    image, point = folder / "disk.img", folder / "disk"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], capture_output=True, check=False).returncode == 0
    if not made or subprocess.run(["mount", "-o", "loop", image, point], capture_output=True, check=False).returncode:
        image.unlink()
        yield None
        return
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=False)
        image.unlink()


class Run:
    """One run over one hub."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.outcomes: list[Outcome] = []

    def one(self, kind: str) -> Outcome:
        """Make one fault happen, wait until the hub is back, and look whether everything holds."""
        ground, (fault, _) = self._ground, FAULTS[kind]
        senders, hub = ground.senders, ground.hub
        # The fault's own proof that it happened needs a hub that works.
        senders.wait_acknowledged(time.monotonic(), deadline_s=DEADLINE_S)
        # A restarted hub's state file says how often; the next fault waits for the new head.
        recoveries = hub.state.recoveries
        began_s = fault(ground)
        acknowledged_s = senders.wait_acknowledged(began_s, deadline_s=DEADLINE_S)
        if kind in OF_HEAD:
            back = processes.wait_until(lambda: _is_back(hub, recoveries), deadline_s=DEADLINE_S)
            assert back, f"the hub is not back {DEADLINE_S:.0f} s after {kind!r}"
        senders.pause(deadline_s=DEADLINE_S)
        ledger = settled_ledger(hub, senders.told, deadline_s=60.0)
        settled_s = time.monotonic() - began_s
        violations = differences(hub.layout.data / "lake" / "local", senders.told, ledger)
        violations += _unanswered_questions(hub)
        outcome = Outcome(kind, round(acknowledged_s, 3), round(settled_s, 3), violations)
        self.outcomes.append(outcome)
        senders.resume()
        return outcome

    def one_told(self, kind: str) -> Outcome:
        """As `one`; a fault that did not happen, or a hub that does not come back, is a violation."""
        try:
            return self.one(kind)
        except (AssertionError, TimeoutError, ValueError, HubError) as error:
            self.outcomes.append(Outcome(kind, DEADLINE_S, DEADLINE_S, [f"{type(error).__name__}: {error}"]))
            return self.outcomes[-1]

    def figures(self) -> dict[str, Any]:
        """All figures of the run so far."""
        told = self._ground.senders.told
        kinds = Counter(outcome.kind for outcome in self.outcomes)
        return {
            "faults": len(self.outcomes),
            "violations": [asdict(one) for one in self.outcomes if one.violations],
            "wrong_answers": told.wrong,
            "rows_sent": told.sent,
            "rows_acknowledged": len(told.acknowledged),
            "answers": dict(told.answers),
            "acknowledged_s": quantiles([one.acknowledged_s for one in self.outcomes]),
            "settled_s": quantiles([one.settled_s for one in self.outcomes]),
            "by_kind": {
                kind: {
                    "count": count,
                    "acknowledged_s": [one.acknowledged_s for one in self.outcomes if one.kind == kind],
                    "settled_s": [one.settled_s for one in self.outcomes if one.kind == kind],
                }
                for kind, count in sorted(kinds.items())
            },
        }


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and the longest; empty without values."""
    if not seconds:
        return {}
    cuts = statistics.quantiles(seconds, n=20, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 19
    return {"p50": round(cuts[9], 2), "p95": round(cuts[18], 2), "longest": round(max(seconds), 2)}


def run(folder: Path, kinds: Sequence[str] | int, seed: int, *, seconds: float = float("inf")) -> dict[str, Any]:
    """A run over a fresh hub under `folder`.

    Args:
        kinds: of the faults in order, or how many to draw by the seed.
        seconds: no fault begins later than this after the start of the hub.
    """
    with small_disk(folder) as disk:
        chosen = plan(seed, kinds, has_disk=disk is not None) if isinstance(kinds, int) else list(kinds)
        # What a fault doubles is to be seen, not taken out.
        with local_hub((disk or folder) / "data", shards=2, ingress_replicas=1, repeats_s=0) as hub:
            _make_tenant(hub)
            senders = Senders(hub, seed)
            journey = Run(Ground(hub, senders, Random(f"faults-{seed}"), disk))
            end_s = time.monotonic() + seconds
            try:
                for number, kind in enumerate(chosen, 1):
                    if time.monotonic() > end_s:
                        break
                    outcome = journey.one_told(kind)
                    _tell(number, outcome)
                    if outcome.violations:
                        break
            finally:
                senders.stop()
        return {"seed": seed, "small_disk": disk is not None, **journey.figures()}


def is_sound(figures: dict[str, Any]) -> bool:
    """Whether nothing was lost, doubled, or told wrong."""
    return not figures["violations"] and not figures["wrong_answers"] and figures["rows_acknowledged"] > 0


def _make_tenant(hub: LocalHub) -> None:
    made = hub.status_of("/api/v1/tenants", f'{{"tenant_id": "{NOISY_TENANT}", "name": "Noisy"}}'.encode())
    assert made in (200, 201, 409), made


def _is_back(hub: LocalHub, recoveries: int) -> bool:
    return hub.state.recoveries > recoveries and hub.state.phase == "ready"


def _unanswered_questions(hub: LocalHub) -> list[str]:
    """A question of each way of asking, which must be answered again within the deadline."""
    failed = []
    for path, body in (("/api/v1/metrics/aggregates?measure=event_count&from=-2h", None), ("/api/v1/sql", _SQL)):
        if not processes.wait_until(lambda: hub.status_of(path, body) == 200, deadline_s=60.0):  # noqa: B023
            failed.append(f"{path} is not answered")
    return failed


_SQL = b'{"sql": "SELECT count(*) FROM events"}'


def _tell(number: int, outcome: Outcome) -> None:
    told = f"{outcome.acknowledged_s:6.2f} s  {outcome.settled_s:6.2f} s  {'; '.join(outcome.violations) or 'sound'}"
    print(f"{number:4d} {outcome.kind:30s} {told}", file=sys.stderr, flush=True)
