"""Every metric the hub emits about itself, typed, one comment each; the text form is Prometheus'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the catalogue.

    Attributes:
        kind: "counter", "gauge" or "histogram".
        labels: each with a bounded set of values; never an id a sender chooses.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


# Answers of the HTTP and gRPC doors by route template, so that ids in paths make no new series.
REQUESTS: Final = Metric("hub_requests_total", "counter", "Answers of this replica.", ("route", "method", "status"))
# From the first byte of the request to the last of the answer.
REQUEST_SECONDS: Final = Metric("hub_request_seconds", "histogram", "Time to answer.", ("route",))
# Requests being answered now; near HUB_INGRESS_ONGOING senders will soon be told to wait.
REQUESTS_OPEN: Final = Metric("hub_requests_open", "gauge", "Requests being answered by this replica.")
# Bodies in memory; bounded by the body budget.
BODY_BYTES: Final = Metric("hub_body_held_bytes", "gauge", "Memory held by request bodies of this replica.")
# Decoding alone, by door: what a slow format costs.
DECODE_SECONDS: Final = Metric("hub_decode_seconds", "histogram", "Time to decode one body.", ("door",))
# Admission alone: the shard's journal and fsync are inside.
ADMIT_SECONDS: Final = Metric(
    "hub_admit_seconds", "histogram", "Time until the shards acknowledged a batch.", ("door",)
)
# Rows at the doors of this replica; the ledger below counts them once for the whole hub.
ROWS: Final = Metric("hub_rows_total", "counter", "Rows answered by this replica.", ("door", "result"))
# Requests a quota or a tenant's share of the replica turned away; the log's lines name the tenants.
QUOTA_REFUSALS: Final = Metric("hub_quota_refusals_total", "counter", "Requests refused by a quota.", ("quota",))
# Near the alarm a tenant's sender is broken, or our decoder; of this replica, which sees its part of the requests.
DEAD_LETTER_SHARE: Final = Metric(
    "hub_dead_letter_share_ratio", "gauge", "Part of a tenant's rows refused in the last minutes.", ("tenant",)
)
# From the ledger, by tenant: the first and the largest tenants, the rest under "_other".
ACCEPTED: Final = Metric("hub_events_accepted_total", "counter", "Events journaled.", ("tenant",))
COMMITTED: Final = Metric("hub_events_committed_total", "counter", "Events in the Delta table.", ("tenant",))
REPEATED: Final = Metric("hub_events_repeated_total", "counter", "Events recognised as repeats.", ("tenant",))
DEAD_LETTERS: Final = Metric("hub_dead_letters_total", "counter", "Refused rows kept as dead letters.", ("tenant",))
IN_FLIGHT: Final = Metric("hub_events_in_flight", "gauge", "Events journaled and not yet committed.", ("tenant",))
# Anything but 0 means that events were lost or doubled.
DIFFERENCE: Final = Metric("hub_ledger_difference", "gauge", "Accepted - committed - in flight.", ("tenant",))
SHARD_BUFFERED: Final = Metric("hub_shard_buffered_events", "gauge", "Events waiting in a shard.", ("shard",))
SHARD_LAG: Final = Metric("hub_shard_lag_seconds", "gauge", "Age of a shard's oldest uncommitted event.", ("shard",))

CATALOGUE: Final = (
    REQUESTS,
    REQUEST_SECONDS,
    REQUESTS_OPEN,
    BODY_BYTES,
    DECODE_SECONDS,
    ADMIT_SECONDS,
    ROWS,
    QUOTA_REFUSALS,
    DEAD_LETTER_SHARE,
    ACCEPTED,
    COMMITTED,
    REPEATED,
    DEAD_LETTERS,
    IN_FLIGHT,
    DIFFERENCE,
    SHARD_BUFFERED,
    SHARD_LAG,
)

# Half a millisecond to ten seconds: a cached answer to the slowest question.
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Telemetry:
    """The metrics of one process, on a registry of its own so that two applications in a test do not share counts."""

    def __init__(self) -> None:
        # The time each series began would double their number and nobody asks for it.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.requests = self._counter(REQUESTS)
        self.request_seconds = self._histogram(REQUEST_SECONDS)
        self.requests_open = self._gauge(REQUESTS_OPEN)
        self.body_bytes = self._gauge(BODY_BYTES)
        self.decode_seconds = self._histogram(DECODE_SECONDS)
        self.admit_seconds = self._histogram(ADMIT_SECONDS)
        self.rows = self._counter(ROWS)
        self.quota_refusals = self._counter(QUOTA_REFUSALS)

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(metric.name, metric.help, metric.labels, registry=self.registry, buckets=_SECONDS)


def configure_log(level: str) -> None:
    """One JSON line for each event of this process, on standard output; called once, where a process starts.

    Args:
        level: debug, info, warning or error.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            # The trace of calls without the values of their variables, which may be secrets.
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _json(line: object, **_: object) -> str:
    return orjson.dumps(line, default=str).decode()
