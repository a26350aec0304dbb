"""A market replayed from files of candles, trades and funding: their rows, as they are, and aggregates.

Nothing is made up: rows that a file does not have are missing, a level finer than the file's has no candles,
and where a file tells no turnover or number of trades these are 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from zvt_crypto.core.errors import InvalidArgument, unknown_value
from zvt_crypto.core.levels import LEVEL_MS, MINUTE_MS, level_ms, parse_time
from zvt_crypto.core.symbols import parse_symbol
from zvt_crypto.sandbox.events import Book, Fundings, Trades, TradeSpan
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Market, Now, Span, aggregate

#: Our column -> names that files use for it, in lower case without spaces and underscores.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "ts": ("ts", "timestamp", "date", "datetime", "time", "opentime", "startat"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "vol", "v", "volumebase", "basevolume"),
    "turnover": ("turnover", "quotevolume", "quoteassetvolume", "volumequote", "amount"),
    "trade_count": ("tradecount", "trades", "count", "numberoftrades", "numtrades"),
    "taker_volume": ("takervolume", "takerbuyvolume", "takerbuybasevolume", "takerbuybaseassetvolume"),
    "taker_turnover": ("takerturnover", "takerbuyquotevolume", "takerbuyquoteassetvolume"),
}
_OPTIONAL: Final = ("turnover", "trade_count", "taker_volume", "taker_turnover")
#: Integers below these are seconds, milliseconds, microseconds; above, nanoseconds.
_MAGNITUDES: Final = ((10**11, 1000.0), (10**14, 1.0), (10**17, 1e-3))
_UNIT_PER_MS: Final = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


class ReplayMarket(Market):
    """Candles from CSV (also ``.csv.gz``), Feather or Parquet files.

    Args:
        files: Unified symbol -> file of candles.
        level: Level of the files' rows; None infers it from their most common distance.
        now: See ``Market``. A row is shown once it is finished; an unfinished coarser candle holds the rows
            up to then.
        trades: Unified symbol -> file of trades (``timestamp``, ``trade_id``, ``price``, ``quantity`` and
            ``buyer_maker`` or ``side``).
        funding: Unified symbol -> file of funding events (``date``, and the rate in ``rate`` or, as freqtrade
            has it, in ``open``).

    Raises:
        InvalidArgument: A file cannot be read, has no candles, or its level is none of ours.
    """

    def __init__(
        self,
        files: Mapping[str, str | Path],
        level: str | None = None,
        now: Now = None,
        *,
        trades: Mapping[str, str | Path] | None = None,
        funding: Mapping[str, str | Path] | None = None,
    ) -> None:
        self._rows = {symbol: read_candles(path) for symbol, path in files.items()}
        self._steps = {
            symbol: level_ms(level) if level else _inferred_step(rows, files[symbol])
            for symbol, rows in self._rows.items()
        }
        self._trade_rows = {symbol: read_trades(path) for symbol, path in (trades or {}).items()}
        self._funding_rows = {symbol: read_fundings(path) for symbol, path in (funding or {}).items()}
        without_candles = dict.fromkeys([*self._trade_rows, *self._funding_rows])
        for symbol in [symbol for symbol in without_candles if symbol not in self._rows]:
            self._rows[symbol], self._steps[symbol] = Candles.empty(), MINUTE_MS
        super().__init__([self._instrument_of(symbol) for symbol in self._rows], now)
        self._opens = lru_cache(maxsize=64)(self._make_opens)

    def extent(self, span: Span, now: int | None = None) -> tuple[int, int]:
        """See ``Market``: only candles that hold at least one row count."""
        opens: Array = self._opens(self.instrument(span.symbol).symbol, span.step, span.offset)
        lower, upper = (int(i) for i in np.searchsorted(opens, (span.start, span.end)))
        if now is not None:
            rows = self._shown(span.symbol, now)
            last = int(rows.ts[-1]) if len(rows) else -1
            upper = min(upper, int(np.searchsorted(opens, last, side="right")))
        if span.limit is not None and span.newest:
            lower = max(lower, upper - span.limit)
        elif span.limit is not None:
            upper = min(upper, lower + span.limit)
        if upper <= lower:
            return span.start, span.start
        return int(opens[lower]), int(opens[upper - 1]) + span.step

    def _bars(self, span: Span, now: int | None) -> Candles:
        rows = self._rows[span.symbol] if now is None else self._shown(span.symbol, now)
        rows = rows.between(span.start, span.end)
        native = span.step == self._steps[span.symbol] and not span.offset
        return rows if native else aggregate(rows, span.step, span.offset)

    def _trades(self, span: TradeSpan) -> Trades:
        rows = self._trade_rows.get(span.symbol)
        return Trades.empty() if rows is None else span.limited(span.chosen(rows))

    def _fundings(self, instrument: Instrument, start: int, end: int) -> Fundings:
        rows = self._funding_rows.get(instrument.symbol)
        if rows is None:
            return Fundings.empty()
        return rows.take((rows.ts >= start) & (rows.ts < end))

    def _book(self, instrument: Instrument, depth: int, at: int) -> Book:
        # No file of this market holds books.
        return Book(at, 0, np.zeros((0, 2)), np.zeros((0, 2)))

    def _instrument_of(self, symbol: str) -> Instrument:
        if len(self._rows[symbol]):
            return _instrument(symbol, self._rows[symbol])
        market = parse_symbol(symbol)
        if symbol not in self._trade_rows:
            listed = int(self._funding_rows[symbol].ts[0])
            return Instrument(market.base, market.quote, market.settle, listed=listed)
        trades = self._trade_rows[symbol]
        return Instrument(
            market.base,
            market.quote,
            market.settle,
            price_digits=_digits(trades.price),
            quantity_digits=_digits(trades.volume),
            listed=int(trades.ts[0]),
        )

    def _shown(self, symbol: str, now: int) -> Candles:
        return self._rows[symbol].between(0, now - self._steps[symbol] + 1)

    def _make_opens(self, symbol: str, step: int, offset: int) -> Array:
        if step % self._steps[symbol]:
            return np.zeros(0, np.int64)
        return np.asarray(np.unique((self._rows[symbol].ts - offset) // step * step + offset))


def read_candles(path: str | Path) -> Candles:
    """The candles of a file, in order of time; of rows with the same time the last one counts.

    Times may be datetimes, ISO 8601 text or epoch seconds, milliseconds, microseconds or nanoseconds.

    Raises:
        InvalidArgument: The file is of another kind, cannot be read, or lacks a column.
    """
    table = _read_table(Path(path))
    plain = {name.lower().replace("_", "").replace(" ", ""): name for name in table.column_names}
    found = {
        ours: next((plain[name] for name in names if name in plain), None) for ours, names in _NAMES.items()
    }
    missing = [ours for ours, theirs in found.items() if theirs is None and ours not in _OPTIONAL]
    if missing:
        raise InvalidArgument(
            f"{path} has no column for {', '.join(missing)}; it has {', '.join(table.column_names)}",
            suggestions=(f"name the columns {', '.join(_NAMES)}",),
        )
    if not table.num_rows:
        raise InvalidArgument(f"{path} holds no candles")
    ts = _milliseconds(table[str(found.pop("ts"))])
    columns = {ours: _numbers(table[theirs], path) for ours, theirs in found.items() if theirs}
    _, last = np.unique(ts[::-1], return_index=True)
    return Candles.of({"ts": ts, **columns}).take(len(ts) - 1 - last)


def read_trades(path: str | Path) -> Trades:
    """The trades of a file, in order of time and id.

    Raises:
        InvalidArgument: The file is of another kind, cannot be read, or lacks a column.
    """
    table = _read_table(Path(path))
    _require(table, path, ("timestamp", "trade_id", "price", "quantity"))
    ts, ids = _milliseconds(table["timestamp"]), np.asarray(table["trade_id"], np.int64)
    price, volume = _numbers(table["price"], path), _numbers(table["quantity"], path)
    if "side" in table.column_names:
        buys = pc.equal(table["side"], "buy").to_numpy()
    else:
        _require(table, path, ("buyer_maker",))
        buys = pc.equal(pc.utf8_lower(table["buyer_maker"].cast(pa.string())), "false").to_numpy()
    order = np.lexsort((ids, ts))
    return Trades(ts, np.zeros(len(ts), np.int64), ids, price, volume, buys).take(order)


def read_fundings(path: str | Path) -> Fundings:
    """The funding events of a file, in order of time.

    Raises:
        InvalidArgument: The file is of another kind, cannot be read, or lacks a column.
    """
    table = _read_table(Path(path))
    rate = "rate" if "rate" in table.column_names else "open"
    _require(table, path, ("date", rate))
    ts, rates = _milliseconds(table["date"]), _numbers(table[rate], path)
    return Fundings(ts, rates, np.zeros(len(ts))).take(np.argsort(ts, kind="stable"))


def _require(table: pa.Table, path: str | Path, names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise InvalidArgument(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(table.column_names)}",
            suggestions=(f"name the columns {', '.join(names)}",),
        )


def _read_table(path: Path) -> pa.Table:
    readers = {
        ".csv": pyarrow.csv.read_csv,
        ".csv.gz": pyarrow.csv.read_csv,
        ".feather": pyarrow.feather.read_table,
        ".parquet": pyarrow.parquet.read_table,
    }
    kind = next((suffix for suffix in readers if path.name.lower().endswith(suffix)), None)
    if kind is None:
        raise unknown_value("kind of file", path.name, readers)
    try:
        return readers[kind](str(path))
    except (OSError, pa.ArrowException) as error:
        raise InvalidArgument(f"{path} cannot be read: {error}", suggestions=("check the path",)) from error


def _numbers(column: pa.ChunkedArray, path: str | Path) -> Array:
    try:
        values: Array = column.cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise InvalidArgument(f"{path} holds something that is no number: {error}") from error
    return values


def _milliseconds(column: pa.ChunkedArray) -> Array:
    if pa.types.is_timestamp(column.type):
        unit = column.type.unit
        return _scaled(np.asarray(column.cast(pa.int64())), _UNIT_PER_MS[unit])
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array([parse_time(text, name="time of a row") for text in column.to_pylist()], np.int64)
    values = np.asarray(column)
    largest = float(np.max(np.abs(values)))
    return _scaled(values, next((factor for below, factor in _MAGNITUDES if largest < below), 1e-6))


def _scaled(values: Array, factor: float) -> Array:
    if factor >= 1:
        return np.asarray(np.rint(values * factor), np.int64)
    return np.asarray(values, np.int64) // round(1 / factor)


def _inferred_step(rows: Candles, path: str | Path) -> int:
    distances, counts = np.unique(np.diff(rows.ts), return_counts=True)
    step = int(distances[np.argmax(counts)]) if len(counts) else 0
    if step not in LEVEL_MS.values():
        raise InvalidArgument(
            f"{path}: rows are {step} ms apart, which is no level",
            suggestions=(f"give the level; allowed: {', '.join(LEVEL_MS)}",),
        )
    return step


def _instrument(symbol: str, rows: Candles) -> Instrument:
    market = parse_symbol(symbol)
    prices = np.concatenate([rows.open, rows.high, rows.low, rows.close])
    return Instrument(
        market.base,
        market.quote,
        market.settle,
        price_digits=_digits(prices),
        quantity_digits=_digits(rows.volume),
        listed=int(rows.ts[0]),
    )


def _digits(values: Array) -> int:
    """Decimal digits that write the values, at most the eight that venues use."""
    wanted = values[np.isfinite(values)]
    return next((d for d in range(8) if np.allclose(np.round(wanted, d), wanted, rtol=1e-12, atol=0)), 8)
