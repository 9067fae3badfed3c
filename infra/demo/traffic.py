"""Model calls of a stretch of time, as arrays: when, by whom, to which model, how long, how many tokens, how it ended.

Pure: the same seed and block give the same calls. Incidents act here, on the numbers; nobody downstream knows of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from infra.demo import incidents as happening
from infra.demo.incidents import Incident, near, of_kind
from infra.demo.platform import USERS, Floats, Ints, World, rhythm

Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

STATUSES: Final = ("ok", "error", "timeout", "rate_limited", "unavailable")
OK, ERROR, TIMEOUT, RATE_LIMITED, UNAVAILABLE = range(5)
ACTIONS: Final = ("allow", "modify", "block")
ALLOW, MODIFY, BLOCK = range(3)

BLOCK_US: Final = 600_000_000
# Tasks in a second of the busiest hour; about 55,000 model calls a day.
TASKS_PER_S: Final = 0.75
_CALLS_MAX: Final = 6
_ATTEMPTS_MAX: Final = 4
_FAILS: Final = 0.008
_TIMEOUT_MS: Final = 30_000.0


@dataclass(slots=True)
class Calls:
    """Model calls, one in each position of every array, in the order they began.

    Attributes:
        task: number of the task in the block; calls of a task share its trace.
        trace: (n, 2) words; span, parent: (n,) words. A parent of 0 means the call is the root.
        fallback_from: model that failed before, -1 for none.
        tokens: (n, 5): input, output, cache read, cache write, reasoning; totals as OpenTelemetry has them.
        cost_nano: USD * 1e9; -1 where the provider took nothing.
        new_price: the price in force is the one that came with a price change.
    """

    at_us: Ints
    task: Ints
    service: Ints
    model: Ints
    user: Ints
    attempt: Ints
    fallback_from: Ints
    status: Ints
    latency_ms: Floats
    ttft_ms: Floats
    tokens: Ints
    cost_nano: Ints
    new_price: Mask
    trace: Words
    span: Words
    parent: Words

    def __len__(self) -> int:
        return len(self.at_us)

    def take(self, rows: Any) -> Calls:
        """The calls at these positions, or under this mask."""
        return Calls(*(getattr(self, one.name)[rows] for one in fields(self)))

    @staticmethod
    def joined(parts: Sequence[Calls]) -> Calls:
        """All calls, ordered by time."""
        whole = Calls(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Calls)))
        return whole.take(np.argsort(whole.at_us, kind="stable"))


@dataclass(slots=True)
class Verdicts:
    """Guardrail evaluations of inputs, one in each position; `trace` and `parent` tie them to their call."""

    at_us: Ints
    service: Ints
    user: Ints
    action: Ints
    risk: Floats
    latency_ms: Floats
    trace: Words
    parent: Words

    def __len__(self) -> int:
        return len(self.at_us)

    def take(self, rows: Any) -> Verdicts:
        """The verdicts at these positions, or under this mask."""
        return Verdicts(*(getattr(self, one.name)[rows] for one in fields(self)))


@dataclass(slots=True)
class Block:
    """What began in block `number` (of BLOCK_US, counted since the epoch), or the part of it one window tells.

    Attributes:
        from_us, to_us: the stretch of the block that belongs to the window.
    """

    number: int
    from_us: int
    to_us: int
    calls: Calls
    verdicts: Verdicts


class Traffic:
    """The calls of one simulated platform, block by block."""

    def __init__(self, seed: int, incidents: Sequence[Incident], world: World | None = None) -> None:
        self.world = world or World()
        self._all = list(incidents)
        self.incidents = self._all
        self._seed = seed
        # A window reaches into the block before it, and the next window into the same ones.
        self._block = lru_cache(maxsize=8)(self._made)

    def window(self, from_us: int, to_us: int) -> list[Block]:
        """What is told in [from_us, to_us): tasks that ended, everything else that happened.

        Windows that follow each other tell everything once, however long each is.
        """
        out: list[Block] = []
        # A task of a block may end in the next one, and not later: attempts and turns are bounded.
        for number in range(from_us // BLOCK_US - 1, (to_us - 1) // BLOCK_US + 1):
            block = self._block(number)
            calls, verdicts = block.calls, block.verdicts
            ends = calls.at_us + (calls.latency_ms * 1000).astype(np.int64)
            last = np.zeros(int(calls.task.max(initial=0)) + 1, np.int64)
            np.maximum.at(last, calls.task, ends)
            ended = (last >= from_us) & (last < to_us)
            judged = (verdicts.at_us >= from_us) & (verdicts.at_us < to_us)
            within = (max(from_us, block.from_us), min(to_us, block.to_us))
            out.append(Block(number, *within, calls.take(ended[calls.task]), verdicts.take(judged)))
        return out

    def block(self, number: int) -> Block:
        """All that begins in block `number`, the same on every call."""
        return self._block(number)

    def _made(self, number: int) -> Block:
        from_us = number * BLOCK_US
        self.incidents = near(self._all, from_us, from_us + BLOCK_US)
        rng = np.random.default_rng([self._seed, number])
        tasks = self._tasks(rng, from_us)
        verdicts, blocked = self._verdicts(rng, tasks)
        calls = self._first_attempts(rng, tasks.take(~blocked))
        calls = self._retried(rng, calls)
        self._price(calls)
        return Block(number, from_us, from_us + BLOCK_US, calls, verdicts)

    def _tasks(self, rng: np.random.Generator, from_us: int) -> Calls:
        """First calls of the tasks that begin in the block."""
        world = self.world
        expected = TASKS_PER_S * BLOCK_US / 1e6
        # Thinning: drawn at the busiest rate, each kept with the chance its hour has.
        at_us = from_us + np.sort(rng.integers(0, BLOCK_US, rng.poisson(expected)))
        at_us = at_us[rng.random(len(at_us)) < rhythm(at_us / 1e6)]
        service = rng.choice(len(world.service_share), len(at_us), p=world.service_share)
        user = rng.choice(USERS, len(at_us), p=world.user_weight)
        for burst in of_kind(self.incidents, happening.GUARDRAIL_BURST):
            extra = from_us + np.sort(rng.integers(0, BLOCK_US, rng.poisson(expected * burst.size / 10)))
            extra = extra[burst.covers(extra)]
            attackers = np.array([int(name[-3:]) for name in burst.entities["users"]])
            at_us = np.concatenate([at_us, extra])
            service = np.concatenate([service, np.zeros(len(extra), np.int64)])
            user = np.concatenate([user, rng.choice(attackers, len(extra))])
        order = np.argsort(at_us, kind="stable")
        return _blank(rng, at_us[order], service[order], user[order])

    def _verdicts(self, rng: np.random.Generator, tasks: Calls) -> tuple[Verdicts, Mask]:
        size = len(tasks)
        draw = rng.random(size)
        action = np.where(draw < 0.012, BLOCK, np.where(draw < 0.045, MODIFY, ALLOW))
        for burst in of_kind(self.incidents, happening.GUARDRAIL_BURST):
            attackers = np.array([int(name[-3:]) for name in burst.entities["users"]])
            hit = burst.covers(tasks.at_us) & np.isin(tasks.user, attackers)
            action = np.where(hit & (rng.random(size) < 0.93), BLOCK, action)
        risk = np.where(action == BLOCK, rng.uniform(0.7, 1.0, size), rng.beta(1.2, 12, size))
        verdicts = Verdicts(
            tasks.at_us, tasks.service, tasks.user, action, risk, rng.gamma(3.0, 6.0, size), tasks.trace, tasks.span
        )
        return verdicts, action == BLOCK

    def _first_attempts(self, rng: np.random.Generator, tasks: Calls) -> Calls:
        """Every call of the tasks, the calls of an agent one after the other."""
        world = self.world
        mean = world.calls[tasks.service]
        count = np.minimum(1 + rng.poisson(np.maximum(mean - 1, 0)), _CALLS_MAX)
        count[mean == 1] = 1
        calls = tasks.take(np.repeat(np.arange(len(tasks)), count))
        turn = np.arange(len(calls)) - np.repeat(np.cumsum(count) - count, count)
        size = len(calls)
        # The root of an agent or a retrieval is a span of its own, the one the guardrail spoke about.
        under_root = (np.repeat(mean, count) > 1) | world.retrieves[calls.service]
        calls.parent = np.where(under_root, calls.span, np.uint64(0))
        calls.span = np.where(under_root, _words(rng, size), calls.span)
        mix = np.cumsum(world.mix, axis=1)[calls.service]
        calls.model = (rng.random(size)[:, None] > mix).sum(axis=1).clip(0, mix.shape[1] - 1)
        self._tokens(rng, calls, turn)
        self._outcome(rng, calls)
        # A turn begins when the one before it ended, and its tool answered.
        ends = np.cumsum(calls.latency_ms + 350.0)
        starts = np.concatenate([[0.0], ends[:-1]]) if size else ends
        first = np.repeat(starts[np.cumsum(count) - count], count) if size else starts
        calls.at_us = calls.at_us + ((starts - first) * 1000).astype(np.int64)
        return calls

    def _tokens(self, rng: np.random.Generator, calls: Calls, turn: Ints) -> None:
        world = self.world
        size = len(calls)
        chat = world.is_chat[calls.model]
        grown = world.input_tokens[calls.service] * (1 + 0.45 * turn)
        sent = np.maximum(1, grown * rng.lognormal(0, 0.6, size)).astype(np.int64)
        reads = np.where(rng.random(size) < world.cached[calls.service], rng.uniform(0.4, 0.9, size), 0.0)
        cache_read = np.where(chat, sent * reads, 0).astype(np.int64)
        writes = (cache_read == 0) & chat & (world.prices[calls.model, 2] > world.prices[calls.model, 0])
        cache_write = np.where(writes, sent * 0.5, 0).astype(np.int64)
        answered = np.maximum(1, world.output_tokens[calls.service] * rng.lognormal(0, 0.7, size))
        output = np.where(chat, answered, 0).astype(np.int64)
        reasoning = (output * world.reasons[calls.model] * rng.uniform(0.6, 1.0, size)).astype(np.int64)
        calls.tokens = np.stack([sent, output, cache_read, cache_write, reasoning], axis=1)

    def _outcome(self, rng: np.random.Generator, calls: Calls) -> None:
        """Durations and statuses, incidents included."""
        world = self.world
        size = len(calls)
        calls.ttft_ms = world.ttft_ms[calls.model] * rng.lognormal(0, 0.35, size)
        speed = world.tokens_per_s[calls.model] * rng.lognormal(0, 0.2, size)
        calls.latency_ms = calls.ttft_ms + 1000 * calls.tokens[:, 1] / speed
        for slow in of_kind(self.incidents, happening.LATENCY_REGRESSION):
            hit = slow.covers(calls.at_us) & (calls.model == world.model_index[slow.entities["model"]])
            calls.ttft_ms[hit] *= slow.size
            calls.latency_ms[hit] *= slow.size
        fails = rng.random(size)
        status = np.where(fails < _FAILS, rng.choice([ERROR, TIMEOUT, RATE_LIMITED], size, p=[0.5, 0.2, 0.3]), OK)
        for storm in of_kind(self.incidents, happening.RETRY_STORM):
            hit = storm.covers(calls.at_us) & (calls.model == world.model_index[storm.entities["model"]])
            status[hit & (fails < storm.size)] = RATE_LIMITED
        for outage in of_kind(self.incidents, happening.PROVIDER_OUTAGE):
            down = [world.model_index[name] for name in outage.entities["models"]]
            hit = outage.covers(calls.at_us) & np.isin(calls.model, down) & (fails < outage.size)
            status[hit] = np.where(rng.random(int(hit.sum())) < 0.8, UNAVAILABLE, TIMEOUT)
        failed = status != OK
        calls.latency_ms[failed] = rng.gamma(2.0, 60.0, int(failed.sum()))
        calls.latency_ms[status == TIMEOUT] = _TIMEOUT_MS
        calls.ttft_ms[failed] = np.nan
        calls.tokens[failed] = 0
        calls.status = status

    def _retried(self, rng: np.random.Generator, calls: Calls) -> Calls:
        """The calls with those that the gateway made again; to another provider where theirs is down."""
        parts = [calls]
        last = calls
        for _ in range(1, _ATTEMPTS_MAX):
            last = last.take(last.status != OK)
            if not len(last):
                break
            wait_ms = 250.0 * 2.0**last.attempt * rng.uniform(0.5, 1.5, len(last))
            moved = np.isin(last.status, [UNAVAILABLE, TIMEOUT])
            last.at_us = last.at_us + ((last.latency_ms + wait_ms) * 1000).astype(np.int64)
            last.fallback_from = np.where(moved, last.model, last.fallback_from)
            last.model = np.where(moved, self.world.fallback[last.model], last.model)
            last.attempt = last.attempt + 1
            # A call that was the root stays it; the attempts after it hang beneath.
            last.parent = np.where(last.parent == 0, last.span, last.parent)
            last.span = _words(rng, len(last))
            self._tokens(rng, last, np.zeros(len(last), np.int64))
            self._outcome(rng, last)
            parts.append(last)
        return Calls.joined(parts)

    def _price(self, calls: Calls) -> None:
        sent, output, read, write, _ = calls.tokens.T
        prices = self.world.prices[calls.model]
        cost = (sent - read - write) * prices[:, 0] + read * prices[:, 1] + write * prices[:, 2] + output * prices[:, 3]
        for change in of_kind(self.incidents, happening.PRICE_CHANGE):
            calls.new_price |= change.covers(calls.at_us) & (
                calls.model == self.world.model_index[change.entities["model"]]
            )
            # In tenths, so that the factor keeps every price a whole number.
            cost = np.where(calls.new_price, cost * round(change.size * 10) // 10, cost)
        calls.cost_nano = np.where(calls.status == OK, cost, -1)


def _blank(rng: np.random.Generator, at_us: Ints, service: Ints, user: Ints) -> Calls:
    size = len(at_us)
    zeros = np.zeros(size, np.int64)
    return Calls(
        at_us=at_us,
        task=np.arange(size),
        service=service,
        model=zeros,
        user=user,
        attempt=zeros + 1,
        fallback_from=zeros - 1,
        status=zeros,
        latency_ms=np.zeros(size),
        ttft_ms=np.zeros(size),
        tokens=np.zeros((size, 5), np.int64),
        cost_nano=zeros,
        new_price=np.zeros(size, np.bool_),
        trace=_words(rng, 2 * size).reshape(size, 2),
        span=_words(rng, size),
        parent=np.zeros(size, np.uint64),
    )


def _words(rng: np.random.Generator, size: int) -> Words:
    """Random ids; never 0, which means none."""
    return rng.integers(1, np.iinfo(np.uint64).max, size, np.uint64, endpoint=True)
