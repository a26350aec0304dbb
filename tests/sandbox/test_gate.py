"""Gate's wire format: what its documents say, and the samples in ccxt's source."""

from __future__ import annotations

import numpy as np
import pytest

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.events import TradeSpan

START = parse_time("2024-03-01")
NOW = START + 90_000
API = "api.gateio.ws/api/v4"
SECONDS = START // 1000
SPOT = {"currency_pair": "BTC_USDT"}
PERP = {"contract": "BTC_USDT"}


@pytest.fixture
def rows(ask):
    def answered(path, **query):
        reply = ask(path, **query)
        assert reply.status == 200, reply.body
        return reply.json

    return answered


def test_candles_of_pairs_ascend_between_inclusive_seconds(still, rows) -> None:
    found = rows("spot/candlesticks", interval="1m", to=SECONDS + 70, **SPOT, **{"from": SECONDS - 60})
    assert [int(row[0]) for row in found] == [SECONDS - 60, SECONDS, SECONDS + 60]
    assert [row[7] for row in found] == ["true", "true", "false"]
    candle = still.market.candles("BTC/USDT", "1m", START, START + 1)
    names = ("turnover", "close", "high", "low", "open", "volume")
    assert [float(text) for text in found[1][1:7]] == [getattr(candle, name)[0] for name in names]


def test_candles_of_contracts_count_contracts(still, rows) -> None:
    [found] = rows("futures/usdt/candlesticks", interval="1m", to=SECONDS, **PERP, **{"from": SECONDS})
    candle = still.market.candles("BTC/USDT:USDT", "1m", START, START + 1)
    assert found["t"] == SECONDS and float(found["c"]) == candle.close[0]
    assert found["v"] == pytest.approx(candle.volume[0] / 0.01)
    assert float(found["sum"]) == candle.turnover[0]
    query = {"interval": "1m", "contract": "BTC_USD", "from": SECONDS, "to": SECONDS}
    [found] = rows("futures/btc/candlesticks", **query)
    assert found["v"] == pytest.approx(
        still.market.candles("BTC/USD:BTC", "1m", START, START + 1).turnover[0]
    )


@pytest.mark.parametrize(
    ("path", "asked", "count"),
    [
        ("spot/candlesticks", None, 100),
        ("spot/candlesticks", 1000, 1000),
        ("futures/usdt/candlesticks", 2000, 2000),
        ("spot/trades", None, 100),
        ("futures/usdt/trades", 1000, 1000),
        ("futures/usdt/funding_rate", None, 100),
        ("futures/usdt/funding_rate", 1000, 1000),
    ],
)
def test_limits(rows, path, asked, count) -> None:
    query = (SPOT if path.startswith("spot") else PERP) | ({} if asked is None else {"limit": asked})
    assert len(rows(path, **query)) == count


def test_days_open_at_midnight_utc(rows) -> None:
    assert {int(row[0]) % 86_400 for row in rows("spot/candlesticks", interval="1d", **SPOT)} == {0}


def test_trades_of_pairs(still, rows, shape_differences) -> None:
    sample = {
        "id": "1852958144", "create_time": "1634673259", "create_time_ms": "1634673259378.105000",
        "currency_pair": "ADA_USDT", "side": "sell", "amount": "307.078", "price": "2.104",
    }  # fmt: skip
    found = rows("spot/trades", limit=5, **SPOT)
    assert not shape_differences(found, [sample], exact=False)
    theirs = still.market.trades(TradeSpan("BTC/USDT", limit=5, newest=True), NOW)
    assert [int(row["id"]) for row in found] == theirs.id[::-1].tolist()
    micros = theirs.ts * 1000 + theirs.nanosecond // 1000
    assert [round(float(row["create_time_ms"]) * 1000) for row in found] == micros[::-1].tolist()
    assert rows("spot/trades", limit=4, last_id=found[0]["id"], **SPOT) == found[1:]


def test_trades_of_contracts(still, rows) -> None:
    found = rows("futures/usdt/trades", limit=5, **PERP)
    theirs = still.market.trades(TradeSpan("BTC/USDT:USDT", limit=5, newest=True), NOW)
    signed = np.where(theirs.is_buy, theirs.volume, -theirs.volume) / 0.01
    assert [row["size"] for row in found] == pytest.approx(signed[::-1].tolist())
    assert [round(row["create_time_ms"] * 1000) for row in found] == theirs.ts[::-1].tolist()


def test_funding_rates_are_the_newest_between_their_bounds(still, rows) -> None:
    theirs = still.market.fundings("BTC/USDT:USDT", START - 3 * DAY_MS, NOW + 1, NOW)
    found = rows("futures/usdt/funding_rate", limit=3, **PERP)
    assert [row["t"] for row in found] == (theirs.ts[::-1][:3] // 1000).tolist()
    assert [float(row["r"]) for row in found] == theirs.rate[::-1][:3].tolist()
    bounds = {"from": found[2]["t"], "to": found[1]["t"]}
    assert rows("futures/usdt/funding_rate", **PERP, **bounds) == found[1:]


def test_order_books(rows, shape_differences) -> None:
    sample = {"id": 6358770031, "current": 1634345973275, "update": 1634345973271,
              "asks": [["2.2241", "12449.827"]], "bids": [["2.2236", "32.465"]]}  # fmt: skip
    book = rows("spot/order_book", limit=10, with_id="true", **SPOT)
    assert not shape_differences(book, sample)
    assert len(book["bids"]) == 10 and float(book["bids"][0][0]) < float(book["asks"][0][0])
    assert "id" not in rows("spot/order_book", **SPOT)
    book = rows("futures/usdt/order_book", limit=20, with_id="true", **PERP)
    assert book["current"] == NOW / 1000
    assert len(book["asks"]) == 20 and set(book["asks"][0]) == {"s", "p"}


def test_lists_have_the_shape_of_the_samples(rows, shape_differences) -> None:
    pair = {
        "id": "QTUM_ETH", "base": "QTUM", "base_name": "Quantum", "quote": "ETH", "quote_name": "Ethereum",
        "fee": "0.2", "min_base_amount": "0.01", "min_quote_amount": "0.001", "max_quote_amount": "50000",
        "amount_precision": 3, "precision": 6, "trade_status": "tradable", "sell_start": 1607313600,
        "buy_start": 1700492400, "type": "normal", "trade_url": "https://www.gate.com/trade/QTUM_ETH",
    }  # fmt: skip
    assert not shape_differences(rows("spot/currency_pairs"), [pair], exact=False)
    contracts = {row["name"]: row for row in rows("futures/usdt/contracts")}
    assert contracts["BTC_USDT"]["quanto_multiplier"] == "0.01"
    assert contracts["SOL_USDT"]["funding_interval"] == 4 * 3600
    [inverse] = rows("futures/btc/contracts")
    assert (inverse["name"], inverse["quanto_multiplier"], inverse["type"]) == ("BTC_USD", "0", "inverse")
    assert {"BTC", "USDT"} <= {row["currency"] for row in rows("spot/currencies")}
    assert rows("delivery/usdt/contracts") == rows("options/underlyings") == []


@pytest.mark.parametrize(
    ("path", "query", "status", "label"),
    [
        ("spot/candlesticks", {"currency_pair": "NOPE_USDT"}, 400, "INVALID_CURRENCY_PAIR"),
        ("futures/usdt/trades", {"contract": "NOPE_USDT"}, 400, "CONTRACT_NOT_FOUND"),
        ("spot/candlesticks", {}, 400, "MISSING_REQUIRED_PARAM"),
        ("spot/candlesticks", {**SPOT, "interval": "7m"}, 400, "INVALID_PARAM_VALUE"),
        ("spot/candlesticks", {**SPOT, "limit": 1001}, 400, "INVALID_PARAM_VALUE"),
        ("spot/candlesticks", {**SPOT, "to": "now"}, 400, "INVALID_PARAM_VALUE"),
        ("spot/candlesticks", {**SPOT, "from": SECONDS, "limit": 5}, 400, "INVALID_PARAM_VALUE"),
        ("futures/nope/contracts", {}, 400, "INVALID_PARAM_VALUE"),
        ("nope", {}, 404, "NOT_FOUND"),
    ],
)
def test_errors(ask, path, query, status, label) -> None:
    reply = ask(path, **query)
    assert (reply.status, reply.json["label"]) == (status, label)
    assert reply.json["message"]


def test_candles_are_refused_beyond_what_gate_keeps(ask) -> None:
    first = SECONDS - 9_998 * 60
    query = {"interval": "1m", "to": first + 60, **SPOT}
    assert ask("spot/candlesticks", **query, **{"from": first}).status == 200
    old = ask("spot/candlesticks", **query, **{"from": first - 120})
    assert (old.status, old.json["message"]) == (
        400,
        "Candlestick too long ago. Maximum 10000 points recently are allowed",
    )
    broad = ask("spot/candlesticks", interval="1m", to=SECONDS, **SPOT, **{"from": SECONDS - 1000 * 60})
    assert "Maximum 1000 data points are allowed" in broad.json["message"]


def test_ccxt_reads_it(still: Sandbox, client, with_client) -> None:
    async def use(exchange):
        await exchange.load_markets()
        perp = "BTC/USDT:USDT"
        return (
            exchange.markets,
            await exchange.fetch_time(),
            await exchange.fetch_ohlcv(perp, "1h", START - DAY_MS, 24),
            await exchange.fetch_ohlcv("BTC/USDT", "1h", START - DAY_MS, 24),
            await exchange.fetch_trades(perp, limit=10),
            await exchange.fetch_order_book(perp, 20),
            await exchange.fetch_funding_rate_history(perp, START - DAY_MS, 5),
        )

    markets, time, candles, pairs, trades, book, rates = with_client(client("gate", still), use)
    assert {"BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC"} <= set(markets) and "BTC/USD" not in markets
    assert markets["BTC/USD:BTC"]["inverse"] and markets["BTC/USD:BTC"]["contractSize"] == 1
    assert markets["BTC/USDT"]["margin"] and not markets["BTC/USDC"]["margin"]
    assert time == NOW
    assert [row[0] for row in candles] == [row[0] for row in pairs]
    assert [row[0] for row in pairs] == [START - DAY_MS + n * HOUR_MS for n in range(24)]
    wanted = still.market.candles("BTC/USDT", "1h", START - DAY_MS, START)
    assert [row[5] for row in pairs] == wanted.volume.tolist()
    assert NOW - trades[-1]["timestamp"] < MINUTE_MS and len(trades) == 10
    assert len(book["bids"]) == 20 and book["nonce"] > 0
    assert len(rates) >= 3
