"""A small platform's last hours as events: enough of every module that each board and each chart has something."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

Event = dict[str, Any]

MODELS = (("gpt-4o", "openai", 2.5), ("gpt-4o-mini", "openai", 0.15), ("claude-sonnet-4-5", "anthropic", 3.0))
SERVICES = ("support-chat", "code-assistant", "report-agent")
REGIONS = ("eu-central-1", "us-east-1")
TOOLS = ("web_search", "sql_query")
TASKS = 240
_CHANGES = ("registry.version.published", "registry.version.promoted", "registry.price.changed")
_EVERY = timedelta(seconds=75)


def platform_events(now: datetime) -> Iterator[Event]:
    """Events of the five hours before `now`, with ids that make a second sending a repeat."""
    for number in range(TASKS):
        at = now - timedelta(minutes=2) - number * _EVERY
        yield from _task(number, at)
    for number, kind in enumerate(
        ("registry.version.published", "registry.version.promoted", "registry.price.changed")
    ):
        model, provider, _ = MODELS[number]
        payload = {"version": f"2.{number}", "actor": "release-bot"}
        head = _head(f"change-{number}", now - timedelta(minutes=40 * (number + 1)), kind)
        yield {**head, "model": model, "provider": provider, "payload": payload}
    for state in ("down", "up"):
        head = _head(
            f"health-{state}", now - timedelta(minutes=90 if state == "down" else 70), "gateway.provider.health"
        )
        yield {**head, "provider": "anthropic", "severity": "critical", "payload": {"status": state}}


def _head(event_id: str, at: datetime, kind: str) -> Event:
    occurred_at = at.astimezone(UTC).isoformat()
    return {
        "event_id": f"board-{event_id}",
        "occurred_at": occurred_at,
        "module": kind.split(".", 1)[0],
        "kind": kind,
        "environment": "production",
    }


def _task(number: int, at: datetime) -> Iterator[Event]:
    model, provider, price = MODELS[number % 3 if number % 7 else 0]
    service, user = SERVICES[(number // 2) % 3], f"user-{number % 17:02d}"
    trace_id, span_id = f"{0xB0A0000 + number:032x}", f"{0xC0 + number:016x}"
    status = "timeout" if number % 29 == 0 else "rate_limited" if number % 31 == 0 else "ok"
    common = {"trace_id": trace_id, "service": service, "user_id": user, "session_id": f"session-{number % 23:02d}"}
    tokens = 200 + 37 * (number % 40)
    called = {**common, "provider": provider, "model": model, "operation": "chat", "status": status}
    yield {
        **_head(f"request-{number}", at, "gateway.request"),
        **called,
        "span_id": span_id,
        "region": REGIONS[number % 2],
        "latency_ms": 300.5 + 61 * (number % 50) + (12_000 if number % 41 == 0 else 0),
        "ttft_ms": 90.25 + 7 * (number % 30),
        "input_tokens": tokens,
        "output_tokens": tokens // 4,
        "cache_read_tokens": tokens // 5,
        "reasoning_tokens": tokens // 20,
        "cost_usd": f"{tokens * price / 1e6:.9f}",
        "cache_status": "hit" if number % 6 == 0 else "miss",
    }
    yield {
        **_head(f"agent-{number}", at - timedelta(seconds=1), "observatory.span"),
        **common,
        "span_id": f"{0xA000 + number:016x}",
        "operation": "invoke_agent",
        "latency_ms": 4000.0,
        "payload": {"name": f"run {service}"},
    }
    yield {
        **_head(f"tool-{number}", at + timedelta(milliseconds=200), "observatory.span"),
        **common,
        "span_id": f"{0xD000 + number:016x}",
        "parent_span_id": f"{0xA000 + number:016x}",
        "operation": "execute_tool",
        "latency_ms": 120.0 + number % 9,
        "attributes": {"gen_ai.tool.name": TOOLS[number % 2]},
        "payload": {"name": f"execute_tool {TOOLS[number % 2]}"},
    }
    yield from _checked(number, at, common)
    if number % 5 == 0:
        judged = {**_head(f"thumb-{number}", at + timedelta(seconds=20), "observatory.feedback"), **common}
        yield {**judged, "model": model, "payload": {"thumb": "up"}}
    if number % 8 == 0:
        routed = {**_head(f"fallback-{number}", at, "gateway.fallback"), **common, "provider": provider, "model": model}
        yield {**routed, "payload": {"from": MODELS[0][0], "to": model, "reason": "provider unavailable"}}
    if number % 12 == 0:
        done = {"actor": user, "action": "login", "outcome": "success"}
        kind = "audit.authn" if number % 24 else "audit.config"
        yield {**_head(f"audit-{number}", at, kind), "service": service, "user_id": user, "payload": done}
        seen = {**_head(f"asset-{number}", at, "registry.asset.downloaded"), "provider": provider, "model": model}
        yield {**seen, "payload": {"asset_id": f"prompt-{number % 4}"}}


def _checked(number: int, at: datetime, common: Event) -> Iterator[Event]:
    action = "block" if number % 19 == 0 else "modify" if number % 11 == 0 else "allow"
    checked = {**_head(f"check-{number}", at, "guardrails.evaluation"), **common}
    yield {**checked, "guardrail_action": action, "latency_ms": 9.5, "payload": {"policy_id": "input-safety"}}
    if action == "block":
        told = {"policy": "input-safety", "risk_category": "prompt_injection", "risk_score": 0.91}
        head = _head(f"violation-{number}", at, "guardrails.violation")
        yield {**head, **common, "severity": "error", "payload": told}
