"""The SQL tables of the metadata store and the numbered steps that lead to them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, Table, Text

from cluster.clock import Clock
from cluster.metadata.engine import Database, Migration
from cluster.metadata.query_tables import QUERY_JOBS
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

# How long a tenant keeps its rows, where that is not the hub's own setting; days, 0 for ever.
retentions: Final = Table(
    "retentions",
    _metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("hot_days", Integer, nullable=False),
    Column("warm_days", Integer, nullable=False),
    Column("cold_days", Integer, nullable=False),
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

# Boards that were kept. A board belongs to a tenant; its owner is the key that made it, or that key's successor.
dashboards: Final = Table(
    "dashboards",
    _metadata,
    Column("dashboard_id", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("owner_key_id", Text, nullable=False),
    Column("title", Text, nullable=False),
    # The newest of its versions.
    Column("version", Integer, nullable=False),
    # What other keys of the tenant, and keys of its organisation's other tenants, may do: numbers of `Right`.
    Column("tenant_right", Integer, nullable=False),
    Column("organisation_right", Integer, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
)

# Every kept state of a board, as JSON; never changed.
dashboard_versions: Final = Table(
    "dashboard_versions",
    _metadata,
    Column("dashboard_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("board", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
)

# Signed links, so that they can be listed and ended; what a link opens is in its token.
dashboard_links: Final = Table(
    "dashboard_links",
    _metadata,
    Column("link_id", Text, primary_key=True),
    Column("dashboard_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    # JSON list of the filters that the link fixes.
    Column("filters", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at_us", BigInteger, nullable=False),
    Column("revoked_at_us", BigInteger),
)

# Secrets that the processes of the hub sign with; each is made once.
signing_keys: Final = Table(
    "signing_keys",
    _metadata,
    Column("name", Text, primary_key=True),
    # 256 random bits, hex.
    Column("secret", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
)

# What people said of found anomalies; one word of each tenant for each, the latest.
anomaly_feedback: Final = Table(
    "anomaly_feedback",
    _metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("anomaly_id", Text, primary_key=True),
    # Whose threshold it moves.
    Column("detector", Text, nullable=False),
    Column("entity", Text, nullable=False),
    # 1 a real one, 0 a false alarm.
    Column("is_true", Integer, nullable=False),
    # Of the anomaly, when it was judged.
    Column("score", Float, nullable=False),
    Column("comment", Text, nullable=False),
    Column("told_by", Text, nullable=False),
    Column("told_at_us", BigInteger, nullable=False),
    # JSON list of the anomaly's drivers; NULL where it was judged before they were kept.
    Column("drivers", Text),
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
    Migration(
        4,
        "boards, their versions and links",
        (
            """CREATE TABLE dashboards (
                dashboard_id TEXT PRIMARY KEY,
                tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
                owner_key_id TEXT NOT NULL REFERENCES api_keys (key_id),
                title TEXT NOT NULL,
                version INTEGER NOT NULL,
                tenant_right INTEGER NOT NULL,
                organisation_right INTEGER NOT NULL,
                created_at_us BIGINT NOT NULL,
                changed_at_us BIGINT NOT NULL)""",
            "CREATE INDEX dashboards_tenant ON dashboards (tenant_id)",
            """CREATE TABLE dashboard_versions (
                dashboard_id TEXT NOT NULL REFERENCES dashboards (dashboard_id),
                version INTEGER NOT NULL,
                board TEXT NOT NULL,
                created_at_us BIGINT NOT NULL,
                created_by TEXT NOT NULL,
                PRIMARY KEY (dashboard_id, version))""",
            """CREATE TABLE dashboard_links (
                link_id TEXT PRIMARY KEY,
                dashboard_id TEXT NOT NULL REFERENCES dashboards (dashboard_id),
                version INTEGER NOT NULL,
                filters TEXT NOT NULL,
                created_at_us BIGINT NOT NULL,
                created_by TEXT NOT NULL REFERENCES api_keys (key_id),
                expires_at_us BIGINT NOT NULL,
                revoked_at_us BIGINT)""",
            "CREATE INDEX dashboard_links_dashboard ON dashboard_links (dashboard_id)",
            """CREATE TABLE signing_keys (
                name TEXT PRIMARY KEY,
                secret TEXT NOT NULL,
                created_at_us BIGINT NOT NULL)""",
            # From a key to the one it took over from, when a board's owner is looked for.
            "CREATE INDEX api_keys_successor ON api_keys (replaced_by)",
        ),
    ),
    Migration(
        5,
        "retention of tenants",
        (
            """CREATE TABLE retentions (
                tenant_id TEXT PRIMARY KEY REFERENCES tenants (tenant_id),
                hot_days INTEGER NOT NULL,
                warm_days INTEGER NOT NULL,
                cold_days INTEGER NOT NULL)""",
        ),
    ),
    Migration(
        6,
        "feedback on anomalies",
        (
            """CREATE TABLE anomaly_feedback (
                tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
                anomaly_id TEXT NOT NULL,
                detector TEXT NOT NULL,
                entity TEXT NOT NULL,
                is_true INTEGER NOT NULL,
                score DOUBLE PRECISION NOT NULL,
                comment TEXT NOT NULL,
                told_by TEXT NOT NULL,
                told_at_us BIGINT NOT NULL,
                PRIMARY KEY (tenant_id, anomaly_id))""",
        ),
    ),
    QUERY_JOBS,
    Migration(8, "drivers of judged anomalies", ("ALTER TABLE anomaly_feedback ADD COLUMN drivers TEXT",)),
)


def open_metadata(settings: Settings, clock: Clock) -> Database:
    """The hub's metadata store, made on the first call and migrated to this version on every one."""
    database = Database(settings.metadata)
    database.migrate(MIGRATIONS, clock)
    return database
