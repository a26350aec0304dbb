"""Files, connections and engines; the only place that knows that the store is local files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ConfigError, StoreBusy, StoreCorrupt
from zvt_crypto.core.tables import TableSpec, tables
from zvt_crypto.store import dbapi
from zvt_crypto.store.layout import LAYOUT_VERSION, create_statements, upgrade_statements
from zvt_crypto.store.pool import pool
from zvt_crypto.store.sqlite import Connection

if TYPE_CHECKING:
    from sqlalchemy import Engine

_WAL_PAUSE_SECONDS: Final = 0.02


class Store:
    """The databases under one data folder, made when first used."""

    def __init__(self, settings: Settings) -> None:
        self.data_path = settings.data_path
        self.busy_timeout = settings.busy_timeout_seconds
        self.use_segments = settings.segments

    def path(self, provider: str, spec: TableSpec) -> Path:
        """The file of a provider's table, where zvt would put it.

        Raises:
            ConfigError: The provider's name would lead out of the data folder.
        """
        if not provider or Path(provider).name != provider or provider in (".", ".."):
            raise ConfigError(f"{provider!r} cannot name a provider")
        return self.data_path / provider / f"{provider}_{spec.name}.db"

    def exists(self, provider: str, spec: TableSpec) -> bool:
        """Whether anything was ever written to a provider's table."""
        return self.path(provider, spec).exists()

    def connect(self, provider: str, spec: TableSpec) -> Connection:
        """Open a table, making it first if need be; the caller closes the connection."""
        connection = self._open(self.path(provider, spec))
        try:
            self._prepare(connection, provider, spec)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def reading(self, provider: str, spec: TableSpec) -> Iterator[Connection]:
        """A connection for one query, which sees a single state of the table; opened only if none waits."""
        path = self.path(provider, spec)
        with pool.connection(path, lambda: self.connect(provider, spec)) as connection, connection.snapshot():
            yield connection

    def engine(self, provider: str, table: str) -> Engine:
        """SQLAlchemy engine of a table, for zvt's sessions. Touches no file before its first use."""
        # Recording and our own reader do without SQLAlchemy, which takes an eighth of a second to import.
        from sqlalchemy import create_engine
        from sqlalchemy.pool import QueuePool

        spec = tables[table]
        path = self.path(provider, spec)

        def connect() -> dbapi.SqlConnection:
            self.connect(provider, spec).close()
            return dbapi.connect(path, self.busy_timeout)

        engine = create_engine(f"sqlite:///{path}", module=dbapi, creator=connect, poolclass=QueuePool)
        # Writes through INSTEAD OF triggers report no rows, which the ORM would take for a lost update.
        engine.dialect.supports_sane_rowcount = False
        engine.dialect.supports_sane_multi_rowcount = False
        return engine

    def _open(self, path: Path) -> Connection:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"folder {path.parent} cannot be made: {error.strerror}",
                suggestions=("choose another data folder with ZVT_CRYPTO_DATA_PATH",),
                path=str(path.parent),
            ) from error
        return Connection(path, busy_timeout=self.busy_timeout)

    def _prepare(self, connection: Connection, provider: str, spec: TableSpec) -> None:
        version = connection.value("PRAGMA user_version")
        if version == LAYOUT_VERSION:
            return
        if version > LAYOUT_VERSION:
            raise StoreCorrupt(
                f"{connection.path} has layout {version}, newer than this version's {LAYOUT_VERSION}",
                suggestions=("upgrade zvt-crypto: pip install -U zvt-crypto",),
                path=str(connection.path),
            )
        self._switch_to_wal(connection)
        with connection.transaction():
            # Another process may have done it while this one waited for the lock.
            version = connection.value("PRAGMA user_version")
            if version == 0 and connection.value("SELECT count(*) FROM sqlite_master"):
                raise StoreCorrupt(f"{connection.path} holds tables of another program")
            made = version == 0
            statements = create_statements(spec, provider) if made else upgrade_statements(spec, version)
            if version != LAYOUT_VERSION:
                for statement in statements:
                    connection.run(statement)
                connection.run(f"PRAGMA user_version = {LAYOUT_VERSION}")

    def _switch_to_wal(self, connection: Connection) -> None:
        # SQLite answers "locked" here at once, whatever the busy timeout, while another process switches too.
        give_up = time.monotonic() + self.busy_timeout
        while True:
            try:
                connection.query("PRAGMA journal_mode = WAL")
                return
            except StoreBusy:
                if time.monotonic() > give_up:
                    raise
                time.sleep(_WAL_PAUSE_SECONDS)


def disk_bytes(path: Path) -> int:
    """Size of a database with its write-ahead log, in bytes."""
    return sum(part.stat().st_size for part in _parts(path) if part.exists())


def _parts(path: Path) -> list[Any]:
    return [path, path.with_name(path.name + "-wal")]
