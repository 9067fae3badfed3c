"""How well events of a fleet are found at a false alarm a tenant and day: on the frozen fleet and on its check.

The graph network has all features of all entities as its nodes, and judges an entity by the feature that is furthest
off what it should be, as the plain baselines do: once with those called together as neighbours, once with those that
are correlated most, and once, the twin, with none.

An event is found when an alarm of one of its entities begins while it lasts; an alarm that goes on from before finds
nothing, so that a detector that always alarms finds nothing either. Every alarm of an entity counts for its tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np

from models.anomaly import gnn_metric, neighbourhood
from models.anomaly.calibrated import fitting_rows
from models.anomaly.fleet import Units, residuals_of
from models.anomaly.fleet_series import FleetSeries, Usual
from models.anomaly.series import Floats
from models.anomaly.side_by_side import columns_of, side_by_side
from models.anomaly.side_by_side import split as split_column
from models.anomaly.tails import Tail
from models.anomaly.threshold import MERGE_S, decide
from models.anomaly.training import train
from tests.bench import fleet_faults
from tests.bench.fleet_faults import Simulated

BUDGET_PER_DAY: Final = 1.0
GRAPHS: Final = {
    "gnn_metric, called together": {"edges": True, "related": True},
    "gnn_metric, by correlation": {"edges": True, "related": False},
    "gnn_metric, no edges": {"edges": False, "related": False},
}


def fleet_of(simulated: Simulated) -> FleetSeries:
    """As the detector wants it."""
    tenants, models = (tuple(map(str, one)) for one in (simulated.tenants, simulated.models))
    names = tuple(f"tenant={tenant},model={model}" for tenant, model in zip(tenants, models, strict=True))
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
    for name, how in GRAPHS.items():
        yield name, _by_graph(fleet, split, how, seed)


def _by_graph(fleet: FleetSeries, split: int, how: dict[str, bool], seed: int) -> Floats:
    """(n, e) trailing scores of a graph over all features of all entities."""
    named = dict(zip(fleet.entities, fleet.series, strict=True))
    units = Units.fit({name: one.part(0, split) for name, one in named.items()}, seasons=True)
    apart = residuals_of(units, named)
    columns = columns_of(apart, fleet.series[0].features)
    whole = side_by_side(apart, columns)
    recipe = gnn_metric.recipe(columns, edges=how["edges"])
    if recipe.relations and not how["related"]:
        relations = replace(recipe.relations, together=np.zeros_like(recipe.relations.together))
        recipe = replace(recipe, relations=relations)
    fitted = train(recipe, [whole.part(0, split)], seed=seed, progress=None)
    off = fitted.model.deviation(fitted.scaling.apply(whole), trailing=True) / fitted.calibrations[True].scale
    entities = [split_column(column)[0] for column in columns]
    highest = np.stack(
        [off[:, [name == one for one in entities]].max(axis=1, initial=0.0) for name in fleet.entities], axis=1
    )
    unknown = np.isnan(highest).all(axis=1)
    early = fitting_rows(whole.part(0, split))
    told = np.stack([Tail.fit(one[early:split]).surprise(one) for one in np.nan_to_num(highest).T], axis=1)
    told[unknown] = np.nan
    return told


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
