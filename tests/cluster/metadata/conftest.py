"""A migrated store with the operator's first key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.clock import ManualClock
from cluster.metadata.engine import Database
from cluster.metadata.first_start import bootstrap_admin
from cluster.metadata.keys import KeyStore
from cluster.metadata.schema import open_metadata
from cluster.metadata.tenants import TenantStore
from cluster.settings import Settings


@dataclass(frozen=True, slots=True)
class Store:
    """The parts of one store and its first key."""

    settings: Settings
    clock: ManualClock
    database: Database
    keys: KeyStore
    tenants: TenantStore
    admin_key: str


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    settings, clock = Settings(data=tmp_path), ManualClock()
    admin_key = bootstrap_admin(settings, clock=clock)
    assert admin_key is not None
    database = open_metadata(settings, clock)
    yield Store(settings, clock, database, KeyStore(database, clock), TenantStore(database, clock), admin_key)
    database.close()
