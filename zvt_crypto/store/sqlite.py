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
import orjson
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
        self._open: list[Any] = []
        self._prepared: tuple[str, Any] | None = None
        with self._errors_mapped():
            self._open.append(adbc_driver_sqlite.connect(f"file:{quote(str(path))}?mode=rwc"))
            self._connection = adbc_driver_manager.AdbcConnection(self._open[0])
            self._open.append(self._connection)
        try:
            self.query(f"PRAGMA busy_timeout = {int(busy_timeout * 1000)}")
            self.run("PRAGMA synchronous = NORMAL")
            self.query(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        except BaseException:
            self.close()
            raise

    def run(self, sql: str) -> int:
        """Execute one statement without parameters or result; returns the number of rows changed."""
        with self._statement(sql) as statement:
            return int(statement.execute_update())

    def write(self, sql: str, batch: pa.Table | pa.RecordBatch) -> None:
        """Execute a statement once per row of ``batch``, its columns bound to the parameters in order."""
        with self._errors_mapped():
            if self._prepared is None or self._prepared[0] != sql:
                self._prepare(sql)
            assert self._prepared is not None
            statement = self._prepared[1]
            statement.bind_stream(batch.__arrow_c_stream__())
            statement.execute_update()

    def _prepare(self, sql: str) -> None:
        """Keep the statement of the last write: a backfill writes thousands of pages with the same one."""
        if self._prepared is not None:
            self._open.remove(self._prepared[1])
            self._prepared[1].close()
        statement = adbc_driver_manager.AdbcStatement(self._connection)
        self._open.append(statement)
        self._prepared = (sql, statement)
        statement.set_sql_query(sql)
        statement.prepare()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The answer of one query as an Arrow table."""
        with self._statement(sql) as statement:
            statement.set_options(**{adbc_driver_sqlite.StatementOptions.BATCH_ROWS.value: str(BATCH_ROWS)})
            if parameters:
                row = pa.table(
                    [[value] for value in parameters], names=[str(i) for i in range(len(parameters))]
                )
                statement.prepare()
                statement.bind_stream(row.__arrow_c_stream__())
            answer, _ = statement.execute_query()
            with pa.RecordBatchReader.from_stream(answer) as reader:
                return reader.read_all()

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

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All queries inside see the file as the first of them does; nobody is kept from writing."""
        self.run("BEGIN")
        try:
            yield
        finally:
            self.run("ROLLBACK")

    def close(self) -> None:
        """Give the file free; further calls fail. Closing twice does nothing."""
        while self._open:
            self._open.pop().close()

    def __del__(self) -> None:
        # The driver complains if a database is collected before its connections.
        self.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _statement(self, sql: str) -> Iterator[Any]:
        with self._errors_mapped(), adbc_driver_manager.AdbcStatement(self._connection) as statement:
            statement.set_sql_query(sql)
            yield statement

    @contextlib.contextmanager
    def _errors_mapped(self) -> Iterator[None]:
        try:
            yield
        except (adbc_driver_manager.Error, OSError) as error:  # OSError: while Arrow reads an answer
            mapped = store_error(error, self.path)
            if mapped is None:
                raise
            raise mapped from error


def one_of(column: str, values: Sequence[str]) -> tuple[str, str]:
    """Condition that a column has one of any number of values, with its one parameter."""
    return f"{column} IN (SELECT value FROM json_each(?))", orjson.dumps(values).decode()


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
