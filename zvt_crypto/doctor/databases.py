"""The databases under the data folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.doctor.findings import FAIL, OK, WARN, Finding
from zvt_crypto.quality.summary import recorded_tables
from zvt_crypto.store.engine import Store, disk_bytes

#: Larger ones are read to their end only when asked for: SQLite checks about 300 MB a second.
_CHECKED_BYTES: Final = 256 << 20


def examine_databases(settings: Settings, *, thorough: bool) -> Iterator[Finding]:
    """Whether each file opens and is whole; sound ones are counted in one finding."""
    store = Store(settings)
    sound, unread = 0, 0
    for provider, spec in recorded_tables(store):
        whole = thorough or disk_bytes(store.path(provider, spec)) <= _CHECKED_BYTES
        finding = _examine(store, provider, spec, whole)
        if finding is not None:
            yield finding
        else:
            sound += whole
            unread += not whole
    if unread:
        todo = "run `zvt-crypto doctor --thorough` to read them to their end"
        yield Finding("databases", WARN, f"{unread} large files open, and were not read further", todo)
    if sound or not unread:
        yield Finding("databases", OK, f"{sound} files are whole" if sound else "none yet")


def _examine(store: Store, provider: str, spec: TableSpec, whole: bool) -> Finding | None:
    path = store.path(provider, spec)
    try:
        with store.connect(provider, spec) as connection:
            verdict = connection.value(f"PRAGMA {'quick_check(1)' if whole else 'user_version'}")
    except ZvtCryptoError as error:
        return Finding("database", FAIL, error.message, "; ".join(error.suggestions))
    if whole and verdict != "ok":
        todo = "move the file away (or restore a copy) and record again"
        return Finding("database", FAIL, f"{path} is damaged: {verdict}", todo)
    return None
