"""Bitget's wire format: what its documents say, and the samples in ccxt's source."""

from __future__ import annotations

import numpy as np
import pytest

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.events import TradeSpan

START = parse_time("2024-03-01")
NOW = START + 90_000
API = "api.bitget.com/api/v2"
SPOT = {"symbol": "BTCUSDT"}
PERP = {"symbol": "BTCUSDT", "productType": "USDT-FUTURES"}


@pytest.fixture
def data(ask):
    def answered(path, **query):
        reply = ask(path, **query)
        assert (reply.status, reply.json["code"], reply.json["msg"]) == (200, "00000", "success")
        assert reply.json["requestTime"] == NOW
        return reply.json["data"]

    return answered


def times(rows) -> list[int]:
    return [int(row[0]) for row in rows]


def test_candles_ascend_up_to_an_exclusive_end(data) -> None:
    bounds = {"startTime": START - 5 * MINUTE_MS, "endTime": START - MINUTE_MS}
    for path, query, name in (("spot", SPOT, "1min"), ("mix", PERP, "1m")):
        rows = data(f"{path}/market/candles", granularity=name, **query, **bounds)
        assert times(rows) == [START - n * MINUTE_MS for n in (5, 4, 3, 2)]


def test_a_limit_keeps_the_newest_and_the_last_candle_is_unfinished(still, data) -> None:
    rows = data("spot/market/candles", granularity="1min", limit=2, **SPOT)
    assert times(rows) == [START, START + MINUTE_MS]
    candle = still.market.candles("BTC/USDT", "1m", START + MINUTE_MS, START + 2 * MINUTE_MS, NOW)
    values = [
        getattr(candle, n)[0] for n in ("open", "high", "low", "close", "volume", "turnover", "turnover")
    ]
    assert [float(text) for text in rows[1][1:]] == values
    assert len(data("mix/market/candles", granularity="1m", limit=1, **PERP)[0]) == 7


@pytest.mark.parametrize(
    ("path", "asked", "count"),
    [
        ("spot/market/candles", None, 100),
        ("spot/market/candles", 5000, 1000),
        ("spot/market/history-candles", 1000, 200),
        ("mix/market/candles", 1000, 1000),
        ("mix/market/history-candles", None, 100),
        ("mix/market/history-candles", 1000, 200),
    ],
)
def test_limits_of_candles(data, path, asked, count) -> None:
    query = SPOT | {"granularity": "1min"} if path.startswith("spot") else PERP | {"granularity": "1m"}
    query |= {"endTime": NOW} | ({} if asked is None else {"limit": asked})
    assert len(data(path, **query)) == count


def test_recent_candles_end_after_a_month_and_history_goes_on(data) -> None:
    month = NOW - 30 * DAY_MS
    query = {"granularity": "1min", "endTime": month + 90_000, **SPOT}
    assert times(data("spot/market/candles", **query)) == [START + 120_000 - 30 * DAY_MS]
    assert len(data("spot/market/history-candles", **query)) == 100


def test_history_of_spot_knows_no_start(data) -> None:
    query = {"granularity": "1min", "startTime": START, "endTime": START + MINUTE_MS, "limit": 3, **SPOT}
    assert times(data("spot/market/history-candles", **query)) == [
        START - 2 * MINUTE_MS,
        START - MINUTE_MS,
        START,
    ]


@pytest.mark.parametrize(
    ("name", "opens"), [("1day", 16 * HOUR_MS), ("1Dutc", 0), ("6h", 4 * HOUR_MS), ("6Hutc", 0)]
)
def test_long_candles_open_by_hong_kong_time_unless_utc(data, name, opens) -> None:
    step = 6 * HOUR_MS if "6" in name else DAY_MS
    assert {(t - opens) % step for t in times(data("spot/market/candles", granularity=name, **SPOT))} == {0}


@pytest.mark.parametrize(("path", "query"), [("spot", SPOT), ("mix", PERP)])
def test_trades_are_the_newest_first(still, data, path, query) -> None:
    symbol = "BTC/USDT" if path == "spot" else "BTC/USDT:USDT"
    theirs = still.market.trades(TradeSpan(symbol, limit=3, newest=True), NOW)
    rows = data(f"{path}/market/fills-history", limit=3, **query)
    assert [set(row) for row in rows] == [{"symbol", "tradeId", "side", "price", "size", "ts"}] * 3
    assert [int(row["tradeId"]) for row in rows] == theirs.id[::-1].tolist()
    assert [float(row["size"]) for row in rows] == theirs.volume[::-1].tolist()
    assert [row["side"] for row in rows] == np.where(theirs.is_buy[::-1], "Buy", "Sell").tolist()
    older = data(f"{path}/market/fills-history", limit=2, idLessThan=rows[0]["tradeId"], **query)
    assert older == rows[1:]
    span = {"startTime": rows[2]["ts"], "endTime": rows[1]["ts"]}
    assert rows[1] in data(f"{path}/market/fills-history", **span, **query)


def test_funding_comes_in_pages_from_the_newest_on(still, data) -> None:
    theirs = still.market.fundings("BTC/USDT:USDT", START - 3 * DAY_MS, NOW + 1, NOW)
    first = data("mix/market/history-fund-rate", pageSize=2, **PERP)
    second = data("mix/market/history-fund-rate", pageSize=2, pageNo=2, **PERP)
    assert [int(row["fundingTime"]) for row in first + second] == theirs.ts[::-1][:4].tolist()
    assert [float(row["fundingRate"]) for row in first + second] == theirs.rate[::-1][:4].tolist()
    assert len(data("mix/market/history-fund-rate", pageSize=500, **PERP)) == 100


def test_order_books(data, shape_differences) -> None:
    spot = data("spot/market/orderbook", limit=5, **SPOT)
    assert not shape_differences(
        spot, {"asks": [["34567.15", "0.0131"]], "bids": [["34567", "0.25"]], "ts": "1698303884579"}
    )
    perp = data("mix/market/merge-depth", limit=5, **PERP)
    assert perp["scale"] == "0.1" and all(isinstance(v, int | float) for level in perp["asks"] for v in level)
    for book in (spot, perp):
        assert len(book["bids"]) == len(book["asks"]) == 5
        assert float(book["bids"][0][0]) < float(book["asks"][0][0])


SAMPLE_CONTRACT = {
    "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "buyLimitPriceRatio": "0.01",
    "sellLimitPriceRatio": "0.01", "feeRateUpRatio": "0.005", "makerFeeRate": "0.0002",
    "takerFeeRate": "0.0006", "openCostUpRatio": "0.01", "supportMarginCoins": ["USDT"],
    "minTradeNum": "0.001", "priceEndStep": "1", "volumePlace": "3", "pricePlace": "1",
    "sizeMultiplier": "0.001", "symbolType": "perpetual", "minTradeUSDT": "5", "maxSymbolOrderNum": "200",
    "maxProductOrderNum": "400", "maxPositionNum": "150", "symbolStatus": "normal", "offTime": "-1",
    "limitOpenTime": "-1", "deliveryTime": "", "deliveryStartTime": "", "deliveryPeriod": "",
    "launchTime": "", "fundInterval": "8", "minLever": "1", "maxLever": "125", "posLimit": "0.05",
    "maintainTime": "",
}  # fmt: skip


def test_lists_have_the_shape_of_the_samples(data, shape_differences) -> None:
    contracts = data("mix/market/contracts", productType="USDT-FUTURES")
    assert not shape_differences(contracts, [SAMPLE_CONTRACT])
    assert contracts[0] == SAMPLE_CONTRACT
    assert data("mix/market/contracts", productType="SUSDT-FUTURES") == []
    assert [row["symbol"] for row in data("mix/market/contracts", productType="coin-futures")] == ["BTCUSD"]
    sample = {
        "symbol": "TRXUSDT", "baseCoin": "TRX", "quoteCoin": "USDT", "minTradeAmount": "0",
        "maxTradeAmount": "10000000000", "takerFeeRate": "0.002", "makerFeeRate": "0.002",
        "pricePrecision": "6", "quantityPrecision": "4", "quotePrecision": "6", "status": "online",
        "minTradeUSDT": "5", "buyLimitPriceRatio": "0.05", "sellLimitPriceRatio": "0.05",
    }  # fmt: skip
    assert not shape_differences(data("spot/public/symbols"), [sample], exact=False)
    assert {row["symbol"] for row in data("margin/currencies")} < {
        row["symbol"] for row in data("spot/public/symbols")
    }
    assert {"BTC", "USDT"} <= {row["coin"] for row in data("spot/public/coins")}


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("spot/market/candles", {"symbol": "NOPE", "granularity": "1min"}, 400, "40034"),
        ("spot/public/symbols", {"symbol": "NOPE"}, 400, "40034"),
        ("mix/market/contracts", {"symbol": "NOPE", "productType": "USDT-FUTURES"}, 400, "40034"),
        ("mix/market/contracts", {}, 400, "40019"),
        ("spot/market/candles", {"granularity": "1min"}, 400, "40019"),
        ("spot/market/candles", SPOT, 400, "40019"),
        ("spot/market/history-candles", {**SPOT, "granularity": "1min"}, 400, "40019"),
        ("spot/market/candles", {**SPOT, "granularity": "1m"}, 400, "400171"),
        ("mix/market/candles", {**PERP, "granularity": "1min"}, 400, "400171"),
        ("spot/market/candles", {**SPOT, "granularity": "1min", "limit": 0}, 400, "40020"),
        ("spot/market/candles", {**SPOT, "granularity": "1min", "endTime": "now"}, 400, "40020"),
        ("mix/market/history-candles", {**PERP, "granularity": "1m", "startTime": START - 91 * DAY_MS}, 400, "40705"),
        ("mix/market/merge-depth", {**PERP, "limit": 20}, 400, "400172"),
        ("mix/market/history-fund-rate", SPOT, 400, "40019"),
        ("nope", {}, 404, "40404"),
    ],
)  # fmt: skip
def test_errors(ask, path, query, status, code) -> None:
    reply = ask(path, **query)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert reply.json["msg"] and reply.json["data"] is None


def test_ccxt_reads_it(still: Sandbox, client, with_client) -> None:
    async def use(exchange):
        await exchange.load_markets()
        perp = "BTC/USDT:USDT"
        return (
            exchange.markets,
            await exchange.fetch_time(),
            await exchange.fetch_ohlcv(perp, "1h", START - DAY_MS, 24),
            await exchange.fetch_trades(perp, limit=10),
            await exchange.fetch_order_book(perp, 50),
            await exchange.fetch_funding_rate_history(perp, limit=5),
        )

    markets, time, candles, trades, book, rates = with_client(client("bitget", still), use)
    assert {"BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC"} <= set(markets) and "BTC/USD" not in markets
    assert markets["BTC/USDT"]["margin"] and markets["BTC/USDT:USDT"]["contractSize"] == 1
    assert markets["EOS/USDT"]["active"] is False or still.market.instrument("EOS/USDT").active
    assert time == NOW
    wanted = still.market.candles("BTC/USDT:USDT", "1h", START - DAY_MS, START)
    assert [row[0] for row in candles] == wanted.ts.tolist()
    assert [row[5] for row in candles] == wanted.volume.tolist()
    assert len(trades) == 10 and {trade["side"] for trade in trades} <= {"buy", "sell"}
    assert len(book["bids"]) == 50 and book["timestamp"] == NOW
    assert len(rates) == 5
