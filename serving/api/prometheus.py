"""GET /metrics: the hub's own figures in Prometheus' text form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from actors.accounts import Account
from cluster import telemetry
from cluster.errors import Unavailable
from cluster.telemetry import Metric, Telemetry
from serving.api.ledger import visible_accounts
from serving.auth.roles import Permission
from serving.dead_letter_alarm import DeadLetterAlarm
from serving.readings import Readings

router = APIRouter(tags=["health"])

# A label value is a time series for ever; beyond this many tenants the smallest are told as one.
TENANTS_MAX: Final = 200
OTHERS: Final = "_other"

_BY_TENANT: Final[tuple[tuple[Metric, str], ...]] = (
    (telemetry.ACCEPTED, "accepted"),
    (telemetry.COMMITTED, "committed"),
    (telemetry.REPEATED, "repeated"),
    (telemetry.DEAD_LETTERS, "dead_letters"),
    (telemetry.IN_FLIGHT, "in_flight"),
    (telemetry.DIFFERENCE, "difference"),
)
_BY_SHARD: Final[tuple[tuple[Metric, str], ...]] = (
    (telemetry.SHARD_BUFFERED, "buffered_events"),
    (telemetry.SHARD_LAG, "lag_s"),
)


class _Accounts(Collector):
    """Ledger and shards as they were read, in Prometheus' types."""

    def __init__(
        self, accounts: Mapping[str, Account], shards: Sequence[Mapping[str, Any]], shares: Mapping[str, float]
    ) -> None:
        self._accounts = accounts
        self._shards = shards
        self._shares = shares

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for metric, field in _BY_TENANT:
            family = _family(metric)
            for tenant, account in self._accounts.items():
                family.add_metric([tenant], getattr(account, field))
            yield family
        family = _family(telemetry.DEAD_LETTER_SHARE)
        for tenant in self._accounts:
            if tenant in self._shares:
                family.add_metric([tenant], self._shares[tenant])
        yield family
        for metric, field in _BY_SHARD:
            family = _family(metric)
            for shard in self._shards:
                if field in shard:
                    family.add_metric([str(shard["shard"])], float(shard[field]))
            yield family


@router.get("/metrics", response_model=None)
async def get_metrics(request: Request) -> Response:
    """Figures of this replica, and of the whole hub the tenants the key may see."""
    principal = await request.app.state.authorise(request, Permission.READ)
    own: Telemetry = request.app.state.telemetry
    readings: Readings = request.app.state.readings
    own.body_bytes.set(request.app.state.body_budget.held_bytes)
    text = generate_latest(own.registry)
    try:
        mine = await visible_accounts(request, principal, await readings.ledger())
    except Unavailable:
        # The replica's own figures are wanted most while something is away.
        mine = {}
    registry = CollectorRegistry()
    alarm: DeadLetterAlarm = request.app.state.alarm
    registry.register(_Accounts(bounded(mine), await readings.shards(), alarm.shares()))
    return Response(text + generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def bounded(accounts: Mapping[str, Account]) -> dict[str, Account]:
    """The largest tenants by accepted events, and the sum of the rest under "_other"."""
    largest = sorted(accounts, key=lambda tenant: (-accounts[tenant].accepted, tenant))
    told = {tenant: accounts[tenant] for tenant in largest[:TENANTS_MAX]}
    if len(largest) > TENANTS_MAX:
        rest = Account()
        for tenant in largest[TENANTS_MAX:]:
            for field, count in accounts[tenant].as_dict().items():
                setattr(rest, field, getattr(rest, field) + count)
        told[OTHERS] = rest
    return told


def _family(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)
