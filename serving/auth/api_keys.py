"""From a key's text to a Principal, with a short memory so that the metadata store is asked rarely."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cluster.clock import Clock
from cluster.errors import Forbidden, Unauthenticated, Unavailable
from cluster.metadata.keys import KEY_PATTERN, ApiKey, KeyStore, hash_key
from cluster.metadata.tenants import Tenant, TenantStore
from cluster.tenancy import TenantId
from serving.auth.principal import Principal
from serving.auth.roles import Permission, permissions_of

_REMEMBERED_MAX: Final = 10_000
# "Last used" is told to people in minutes; one write a minute and replica is enough.
_TOUCH_EVERY_S: Final = 60.0

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[Value]):
    value: Value
    until_s: float


class _Memory(Generic[Value]):
    """The latest answers by name, each for a fixed time, bounded; the longest unused goes first."""

    def __init__(self, clock: Clock, keep_s: float) -> None:
        self._clock = clock
        self._keep_s = keep_s
        self._kept: OrderedDict[str, _Kept[Value]] = OrderedDict()

    def get(self, name: str) -> _Kept[Value] | None:
        kept = self._kept.get(name)
        if kept is None or self._clock.monotonic_s() >= kept.until_s:
            return None
        self._kept.move_to_end(name)
        return kept

    def put(self, name: str, value: Value) -> None:
        self._kept[name] = _Kept(value, self._clock.monotonic_s() + self._keep_s)
        self._kept.move_to_end(name)
        while len(self._kept) > _REMEMBERED_MAX:
            self._kept.popitem(last=False)


class KeyGate:
    """Knows keys; one for each replica, used from its event loop only.

    A revoked or expired key is refused at most `keep_s` after it ended. When the store cannot be reached, a key
    not in memory is refused with Unavailable: fail closed, and the sender comes again.
    """

    def __init__(
        self, keys: KeyStore, tenants: TenantStore, *, clock: Clock, executor: Executor, keep_s: float
    ) -> None:
        self._keys = keys
        self._tenants = tenants
        self._clock = clock
        self._executor = executor
        self._known: _Memory[ApiKey] = _Memory(clock, keep_s)
        # Apart from the known, so that a flood of wrong keys does not push the right ones out.
        self._unknown: _Memory[None] = _Memory(clock, keep_s)
        self._owners: _Memory[Tenant] = _Memory(clock, keep_s)
        self._looking: dict[str, asyncio.Future[ApiKey | None]] = {}
        self._used: dict[str, int] = {}
        self._touched_at_s = clock.monotonic_s()

    async def principal(self, text: str) -> Principal:
        """The principal of a key.

        Raises:
            Unauthenticated: no live key has that text; which of the reasons is not told.
            Unavailable: the metadata store did not answer.
        """
        key = await self._find(text)
        if key is None or not key.is_live(self._clock.now_us()):
            raise Unauthenticated("the key is not known, or has ended")
        if len(self._used) < _REMEMBERED_MAX or key.key_id in self._used:
            self._used[key.key_id] = self._clock.now_us()
        return Principal(
            key_id=key.key_id,
            tenant=key.tenant_id,
            project_id=key.project_id,
            organisation_id=key.organisation_id,
            permissions=permissions_of(key.scopes, is_operator=key.is_operator),
            quota=key.quota,
        )

    async def on_behalf_of(self, principal: Principal, tenant: str) -> Principal:
        """The principal on a tenant it names; the answer does not tell whether a tenant out of reach exists.

        Raises:
            Forbidden: the key does not cover that tenant.
        """
        if tenant == principal.tenant:
            return principal
        if Permission.ADMIN in principal.permissions:
            kept = self._owners.get(tenant)
            owner = kept.value if kept else await self._ask(lambda: self._tenants.find(tenant))
            if owner is not None:
                # Absence is not remembered: a tenant just made must be usable at once.
                self._owners.put(tenant, owner)
                mine = owner.organisation_id == principal.organisation_id
                if mine or Permission.OPERATE in principal.permissions:
                    return principal.acting_for(owner)
        raise Forbidden("this key does not cover that tenant", hint="Leave `tenant` out, or use a key of that tenant.")

    async def covered(self, principal: Principal) -> frozenset[TenantId]:
        """The tenants whose figures the key may see: its organisation's for an admin, else its own."""
        if Permission.ADMIN not in principal.permissions:
            return frozenset({principal.tenant})
        found = await self._ask(lambda: self._tenants.of_organisation(principal.organisation_id))
        return frozenset(tenant.tenant_id for tenant in found)

    async def _find(self, text: str) -> ApiKey | None:
        if KEY_PATTERN.fullmatch(text) is None:
            return None
        # By hash, so that a dump of this process holds no key that is not in flight.
        name = hash_key(text)
        kept = self._known.get(name)
        if kept is not None:
            return kept.value
        if self._unknown.get(name) is not None:
            return None
        # A burst of requests with one key asks the store once.
        looking = self._looking.get(name)
        if looking is None:
            looking = asyncio.ensure_future(self._look_up(name, text))
            self._looking[name] = looking
            looking.add_done_callback(lambda _: self._looking.pop(name, None))
        return await asyncio.shield(looking)

    async def _look_up(self, name: str, text: str) -> ApiKey | None:
        key = await self._ask(lambda: self._keys.find(text))
        if key is None:
            self._unknown.put(name, None)
        else:
            self._known.put(name, key)
        await self._touch()
        return key

    async def _touch(self) -> None:
        if self._clock.monotonic_s() - self._touched_at_s < _TOUCH_EVERY_S:
            return
        self._touched_at_s = self._clock.monotonic_s()
        used, self._used = self._used, {}
        try:
            await self._ask(lambda: self._keys.touch(used))
        except Unavailable:
            # A late "last used" is no reason to refuse a good key; it is written with the next ones.
            self._used = {**used, **self._used}

    async def _ask(self, question: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._executor, question)
