"""The critical path: for every instant of a trace, the span that held it up.

Source: Zhang et al., "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures", USENIX ATC 2022: walk
back from the end of the root; what ran last before the walker's instant decided it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# (start, end, ids of the children), microseconds.
Interval = tuple[int, int, Sequence[str]]


def critical_times(root: str, spans: Mapping[str, Interval]) -> dict[str, int]:
    """Microseconds that each span on the critical path of `root` held it up; they add up to the root's duration.

    Args:
        spans: intervals by id, a tree below `root`. A child may outlive its parent or start before it: it counts
            for the part in which the parent waited.
    """
    times: dict[str, int] = {root: 0}
    start, end, _ = spans[root]
    # (span, instants between which it is to be explained); explicit, since a trace may be thousands of spans deep.
    stack = [(root, start, end)]
    while stack:
        name, low, at = stack.pop()
        children = sorted((spans[child] + (child,) for child in spans[name][2]), key=lambda one: (one[1], one[0]))
        own = 0
        for child_start, child_end, _, child in reversed(children):
            until = min(child_end, at)
            since = max(child_start, low)
            if until <= since:
                continue
            own += at - until
            stack.append((child, since, until))
            at = since
        times[name] = times.get(name, 0) + own + max(0, at - low)
    return times
