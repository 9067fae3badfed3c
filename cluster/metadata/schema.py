"""The SQL tables of the metadata store and the numbered steps that lead to them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

from cluster.clock import Clock
from cluster.metadata.engine import Database, Migration
from cluster.settings import Settings

_metadata = MetaData()

# Who pays and administers. The operator organisation runs the hub; its admin keys reach every tenant.
organisations: Final = Table(
    "organisations",
    _metadata,
    Column("organisation_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("is_operator", Integer, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
)

# Who owns rows. A tenant belongs to one organisation for good.
tenants: Final = Table(
    "tenants",
    _metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("organisation_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
)

# A part of a tenant's rows that a key can be narrowed to.
projects: Final = Table(
    "projects",
    _metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("project_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
)

api_keys: Final = Table(
    "api_keys",
    _metadata,
    # The part of the key between "hub_" and the secret: enough to find the row and to name the key to people.
    Column("key_id", Text, primary_key=True),
    # SHA-256 of the whole key, hex. A 256-bit random secret needs no slow hash.
    Column("secret_hash", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text),
    # Comma-separated, sorted.
    Column("scopes", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("created_by", Text),
    Column("expires_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
    Column("last_used_at_us", BigInteger),
    # The key that took over at a rotation; this one lives on until `expires_at_us`.
    Column("replaced_by", Text),
)

MIGRATIONS: Final = (
    Migration(
        1,
        "organisations, tenants, projects, keys",
        (
            """CREATE TABLE organisations (
                organisation_id TEXT PRIMARY KEY,
                name TEXT NOT NULL,
                is_operator INTEGER NOT NULL,
                created_at_us BIGINT NOT NULL)""",
            # At most one operator, whatever two first starts at the same moment do.
            "CREATE UNIQUE INDEX organisations_operator ON organisations (is_operator) WHERE is_operator = 1",
            """CREATE TABLE tenants (
                tenant_id TEXT PRIMARY KEY,
                organisation_id TEXT NOT NULL REFERENCES organisations (organisation_id),
                name TEXT NOT NULL,
                created_at_us BIGINT NOT NULL)""",
            "CREATE INDEX tenants_organisation ON tenants (organisation_id)",
            """CREATE TABLE projects (
                tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
                project_id TEXT NOT NULL,
                name TEXT NOT NULL,
                created_at_us BIGINT NOT NULL,
                PRIMARY KEY (tenant_id, project_id))""",
            """CREATE TABLE api_keys (
                key_id TEXT PRIMARY KEY,
                secret_hash TEXT NOT NULL,
                name TEXT NOT NULL,
                tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
                project_id TEXT,
                scopes TEXT NOT NULL,
                created_at_us BIGINT NOT NULL,
                created_by TEXT,
                expires_at_us BIGINT,
                revoked_at_us BIGINT,
                last_used_at_us BIGINT,
                replaced_by TEXT,
                FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, project_id))""",
            "CREATE INDEX api_keys_tenant ON api_keys (tenant_id)",
        ),
    ),
)


def open_metadata(settings: Settings, clock: Clock) -> Database:
    """The hub's metadata store, made on the first call and migrated to this version on every one."""
    database = Database(settings.metadata)
    database.migrate(MIGRATIONS, clock)
    return database
