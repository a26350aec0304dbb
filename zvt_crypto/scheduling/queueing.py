"""Runs that want the same table go one after the other, in the order in which they came."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TypeAlias

#: Provider and name of a table.
TableKey: TypeAlias = tuple[str, str]


class Cancelled(Exception):  # noqa: N818 - it is no error: somebody asked for it
    """The schedule ends, and so does what was waiting or under way."""


class TableQueue:
    """One line for all runs; a run goes as soon as nobody before it wants any of its tables.

    All tables of a run are taken at once, so that no two runs wait for each other.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: list[_Ticket] = []
        self._is_closed = False

    @contextlib.contextmanager
    def turn(self, tables: frozenset[TableKey]) -> Iterator[None]:
        """Wait for one's turn, and hold the tables inside the context.

        Raises:
            Cancelled: The queue was closed before the turn came.
        """
        ticket = _Ticket(tables)
        with self._changed:
            self._line.append(ticket)
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._is_next(ticket))
                if self._is_closed:
                    raise Cancelled
            yield
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody through any more; who holds tables keeps them to the end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _is_next(self, ticket: _Ticket) -> bool:
        before = self._line[: self._line.index(ticket)]
        return all(ticket.tables.isdisjoint(other.tables) for other in before)


class _Ticket:
    """A place in the line; two of the same tables are not equal."""

    def __init__(self, tables: frozenset[TableKey]) -> None:
        self.tables = tables
