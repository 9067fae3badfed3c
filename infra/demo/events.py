"""What gateway, guardrails, registry and audit tell of a block, as events in JSON; and the users' own feedback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from cluster.sdk.client import utc
from infra.demo import incidents as happening
from infra.demo.incidents import Incident, near
from infra.demo.platform import FEATURES, MODELS, REGIONS, SERVICES, session_name, user_name
from infra.demo.traffic import ACTIONS, ALLOW, BLOCK, BLOCK_US, OK, RATE_LIMITED, STATUSES, Block, Calls, Verdicts

Event = dict[str, Any]

_HTTP: Final = {"ok": 200, "error": 500, "timeout": 504, "rate_limited": 429, "unavailable": 503}
_ENVIRONMENT: Final = "production"
# One call in this many is judged by its user; one task in this many begins with a sign-in.
_FEEDBACK_EVERY: Final = 50
_SIGN_IN_EVERY: Final = 12
_VERDICTS: Final = {"allow": "allow", "block": "deny", "modify": "modify"}
_WARNED: Final = 0.25


def events(block: Block, incidents: Sequence[Incident]) -> list[Event]:
    """Everything of the block that is not a span, in the order it happened."""
    told = [*_requests(block.calls), *_verdicts(block.verdicts), *_feedback(block.calls), *_sign_ins(block.calls)]
    told += [event for event in _routine(block) if utc(block.from_us) <= event["occurred_at"] < utc(block.to_us)]
    for incident in near(incidents, block.from_us, block.to_us):
        told += [event for event in _marks(incident) if block.from_us <= event.pop("at_us") < block.to_us]
    told.sort(key=lambda event: str(event["occurred_at"]))
    return told


def _event(event_id: str, at_us: int, kind: str, **fields: Any) -> Event:
    module = kind.split(".", 1)[0]
    head = {"event_id": event_id, "occurred_at": utc(at_us), "module": module, "kind": kind}
    return {**head, "environment": _ENVIRONMENT, **{name: value for name, value in fields.items() if value is not None}}


def _ids(trace: Any, span: Any) -> tuple[str, str]:
    return f"{int(trace[0]):016x}{int(trace[1]):016x}", f"{int(span):016x}"


def _requests(calls: Calls) -> Iterator[Event]:
    for row in range(len(calls)):
        model, service = MODELS[calls.model[row]], SERVICES[calls.service[row]]
        at_us, user, status = int(calls.at_us[row]), int(calls.user[row]), STATUSES[calls.status[row]]
        trace_id, span_id = _ids(calls.trace[row], calls.span[row])
        attempt, cost = int(calls.attempt[row]), int(calls.cost_nano[row])
        sent, output, read, write, reasoning = calls.tokens[row].tolist()
        answered = status == "ok"
        common = {
            "trace_id": trace_id,
            "span_id": span_id,
            "session_id": session_name(user, at_us),
            "user_id": user_name(user),
            "service": service.name,
            "provider": model.provider,
            "model": model.name,
            "region": REGIONS[user % len(REGIONS)],
        }
        yield _event(
            f"gw-{span_id}",
            at_us,
            "gateway.request",
            **common,
            request_id=f"req-{span_id}",
            operation=model.operation,
            status=status,
            severity="info" if answered else "error",
            latency_ms=round(float(calls.latency_ms[row]), 3),
            ttft_ms=round(float(calls.ttft_ms[row]), 3) if answered else None,
            input_tokens=sent if answered else None,
            output_tokens=output if answered else None,
            cache_read_tokens=read if answered else None,
            cache_write_tokens=write if answered else None,
            reasoning_tokens=reasoning if answered else None,
            cost_usd=Decimal(cost).scaleb(-9) if answered else None,
            price_version="changed" if calls.new_price[row] else "list",
            attributes={
                "route": service.name,
                "status_code": _HTTP[status],
                "attempt": attempt,
                "team": service.team,
                "feature": FEATURES[user % len(FEATURES)],
                "key_alias": f"{service.name}-key",
            },
        )
        if attempt > 1:
            yield from _again(calls, row, common)


def _again(calls: Calls, row: int, common: dict[str, Any]) -> Iterator[Event]:
    """The gateway's own word on a call it made again."""
    at_us, attempt, was = int(calls.at_us[row]) - 1, int(calls.attempt[row]), int(calls.fallback_from[row])
    if was >= 0:
        payload = {"from": MODELS[was].name, "to": common["model"], "reason": "provider unavailable"}
        yield _event(
            f"fb-{common['span_id']}", at_us, "gateway.fallback", **common, severity="warning", payload=payload
        )
    else:
        yield _event(f"rt-{common['span_id']}", at_us, "gateway.retry", **common, payload={"attempt": attempt})
    if int(calls.status[row]) == RATE_LIMITED:
        payload = {"limit_type": "requests_per_minute", "limit": 600}
        yield _event(
            f"rl-{common['span_id']}", at_us, "gateway.ratelimit", **common, severity="warning", payload=payload
        )


def _verdicts(verdicts: Verdicts) -> Iterator[Event]:
    for row in range(len(verdicts)):
        at_us, user, action = int(verdicts.at_us[row]), int(verdicts.user[row]), int(verdicts.action[row])
        trace_id, parent = _ids(verdicts.trace[row], verdicts.parent[row])
        risk = round(float(verdicts.risk[row]), 4)
        category = "prompt_injection" if action == BLOCK else "personal_data" if action != ALLOW else "none"
        common = {
            "trace_id": trace_id,
            "parent_span_id": parent,
            "session_id": session_name(user, at_us),
            "user_id": user_name(user),
            "service": SERVICES[verdicts.service[row]].name,
        }
        yield _event(
            f"ge-{parent}",
            at_us,
            "guardrails.evaluation",
            **common,
            guardrail_action=ACTIONS[action],
            latency_ms=round(float(verdicts.latency_ms[row]), 3),
            severity="warning" if action == BLOCK else "info",
            payload={
                "policy_id": "input-safety",
                "target": "input",
                # What the policy found, and what was done about it, are two things: some findings are only logged.
                "verdict": _VERDICTS[ACTIONS[action]] if action != ALLOW or risk < _WARNED else "warn",
                "risk_category": category,
                "risk_score": risk,
            },
        )
        if action == BLOCK:
            payload = {"policy": "input-safety", "risk_category": category, "risk_score": risk}
            yield _event(f"gv-{parent}", at_us + 1, "guardrails.violation", **common, severity="error", payload=payload)


def _feedback(calls: Calls) -> Iterator[Event]:
    for row in range(len(calls)):
        if int(calls.span[row]) % _FEEDBACK_EVERY or int(calls.status[row]) != OK:
            continue
        trace_id, span_id = _ids(calls.trace[row], calls.span[row])
        at_us, user = int(calls.at_us[row]), int(calls.user[row])
        yield _event(
            f"fe-{span_id}",
            at_us + round(float(calls.latency_ms[row]) * 1000),
            "observatory.feedback",
            trace_id=trace_id,
            parent_span_id=span_id,
            session_id=session_name(user, at_us),
            user_id=user_name(user),
            service=SERVICES[calls.service[row]].name,
            model=MODELS[calls.model[row]].name,
            payload={"thumb": "down" if int(calls.span[row]) % 7 == 0 else "up"},
        )


def _sign_ins(calls: Calls) -> Iterator[Event]:
    first = dict(reversed([(task, row) for row, task in enumerate(calls.task.tolist())]))
    for row in sorted(first.values()):
        if int(calls.trace[row][0]) % _SIGN_IN_EVERY:
            continue
        trace_id, _ = _ids(calls.trace[row], calls.span[row])
        at_us, user = int(calls.at_us[row]) - 200_000, int(calls.user[row])
        payload = {
            "actor": user_name(user),
            "action": "login",
            "outcome": "success",
            "ip": f"10.0.{user // 250}.{user % 250}",
        }
        yield _event(
            f"au-{trace_id}",
            at_us,
            "audit.authn",
            session_id=session_name(user, at_us),
            user_id=user_name(user),
            service=SERVICES[calls.service[row]].name,
            payload=payload,
        )


def _routine(block: Block) -> Iterator[Event]:
    """What happens in every platform every so often: downloads, checks, exports, changed settings."""
    number = block.number
    model = MODELS[number % len(MODELS)]
    common = {"provider": model.provider, "model": model.name, "service": "registry"}
    at_us = number * BLOCK_US + 60_000_000
    yield _event(
        f"rd-{number}", at_us, "registry.asset.downloaded", **common, payload={"asset_id": f"prompt-{number % 40}"}
    )
    if number % 3 == 0:
        payload = {"asset_id": f"prompt-{number % 40}", "algorithm": "sha256", "success": True}
        yield _event(f"rv-{number}", at_us + 5_000_000, "registry.integrity.verified", **common, payload=payload)
    if number % 18 == 0:
        payload = {"version": f"2.{number % 1000}", "actor": "release-bot"}
        yield _event(f"rp-{number}", at_us + 9_000_000, "registry.version.published", **common, payload=payload)
        payload = {
            "actor": user_name(number % 12),
            "action": "update",
            "resource": "gateway.routes",
            "outcome": "success",
        }
        yield _event(f"ac-{number}", at_us + 12_000_000, "audit.config", service="gateway", payload=payload)
    payload = {"actor": "exporter", "action": "read", "resource": "usage-report", "outcome": "success"}
    yield _event(f"ax-{number}", at_us + 30_000_000, "audit.data_access", service="reports", payload=payload)


def _marks(incident: Incident) -> Iterator[Event]:
    """What the platform itself says about an incident; with its time as `at_us` beside the event."""
    for at_us, kind, fields in _MARKS[incident.kind](incident):
        name = f"{incident.kind}-{incident.from_us}-{kind}-{at_us}"
        yield {"at_us": at_us, **_event(name, at_us, kind, **fields)}


Mark = tuple[int, str, dict[str, Any]]


def _promoted(incident: Incident) -> Iterator[Mark]:
    model = {name: incident.entities[name] for name in ("model", "provider")}
    payload = {"version": "2026-11", "previous_version": "2026-10", "alias": "prod", "actor": "release-bot"}
    yield incident.from_us, "registry.version.promoted", {**model, "service": "registry", "payload": payload}
    payload = {**payload, "version": "2026-10", "previous_version": "2026-11"}
    yield incident.to_us, "registry.version.alias_moved", {**model, "service": "registry", "payload": payload}


def _repriced(incident: Incident) -> Iterator[Mark]:
    name = incident.entities["model"]
    model = next(one for one in MODELS if one.name == name)
    factor = Decimal(round(incident.size * 10)).scaleb(-1)
    buckets = ("input", "cache_read", "cache_write", "output")
    prices = {
        f"{bucket}_usd_per_mtok": Decimal(nano) / 1000 * factor
        for bucket, nano in zip(buckets, model.prices, strict=True)
    }
    payload = {**prices, "effective_from": utc(incident.from_us), "price_version": "changed"}
    yield (
        incident.from_us,
        "registry.price.changed",
        {
            "provider": model.provider,
            "model": name,
            "service": "registry",
            "price_version": "changed",
            "payload": payload,
        },
    )


def _down(incident: Incident) -> Iterator[Mark]:
    common = {"provider": incident.entities["provider"], "service": "gateway"}
    for at_us, state, severity in ((incident.from_us, "down", "critical"), (incident.to_us, "up", "info")):
        health = {"status": state, "error_rate": incident.size if state == "down" else 0.0}
        yield at_us, "gateway.provider.health", {**common, "severity": severity, "payload": health}
        circuit = {"from": "closed", "to": "open"} if state == "down" else {"from": "open", "to": "closed"}
        yield at_us + 20_000_000, "gateway.circuit", {**common, "severity": severity, "payload": circuit}


def _attacked(incident: Incident) -> Iterator[Mark]:
    payload = {"policy": "input-safety", "users": incident.entities["users"], "risk_category": "prompt_injection"}
    fields = {"service": incident.entities["service"], "severity": "critical", "payload": payload}
    yield incident.from_us + 120_000_000, "guardrails.incident", fields
    yield incident.from_us + 125_000_000, "audit.security", fields


def _stormed(incident: Incident) -> Iterator[Mark]:
    model = {name: incident.entities[name] for name in ("model", "provider")}
    payload = {"limit_type": "tokens_per_minute", "limit": 200_000, "used": 200_000}
    fields = {**model, "service": "gateway", "severity": "warning", "payload": payload}
    yield incident.from_us, "gateway.budget", fields


_MARKS: Final = {
    happening.LATENCY_REGRESSION: _promoted,
    happening.PRICE_CHANGE: _repriced,
    happening.PROVIDER_OUTAGE: _down,
    happening.GUARDRAIL_BURST: _attacked,
    happening.RETRY_STORM: _stormed,
}
