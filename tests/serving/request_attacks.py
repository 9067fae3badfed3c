"""Requests of the tenant alpha that reach for the tenant beta, by every door, name, header and body."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

# {cursor}, {etag}, {key_id} and {key} are beta's own; {as_of} is a version that only beta's rows made.
AGGREGATES: Final = "/api/v1/metrics/aggregates"
TIMESERIES: Final = "/api/v1/metrics/timeseries"
SEARCH: Final = "/api/v1/events/search"
TRACES: Final = "/api/v1/traces"
QUERY: Final = "/api/v1/query"
SQL: Final = "/api/v1/sql"
DEAD: Final = "/api/v1/dead-letters"
WHEN: Final = {"from": "2025-12-29T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
_SPAN: Final = "from=2025-12-29T00:00:00Z&to=2026-01-01T00:00:00Z"
_COUNT: Final = f"{AGGREGATES}?measure=event_count&{_SPAN}"


@dataclass(frozen=True, slots=True)
class Attack:
    """One request.

    Attributes:
        who: a key of alpha with this scope, "north" for one of its project, "none" for no key.
        body: sent as JSON where it is not None.
    """

    method: str
    path: str
    who: str = "read"
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.who} {self.method} {self.path} {self.body or ''} {self.headers or ''}"[:110]


def _gets(*paths: str, who: str = "read") -> tuple[Attack, ...]:
    return tuple(Attack("GET", path, who) for path in paths)


def _asks(*bodies: dict[str, Any], who: str = "read") -> tuple[Attack, ...]:
    return tuple(Attack("POST", QUERY, who, {**WHEN, **body}) for body in bodies)


def _sent(**headers: str) -> Attack:
    return Attack("GET", _COUNT, headers={name.replace("_", "-"): value for name, value in headers.items()})


REFUSED: Final = (
    # Another tenant by name, at every door that reads.
    *_gets(
        f"{_COUNT}&tenant=beta",
        f"{TIMESERIES}?measure=event_count&{_SPAN}&tenant=beta",
        f"{SEARCH}?{_SPAN}&tenant=beta",
        f"{TRACES}?tenant=beta",
        f"{TRACES}/beta-trace?tenant=beta",
        f"{DEAD}?tenant=beta",
        "/api/v1/catalog?tenant=beta",
        "/api/v1/ledger?tenant=beta",
        f"{_COUNT}&tenant=alpha&tenant=beta",
        f"{_COUNT}&tenant=beta&tenant=alpha",
        f"{_COUNT}&tenant=",
        f"{_COUNT}&tenant=*",
        f"{_COUNT}&tenant=%2A",
        f"{_COUNT}&tenant=alpha,beta",
        f"{_COUNT}&tenant=BETA",
        f"{_COUNT}&tenant=beta%00",
        f"{_COUNT}&tenant=../beta",
        f"{_COUNT}&tenant=alpha'%20OR%20'1'='1",
        f"{_COUNT}&tenant=default",
        # Names that a door might take for one.
        f"{_COUNT}&tenant_id=beta",
        f"{_COUNT}&tenant[]=beta",
        f"{_COUNT}&scope=beta",
        f"{_COUNT}&project_id=south",
        f"{_COUNT}&organisation=org-beta",
    ),
    *_gets(f"{_COUNT}&tenant=beta", f"{SEARCH}?tenant=beta", "/api/v1/keys?tenant=beta", who="admin"),
    Attack("POST", f"{SQL}?tenant=beta", body={"sql": "SELECT * FROM events"}),
    Attack("POST", f"{QUERY}?tenant=beta", body={"kind": "search"}),
    Attack("POST", f"{QUERY}?tenant=beta", body={"kind": "batch", "queries": [{"kind": "search"}]}),
    Attack("POST", SQL, body={"sql": "SELECT * FROM events", "tenant": "beta"}),
    Attack("POST", SQL, body={"sql": "SELECT * FROM events", "scope": ["alpha", "beta"]}),
    Attack("POST", SQL, body={"sql": "SELECT * FROM beta.events"}),
    Attack("POST", SQL, body={"sql": "SELECT * FROM events", "as_of": {"../beta/events": 1}}),
    Attack("POST", SQL, body={"sql": "SELECT * FROM positions"}),
    *_asks(
        {"kind": "search", "tenant": "beta"},
        {"kind": "search", "tenant_id": "beta"},
        {"kind": "aggregate", "measure": ["event_count"], "tenants": ["alpha", "beta"]},
        {"kind": "aggregate", "measure": ["event_count"], "filter": {"tenant_id": "beta"}},
        {"kind": "search", "cursor": "{cursor}"},
        {"kind": "batch", "queries": [{"kind": "search"}], "tenant": "beta"},
    ),
    Attack("POST", QUERY, body={"kind": "trace", "trace_id": "beta-trace"}),
    Attack("POST", QUERY, body={"kind": "session", "session_id": "beta-session", **WHEN}),
    # What only beta has.
    *_gets(
        f"{TRACES}/beta-trace",
        f"{TRACES}/%62eta-trace",
        f"{TRACES}/..%2Fbeta-trace",
        f"{SEARCH}?{_SPAN}&cursor={{cursor}}",
        f"{DEAD}?cursor={{cursor}}",
        "/api/v1/tenants/beta/quota",
        "/api/v1/tenants/beta/projects",
    ),
    *_gets("/api/v1/tenants/beta/quota", "/api/v1/tenants/beta/projects", who="admin"),
    # The keys, tenants and limits of others.
    Attack("DELETE", "/api/v1/keys/{key_id}", "admin"),
    Attack("POST", "/api/v1/keys/{key_id}/rotate", "admin", {"grace_s": 0}),
    Attack("POST", "/api/v1/keys?tenant=beta", "admin", {"name": "mine", "scopes": ["read"]}),
    Attack("POST", "/api/v1/keys", "admin", {"name": "mine", "scopes": ["read"], "tenant_id": "beta"}),
    Attack("POST", "/api/v1/keys", "admin", {"name": "mine", "scopes": ["operate"]}),
    Attack("POST", "/api/v1/keys", "admin", {"name": "mine", "scopes": ["admin"], "is_operator": True}),
    Attack("POST", "/api/v1/keys", "admin", {"name": "mine", "scopes": ["admin"], "organisation_id": "org-beta"}),
    Attack("POST", "/api/v1/keys", "admin", {"name": "mine", "scopes": ["admin"], "project_id": "north"}),
    Attack("POST", "/api/v1/keys", "read", {"name": "mine", "scopes": ["admin"]}),
    Attack("POST", "/api/v1/tenants", "admin", {"tenant_id": "beta"}),
    Attack("POST", "/api/v1/tenants", "admin", {"tenant_id": "mine", "organisation_id": "org-beta"}),
    Attack("POST", "/api/v1/tenants", "admin", {"tenant_id": "../beta"}),
    Attack("POST", "/api/v1/organisations", "admin", {"organisation_id": "mine"}),
    Attack("PUT", "/api/v1/tenants/beta/quota", "admin", {"questions_per_s": 1}),
    Attack("PUT", "/api/v1/tenants/alpha/quota", "admin", {"questions_per_s": 0}),
    Attack("POST", "/api/v1/tenants/beta/projects", "admin", {"project_id": "mine"}),
    # Doors without their key, or with one too many.
    *_gets(_COUNT, SEARCH, TRACES, DEAD, "/api/v1/ledger", "/api/v1/catalog", "/metrics", who="none"),
    *_gets(_COUNT, f"{DEAD}", "/api/v1/ledger", who="ingest"),
    *_gets(DEAD, who="north"),
    Attack("GET", _COUNT, headers={"x-api-key": "{key}"}),
    Attack("GET", _COUNT, "none", headers={"cookie": "key={key}"}),
    Attack("GET", _COUNT, "none", headers={"authorization": "Basic {key}"}),
    Attack("GET", f"{_COUNT}&key={{key}}", "none"),
    Attack("POST", "/api/v1/events?tenant=beta", "ingest", [{"event_id": "a"}]),
    Attack("POST", "/api/v1/hooks/litellm?tenant=beta", "ingest", {"id": "a"}),
    Attack("POST", "/v1/traces?tenant=beta", "ingest", {"resourceSpans": []}),
    Attack("POST", "/api/v1/events", "read", [{"event_id": "a"}]),
)

# They are answered, as they would be were there no other tenant.
SCOPED: Final = (
    *_gets(
        f"{_COUNT}&filter=tenant_id:beta",
        f"{_COUNT}&filter=tenant_id:in:alpha,beta&group_by=tenant_id",
        f"{_COUNT}&filter=tenant_id:ne:alpha",
        f"{_COUNT}&filter=tenant_id:prefix:b&group_by=tenant_id",
        f"{AGGREGATES}?measure=unique_users&measure=unique_sessions&{_SPAN}&group_by=tenant_id",
        f"{_COUNT}&group_by=user_id",
        f"{_COUNT}&group_by=project_id&filter=user_id:exists:true",
        f"{TIMESERIES}?measure=event_count&{_SPAN}&group_by=tenant_id",
        f"{SEARCH}?{_SPAN}&q=needle",
        f"{SEARCH}?{_SPAN}&q=beta-only",
        f"{SEARCH}?{_SPAN}&filter=event_id:beta-only",
        f"{SEARCH}?{_SPAN}&filter=tenant_id:beta",
        f"{TRACES}/shared",
        f"{TRACES}?{_SPAN}&filter=trace_id:beta-trace",
        f"{TRACES}?{_SPAN}",
        f"{DEAD}?from=-9999d",
        "/api/v1/ledger",
    ),
    *_gets(f"{_COUNT}&group_by=project_id", f"{SEARCH}?{_SPAN}&filter=project_id:south", who="north"),
    *_gets("/api/v1/tenants", "/api/v1/ledger", _COUNT, who="admin"),
    *_asks(
        {"kind": "distinct", "field": "tenant_id"},
        {"kind": "distinct", "field": "user_id", "method": "sketch"},
        {"kind": "top", "measure": "event_count", "group_by": "user_id", "limit": 100},
        {"kind": "cohort", "filter": ["user_id:secret-user"]},
        {"kind": "funnel", "step": ["user_id:secret-user", "user_id:secret-user"]},
        {"kind": "ratio", "numerator": "event_count", "numerator_filter": ["tenant_id:beta"]},
        {"kind": "histogram", "group_by": ["tenant_id"]},
        {"kind": "heatmap", "filter": ["tenant_id:beta"]},
        {"kind": "percentile", "group_by": ["tenant_id"]},
        {"kind": "compare", "measure": ["event_count"], "group_by": ["tenant_id"]},
        {"kind": "cost_allocation", "group_by": ["tenant_id"]},
    ),
    # Headers that a proxy or a framework might obey.
    _sent(x_tenant="beta"),
    _sent(x_tenant_id="beta", x_scope="beta"),
    _sent(x_forwarded_user="beta", x_forwarded_for="127.0.0.1", forwarded="for=127.0.0.1;host=beta"),
    _sent(x_original_url=f"{_COUNT}&tenant=beta", x_rewrite_url="/api/v1/keys"),
    _sent(x_http_method_override="DELETE", x_http_method="PUT"),
    _sent(baggage="tenant_id=beta", traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    _sent(serve_multiplexed_model_id="beta", serve_app_name="beta"),
    # An answer that beta holds is none that alpha has.
    _sent(if_none_match="{etag}"),
    Attack("POST", QUERY, body={"kind": "batch", "queries": [{"kind": "distinct", "field": "tenant_id", **WHEN}]}),
)
