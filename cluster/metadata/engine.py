"""The connection to the metadata store, and the runner of its numbered migrations."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from cluster.clock import Clock
from cluster.errors import SettingsInvalid, Unavailable

# Processes that share the file wait this long for each other's write before the caller is told to come again.
_BUSY_TIMEOUT_MS = 5_000
_TURN_S = 0.01
# Connections one process may hold; a replica asks rarely, since keys are cached.
_CONNECTIONS_MAX = 4
# Any fixed number: PostgreSQL's advisory lock that lets one process migrate at a time.
_MIGRATION_LOCK = 0x6C6C6D687562

_migrations = Table(
    "schema_migrations",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("applied_at_us", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema; never edited once released, since stores in the field have run it as it was.

    Attributes:
        number: position, from 1, without gaps.
        statements: SQL that SQLite and PostgreSQL both take.
    """

    number: int
    name: str
    statements: tuple[str, ...]


class Database:
    """A metadata store: reading and writing transactions on one engine.

    Thread-safe. Every transaction ends by commit or, on any exception, by roll-back.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_size": _CONNECTIONS_MAX, "max_overflow": 0, "pool_timeout": 5}
        if self.is_sqlite:
            if not parsed.database or parsed.database == ":memory:":
                raise SettingsInvalid(
                    "HUB_METADATA_URL names no file",
                    hint="The processes of the hub share the metadata store, so it cannot live in the memory of one.",
                )
            folder = Path(parsed.database).parent
            folder.mkdir(parents=True, exist_ok=True)
        else:
            options["pool_pre_ping"] = True
        self._engine = create_engine(parsed, **options)
        if self.is_sqlite:
            _tune_sqlite(self._engine)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A snapshot to read from; what is written through it is rolled back."""
        with self._transaction(writes=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """The one writer; commits at the end.

        Raises:
            Unavailable: another process held the store for longer than 5 s, or it cannot be reached.
        """
        with self._transaction(writes=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        try:
            with self._engine.connect() as plain:
                connection = plain.execution_options(hub_writes=writes)
                with connection.begin() as transaction:
                    yield connection
                    if not writes:
                        transaction.rollback()
        except IntegrityError:
            raise
        except DBAPIError as error:
            # Never the statement or its parameters: they hold hashes and names.
            kind = type(error.orig).__name__
            raise Unavailable(f"the metadata store did not answer ({kind})", retry_after_s=1.0) from error

    def migrate(self, migrations: Sequence[Migration], clock: Clock) -> int:
        """Bring the schema up to date, one process at a time; returns how many steps were run.

        Raises:
            SettingsInvalid: the store was written by a newer hub.
        """
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            _migrations.create(connection, checkfirst=True)
            done: int = connection.scalar(select(func.coalesce(func.max(_migrations.c.number), 0))) or 0
            if done > len(migrations):
                raise SettingsInvalid(
                    f"the metadata store is at schema {done}, this hub knows {len(migrations)}",
                    hint="Start the newer hub that wrote it, or restore a copy from before.",
                )
            for migration in migrations[done:]:
                for statement in migration.statements:
                    connection.execute(text(statement))
                row = {"number": migration.number, "name": migration.name, "applied_at_us": clock.now_us()}
                connection.execute(insert(_migrations).values(row))
            return len(migrations) - done

    def is_reachable(self) -> bool:
        """Whether the store answers a trivial question."""
        try:
            with self.reading() as connection:
                return bool(connection.scalar(text("SELECT 1")) == 1)
        except Unavailable:
            return False

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Turn the write-ahead log on, which the file keeps; several that do so at once are not made to wait by SQLite."""
    until_s = time.monotonic() + _BUSY_TIMEOUT_MS / 1_000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            # The lower byte is the kind; the rest says more of it.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until_s:
                raise
            time.sleep(_TURN_S)


def _tune_sqlite(engine: Engine) -> None:
    def connected(dbapi_connection: Any, _: ConnectionPoolEntry) -> None:
        # The driver's own transaction control begins too late for DDL and SELECT; `begun` does it instead.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        _write_ahead(cursor)
        # A key handed to a person must still be there after a power cut.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    def begun(connection: Connection) -> None:
        # A writer takes the lock at once: upgrading a read lock later fails without waiting.
        writes = connection.get_execution_options().get("hub_writes", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    listeners: tuple[tuple[str, Callable[..., None]], ...] = (("connect", connected), ("begin", begun))
    for name, listener in listeners:
        event.listen(engine, name, listener)
