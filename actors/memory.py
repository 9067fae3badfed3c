"""What a shard remembers of rows it took: their ids, so that repeats are dropped, and the calls they told of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.calls import count, recall
from actors.seen import Seen
from cluster.contract.columns import EVENT_SCHEMA
from cluster.hashing import hash128, seed_of
from cluster.tenancy import TenantId

_COUNTED = EVENT_SCHEMA.get_field_index("counted")


@dataclass(frozen=True, slots=True)
class Keys:
    """What is to be remembered of rows: their ids, and the calls they told of with what they told."""

    ids: npt.NDArray[np.uint64]
    calls: npt.NDArray[np.uint64]
    bits: npt.NDArray[np.uint8]


class Memory:
    """Bounded memory of event ids, dead-letter ids and told calls."""

    def __init__(self, limit: int) -> None:
        self.ids = Seen(limit)
        self.calls = Seen(limit)

    def take_events(self, batch: pa.RecordBatch, tenant: TenantId) -> tuple[pa.RecordBatch, Keys]:
        """The rows that are no repeats, `counted` set, and their keys.

        They are remembered at once: a caller that then cannot journal them must end, and read its disk again.
        """
        batch, ids = self._fresh(batch, event_keys(batch, tenant))
        told = count(batch, tenant, self.calls)
        if batch.num_rows:
            batch = batch.set_column(_COUNTED, EVENT_SCHEMA.field(_COUNTED), pa.array(told.counted))
        return batch, Keys(ids, told.keys, told.bits)

    def take_dead_letters(self, batch: pa.RecordBatch, tenant: TenantId) -> tuple[pa.RecordBatch, Keys]:
        """The dead letters that are no repeats, and their keys; remembered at once."""
        batch, ids = self._fresh(batch, dead_letter_keys(batch, tenant))
        return batch, Keys(ids, ids[:0], np.empty(0, np.uint8))

    def recall_events(self, batch: pa.RecordBatch, tenant: TenantId) -> Keys:
        """Remember rows that were taken before: their `counted` says what they told."""
        ids = event_keys(batch, tenant)
        self.ids.exchange(ids)
        told = recall(batch, tenant, self.calls)
        return Keys(ids, told.keys, told.bits)

    def recall_dead_letters(self, batch: pa.RecordBatch, tenant: TenantId) -> Keys:
        """Remember dead letters that were taken before."""
        ids = dead_letter_keys(batch, tenant)
        keys = Keys(ids, ids[:0], np.empty(0, np.uint8))
        self.learn(keys)
        return keys

    def learn(self, keys: Keys) -> None:
        """Remember keys; one that stands there twice has the bits of both."""
        self.ids.exchange(keys.ids)
        self.calls.exchange(keys.calls, keys.bits)

    def _fresh(
        self, batch: pa.RecordBatch, keys: npt.NDArray[np.uint64]
    ) -> tuple[pa.RecordBatch, npt.NDArray[np.uint64]]:
        found, _ = self.ids.exchange(keys)
        if found.any():
            batch, keys = batch.filter(pa.array(~found)), keys[~found]
        return batch, keys


def event_keys(batch: pa.RecordBatch, tenant: TenantId) -> npt.NDArray[np.uint64]:
    """Key of each event, by tenant and event id."""
    return hash128(batch.column("event_id"), seed_of(f"event:{tenant}"))


def dead_letter_keys(batch: pa.RecordBatch, tenant: TenantId) -> npt.NDArray[np.uint64]:
    """Key of each dead letter, by tenant and dead-letter id."""
    return hash128(batch.column("dead_letter_id"), seed_of(f"dead:{tenant}"))
