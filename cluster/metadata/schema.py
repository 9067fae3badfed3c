"""The SQL tables of the metadata store and the numbered steps that lead to them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, Table, Text

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
    # Its quotas; NULL is the hub's own setting, 0 no limit.
    Column("events_per_s", BigInteger),
    Column("bytes_per_s", BigInteger),
    Column("questions_per_s", BigInteger),
    Column("burst_s", Float),
)

# Dead letters whose content was taken after all, so that no later replay sends it again.
replayed_dead_letters: Final = Table(
    "replayed_dead_letters",
    _metadata,
    Column("tenant_id", Text, primary_key=True),
    # BLAKE2b of source and original bytes, hex.
    Column("content_hash", Text, primary_key=True),
    Column("replayed_at_us", BigInteger, nullable=False),
)

# Prices a tenant's events told of. Rows are never changed: a version names the same amounts for good.
prices: Final = Table(
    "prices",
    _metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    # JSON, as cluster/contract/prices.py reads it.
    Column("price", Text, nullable=False),
    Column("told_at_us", BigInteger, nullable=False),
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
    Migration(
        2,
        "quotas of tenants, replayed dead letters",
        (
            "ALTER TABLE tenants ADD COLUMN events_per_s BIGINT",
            "ALTER TABLE tenants ADD COLUMN bytes_per_s BIGINT",
            "ALTER TABLE tenants ADD COLUMN questions_per_s BIGINT",
            "ALTER TABLE tenants ADD COLUMN burst_s DOUBLE PRECISION",
            """CREATE TABLE replayed_dead_letters (
                tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
                content_hash TEXT NOT NULL,
                replayed_at_us BIGINT NOT NULL,
                PRIMARY KEY (tenant_id, content_hash))""",
        ),
    ),
    Migration(
        3,
        "prices of tenants",
        (
            """CREATE TABLE prices (
                tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
                version TEXT NOT NULL,
                price TEXT NOT NULL,
                told_at_us BIGINT NOT NULL,
                PRIMARY KEY (tenant_id, version))""",
        ),
    ),
)


def open_metadata(settings: Settings, clock: Clock) -> Database:
    """The hub's metadata store, made on the first call and migrated to this version on every one."""
    database = Database(settings.metadata)
    database.migrate(MIGRATIONS, clock)
    return database
