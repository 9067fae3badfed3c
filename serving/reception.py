"""From a body at a door to its receipt: inflate, decode, admit. Every door for events ends here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

import pyarrow as pa

from actors.accounts import Account
from cluster.clock import Clock
from cluster.contract.decode import decode
from cluster.contract.event import MODULES
from cluster.contract.inflate import inflate
from cluster.contract.rows import DecodeContext, Decoded, Refusal
from cluster.contract.sources import otlp
from cluster.contract.sources.hooks.mlflow import check_signature
from cluster.contract.sources.hooks.products import DECODE_HOOK
from cluster.errors import BodyTooLarge, RequestInvalid
from cluster.settings import Settings
from cluster.telemetry import Telemetry
from cluster.tenancy import TenantId
from models.pricing.cost import tells_prices
from serving.auth.principal import Principal
from serving.dead_letter_alarm import DeadLetterAlarm
from serving.limits import TenantShares
from serving.pricing import Pricing
from serving.quotas import Quotas
from serving.turns import Turns

# Decoding lets go of the interpreter for most of its time; more threads than this only hold memory.
DECODE_THREADS: Final = 2
# Below this a thread costs more than the decoding it would take off the event loop.
_INLINE_BYTES_MAX: Final = 64 * 1024

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")

Made = TypeVar("Made")

_DECODE_OTLP: Final = {"traces": otlp.decode_traces, "logs": otlp.decode_logs, "metrics": otlp.decode_metrics}
_FROM_MESSAGE: Final[dict[str, Callable[[Any, DecodeContext], Decoded]]] = {
    "traces": otlp.traces_from_message,
    "logs": otlp.logs_from_message,
    "metrics": otlp.metrics_from_message,
}


class Admitted(Protocol):
    """What the shards answer to a batch: accepted + repeated = its rows."""

    @property
    def accepted(self) -> int: ...

    @property
    def repeated(self) -> int: ...


class Pool(Protocol):
    """The shards, as the doors see them; `actors.pool.ShardPool` in a cluster."""

    async def admit(
        self, tenant: TenantId, events: pa.RecordBatch | None, dead_letters: pa.RecordBatch | None
    ) -> Admitted: ...

    async def ledger(self) -> Mapping[str, Account]: ...

    async def status(self) -> Sequence[Mapping[str, Any]]: ...

    async def committer(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of the rows of one body: accepted + repeated + refused = rows sent.

    Attributes:
        refusals: the first hundred refused rows; all of them are kept as dead letters.
    """

    accepted: int
    repeated: int
    refused: int
    refusals: list[Refusal]


@dataclass(frozen=True, slots=True)
class Guards:
    """What every body passes: quotas, fair shares, the alarm on bad rows, prices; one of each for a replica."""

    quotas: Quotas
    shares: TenantShares
    alarm: DeadLetterAlarm
    pricing: Pricing


class Reception:
    """Takes bodies in; one for each replica."""

    def __init__(
        self, settings: Settings, pool: Pool, guards: Guards, *, clock: Clock, telemetry: Telemetry, executor: Executor
    ) -> None:
        """
        Args:
            executor: of DECODE_THREADS threads.
        """
        self._settings = settings
        self._pool = pool
        self._guards = guards
        self._clock = clock
        self._telemetry = telemetry
        self._executor = executor
        self._decoding = Turns(DECODE_THREADS)

    async def events(
        self,
        principal: Principal,
        body: bytes,
        *,
        content_type: str,
        encoding: str,
        module: str | None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Rows of NDJSON, JSON, Arrow or Parquet.

        Raises:
            RequestInvalid: `module` is not one of ours, or the key is no key.
            BodyUnreadable, BodyTooLarge, MediaTypeUnsupported: the body as a whole cannot be taken.
            Busy: nothing acknowledged; the same body may be sent again.
        """
        if module is not None and module not in MODULES:
            raise RequestInvalid(f"module {module[:80]!r} is not one of {', '.join(MODULES)}")
        if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
            raise RequestInvalid("Idempotency-Key is not 1 to 255 visible ASCII characters")
        context = replace(self._context(principal, source="events", module=module), idempotency_key=idempotency_key)

        def work() -> Decoded:
            return decode(self._inflated(body, encoding), content_type=content_type, context=context)

        # An encoded body may unpack to two hundred times its size, so its length says nothing.
        inline = not encoding and len(body) <= _INLINE_BYTES_MAX
        decoded = await self._decoded(principal, "events", work, inline=inline)
        return await self._admitted(principal, "events", decoded)

    async def otlp(
        self, principal: Principal, body: bytes, *, signal: str, content_type: str, encoding: str
    ) -> Receipt:
        """An OTLP/HTTP body of one signal: "traces", "logs" or "metrics".

        Raises: as `events`.
        """
        context = self._context(principal, source=f"otlp.{signal}", module=None)

        def work() -> Decoded:
            return _DECODE_OTLP[signal](self._inflated(body, encoding), content_type, context)

        inline = not encoding and len(body) <= _INLINE_BYTES_MAX
        decoded = await self._decoded(principal, f"otlp_http_{signal}", work, inline=inline)
        return await self._admitted(principal, f"otlp_http_{signal}", decoded)

    async def otlp_message(self, principal: Principal, message: Any, *, signal: str) -> Receipt:
        """An OTLP/gRPC request that the transport has already parsed.

        Raises: as `events`.
        """
        context = self._context(principal, source=f"otlp.{signal}", module=None)
        size = message.ByteSize()
        if size > self._settings.inflated_bytes_max:
            raise BodyTooLarge(f"the message is over {self._settings.inflated_bytes_max} bytes")
        door = f"otlp_grpc_{signal}"

        def work() -> Decoded:
            return _FROM_MESSAGE[signal](message, context)

        with self._guards.shares.request(principal.tenant, size):
            self._guards.quotas.enter(principal, size)
            decoded = await self._decoded(principal, door, work, inline=size <= _INLINE_BYTES_MAX)
            return await self._admitted(principal, door, decoded)

    async def hook(self, principal: Principal, body: bytes, *, product: str, headers: Mapping[str, str]) -> Receipt:
        """What a product of DECODE_HOOK sends on its own account.

        Args:
            headers: of the request, names in lower case.

        Raises:
            Unauthenticated: the hub has a secret for the product's webhooks and the body is not signed with it.
            otherwise as `events`.
        """
        secret = self._settings.mlflow_webhook_secret
        if product == "mlflow" and secret:
            check_signature(body, headers, secret=secret, now_s=self._clock.now_us() / 1e6)
        context = self._context(principal, source=f"hooks.{product}", module=None)
        encoding = headers.get("content-encoding", "")

        def work() -> Decoded:
            return DECODE_HOOK[product](self._inflated(body, encoding), headers, context)

        door = f"hook_{product}"
        inline = not encoding and len(body) <= _INLINE_BYTES_MAX
        decoded = await self._decoded(principal, door, work, inline=inline)
        return await self._admitted(principal, door, decoded)

    def _context(self, principal: Principal, *, source: str, module: str | None) -> DecodeContext:
        return DecodeContext(
            tenant_id=principal.tenant,
            region=self._settings.region,
            received_at_us=self._clock.now_us(),
            project_id=principal.project_id,
            module=module,
            source=source,
            rows_max=self._settings.rows_per_request_max,
            row_bytes_max=self._settings.row_bytes_max,
            inflated_bytes_max=self._settings.inflated_bytes_max,
        )

    def _inflated(self, body: bytes, encoding: str) -> bytes:
        settings = self._settings
        return inflate(
            body,
            encoding,
            sent_max=settings.body_bytes_max,
            inflated_max=settings.inflated_bytes_max,
            ratio_max=settings.inflate_ratio_max,
        )

    async def _decoded(self, principal: Principal, door: str, work: Callable[[], Decoded], *, inline: bool) -> Decoded:
        seconds = self._telemetry.decode_seconds.labels(door)
        pricing, tenant = self._guards.pricing, principal.tenant
        await pricing.renew()

        def priced() -> Decoded:
            decoded = work()
            return decoded if tells_prices(decoded.events) else pricing.priced(tenant, decoded)

        if inline:
            with seconds.time():
                decoded = priced()
        else:
            async with self._decoding.turn(tenant):
                with seconds.time():
                    decoded = await asyncio.get_running_loop().run_in_executor(self._executor, priced)
        return await pricing.learn(tenant, decoded) if tells_prices(decoded.events) else decoded

    async def _admitted(self, principal: Principal, door: str, decoded: Decoded) -> Receipt:
        receipt = Receipt(0, 0, decoded.dead_letters.num_rows, decoded.refusals)
        if decoded.row_count:
            self._guards.quotas.take_events(principal, decoded.row_count)
            with self._telemetry.admit_seconds.labels(door).time():
                admitted = await self._pool.admit(principal.tenant, decoded.events, decoded.dead_letters)
            receipt = replace(receipt, accepted=admitted.accepted, repeated=admitted.repeated)
            self._guards.alarm.record(principal.tenant, rows=decoded.row_count, refused=receipt.refused)
        for result in ("accepted", "repeated", "refused"):
            self._telemetry.rows.labels(door, result).inc(getattr(receipt, result))
        return receipt
