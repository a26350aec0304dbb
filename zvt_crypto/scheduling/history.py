"""What became of the runs of a schedule, in a small database."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import pyarrow as pa

from zvt_crypto.core.errors import ConfigError, StoreCorrupt
from zvt_crypto.store.sqlite import Connection

#: States of a run.
RUNNING: Final = "running"
DONE: Final = "done"
PARTIAL: Final = "partial"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
INTERRUPTED: Final = "interrupted"

#: Runs that are kept of each entry, the newest.
RUNS_KEPT: Final = 1_000

_VERSION: Final = 1
_CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, entry TEXT NOT NULL, started INTEGER NOT NULL, "
    "finished INTEGER, state TEXT NOT NULL, rows INTEGER NOT NULL DEFAULT 0, "
    "requests INTEGER NOT NULL DEFAULT 0, exit_code INTEGER, errors TEXT NOT NULL DEFAULT '[]', "
    "missing TEXT NOT NULL DEFAULT '[]')",
    "CREATE INDEX IF NOT EXISTS runs_of_entry ON runs (entry, id)",
    f"PRAGMA user_version = {_VERSION}",
)
_BEGIN: Final = "INSERT INTO runs (id, entry, started, state) VALUES (?, ?, ?, ?)"
_FINISH: Final = (
    "UPDATE runs SET finished = ?, state = ?, rows = ?, requests = ?, exit_code = ?, errors = ?, missing = ? "
    "WHERE id = ?"
)
_FORGET: Final = (
    "DELETE FROM runs WHERE entry = ?1 AND id <= "
    f"(SELECT id FROM runs WHERE entry = ?1 ORDER BY id DESC LIMIT 1 OFFSET {RUNS_KEPT})"
)
_FINISH_SCHEMA: Final = pa.schema(
    {
        "finished": pa.int64(),
        "state": pa.string(),
        "rows": pa.int64(),
        "requests": pa.int64(),
        "exit_code": pa.int64(),
        "errors": pa.string(),
        "missing": pa.string(),
        "id": pa.int64(),
    }
)


class ErrorLine(NamedTuple):
    """What went wrong: the error's code, and one line for a person."""

    code: str
    line: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What became of one run.

    Attributes:
        id: Its number, in the order of the starts.
        entry: Name of the schedule's entry.
        started: When it began, epoch ms by this machine's clock.
        finished: When it ended, None where it has not, or nobody knows.
        state: ``running``, ``done``, ``partial``, ``failed``, ``cancelled`` or ``interrupted``.
        rows: Rows received and stored.
        requests: Requests that it took.
        exit_code: As ``record`` would have ended; None where the run came to no end of its own.
        errors: What went wrong, each once.
        missing: What is not complete: table, entity and, where known, times.
    """

    id: int
    entry: str
    started: int
    finished: int | None = None
    state: str = RUNNING
    rows: int = 0
    requests: int = 0
    exit_code: int | None = None
    errors: tuple[ErrorLine, ...] = ()
    missing: tuple[str, ...] = ()


class History:
    """The outcomes of one data folder's schedule; any thread may call.

    Args:
        path: The database; it is made when it is not there.
        busy_timeout: How long to wait for another process, in seconds.

    Raises:
        StoreCorrupt: The file is none of ours, or of a newer version.
        ConfigError: It cannot be made.
    """

    def __init__(self, path: Path, *, busy_timeout: float) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"folder {path.parent} cannot be made: {error.strerror}", path=str(path.parent)
            ) from error
        self._lock = threading.Lock()
        self._connection = Connection(path, busy_timeout=busy_timeout)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        version = self._connection.value("PRAGMA user_version")
        if version > _VERSION:
            raise StoreCorrupt(
                f"{self._connection.path} has version {version}, newer than this program's {_VERSION}",
                suggestions=("upgrade zvt-crypto: pip install -U zvt-crypto",),
            )
        if version < _VERSION:
            self._connection.query("PRAGMA journal_mode = WAL")
            with self._connection.transaction():
                for statement in _CREATE:
                    self._connection.run(statement)

    def begin(self, entry: str, started: int) -> RunRecord:
        """Note that a run begins; it counts as under way until ``finish``."""
        with self._lock, self._connection.transaction():
            number = self._connection.value("SELECT coalesce(max(id), 0) + 1 FROM runs")
            row = {"id": [number], "entry": [entry], "started": [started], "state": [RUNNING]}
            self._connection.write(_BEGIN, pa.table(row))
        return RunRecord(number, entry, started)

    def finish(self, record: RunRecord) -> None:
        """Note what became of a run, and forget the entry's oldest beyond ``RUNS_KEPT``."""
        values = {name: getattr(record, name) for name in _FINISH_SCHEMA.names}
        values["errors"] = orjson.dumps([[error.code, error.line] for error in record.errors]).decode()
        values["missing"] = orjson.dumps(record.missing).decode()
        with self._lock, self._connection.transaction():
            self._connection.write(_FINISH, pa.Table.from_pylist([values], schema=_FINISH_SCHEMA))
            self._connection.write(_FORGET, pa.table({"entry": [record.entry]}))

    def end_interrupted(self) -> list[RunRecord]:
        """Mark the runs that were under way when their process was killed, and answer them."""
        with self._lock, self._connection.transaction():
            found = self._connection.query(f"SELECT * FROM runs WHERE state = '{RUNNING}' ORDER BY id")
            self._connection.run(f"UPDATE runs SET state = '{INTERRUPTED}' WHERE state = '{RUNNING}'")
        return [_record({**row, "state": INTERRUPTED}) for row in found.to_pylist()]

    def newest(self, count: int, entry: str | None = None) -> list[RunRecord]:
        """The newest runs, of one entry or of all, the newest first."""
        chosen = ("WHERE entry = ? ", (entry,)) if entry is not None else ("", ())
        with self._lock:
            found = self._connection.query(
                f"SELECT * FROM runs {chosen[0]}ORDER BY id DESC LIMIT {int(count)}", chosen[1]
            )
        return [_record(row) for row in found.to_pylist()]

    def last_ended(self) -> Mapping[str, int]:
        """When the last run of each entry began that came to an end of its own, epoch ms."""
        with self._lock:
            found = self._connection.query(
                "SELECT entry, max(started) AS started FROM runs WHERE exit_code IS NOT NULL GROUP BY entry"
            )
        return {row["entry"]: row["started"] for row in found.to_pylist()}

    def close(self) -> None:
        """Give the file free."""
        with self._lock:
            self._connection.close()


def _record(row: Mapping[str, Any]) -> RunRecord:
    errors = tuple(ErrorLine(*pair) for pair in orjson.loads(row["errors"]))
    return RunRecord(**{**row, "errors": errors, "missing": tuple(orjson.loads(row["missing"]))})
