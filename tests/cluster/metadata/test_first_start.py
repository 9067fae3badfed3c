"""The first start tells one admin key; migrations run once, whoever comes together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from cluster.clock import ManualClock
from cluster.errors import Conflict, NotFound, RequestInvalid, SettingsInvalid
from cluster.metadata.engine import Database, Migration
from cluster.metadata.first_start import bootstrap_admin, issue_admin
from cluster.metadata.schema import MIGRATIONS
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT
from tests.cluster.metadata.conftest import Store


def test_the_admin_key_is_told_once_and_works(store: Store) -> None:
    assert bootstrap_admin(store.settings, clock=store.clock) is None
    key = store.keys.find(store.admin_key)
    assert key and key.is_operator
    assert (key.tenant_id, key.scopes) == (DEFAULT_TENANT, ("admin",))


def test_of_many_first_starts_at_once_one_gets_the_key(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    with ThreadPoolExecutor(6) as threads:
        told = list(threads.map(lambda _: bootstrap_admin(settings), range(6)))
    assert sum(key is not None for key in told) == 1


def test_a_lost_admin_key_is_issued_again_on_the_machine(store: Store) -> None:
    key = store.keys.find(issue_admin(store.settings, clock=store.clock))
    assert key and key.is_operator
    assert store.keys.find(store.admin_key)


def test_no_admin_key_before_the_first_start(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        issue_admin(Settings(data=tmp_path))


def test_migrations_run_once_and_a_newer_store_is_refused(tmp_path: Path) -> None:
    clock = ManualClock()
    database = Database(f"sqlite:///{tmp_path / 'm.db'}")
    assert database.migrate(MIGRATIONS, clock) == len(MIGRATIONS)
    assert database.migrate(MIGRATIONS, clock) == 0
    newer = (*MIGRATIONS, Migration(len(MIGRATIONS) + 1, "later", ("CREATE TABLE later (x INTEGER)",)))
    assert database.migrate(newer, clock) == 1
    with pytest.raises(SettingsInvalid):
        database.migrate(MIGRATIONS, clock)
    database.close()


def test_a_failed_migration_leaves_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'm.db'}")
    broken = (Migration(1, "broken", ("CREATE TABLE half (x INTEGER)", "CREATE TABLE half (x INTEGER)")),)
    with pytest.raises(Exception, match="did not answer"):
        database.migrate(broken, ManualClock())
    with database.reading() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master")).scalars().all()
    assert "half" not in names
    database.close()


def test_a_store_in_memory_is_refused() -> None:
    with pytest.raises(SettingsInvalid):
        Database("sqlite://")


def test_tenants_belong_to_one_organisation(store: Store) -> None:
    store.tenants.create_organisation("acme")
    store.tenants.create("acme-prod", organisation_id="acme", name="Acme, production")
    assert [t.tenant_id for t in store.tenants.of_organisation("acme")] == ["acme-prod"]
    assert [t.tenant_id for t in store.tenants.of_organisation("operator")] == ["acme-prod", "default"]
    with pytest.raises(Conflict):
        store.tenants.create("acme-prod", organisation_id="operator")
    with pytest.raises(Conflict):
        store.tenants.create_organisation("acme")
    with pytest.raises(NotFound):
        store.tenants.create("x", organisation_id="nobody")
    for bad in ("", "UPPER", "-x", "a/b", "a" * 64, "ü"):
        with pytest.raises(RequestInvalid):
            store.tenants.create(bad, organisation_id="acme")


def test_projects_are_of_one_tenant(store: Store) -> None:
    store.tenants.create_project(DEFAULT_TENANT, "search", name="Search")
    assert [p.project_id for p in store.tenants.projects_of(DEFAULT_TENANT)] == ["search"]
    with pytest.raises(Conflict):
        store.tenants.create_project(DEFAULT_TENANT, "search")


def test_reading_writes_nothing(store: Store) -> None:
    with store.database.reading() as connection:
        connection.execute(text("DELETE FROM api_keys"))
    assert store.keys.find(store.admin_key)


def test_the_schema_is_the_one_the_tables_describe(store: Store) -> None:
    with store.database.reading() as connection:
        columns = {row[1] for row in connection.execute(text("PRAGMA table_info(api_keys)"))}
    assert {"secret_hash", "replaced_by", "last_used_at_us"} <= columns
    assert "key" not in columns
