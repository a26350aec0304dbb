"""A connection to one database file, through ADBC: Arrow in, Arrow out, our errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import adbc_driver_manager
import adbc_driver_sqlite
import adbc_driver_sqlite.dbapi
import pyarrow as pa

from zvt_crypto.core.errors import ConfigError, StoreBusy, StoreCorrupt, StoreFull, ZvtCryptoError

#: Rows of which the driver infers a column's type. It takes NULLs for integers and fails on the first
#: real number after the inferred rows, so answers are read in batches that few queries exceed.
BATCH_ROWS: Final = 1 << 21

#: Pages (4 KiB) that the write-ahead log may hold before they are moved into the file: SQLite's default of
#: 1,000 makes a backfill wait for the disk every seventy pages of candles.
_CHECKPOINT_PAGES: Final = 8_000

_FULL = ("disk is full", "disk i/o error")
_CORRUPT = ("malformed", "not a database", "unsupported file format")
_CLOSED = ("unable to open", "readonly database", "not authorized")


class Connection:
    """One connection, usable by one thread at a time.

    Raises:
        StoreBusy: Another process held the write lock for longer than ``busy_timeout`` seconds.
        StoreFull: The disk is full.
        StoreCorrupt: The file is no SQLite database, or is damaged.
        ConfigError: The file cannot be opened or written.
    """

    def __init__(self, path: Path, *, busy_timeout: float) -> None:
        self.path = path
        self._cursors: list[Any] = []
        self._connection: Any = None
        with self._errors_mapped():
            self._connection = adbc_driver_sqlite.dbapi.connect(
                f"file:{quote(str(path))}?mode=rwc", autocommit=True
            )
        try:
            # A cursor keeps its parameters bound, and does not set the SQL that it believes to be set
            # already, so each way of calling has a cursor of its own.
            self._direct = self._new_cursor()
            self._bare = self._new_cursor()
            self._bound = self._new_cursor()
            self.query(f"PRAGMA busy_timeout = {int(busy_timeout * 1000)}")
            self.run("PRAGMA synchronous = NORMAL")
            self.query(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        except BaseException:
            self.close()
            raise

    def run(self, sql: str) -> int:
        """Execute one statement without parameters or result; returns the number of rows changed."""
        with self._errors_mapped():
            statement = self._direct.adbc_statement
            statement.set_sql_query(sql)
            return int(statement.execute_update())

    def write(self, sql: str, batch: pa.Table | pa.RecordBatch) -> None:
        """Execute a statement once per row of ``batch``, its columns bound to the parameters in order."""
        with self._errors_mapped():
            self._bound.executemany(sql, batch)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The answer of one query as an Arrow table."""
        cursor = self._bound if parameters else self._bare
        with self._errors_mapped():
            cursor.execute(sql, tuple(parameters) or None)
            return cursor.fetch_arrow_table()

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first value of the first row, None without rows."""
        answer = self.query(sql, parameters)
        return answer.column(0)[0].as_py() if answer.num_rows else None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; takes the write lock at once, so that it never fails half-way for want of it."""
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            # After a full disk SQLite has rolled back by itself, and says so.
            with contextlib.suppress(ZvtCryptoError, adbc_driver_manager.Error):
                self.run("ROLLBACK")
            raise

    def close(self) -> None:
        """Give the file free; further calls fail. Closing twice does nothing."""
        while self._cursors:
            self._cursors.pop().close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        # The driver complains if a connection is collected before its cursors.
        self.close()

    def _new_cursor(self) -> Any:
        cursor = self._connection.cursor()
        self._cursors.append(cursor)
        cursor.adbc_statement.set_options(
            **{adbc_driver_sqlite.StatementOptions.BATCH_ROWS.value: str(BATCH_ROWS)}
        )
        return cursor

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _errors_mapped(self) -> Iterator[None]:
        try:
            yield
        except adbc_driver_manager.Error as error:
            mapped = store_error(error, self.path)
            if mapped is None:
                raise
            raise mapped from error


def store_error(error: Exception, path: Path) -> ZvtCryptoError | None:
    """Our error for what SQLite says, None where it says that our SQL is wrong."""
    text = str(error).lower()
    facts = {"path": str(path)}
    if "is locked" in text:
        return StoreBusy(f"{path} is being written by another program", **facts)
    if any(words in text for words in _FULL):
        return StoreFull(f"the disk has no room for {path}, or does not answer", **facts)
    if any(words in text for words in _CORRUPT):
        return StoreCorrupt(f"{path} is damaged or is no SQLite database", **facts)
    if any(words in text for words in _CLOSED):
        return ConfigError(
            f"{path} cannot be opened for writing",
            suggestions=("check the folder's permissions, or choose another with ZVT_CRYPTO_DATA_PATH",),
            **facts,
        )
    return None
