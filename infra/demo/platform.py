"""The world of the simulation: providers, models and their prices, services, users, tools. Names and numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Model:
    """One model at one provider.

    Attributes:
        prices: nano-USD for a token of (uncached input, cache read, cache write, output); integers, so cost is exact.
        ttft_ms: median time to the first token.
        tokens_per_s: median speed after it.
        reasons: share of the output that is reasoning.
    """

    name: str
    provider: str
    operation: str
    prices: tuple[int, int, int, int]
    ttft_ms: float
    tokens_per_s: float
    reasons: float = 0.0


@dataclass(frozen=True, slots=True)
class Service:
    """One application of the platform.

    Attributes:
        share: of all tasks.
        models: model name -> share of its calls.
        calls: mean model calls of one task; above 1 it is an agent.
        dialect: how its instrumentation names things, a key of wire.DIALECTS.
        input_tokens, output_tokens: medians.
        cached: chance that the prompt's prefix is in the provider's cache.
        team: who pays for it.
    """

    name: str
    share: float
    models: dict[str, float]
    dialect: str
    input_tokens: int
    output_tokens: int
    calls: float = 1.0
    cached: float = 0.3
    retrieves: bool = False
    team: str = "platform"


MODELS: Final = (
    Model("gpt-4o", "openai", "chat", (2500, 1250, 2500, 10_000), 420, 85),
    Model("gpt-4o-mini", "openai", "chat", (150, 75, 150, 600), 310, 120),
    Model("o4-mini", "openai", "chat", (1100, 275, 1100, 4400), 900, 140, reasons=0.6),
    Model("claude-sonnet-4-5", "anthropic", "chat", (3000, 300, 3750, 15_000), 620, 70),
    Model("claude-haiku-4-5", "anthropic", "chat", (1000, 100, 1250, 5000), 380, 130),
    Model("gemini-2.5-flash", "gcp.vertex_ai", "chat", (300, 30, 300, 2500), 350, 180, reasons=0.2),
    Model("text-embedding-3-small", "openai", "embeddings", (20, 20, 20, 0), 60, 1000),
)

SERVICES: Final = (
    Service("support-chat", 0.34, {"gpt-4o": 0.45, "gpt-4o-mini": 0.55}, "otel", 900, 220, cached=0.5, team="support"),
    Service(
        "code-assistant",
        0.22,
        {"claude-sonnet-4-5": 0.8, "o4-mini": 0.2},
        "openllmetry",
        3200,
        520,
        cached=0.7,
        team="engineering",
    ),
    Service(
        "doc-search",
        0.24,
        {"gemini-2.5-flash": 0.7, "text-embedding-3-small": 0.3},
        "openinference",
        1800,
        180,
        retrieves=True,
        team="support",
    ),
    Service(
        "report-agent",
        0.12,
        {"claude-haiku-4-5": 0.6, "gpt-4o": 0.4},
        "otel_genai",
        2400,
        350,
        calls=3.0,
        team="finance",
    ),
    Service("batch-summaries", 0.08, {"gpt-4o-mini": 0.5, "gemini-2.5-flash": 0.5}, "otel_136", 5200, 300),
)

TOOLS: Final = ("web_search", "sql_query", "calculator", "send_mail")
FEATURES: Final = ("chat", "summary", "search", "draft")
REGIONS: Final = ("eu-central", "us-east")
USERS: Final = 300
SESSION_S: Final = 1800
# Where calls go when their own provider is down.
FALLBACKS: Final = {
    "gpt-4o": "claude-sonnet-4-5",
    "gpt-4o-mini": "gemini-2.5-flash",
    "o4-mini": "claude-sonnet-4-5",
    "claude-sonnet-4-5": "gpt-4o",
    "claude-haiku-4-5": "gpt-4o-mini",
    "gemini-2.5-flash": "gpt-4o-mini",
    "text-embedding-3-small": "text-embedding-3-small",
}
# Hour of the day (UTC) -> share of the busiest hour.
RHYTHM: Final = (
    *(0.30, 0.26, 0.24, 0.23, 0.24, 0.28, 0.38, 0.55, 0.78, 0.94, 1.00, 0.98),
    *(0.90, 0.93, 0.99, 0.97, 0.91, 0.82, 0.70, 0.62, 0.55, 0.48, 0.42, 0.36),
)


class World:
    """The tables above as arrays, by position.

    Attributes:
        mix: (services, models) shares, rows add up to 1.
        prices: (models, 4) nano-USD per token.
        user_weight: (users,) how active each one is; a few do most.
    """

    def __init__(self) -> None:
        self.model_names = [model.name for model in MODELS]
        self.providers = [model.provider for model in MODELS]
        self.model_index = {name: at for at, name in enumerate(self.model_names)}
        self.mix = np.array([[service.models.get(name, 0.0) for name in self.model_names] for service in SERVICES])
        self.service_share = np.array([service.share for service in SERVICES])
        self.prices = np.array([model.prices for model in MODELS], np.int64)
        self.ttft_ms = np.array([model.ttft_ms for model in MODELS])
        self.tokens_per_s = np.array([model.tokens_per_s for model in MODELS])
        self.reasons = np.array([model.reasons for model in MODELS])
        self.is_chat = np.array([model.operation == "chat" for model in MODELS])
        self.fallback = np.array([self.model_index[FALLBACKS[name]] for name in self.model_names])
        self.input_tokens = np.array([service.input_tokens for service in SERVICES], np.float64)
        self.output_tokens = np.array([service.output_tokens for service in SERVICES], np.float64)
        self.calls = np.array([service.calls for service in SERVICES])
        self.cached = np.array([service.cached for service in SERVICES])
        self.retrieves = np.array([service.retrieves for service in SERVICES])
        weight = 1.0 / np.arange(1, USERS + 1) ** 0.8
        self.user_weight = weight / weight.sum()


def rhythm(at_s: Floats) -> Floats:
    """Share of the busiest hour at each time (seconds since the epoch), without steps between hours."""
    hours = at_s / 3600.0 % 24.0
    return np.interp(hours, np.arange(25), [*RHYTHM, RHYTHM[0]])


def user_name(user: int) -> str:
    """Users keep their names from run to run."""
    return f"user-{user:03d}"


def session_name(user: int, at_us: int) -> str:
    """A user's calls within the same half hour are one session."""
    return f"s-{user:03d}-{at_us // 1_000_000 // SESSION_S:x}"
