"""A DBAPI 2.0 module over ``Connection``, so that SQLAlchemy and zvt use the same SQLite as we do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import adbc_driver_manager
import pyarrow as pa

from zvt_crypto.store.sqlite import Connection

apilevel: Final = "2.0"
threadsafety: Final = 1
paramstyle: Final = "qmark"
sqlite_version_info: Final = (3, 40, 0)

Error = adbc_driver_manager.Error
InterfaceError = adbc_driver_manager.InterfaceError
DatabaseError = adbc_driver_manager.DatabaseError
DataError = adbc_driver_manager.DataError
OperationalError = adbc_driver_manager.OperationalError
IntegrityError = adbc_driver_manager.IntegrityError
InternalError = adbc_driver_manager.InternalError
ProgrammingError = adbc_driver_manager.ProgrammingError
NotSupportedError = adbc_driver_manager.NotSupportedError

_WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
_ANSWERS = re.compile(r"\s*(SELECT|WITH|PRAGMA|VALUES|EXPLAIN)\b|.*\bRETURNING\b", re.IGNORECASE | re.DOTALL)


class SqlConnection:
    """A connection with DBAPI's implicit transactions: the first write begins one."""

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.raw = Connection(path, busy_timeout=busy_timeout)
        self._busy = False

    def cursor(self) -> Cursor:
        """A cursor of this connection."""
        return Cursor(self)

    def begin_write(self) -> None:
        """Take the write lock, unless this transaction holds it already."""
        if not self._busy:
            self.raw.run("BEGIN IMMEDIATE")
            self._busy = True

    def commit(self) -> None:
        """Make the writes since the last commit durable."""
        if self._busy:
            self.raw.run("COMMIT")
            self._busy = False

    def rollback(self) -> None:
        """Forget the writes since the last commit."""
        if self._busy:
            self._busy = False
            self.raw.run("ROLLBACK")

    def close(self) -> None:
        """Roll back and give the file free."""
        self.rollback()
        self.raw.close()

    def create_function(self, *_: Any, **__: Any) -> None:
        """SQLAlchemy offers a REGEXP function; ADBC takes none, and nothing of ours needs it."""


class Cursor:
    """Holds the answer of the last statement."""

    arraysize = 1
    lastrowid = None

    def __init__(self, connection: SqlConnection) -> None:
        self.connection = connection
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1
        #: The answer of the last query as it came, for callers that want no Python objects.
        self.answer: pa.Table | None = None
        self._rows: list[tuple[Any, ...]] | None = []
        self._next = 0

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        """Run a statement; ``fetchall`` and its like give the answer."""
        self.description, self.answer, self._rows, self._next = None, None, [], 0
        if _WRITES.match(sql):
            self.connection.begin_write()
        if _ANSWERS.match(sql):
            self.answer = self.connection.raw.query(sql, parameters)
            names = self.answer.column_names
            self.description = [(name, None, None, None, None, None, None) for name in names]
            self._rows = None
        elif parameters:
            self.executemany(sql, [parameters])
        else:
            self.rowcount = self.connection.raw.run(sql)
        return self

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Cursor:
        """Run a statement once per row of parameters."""
        columns = list(zip(*rows, strict=True))
        if not columns:
            return self
        if _WRITES.match(sql):
            self.connection.begin_write()
        arrays = [_parameter_array(values) for values in columns]
        self.connection.raw.write(sql, pa.table(arrays, names=[str(i) for i in range(len(arrays))]))
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, None after the last."""
        row = self.fetchmany(1)
        return row[0] if row else None

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Up to ``size`` next rows."""
        rows, start = self._all_rows(), self._next
        self._next = min(start + (size or self.arraysize), len(rows))
        return rows[start : self._next]

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows not fetched yet."""
        return self.fetchmany(len(self._all_rows()) or 1)

    def close(self) -> None:
        """Forget the answer."""
        self.answer, self._rows = None, []

    def _all_rows(self) -> list[tuple[Any, ...]]:
        if self._rows is None:
            assert self.answer is not None
            self._rows = list(zip(*(column.to_pylist() for column in self.answer.columns), strict=True))
        return self._rows


def _parameter_array(values: Sequence[Any]) -> pa.Array:
    """Arrow array of one parameter's values; numbers of mixed kinds become float64."""
    try:
        return pa.array(values)
    except pa.ArrowInvalid:
        return pa.array([None if v is None else float(v) for v in values], pa.float64())


def connect(path: Path, busy_timeout: float) -> SqlConnection:
    """Open a file; raises as ``Connection`` does."""
    return SqlConnection(path, busy_timeout)
