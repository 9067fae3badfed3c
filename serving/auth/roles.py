"""What a key may do: permissions, and which of them each scope carries. Everything not listed is refused."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """One thing that a door asks for."""

    # Send events.
    INGEST = "ingest"
    # Ask questions about the tenant's rows.
    READ = "read"
    # See found anomalies and detectors, and score.
    ANOMALIES = "anomalies"
    # Say of an anomaly whether it was one, which moves thresholds.
    FEEDBACK = "feedback"
    # Keys, tenants and projects of the organisation; act for any of its tenants.
    ADMIN = "admin"
    # The hub itself: every organisation's tenants, shards, readiness in full.
    OPERATE = "operate"


_OF_SCOPE: Final[dict[str, frozenset[Permission]]] = {
    "ingest": frozenset({Permission.INGEST}),
    "read": frozenset({Permission.READ, Permission.ANOMALIES}),
    "anomalies": frozenset({Permission.ANOMALIES, Permission.FEEDBACK}),
    "admin": frozenset(
        {Permission.INGEST, Permission.READ, Permission.ANOMALIES, Permission.FEEDBACK, Permission.ADMIN}
    ),
}


def permissions_of(scopes: Iterable[str], *, is_operator: bool) -> frozenset[Permission]:
    """Permissions of a key; an unknown scope carries none.

    Args:
        is_operator: the key belongs to the organisation that runs the hub.
    """
    held: frozenset[Permission] = frozenset()
    for scope in scopes:
        held |= _OF_SCOPE.get(scope, frozenset())
    if is_operator and Permission.ADMIN in held:
        held |= {Permission.OPERATE}
    return held
