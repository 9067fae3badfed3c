"""How well events of a fleet are found at a false alarm a tenant and day: on the frozen fleet and on its check.

An event is found when an alarm of one of its entities begins while it lasts; an alarm that goes on from before finds
nothing, so that a detector that always alarms finds nothing either. Every alarm of an entity counts for its tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from models.anomaly import neighbourhood
from models.anomaly.fleet_series import FleetSeries, Usual
from models.anomaly.series import Floats
from models.anomaly.tails import Tail
from models.anomaly.threshold import MERGE_S, decide
from tests.bench import fleet_faults
from tests.bench.fleet_faults import Simulated

BUDGET_PER_DAY: Final = 1.0


def fleet_of(simulated: Simulated) -> FleetSeries:
    """As the detector wants it."""
    tenants, models = (tuple(map(str, one)) for one in (simulated.tenants, simulated.models))
    names = tuple(f"tenant {tenant}, model {model}" for tenant, model in zip(tenants, models, strict=True))
    return FleetSeries(names, tuple(simulated.series), (("tenant", tenants), ("model", models)))


def scorers(simulated: Simulated, seed: int) -> Iterator[tuple[str, Floats]]:
    """(n, e) trailing scores of every row of the table, fitted on the training days alone."""
    fleet, split = fleet_of(simulated), simulated.split
    early = fleet.part(0, split)
    yield "random", np.random.default_rng(seed).exponential(1.0, (fleet.rows, len(fleet.entities)))
    usual = Usual.fit(early, split)
    for name, off in zip(("seasonal z", "joint residual of PCA"), usual.apart(fleet), strict=True):
        highest = np.abs(off).max(axis=2)
        columns = [Tail.fit(one[:split]).surprise(one) for one in highest.T]
        yield name, np.stack(columns, axis=1)
    alone = FleetSeries(fleet.entities, fleet.series)
    yield "neighbourhood, no groups", neighbourhood.fit(alone.part(0, split)).score(alone).score
    yield "neighbourhood", neighbourhood.fit(early).score(fleet).score


def judge(simulated: Simulated, scores: Floats) -> dict[str, float]:
    """Recall by magnitude and kind, false alarms a tenant and day, precision, delay in windows, time alarmed."""
    split, gap = simulated.split, max(1, MERGE_S // fleet_faults.STEP_S)
    tenants = np.array(simulated.tenants)
    found: dict[int, int] = {}
    raised = false = held = 0
    for tenant in sorted(set(simulated.tenants)):
        members = np.flatnonzero(tenants == tenant)
        level = neighbourhood.threshold(
            scores[:split, members], step_s=fleet_faults.STEP_S, budget_per_day=BUDGET_PER_DAY
        )
        for entity in members.tolist():
            for alarm in decide(scores[split:, entity], level):
                start, end = alarm.start + split, alarm.end + split
                raised, held = raised + 1, held + end - start
                met = [
                    number
                    for number, event in enumerate(simulated.events)
                    if entity in event.entities and start < event.stop + gap and end > event.start
                ]
                false += not met
                for number in met:
                    event = simulated.events[number]
                    if event.start <= start < event.stop:
                        found[number] = min(found.get(number, 10**6), start - event.start)
    days = (scores.shape[0] - split) * fleet_faults.STEP_S / 86_400
    line = {
        "false_per_tenant_day": false / days / len(set(simulated.tenants)),
        "precision": (raised - false) / max(raised, 1),
        "delay_p50": float(np.median(list(found.values()))) if found else float("nan"),
        "delay_p90": float(np.quantile(list(found.values()), 0.9)) if found else float("nan"),
        "alarmed_share": held / scores[split:].size,
    }
    for column, chosen in _groups(simulated):
        line[column] = float(np.mean([number in found for number in chosen]))
    return line


def _groups(simulated: Simulated) -> Iterator[tuple[str, list[int]]]:
    events = list(enumerate(simulated.events))
    for size in fleet_faults.MAGNITUDES:
        yield f"x{size:g}", [number for number, event in events if event.magnitude == size]
    for kind in fleet_faults.KINDS:
        yield kind, [number for number, event in events if event.kind == kind]


def measure(world: str, seeds: list[int], told: Callable[[dict[str, Any]], None]) -> None:
    """Means over seeds."""
    columns: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        simulated = fleet_faults.simulate(world, seed=seed)
        for name, scores in scorers(simulated, seed):
            for column, value in judge(simulated, scores).items():
                columns.setdefault(name, {}).setdefault(column, []).append(value)
        told(
            {
                name: {column: round(float(np.mean(values)), 3) for column, values in line.items()}
                | {f"x{size:g}_sd": round(float(np.std(line[f"x{size:g}"])), 3) for size in fleet_faults.MAGNITUDES}
                | {"seeds": len(line["precision"])}
                for name, line in columns.items()
            }
        )


def show(lines: dict[str, Any]) -> str:
    """The table as text."""
    shown = tuple(f"x{size:g}" for size in fleet_faults.MAGNITUDES)
    shown += ("false_per_tenant_day", "precision", "delay_p50", "delay_p90", "alarmed_share")
    text = [f"{'':32}" + " ".join(f"{column:>11.11}" for column in shown)]
    text += [f"{name:32}" + " ".join(f"{line[column]:11.3f}" for column in shown) for name, line in lines.items()]
    return "\n".join(text)
