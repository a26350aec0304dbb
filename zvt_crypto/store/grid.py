"""Rows resampled to a coarser level and filled, as a query asks for them; the rules are in ``core.bars``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.bars import fill_forward, resample
from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import ceil_ms, floor_ms, level_ms
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.store import coverage
from zvt_crypto.store.history import History, Series

#: With a limit, the first stretch of time that is tried, in multiples of what the limit needs without gaps.
_SPARE: Final = 1.25
_ALL_TIME: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Grid:
    """How rows are put on a grid of time.

    Attributes:
        spec: The table.
        to_level: Level of the coarser candles, None to keep the table's.
        fill: Whether times without a row get one with the last close.
        mark: Whether unfinished coarser candles stay, marked, instead of being left out.

    Raises:
        InvalidArgument: The table's rows cannot be put on that grid.
    """

    spec: TableSpec
    to_level: str | None
    fill: bool
    mark: bool

    def __post_init__(self) -> None:
        if self.spec.level is None:
            raise InvalidArgument(
                f"rows of {self.spec.class_name} cannot be resampled or filled: they have no level",
                suggestions=("ask for candles",),
            )
        # The rules of resampling, before anything is read.
        resample(self.spec, self.spec.schema.empty_table(), self.step, 0)

    @property
    def step(self) -> int:
        """Length of the level in ms."""
        return level_ms(self.to_level or str(self.spec.level))

    @property
    def marks(self) -> tuple[str, ...]:
        """Names of the boolean columns that tell rows apart."""
        finished = ("is_finished",) if self.to_level and self.mark else ()
        return (*finished, *(("is_filled",) if self.fill else ()))

    def known_end(self, history: History, series: Series, end: int | None) -> int:
        """End of the time up to which rows of an entity that open before ``end`` tell all.

        That is the end of the last row, or of what the exchange answered after it, but no later than that of
        the last row which can open before ``end``.
        """
        level = level_ms(str(self.spec.level))
        known = series.last + level
        for start, stop in coverage.covered(history.connection, series.key):
            if start <= known < stop:
                known = stop
        return known if end is None else min(known, ceil_ms(end, level))

    def rows(
        self,
        history: History,
        series: Series,
        start: int,
        end: int,
        known_end: int,
        *,
        limit: int | None,
        newest: bool,
    ) -> pa.Table:
        """Rows of an entity that open in ``[start, end)``, by time: all stored columns and the marks.

        Args:
            history: Where the stored rows are.
            series: The entity.
            start: First time, ms.
            end: End of the opening times, exclusive, ms.
            known_end: Stored rows at or after this time, ms, are not looked at.
            limit: At most so many rows.
            newest: Whether the limit keeps the last rows rather than the first.
        """
        start = max(ceil_ms(start, self.step), floor_ms(series.first, self.step))
        end = min(end, known_end)
        width = self.step * int(limit * _SPARE + 1) if limit is not None else _ALL_TIME
        parts: list[pa.Table] = []
        count = 0
        while start < end and (limit is None or count < limit):
            # Cuts lie on the grid, so that no candle is made of less than its rows.
            cut = max(start, ceil_ms(end, self.step) - width) if newest else start + width
            window = (cut, end) if newest else (start, min(end, cut))
            parts.append(self._window(history, series, *window, known_end))
            count += parts[-1].num_rows
            start, end = (start, window[0]) if newest else (window[1], end)
            width *= 2
        table = pa.concat_tables(reversed(parts) if newest else parts) if parts else self.schema.empty_table()
        if limit is None or count <= limit:
            return table
        return table.slice(count - limit) if newest else table.slice(0, limit)

    @property
    def schema(self) -> pa.Schema:
        """Schema of ``rows``."""
        return pa.schema([*self.spec.schema, *(pa.field(name, pa.bool_()) for name in self.marks)])

    def _window(self, history: History, series: Series, start: int, end: int, known_end: int) -> pa.Table:
        source_end = min(ceil_ms(end, self.step), known_end)
        table = history.rows(series, self.spec.columns, start, source_end)
        table = resample(self.spec, table, self.step, known_end)
        if not self.mark:
            table = table.filter(table["is_finished"])
        if self.fill:
            before = history.rows(series, self.spec.columns, 0, start, limit=1, newest=True)
            # A time without a row is known to be empty only once its candle is over.
            quiet_end = min(end, known_end - self.step + 1)
            table = fill_forward(self.spec, table, self.step, start, quiet_end, before)
        return table.select(self.schema.names).filter(pc.less(table["ts"], end))
