"""What a shard remembers of rows it took: their ids, so that repeats are dropped, and the calls they told of."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from actors.calls import call_keys, count
from actors.seen import Bits, Keys, Seen, first_of_each
from cluster.contract.columns import EVENT_SCHEMA
from cluster.hashing import hash128, seed_of
from cluster.tenancy import TenantId

_COUNTED = EVENT_SCHEMA.get_field_index("counted")


class Memory:
    """Bounded memory of event ids, dead-letter ids and told calls."""

    def __init__(self, limit: int) -> None:
        self.ids = Seen(limit)
        self.calls = Seen(limit)

    def fresh_events(self, batch: pa.RecordBatch, tenant: TenantId) -> tuple[pa.RecordBatch, Keys]:
        """The rows that are no repeats, `counted` set, and their keys; `learn` the keys once the rows are journaled."""
        keys = event_keys(batch, tenant)
        batch, keys = self._fresh(batch, keys)
        if not batch.num_rows:
            return batch, keys
        counted = count(batch, tenant, self.calls)
        return batch.set_column(_COUNTED, EVENT_SCHEMA.field(_COUNTED), pa.array(counted)), keys

    def fresh_dead_letters(self, batch: pa.RecordBatch, tenant: TenantId) -> tuple[pa.RecordBatch, Keys]:
        """The dead letters that are no repeats, and their keys."""
        return self._fresh(batch, dead_letter_keys(batch, tenant))

    def learn(self, keys: Keys) -> None:
        """Remember keys, distinct among themselves."""
        self.ids.exchange(keys)

    def recall(self, batch: pa.RecordBatch, tenant: TenantId) -> None:
        """Remember rows that were taken before: their `counted` says what they told."""
        keys = event_keys(batch, tenant)
        self.ids.exchange(keys[first_of_each(keys)])
        keys, bits = told_calls(batch, tenant)
        while len(keys):
            # Rows that share a call stand here one after the other; their bits are joined.
            first = first_of_each(keys)
            self.calls.exchange(keys[first], bits[first])
            keys, bits = keys[~first], bits[~first]

    def recall_dead_letters(self, batch: pa.RecordBatch, tenant: TenantId) -> None:
        """Remember dead letters that were taken before."""
        keys = dead_letter_keys(batch, tenant)
        self.ids.exchange(keys[first_of_each(keys)])

    def _fresh(self, batch: pa.RecordBatch, keys: Keys) -> tuple[pa.RecordBatch, Keys]:
        first = first_of_each(keys)
        if not first.all():
            batch, keys = batch.filter(pa.array(first)), keys[first]
        found, _ = self.ids.find(keys)
        if found.any():
            batch, keys = batch.filter(pa.array(~found)), keys[~found]
        return batch, keys


def event_keys(batch: pa.RecordBatch, tenant: TenantId) -> Keys:
    """Key of each event, by tenant and event id."""
    return hash128(batch.column("event_id"), seed_of(f"event:{tenant}"))


def dead_letter_keys(batch: pa.RecordBatch, tenant: TenantId) -> Keys:
    """Key of each dead letter, by tenant and dead-letter id."""
    return hash128(batch.column("dead_letter_id"), seed_of(f"dead:{tenant}"))


def told_calls(batch: pa.RecordBatch, tenant: TenantId) -> tuple[Keys, Bits]:
    """Keys of the calls that the rows name, and what each row told."""
    keys, owners = call_keys(batch, tenant)
    return keys, np.asarray(batch.column("counted"))[owners].astype(np.uint8)
