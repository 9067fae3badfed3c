"""The sum over the buckets of each call, in one compiled pass: which price holds, which step, what is owed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.compiled import compiled
from cluster.contract.prices import BUCKETS, UNPRICED

Ints = npt.NDArray[np.int64]

_MILLION = 1_000_000
_BUCKETS = len(BUCKETS)


class Plan(NamedTuple):
    """The prices of a batch.

    Attributes:
        starts, owners: (lines, m) from when on which price holds for a line of names, ascending; -1 is none.
        above: (prices, k) input tokens that each step is above.
        first: (prices,) row of the first step in `amounts`.
        amounts: (steps, buckets) nano-dollars for a million tokens.
    """

    starts: Ints
    owners: Ints
    above: Ints
    first: Ints
    amounts: Ints


class Usage(NamedTuple):
    """Calls, (n,) each: the line of names, the instant, inclusive counts of tokens, cache writes kept for an hour."""

    lines: Ints
    at_us: Ints
    input: Ints
    cache_read: Ints
    cache_write: Ints
    hour_write: Ints
    output: Ints
    reasoning: Ints
    other_modal: Ints


@compiled
def charge(usage: Usage, plan: Plan, owed: tuple[Ints, Ints], steps: Ints) -> None:
    """Fill in what each call owes.

    Args:
        owed: (n,) nano-dollars and (n,) millionths of one, both not negative; the latter is -1 where no price
            holds or a bucket in use has no amount.
        steps: (n,) row of `amounts` that was used, 0 where none was.
    """
    whole, millionths = owed
    for row in range(steps.size):
        whole[row], millionths[row], steps[row] = 0, -1, 0
        line = usage.lines[row]
        owner = plan.owners[line, 0]
        for column in range(1, plan.starts.shape[1]):
            if usage.at_us[row] >= plan.starts[line, column]:
                owner = plan.owners[line, column]
        if owner < 0:
            continue
        sent, read, write = usage.input[row], usage.cache_read[row], usage.cache_write[row]
        step = plan.first[owner]
        for column in range(1, plan.above.shape[1]):
            step += sent > plan.above[owner, column]
        hour = min(usage.hour_write[row], write)
        reasoning = usage.reasoning[row]
        # In the order of BUCKETS.
        counts = (
            *(sent - read - write, read, write - hour, hour),
            *(usage.output[row] - reasoning, reasoning, usage.other_modal[row]),
        )
        total = rest = 0
        payable = True
        for bucket in range(_BUCKETS):
            count, each = counts[bucket], plan.amounts[step, bucket]
            if not count:
                continue
            payable = payable and each != UNPRICED
            # Millions apart from the rest: both products then fit 64 bits whatever the count.
            total += count // _MILLION * each
            rest += count % _MILLION * each
        if payable and total >= 0 and rest >= 0:
            whole[row], millionths[row], steps[row] = total, rest, step
