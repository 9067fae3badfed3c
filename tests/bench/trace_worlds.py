"""Shapes of LLM applications for the generator of traces: who calls whom, how long it takes, how many tokens it reads.

Frozen before any detector of traces was fitted. Two worlds that share nothing but the rules of a span: the first is
what detectors were developed on, the second, with other shapes, noise and seeds, is a check.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one trace; kind `none` leaves it usual."""

    kind: str = "none"
    magnitude: float = 1.0

    def times(self, *kinds: str) -> float:
        """Magnitude if the fault is one of the kinds, else 1."""
        return self.magnitude if self.kind in kinds else 1.0

    def extra(self, kind: str) -> int:
        """How many more of something there are under a fault of this kind."""
        return round(2 * self.magnitude) if self.kind == kind else 0


@dataclass(slots=True)
class Span:
    """One span while its trace is being built; `latency_ms` is its own time until `close` adds that of its children."""

    operation: str
    service: str
    parent: int
    latency_ms: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    ttft_ms: float | None = None
    model: str | None = None
    error: bool = False
    parallel: bool = False
    start_ms: float = 0.0


@dataclass(slots=True)
class Trace:
    """Spans in the order in which they were begun; a parent before its children."""

    source: random.Random
    fault: Fault
    noise: float
    spans: list[Span] = field(default_factory=list)

    def add(self, operation: str, service: str, parent: int, own_ms: float) -> int:
        """A span with its own time spread around `own_ms`; its number."""
        spread = self.source.lognormvariate(0.0, self.noise)
        self.spans.append(Span(operation, service, parent, own_ms * spread))
        return len(self.spans) - 1

    def chance(self, share: float) -> bool:
        """True in that share of cases."""
        return self.source.random() < share

    def close(self) -> None:
        """Place spans in time: children one after the other, parallel ones together, own time around them."""
        children: dict[int, list[int]] = {}
        for number, span in enumerate(self.spans):
            children.setdefault(span.parent, []).append(number)
        length = [span.latency_ms for span in self.spans]
        offset = [0.0] * len(self.spans)
        for number in range(len(self.spans) - 1, -1, -1):
            at = 0.3 * self.spans[number].latency_ms
            longest = 0.0
            for child in children.get(number, ()):
                offset[child] = at
                if self.spans[child].parallel:
                    longest = max(longest, length[child])
                else:
                    at += longest + length[child]
                    offset[child], longest = at - length[child], 0.0
            length[number] = at + longest + 0.7 * self.spans[number].latency_ms
        for number, span in enumerate(self.spans):
            span.start_ms = offset[number] + (self.spans[span.parent].start_ms if span.parent >= 0 else 0.0)
            span.latency_ms = length[number]


@dataclass(frozen=True, slots=True)
class Model:
    """Time to first token is `first_ms` + `prefill_ms` for each 1,000 input tokens; then `rate` tokens a second."""

    name: str
    first_ms: float
    prefill_ms: float
    rate: float


MODELS: Final = (
    Model("small", 120, 40, 110),
    Model("large", 320, 90, 55),
    Model("reasoning", 700, 120, 70),
    Model("local", 60, 150, 30),
)
_LLM_NOISE: Final = 0.18


def call(trace: Trace, parent: int, model: Model, tokens: tuple[float, float]) -> int:
    """A model call under `parent`, with the retries before it; tokens are medians of input and output."""
    retries = (1 if trace.chance(0.012) else 0) + trace.fault.extra("retry_storm")
    for _ in range(retries):
        failed = trace.add("chat", "llm", parent, 200)
        trace.spans[failed].model, trace.spans[failed].error = model.name, True
    number = trace.add("chat", "llm", parent, 1.0)
    span, source, fault = trace.spans[number], trace.source, trace.fault
    span.model = model.name
    span.input_tokens = max(1, round(source.lognormvariate(math.log(tokens[0]), 0.45) * fault.times("token_blow_up")))
    span.output_tokens = max(1, round(source.lognormvariate(math.log(tokens[1]), 0.6)))
    first = model.first_ms + model.prefill_ms * span.input_tokens / 1_000
    span.ttft_ms = first * source.lognormvariate(0.0, _LLM_NOISE) * fault.times("slow_first_token")
    writing = 1_000 * span.output_tokens / model.rate * source.lognormvariate(0.0, _LLM_NOISE)
    span.latency_ms = span.ttft_ms + writing * fault.times("slow_decoding")
    return number


def guard(trace: Trace, parent: int, operation: str, own_ms: float) -> None:
    """A guardrail, unless it is the one that is missing."""
    if trace.fault.kind != "missing_guardrail" or operation == "judge":
        trace.add(operation, "guardrails", parent, own_ms)


def tool(trace: Trace, parent: int, name: str, own_ms: float) -> None:
    """A tool call; a dead one fails at once."""
    number = trace.add("execute_tool", name, parent, own_ms * trace.fault.times("slow_tool"))
    dead = trace.fault.kind == "dead_tool"
    trace.spans[number].error = dead or trace.chance(0.006)
    if dead:
        trace.spans[number].latency_ms *= 0.05 / trace.fault.magnitude
    if trace.fault.kind == "new_edge":
        # A tool that calls out by itself, which none does.
        trace.add("fetch", "unlisted-host", number, 80)


def chat(trace: Trace) -> None:
    """Answer from the conversation alone."""
    root = trace.add("invoke_workflow", "assistant", -1, 12 * trace.fault.times("slow_path") ** 2)
    guard(trace, root, "check_input", 18)
    cache = trace.add("lookup", "cache", root, 3)
    if trace.chance(0.2):
        trace.spans[cache].output_tokens = 1
        return
    call(trace, root, MODELS[0] if trace.chance(0.7) else MODELS[1], (700, 220))
    guard(trace, root, "check_output", 25)


def retrieval(trace: Trace) -> None:
    """Answer from documents."""
    root = trace.add("invoke_workflow", "documents", -1, 15 * trace.fault.times("slow_path") ** 2)
    guard(trace, root, "check_input", 18)
    found = trace.add("retrieval", "retriever", root, 6)
    for _ in range(1 + trace.chance(0.3) + 2 * trace.fault.extra("fan_out")):
        number = trace.add("embeddings", "embedder", found, 22)
        trace.spans[number].input_tokens = trace.source.randint(8, 60)
        trace.add("search", "index", found, 35 * trace.fault.times("slow_tool"))
    if trace.chance(0.6):
        trace.add("rerank", "reranker", found, 60)
    call(trace, root, MODELS[1], (3_200, 300))
    guard(trace, root, "check_output", 25)


TOOLS: Final = (("web_search", 420.0), ("calculator", 4.0), ("database", 70.0), ("code", 900.0))


def agent(trace: Trace) -> None:
    """Think and act until done: one to six steps, few of them long."""
    root = trace.add("invoke_agent", "agent", -1, 20 * trace.fault.times("slow_path") ** 2)
    guard(trace, root, "check_input", 18)
    steps = min(1 + int(trace.source.expovariate(0.7)), 6)
    loops = trace.fault.extra("loop")
    again = trace.source.choice(TOOLS)
    for step in range(steps + loops):
        under = trace.add("plan", "agent", root, 8)
        call(trace, under, MODELS[1], (900 + 450 * step, 120))
        chosen = again if step >= steps else trace.source.choice(TOOLS)
        for _ in range(1 + trace.chance(0.1) + 2 * trace.fault.extra("fan_out")):
            tool(trace, under, *chosen)
    call(trace, root, MODELS[1], (1_500, 260))
    guard(trace, root, "check_output", 25)


def batch(trace: Trace) -> None:
    """Second world: many pieces summarised side by side, then joined."""
    root = trace.add("invoke_workflow", "digest", -1, 30 * trace.fault.times("slow_path") ** 2)
    trace.add("fetch", "store", root, 45)
    for _ in range(trace.source.randint(2, 7) + 2 * trace.fault.extra("fan_out")):
        number = call(trace, root, MODELS[0], (2_400, 150))
        trace.spans[number].parallel = True
    call(trace, root, MODELS[2], (1_300, 400))
    guard(trace, root, "redact", 40)


def coder(trace: Trace) -> None:
    """Second world: edit and test until the tests pass."""
    root = trace.add("invoke_agent", "coder", -1, 25 * trace.fault.times("slow_path") ** 2)
    guard(trace, root, "policy", 15)
    call(trace, root, MODELS[2], (2_000, 700))
    rounds = 1 + (trace.source.random() < 0.5) + (trace.source.random() < 0.2) + trace.fault.extra("loop")
    for _ in range(rounds):
        under = trace.add("edit", "coder", root, 5)
        call(trace, under, MODELS[1], (4_000, 500))
        tool(trace, under, "sandbox", 2_500)
        for _ in range(2 * trace.fault.extra("fan_out")):
            tool(trace, under, "sandbox", 2_500)
    if trace.chance(0.5):
        call(trace, trace.add("judge", "evaluator", root, 6), MODELS[3], (800, 30))


def desk(trace: Trace) -> None:
    """Second world: classify, look up, answer or hand over."""
    root = trace.add("invoke_workflow", "desk", -1, 10 * trace.fault.times("slow_path") ** 2)
    guard(trace, root, "policy", 15)
    call(trace, root, MODELS[3], (300, 8))
    if trace.chance(0.15):
        trace.add("hand_over", "people", root, 35)
        return
    found = trace.add("execute_tool", "accounts", root, 55 * trace.fault.times("slow_tool"))
    for _ in range(1 + 2 * trace.fault.extra("fan_out")):
        trace.add("query", "ledger", found, 12)
    call(trace, root, MODELS[0], (1_100, 180))
    guard(trace, root, "redact", 40)
