"""What goes wrong in the simulation, when, for whom, and how it should show: the ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cluster.sdk.client import utc

Mask = npt.NDArray[np.bool_]

# The end of what does not end.
FOR_GOOD_US: Final = 4_102_444_800_000_000
# Retries and the turns of an agent carry an incident's effect a little beyond a block.
_REACH_US: Final = 3_600_000_000

LATENCY_REGRESSION: Final = "latency_regression"
RETRY_STORM: Final = "retry_storm"
GUARDRAIL_BURST: Final = "guardrail_burst"
PRICE_CHANGE: Final = "price_change"
PROVIDER_OUTAGE: Final = "provider_outage"


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing gone wrong in [from_us, to_us).

    Attributes:
        entities: what it happens to: model, provider, users.
        size: how strong: a factor, or a chance, by kind.
        expectation: what a reader of the hub should find, in words and as (measure, direction).
    """

    kind: str
    from_us: int
    to_us: int
    entities: dict[str, Any]
    size: float
    expectation: dict[str, Any] = field(default_factory=dict)

    def covers(self, at_us: npt.NDArray[np.int64]) -> Mask:
        """Which instants lie inside."""
        return (at_us >= self.from_us) & (at_us < self.to_us)

    def truth(self) -> dict[str, Any]:
        """As the ground-truth file has it."""
        return {
            "kind": self.kind,
            "from": utc(self.from_us),
            "to": utc(self.to_us) if self.to_us < FOR_GOOD_US else None,
            "entities": self.entities,
            "size": self.size,
            "expectation": self.expectation,
        }


# (kind, begin as a share of the period, longest minutes, entities, size, expectation)
_PLAN: Final[tuple[tuple[str, float, float, dict[str, Any], float, dict[str, Any]], ...]] = (
    (
        LATENCY_REGRESSION,
        0.21,
        60,
        {"model": "claude-sonnet-4-5", "provider": "anthropic", "change": "registry.version.promoted"},
        2.6,
        {
            "measures": {"latency_ms_p95": "up", "ttft_ms_p50": "up"},
            "cause": "the version promoted at its begin",
            "text": "latency and time to first token of one model times 2.6, errors unchanged",
        },
    ),
    (
        RETRY_STORM,
        0.40,
        15,
        {"model": "gpt-4o-mini", "provider": "openai"},
        0.65,
        {
            "measures": {"request_count": "up", "error_ratio": "up"},
            "statuses": ["rate_limited"],
            "text": "65 % of the calls of one model are rate limited and sent again up to four times",
        },
    ),
    (
        GUARDRAIL_BURST,
        0.55,
        18,
        {"users": ["user-291", "user-292", "user-293", "user-294", "user-295"], "service": "support-chat"},
        6.0,
        {
            "measures": {"guardrail_count": "up", "guardrail_block_ratio": "up"},
            "text": "five users send prompt injections, which the guardrails block before any model is called",
        },
    ),
    (
        PRICE_CHANGE,
        0.67,
        0,
        {"model": "gpt-4o", "provider": "openai", "change": "registry.price.changed"},
        1.6,
        {
            "measures": {"cost_usd": "up"},
            "unchanged": ["request_count", "total_tokens"],
            "text": "every price of one model times 1.6 from its begin on",
        },
    ),
    (
        PROVIDER_OUTAGE,
        0.84,
        16,
        {"provider": "anthropic", "models": ["claude-sonnet-4-5", "claude-haiku-4-5"]},
        0.96,
        {
            "measures": {"error_ratio": "up", "request_count": "up"},
            "statuses": ["unavailable", "timeout"],
            "text": "96 % of the calls of one provider fail; the gateway falls back to another provider",
        },
    ),
)


def schedule(begin_us: int, period_us: int, count: int) -> list[Incident]:
    """Incidents of `count` periods from `begin_us` on; each period has one of each kind.

    The price of a model only changes in the first one.
    """
    out: list[Incident] = []
    for number in range(count):
        start = begin_us + number * period_us
        for kind, share, minutes, entities, size, expectation in _PLAN:
            if kind == PRICE_CHANGE and number:
                continue
            from_us = start + int(share * period_us)
            # A short period keeps its incidents apart from each other.
            length = min(int(minutes * 60e6), int(0.06 * period_us))
            to_us = from_us + length if minutes else FOR_GOOD_US
            out.append(Incident(kind, from_us, to_us, entities, size, expectation))
    return out


def near(incidents: Sequence[Incident], from_us: int, to_us: int) -> list[Incident]:
    """Those that may touch what begins in [from_us, to_us)."""
    return [one for one in incidents if one.from_us < to_us + _REACH_US and one.to_us > from_us - _REACH_US]


def of_kind(incidents: Sequence[Incident], kind: str) -> Iterator[Incident]:
    """Those of one kind."""
    return (incident for incident in incidents if incident.kind == kind)
