"""A small recorded market of two exchanges, and the means to record more of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from zvt_crypto.core.levels import HOUR_MS, level_ms, parse_time
from zvt_crypto.core.symbols import entity_id
from zvt_crypto.domain import load_tables
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity, SeriesWriter, check, write_entities

#: First time of everything that is recorded.
FIRST = parse_time("2024-01-01")
EXCHANGES = ("binance", "okx")
#: Minutes that btcusdt has no candle of, counted from FIRST.
HOLES = (*range(100, 110), 777)
CANDLES = 3_000
TRADES = 2_400
#: Trades of one time.
TRADES_AT_ONCE = 4
FUNDINGS = 90
BOOKS = 12

#: Code -> base, quote, whether it trades, whether margin is allowed.
PAIRS: dict[str, tuple[str, str, bool, bool | None]] = {
    "btcusdt": ("btc", "usdt", True, True),
    "ethusdt": ("eth", "usdt", True, True),
    "ethbtc": ("eth", "btc", True, False),
    "xrpusdt": ("xrp", "usdt", False, None),
}
#: Code -> base, quote, settlement, leverage, funding interval.
PERPS: dict[str, tuple[str, str, str, float | None, float | None]] = {
    "btcusdt": ("btc", "usdt", "usdt", 125.0, 8.0),
    "ethusdt": ("eth", "usdt", "usdt", 75.0, 4.0),
    "btcusd-btc": ("btc", "usd", "btc", None, 8.0),
}


def candles(level: str, count: int, *, holes: tuple[int, ...] = (), first: int = FIRST) -> pa.Table:
    """Candles one after the other but for the holes; whole numbers of cents, trade counts missing."""
    numbers = np.delete(np.arange(count), [hole for hole in holes if hole < count])
    close = np.round(100 + np.sin(numbers / 50) * 10, 2)
    opened = np.append(close[:1], close[:-1])
    return pa.table(
        {
            "ts": first + numbers * level_ms(level),
            "open": opened,
            "high": np.maximum(opened, close) + 0.5,
            "low": np.minimum(opened, close) - 0.5,
            "close": close,
            # Every seventeenth candle has no volume, and so no vwap.
            "volume": numbers % 17 * 0.25,
            "turnover": np.where(numbers % 17 == 0, 0.0, close * 2),
            "trade_count": pa.nulls(len(numbers), pa.int64()),
        }
    )


def trades(count: int, *, first: int = FIRST, begin: int = 0) -> pa.Table:
    """Trades, ``TRADES_AT_ONCE`` of each time, a time every 250 ms; ids count on from ``begin``."""
    numbers = np.arange(begin, begin + count)
    return pa.table(
        {
            "ts": first + numbers // TRADES_AT_ONCE * 250,
            "trade_id": [str(number) for number in numbers],
            "price": 100 + numbers % 50 / 10,
            "volume": 0.001 * (1 + numbers % 40),
            "side": ["buy" if number % 3 else "sell" for number in numbers],
            "nanosecond": pa.nulls(count, pa.int64()),
        }
    )


def funding(count: int, *, hours: float = 8.0) -> pa.Table:
    """Funding events; times lie a few milliseconds after the hour, as venues give them."""
    numbers = np.arange(count)
    return pa.table(
        {
            "ts": FIRST + (numbers * hours * HOUR_MS).astype(np.int64) + numbers % 7,
            "funding_rate": np.round(np.sin(numbers) / 1000, 8),
            "funding_interval_hours": pa.array([None, *[hours] * (count - 1)], pa.float64()),
            "mark_price": pa.nulls(count, pa.float64()),
        }
    )


def books(count: int) -> pa.Table:
    """Snapshots of order books, one each minute."""
    numbers = np.arange(count)
    return pa.table(
        {
            "ts": FIRST + numbers * level_ms("1m") + 17,
            "sequence": numbers + 1_000,
            "depth": np.full(count, 2),
            "best_bid": 99.5 + numbers,
            "best_ask": 100.5 + numbers,
            "bids": [f"[[{99.5 + number},1.0]]" for number in numbers],
            "asks": [f"[[{100.5 + number},2.0]]" for number in numbers],
        }
    )


class Recorder:
    """Writes rows as a recorder would."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.tables = load_tables()

    def series(
        self, provider: str, table: str, code: str, rows: pa.Table, *, entity_type: str | None = None
    ) -> None:
        """Store rows of an entity that have passed the table's checks, and that they were asked for."""
        spec = self.tables.find(table)
        checked = check(spec, rows)
        assert not checked.rejected, checked.rejected
        kind = entity_type or spec.entity_type
        name = code.upper()
        with self.store.connect(provider, spec) as connection:
            writer = SeriesWriter(connection, spec)
            key = writer.entity_key(Entity(entity_id(kind, provider, code), code, name))
            first, last = checked.batch["ts"][0].as_py(), checked.batch["ts"][-1].as_py()
            writer.write_page(key, checked.batch, answered=[(first, last + spec.step)])

    def entities(self, provider: str, table: str, rows: list[dict[str, Any]]) -> None:
        """Store instruments: their code, name and further columns."""
        spec = self.tables.find(table)
        filled = [
            {
                "id": entity_id(spec.entity_type, provider, row["code"]),
                "entity_id": entity_id(spec.entity_type, provider, row["code"]),
                "entity_type": spec.entity_type,
                "exchange": provider,
                **row,
            }
            for row in rows
        ]
        with self.store.connect(provider, spec) as connection:
            write_entities(connection, spec, pa.Table.from_pylist(filled))


def record_market(store: Store) -> None:
    """Fill a store with what the tests of the server read."""
    recorder = Recorder(store)
    for exchange in EXCHANGES:
        recorder.entities(
            exchange,
            "CryptoAsset",
            [
                {"code": code, "name": code.upper(), "symbol": code.upper(), "is_active": True}
                for code in ("btc", "eth")
            ],
        )
        recorder.entities(exchange, "CryptoPair", [_pair(code, exchange) for code in PAIRS])
        recorder.entities(exchange, "CryptoPerp", [_perp(code) for code in PERPS])
        recorder.series(exchange, "CryptoPair1mKdata", "btcusdt", candles("1m", CANDLES, holes=HOLES))
        recorder.series(exchange, "CryptoPair1mKdata", "ethusdt", candles("1m", 500))
        recorder.series(exchange, "CryptoPair1dKdata", "btcusdt", candles("1d", 60))
        recorder.series(exchange, "CryptoPerp1hKdata", "btcusdt", candles("1h", 200, holes=(5,)))
        for kind, code in (("cryptopair", "btcusdt"), ("cryptoperp", "btcusdt"), ("cryptopair", "ethusdt")):
            count = TRADES if kind == "cryptopair" else TRADES // 4
            recorder.series(exchange, "CryptoTrade", code, trades(count), entity_type=kind)
        recorder.series(exchange, "CryptoFunding", "btcusdt", funding(FUNDINGS))
        recorder.series(exchange, "CryptoFunding", "ethusdt", funding(FUNDINGS, hours=4.0))
        recorder.series(exchange, "CryptoOrderbook", "btcusdt", books(BOOKS), entity_type="cryptopair")


def _pair(code: str, exchange: str) -> dict[str, Any]:
    base, quote, is_active, margin_enabled = PAIRS[code]
    symbol = f"{base}/{quote}".upper()
    return {
        "code": code,
        "name": symbol,
        "symbol": symbol,
        "base_symbol": base,
        "quote_symbol": quote,
        "is_active": is_active,
        "margin_enabled": margin_enabled,
        "price_step": 0.01,
        "min_notional": 10.0,
        # okx does not tell when btcusdt was listed.
        "list_date": None if (exchange, code) == ("okx", "btcusdt") else parse_time("2017-07-14"),
        "timestamp": None if (exchange, code) == ("okx", "btcusdt") else parse_time("2017-07-14"),
    }


def _perp(code: str) -> dict[str, Any]:
    base, quote, settle, leverage, hours = PERPS[code]
    symbol = f"{base}/{quote}:{settle}".upper()
    return {
        "code": code,
        "name": symbol,
        "symbol": symbol,
        "base_symbol": base,
        "quote_symbol": quote,
        "underlying_symbol": base,
        "settlement_symbol": settle,
        "max_leverage": leverage,
        "funding_interval_hours": hours,
        "inverse": settle != quote,
        "is_active": True,
        "margin_enabled": True,
    }
