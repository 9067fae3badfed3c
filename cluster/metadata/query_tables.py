"""The SQL table of questions that run as jobs, and the step that makes it; the others are in `schema`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

from cluster.metadata.engine import Migration

# Questions over more rows than one node scans, and how far their jobs are (cluster/metadata/query_jobs.py).
query_jobs: Final = Table(
    "query_jobs",
    MetaData(),
    Column("query_id", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text),
    Column("key_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    # JSON: its parameters, and what had expired when it was asked.
    Column("question", Text, nullable=False),
    Column("now_us", BigInteger, nullable=False),
    # Of the events.
    Column("version", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("file_count", BigInteger, nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("file_count_done", BigInteger, nullable=False),
    Column("row_count_done", BigInteger, nullable=False),
    Column("size_bytes_done", BigInteger, nullable=False),
    Column("nodes", Integer, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("error_hint", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("started_at_us", BigInteger),
    # When its process was last heard of.
    Column("beat_at_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger),
)

QUERY_JOBS: Final = Migration(
    7,
    "questions that run as jobs",
    (
        """CREATE TABLE query_jobs (
            query_id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
            project_id TEXT,
            key_id TEXT NOT NULL,
            kind TEXT NOT NULL,
            question TEXT NOT NULL,
            now_us BIGINT NOT NULL,
            version BIGINT NOT NULL,
            reason TEXT NOT NULL,
            state TEXT NOT NULL,
            file_count BIGINT NOT NULL,
            row_count BIGINT NOT NULL,
            size_bytes BIGINT NOT NULL,
            file_count_done BIGINT NOT NULL DEFAULT 0,
            row_count_done BIGINT NOT NULL DEFAULT 0,
            size_bytes_done BIGINT NOT NULL DEFAULT 0,
            nodes INTEGER NOT NULL DEFAULT 0,
            error_code TEXT NOT NULL DEFAULT '',
            error_message TEXT NOT NULL DEFAULT '',
            error_hint TEXT NOT NULL DEFAULT '',
            created_at_us BIGINT NOT NULL,
            started_at_us BIGINT,
            beat_at_us BIGINT NOT NULL,
            ended_at_us BIGINT)""",
        "CREATE INDEX query_jobs_tenant ON query_jobs (tenant_id, created_at_us)",
        "CREATE INDEX query_jobs_state ON query_jobs (state)",
    ),
)
