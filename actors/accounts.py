"""The loss ledger: accepted against committed, by two independent counts that meet at the same sequences.

Shards count what they journaled; the Delta log counts the rows of its files. At sequence v of each journal the two
must agree to the row; the difference is what was lost (above 0) or doubled (below 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.lake.counts import Committed


@dataclass(slots=True)
class Account:
    """One tenant's events, since its first.

    Attributes:
        committed: in the table now.
        expired: committed once, and removed since because of their age.
        repeats_removed: committed once, found to be repeats of other rows later, and removed.
        in_flight: accepted, durable in a journal, not yet in the table.
        difference: accepted and neither in flight, committed nor removed; 0 when sound.
    """

    accepted: int = 0
    committed: int = 0
    expired: int = 0
    repeats_removed: int = 0
    repeated: int = 0
    dead_letters: int = 0
    in_flight: int = 0
    difference: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


History = Sequence[tuple[int, Mapping[str, int]]]


def settle(
    shards: Sequence[Mapping[str, Any]], positions: Mapping[str, History], committed: Committed
) -> dict[str, Account]:
    """Account of each tenant.

    Args:
        shards: answers of `Shard.ledger`, given after the snapshot was taken, so that they know its sequences.
        positions: what the committer noted for the latest seals of each journal; stands in for journals that no
            running shard owns, those of a lost node.
        committed: snapshot of the events table.
    """
    accounts: dict[str, Account] = {}
    due: dict[str, int] = {}

    def add(tenant: str, field: str, count: int) -> None:
        account = accounts.setdefault(tenant, Account())
        setattr(account, field, getattr(account, field) + count)

    owned: set[str] = set()
    for shard in shards:
        for journal, history in shard["history"].items():
            owned.add(journal)
            known = [*positions.get(journal, ()), *history]
            for tenant, count in _at(known, committed.sequences.get(journal, 0)).items():
                due[tenant] = due.get(tenant, 0) + count
            if journal != shard["journal"] and history:
                for tenant, count in history[-1][1].items():
                    add(tenant, "accepted", count)
        for tenant, totals in shard["totals"].items():
            for field in ("accepted", "repeated", "dead_letters"):
                add(tenant, field, int(totals[field]))
    for journal in positions.keys() - owned:
        for tenant, count in _at(positions[journal], committed.sequences.get(journal, 0)).items():
            add(tenant, "accepted", count)
            due[tenant] = due.get(tenant, 0) + count
    for tenant in {*accounts, *committed.rows, *committed.expired, *committed.repeats}:
        account = accounts.setdefault(tenant, Account())
        account.committed = committed.rows.get(tenant, 0)
        account.in_flight = account.accepted - due.get(tenant, 0)
        account.expired = committed.expired.get(tenant, 0)
        account.repeats_removed = committed.repeats.get(tenant, 0)
        account.difference = due.get(tenant, 0) - account.committed - account.expired - account.repeats_removed
    return accounts


def _at(history: History, sequence: int) -> Mapping[str, int]:
    """Accepted events of each tenant at the end of a seal; nothing where the seal is not known."""
    for known, accepted in reversed(history):
        if known == sequence:
            return accepted
    return {}
