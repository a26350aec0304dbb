"""Row counts of stretches of chunks, kept as long as the process: counting walks through all rows."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any, Final, NamedTuple

from zvt_crypto.store.segments import ChunkVersion

#: Counts that one process keeps; the ones used longest ago are forgotten first.
_KEPT: Final = 1 << 17


class Condition(NamedTuple):
    """What rows must fulfil to be counted.

    Attributes:
        sql: Over ``rows r`` and ``entities e``.
        values: Its parameters.
    """

    sql: str
    values: tuple[Any, ...]


class Counted(NamedTuple):
    """What a count is of. A changed row gives its chunk another version, and so makes this another key.

    Attributes:
        uid: The database's own id.
        state: The chunk.
        start: First time, ms; None where the chunk is counted from its first row.
        end: End of the times, exclusive, ms; None where it is counted to its last row.
        condition: Which rows.
    """

    uid: str
    state: ChunkVersion
    start: int | None
    end: int | None
    condition: Condition | None


class Counts:
    """Counts by what they are of. Used by any thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[Counted, int] = OrderedDict()
        self._lock = Lock()

    def get(self, counted: Counted) -> int | None:
        """The count, None where it is not known."""
        with self._lock:
            found = self._known.get(counted)
            if found is not None:
                self._known.move_to_end(counted)
            return found

    def put(self, counted: Counted, count: int) -> None:
        """Keep a count."""
        with self._lock:
            self._known[counted] = count
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)


#: The counts of this process.
counts: Final = Counts()
