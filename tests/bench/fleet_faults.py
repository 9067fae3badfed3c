"""A simulated fleet of tenants and models with known faults among what only looks like one: what fleet detectors meet.

Published seeds, frozen before any detector was fitted or any threshold chosen: a change here makes new sets, not better
figures. Every entity is one tenant's use of one model, in windows of five minutes. Load has rhythms of day and week, a
common factor for each tenant and each model, and slow noise; counts are Poisson, sizes the means of heavy-tailed
requests, times rise with load and with what is read. Hard negatives, which are no
event: bursts, deploys, price changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from models.anomaly.series import Floats, Series

STEP_S: Final = 300
DAY: Final = 86_400 // STEP_S
FEATURES: Final = (
    *("requests_log", "error_share", "guardrail_block_share", "cache_read_share", "input_tokens_log"),
    *("output_tokens_log", "cost_per_token_log", "latency_ms_p50_log", "latency_ms_p95_log", "ttft_ms_p50_log"),
    *("tools_per_request_log", "tokens_per_s_log"),
)
KINDS: Final = (
    *("token_blow_up", "agent_loop", "retry_storm", "cost_spike", "slow_first_token", "slow_decoding"),
    *("cache_collapse", "guardrail_burst", "error_burst", "silent_drop"),
)
MAGNITUDES: Final = (1.5, 2.0, 3.0)
# Whom a kind happens to: one tenant's use of one model, all of a tenant, or all users of a model.
SCOPES: Final = {
    "slow_first_token": "model",
    "slow_decoding": "model",
    "guardrail_burst": "tenant",
    "silent_drop": "tenant",
}
# What a kind changes: by the magnitude to this power, or None: by points of a share.
EFFECTS: Final[dict[str, tuple[tuple[str, float | None], ...]]] = {
    "token_blow_up": (("input", 1.0),),
    "agent_loop": (("tools", 1.0), ("requests", 0.5)),
    "retry_storm": (("requests", 1.0), ("errors", None)),
    "cost_spike": (("price", 1.0),),
    "slow_first_token": (("first", 1.0),),
    "slow_decoding": (("rate", -1.0),),
    "cache_collapse": (("cached", -1.0),),
    "guardrail_burst": (("blocks", None),),
    "error_burst": (("errors", None),),
    "silent_drop": (("requests", -1.0),),
}
# Points of a share for each step of magnitude over 1, for kinds that have no factor.
_SHARE_STEP: Final = 0.05
_SHRINK: Final = 20


@dataclass(frozen=True, slots=True)
class Fleet:
    """Sizes and habits of one world."""

    tenants: int
    models: int
    train_days: int
    test_days: int
    each: int
    load_sigma: float
    own_sigma: float
    week: float
    length: tuple[int, int]
    ramp: int
    tail: float
    seed: int


FLEETS: Final = {
    "fleet": Fleet(8, 3, 21, 14, 7, 0.15, 0.06, 0.35, (9, 24), 1, 6.0, 4_117),
    "fleet_check": Fleet(6, 4, 21, 14, 7, 0.22, 0.08, 0.6, (12, 36), 4, 4.0, 90_211),
}


@dataclass(frozen=True, slots=True)
class Event:
    """One fault: rows [start, stop) of the test, in the entities named."""

    kind: str
    magnitude: float
    start: int
    stop: int
    entities: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was done on purpose and that a registry tells of: a deploy or a new price."""

    kind: str
    row: int
    entities: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """All of it.

    Attributes:
        series: of each entity, training days first.
        tenants, models: number of each entity's.
        split: first row of the test.
        events: with rows counted from the start of the series.
    """

    series: list[Series]
    tenants: list[int]
    models: list[int]
    split: int
    events: list[Event]
    changes: list[Change]


@dataclass(slots=True, eq=False)
class _State:
    """(n, entities) of what is behind the measures, before noise."""

    requests: Floats
    errors: Floats
    blocks: Floats
    cached: Floats
    input: Floats
    output: Floats
    price: Floats
    first: Floats
    rate: Floats
    tools: Floats
    changes: list[Change] = field(default_factory=list)


def simulate(name: str, *, seed: int) -> Simulated:
    """The fleet of that name with one of its seeds."""
    fleet = FLEETS[name]
    source = np.random.default_rng(fleet.seed + seed)
    count, rows = fleet.tenants * fleet.models, (fleet.train_days + fleet.test_days) * DAY
    tenants, models = np.divmod(np.arange(count), fleet.models)
    state = _usual(fleet, source, rows)
    _hard_negatives(fleet, source, state)
    split = fleet.train_days * DAY
    events = _events(fleet, source, split, rows)
    for event in events:
        _apply(event, state, fleet.ramp)
    values = _measured(fleet, source, state)
    series = [Series(values[:, number].astype(np.float32), FEATURES, STEP_S, 0) for number in range(count)]
    return Simulated(series, tenants.tolist(), models.tolist(), split, events, state.changes)


def _slow(source: np.random.Generator, shape: tuple[int, int], memory: float) -> Floats:
    """Autoregressive noise of unit variance."""
    noise = source.standard_normal(shape) * np.sqrt(1 - memory**2)
    noise[0] /= np.sqrt(1 - memory**2)
    for row in range(1, shape[0]):
        noise[row] += memory * noise[row - 1]
    return noise


def _usual(fleet: Fleet, source: np.random.Generator, rows: int) -> _State:
    count = fleet.tenants * fleet.models
    tenant, model = np.divmod(np.arange(count), fleet.models)
    time = np.arange(rows)[:, None] / DAY
    phase, depth = source.uniform(0, 1, fleet.tenants), source.uniform(0.3, 0.9, fleet.tenants)
    season = depth[tenant] * np.sin(2 * np.pi * (time + phase[tenant])) - fleet.week * ((time % 7) >= 5)
    common = fleet.load_sigma * _slow(source, (rows, fleet.tenants), 0.985)[:, tenant]
    provider = 0.5 * fleet.load_sigma * _slow(source, (rows, fleet.models), 0.97)[:, model]
    own = fleet.own_sigma * _slow(source, (rows, count), 0.8)
    base = np.exp(source.uniform(np.log(60), np.log(2_500), count))
    load = season + common + provider

    def level(low: float, high: float, sigma: float) -> Floats:
        middle = np.exp(source.uniform(np.log(low), np.log(high), count))
        return np.asarray(middle * np.exp(sigma * _slow(source, (rows, count), 0.9)))

    speed = np.exp(0.05 * _slow(source, (rows, fleet.models), 0.95))[:, model]
    return _State(
        requests=base * np.exp(load + own),
        errors=level(0.004, 0.015, 0.1),
        blocks=level(0.005, 0.02, 0.1),
        cached=np.clip(level(0.15, 0.6, 0.04), 0, 0.9),
        input=level(500, 4_000, 0.04),
        output=level(100, 500, 0.04),
        price=np.exp(source.uniform(np.log(1), np.log(10), fleet.models))[model] * level(0.98, 1.02, 0.01),
        first=level(150, 700, 0.03) * np.exp(0.25 * load) / speed,
        rate=level(30, 120, 0.02) * np.exp(-0.1 * load) * speed,
        tools=level(0.3, 2.0, 0.05),
    )


def _hard_negatives(fleet: Fleet, source: np.random.Generator, state: _State) -> None:
    """Bursts of honest load every two days a tenant, a deploy a week for each, three price changes in all."""
    rows, count = state.requests.shape
    tenant, model = np.divmod(np.arange(count), fleet.models)
    for one in range(fleet.tenants):
        for _ in range(rows // (2 * DAY)):
            start, length = int(source.integers(0, rows)), int(source.integers(6, 30))
            height = float(source.uniform(0.3, 0.9))
            part = np.ix_(np.arange(start, min(start + length, rows)), np.flatnonzero(tenant == one))
            state.requests[part] *= np.exp(height)
            state.first[part] *= np.exp(0.25 * height)
            state.rate[part] *= np.exp(-0.1 * height)
        for week in range(rows // (7 * DAY)):
            at, of = int(week * 7 * DAY + source.integers(DAY, 6 * DAY)), int(source.integers(0, fleet.models))
            entity = one * fleet.models + of
            state.input[at:, entity] *= np.exp(source.uniform(-0.12, 0.12))
            state.output[at:, entity] *= np.exp(source.uniform(-0.12, 0.12))
            state.changes.append(Change("deploy", at, (entity,)))
    for _ in range(3):
        at, of = int(source.integers(2 * DAY, rows)), int(source.integers(0, fleet.models))
        users = np.flatnonzero(model == of)
        state.price[at:, users] *= np.exp(source.choice([-1, 1]) * source.uniform(0.1, 0.3))
        state.changes.append(Change("price", at, tuple(users.tolist())))


def _events(fleet: Fleet, source: np.random.Generator, split: int, rows: int) -> list[Event]:
    """`each` of every kind and magnitude, at random places, no two in one entity within two hours of each other."""
    count = fleet.tenants * fleet.models
    tenant, model = np.divmod(np.arange(count), fleet.models)
    busy = np.zeros((rows, count), bool)
    wanted = [(kind, size) for kind in KINDS for size in MAGNITUDES for _ in range(fleet.each)]
    # Those that take many entities first, while there is room.
    wanted.sort(key=lambda one: {"model": 0, "tenant": 1}.get(SCOPES.get(one[0], ""), 2))
    found = []
    for kind, magnitude in wanted:
        while True:
            entity, length = int(source.integers(0, count)), int(source.integers(*fleet.length))
            start = int(source.integers(split + 12, rows - length - 24))
            scope = SCOPES.get(kind)
            held = tenant == tenant[entity] if scope == "tenant" else model == model[entity]
            entities = np.flatnonzero(held) if scope else np.array([entity])
            if not busy[start - 24 : start + length + 24, entities].any():
                break
        busy[start : start + length, entities] = True
        found.append(Event(kind, magnitude, start, start + length, tuple(entities.tolist())))
    return sorted(found, key=lambda one: one.start)


def _apply(event: Event, state: _State, ramp: int) -> None:
    part = np.ix_(np.arange(event.start, event.stop), np.array(event.entities))
    rising = np.minimum(np.arange(1, event.stop - event.start + 1) / ramp, 1.0)[:, None]
    for name, power in EFFECTS[event.kind]:
        values: Floats = getattr(state, name)
        if power is None:
            values[part] += _SHARE_STEP * (event.magnitude - 1) * rising
        else:
            values[part] *= event.magnitude ** (power * rising)


def _measured(fleet: Fleet, source: np.random.Generator, state: _State) -> Floats:
    """(n, entities, features) as they would be read from roll-ups: counted, averaged, with noise by volume."""
    shape = state.requests.shape
    requests = source.poisson(state.requests)
    volume = np.maximum(requests, 1)

    def mean(level: Floats, sigma: float) -> Floats:
        # Heavier than normal: the mean of few heavy-tailed requests strays.
        stray = source.standard_t(fleet.tail, shape) * np.sqrt((fleet.tail - 2) / fleet.tail)
        return np.asarray(np.log(level) + sigma * stray / np.sqrt(volume))

    def share(level: Floats) -> Floats:
        return np.asarray(np.sqrt((source.binomial(volume, np.clip(level, 0, 1)) + 0.2) / (volume + _SHRINK)))

    read = state.input * (1 - 0.9 * state.cached)
    # Reading is a third of the time to the first token.
    first = state.first * (0.67 + 0.33 * read / np.median(read, axis=0))
    writing = 1_000 * state.output / state.rate
    tokens = state.input * (1 - 0.5 * state.cached) + 4 * state.output
    cost = state.price * tokens / (state.input + state.output)
    columns = (
        np.log1p(requests), share(state.errors), share(state.blocks), mean(state.cached, 0.4),
        mean(state.input, 0.9), mean(state.output, 0.8), mean(cost, 0.3), mean(first + writing, 0.5),
        mean(1.8 * first + 2.2 * writing, 0.9), mean(first, 0.4), mean(state.tools, 1.0), mean(state.rate, 0.3),
    )  # fmt: skip
    values = np.stack(columns, axis=2)
    values[requests < 1] = np.nan
    return values
