"""KuCoin's wire format: what its documents say, the shape of their samples, and what ccxt makes of it.

There are no recorded answers of KuCoin; the samples are those of its documents.
"""

from __future__ import annotations

import numpy as np
import pytest

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.events import TradeSpan

START = parse_time("2024-05-10")
NOW = START + 90_000
SPOT, FUTURES = "api.kucoin.com", "api-futures.kucoin.com"


@pytest.fixture
def ask(get):
    return lambda host, path, **query: get(f"{host}/api", path, **query)


@pytest.fixture
def candles(ask):
    def data(**query):
        return ask(SPOT, "v1/market/candles", **{"symbol": "BTC-USDT", "type": "1min", **query}).json["data"]

    return data


@pytest.fixture
def klines(ask):
    def data(**query):
        query = {"symbol": "XBTUSDTM", "granularity": 1, **query}
        return ask(FUTURES, "v1/kline/query", **query).json["data"]

    return data


def seconds(rows) -> list[int]:
    return [int(row[0]) for row in rows]


# --- spot ---


def test_spot_rows_descend_and_the_end_is_exclusive(candles) -> None:
    first, last = START // 1000 - 180, START // 1000
    assert seconds(candles(startAt=first, endAt=last)) == [last - 60, last - 120, first]
    assert seconds(candles(startAt=first - 59, endAt=last - 1)) == [last - 60, last - 120, first]


def test_spot_rows_include_the_unfinished_candle(candles, still: Sandbox) -> None:
    rows = candles(startAt=START // 1000, endAt=START // 1000 + 600)
    assert seconds(rows) == [START // 1000 + 60, START // 1000]
    whole = still.market.candles("BTC/USDT", "1m", START + MINUTE_MS, NOW)
    assert 0 < float(rows[0][5]) < whole.volume[0]


def test_most_spot_candles_are_1500_of_the_newest(candles) -> None:
    rows = candles(startAt=(START - 3 * DAY_MS) // 1000, endAt=START // 1000)
    assert len(rows) == 1500
    assert seconds(rows)[0] == START // 1000 - 60
    assert len(candles()) == len(candles(endAt=START // 1000)) == len(candles(startAt=0, endAt=0)) == 100


def test_a_spot_row_has_the_close_before_the_high(candles, still: Sandbox) -> None:
    (row,) = candles(startAt=START // 1000 - 60, endAt=START // 1000)
    candle = still.market.candles("BTC/USDT", "1m", START - MINUTE_MS, START)
    assert all(isinstance(value, str) for value in row)
    names = ("open", "close", "high", "low", "volume", "turnover")
    assert [float(value) for value in row[1:]] == [getattr(candle, name)[0] for name in names]


@pytest.mark.parametrize(("kind", "step"), [("1hour", HOUR_MS), ("1day", DAY_MS), ("1week", 7 * DAY_MS)])
def test_long_candles_open_by_utc_and_weeks_on_thursday(candles, kind: str, step: int) -> None:
    rows = candles(type=kind, startAt=(START - 3 * step) // 1000, endAt=START // 1000)
    assert len(rows) == 3
    assert {second * 1000 % step for second in seconds(rows)} == {0}


def test_spot_trades_are_the_newest_hundred_in_order(ask, still: Sandbox, shape_differences) -> None:
    reply = ask(SPOT, "v1/market/histories", symbol="BTC-USDT").json
    sample = {"sequence": "10976028003549185", "price": "67122", "size": "0.000025", "side": "buy",
              "time": 1729177117877000000}  # fmt: skip
    assert not shape_differences(reply, {"code": "200000", "data": [sample]})
    wanted = still.market.trades(TradeSpan("BTC/USDT", limit=100, newest=True), NOW)
    rows = reply["data"]
    assert [row["sequence"] for row in rows] == [str(i) for i in wanted.id]
    assert [row["time"] for row in rows] == (wanted.ts * 1_000_000 + wanted.nanosecond).tolist()
    assert [float(row["size"]) for row in rows] == wanted.volume.tolist()
    assert [row["side"] == "buy" for row in rows] == wanted.is_buy.tolist()


@pytest.mark.parametrize("depth", [20, 100])
def test_spot_books(ask, shape_differences, book_flaws, depth: int) -> None:
    reply = ask(SPOT, f"v1/market/orderbook/level2_{depth}", symbol="BTC-USDT").json
    levels = [["66976.4", "0.69109872"], ["66976.3", "0.14377"]]
    sample = {"time": 1729176273859, "sequence": "14610502970", "bids": levels, "asks": levels}
    assert not shape_differences(reply, {"code": "200000", "data": sample})
    bids, asks = ([float(p) for p, _ in reply["data"][side]] for side in ("bids", "asks"))
    assert not book_flaws(bids, asks, depth)


def test_spot_symbols_have_the_samples_fields(ask, shape_differences) -> None:
    reply = ask(SPOT, "v2/symbols").json
    sample = {"symbol": "BTC-USDT", "name": "BTC-USDT", "baseCurrency": "BTC", "quoteCurrency": "USDT",
              "feeCurrency": "USDT", "market": "USDS", "baseMinSize": "0.00001", "quoteMinSize": "0.1",
              "baseMaxSize": "10000000000", "quoteMaxSize": "99999999", "baseIncrement": "0.00000001",
              "quoteIncrement": "0.000001", "priceIncrement": "0.1", "priceLimitRate": "0.1",
              "minFunds": "0.1", "isMarginEnabled": True, "enableTrading": True, "feeCategory": 1,
              "makerFeeCoefficient": "1.00", "takerFeeCoefficient": "1.00", "st": False,
              "callauctionIsEnabled": False, "callauctionPriceFloor": None, "callauctionPriceCeiling": None,
              "callauctionFirstStageStartTime": None, "callauctionSecondStageStartTime": None,
              "callauctionThirdStageStartTime": None, "tradingStartTime": None}  # fmt: skip
    assert not shape_differences(reply, {"code": "200000", "data": [sample]})
    trading = {row["symbol"]: row["enableTrading"] for row in reply["data"]}
    assert (trading["BTC-USDT"], trading["EOS-USDT"]) == (True, False)
    assert "BTC-USD" not in trading


# --- futures ---


def test_contract_rows_ascend_between_inclusive_bounds(klines) -> None:
    first, last = START - 3 * MINUTE_MS, START
    assert seconds(klines(**{"from": first, "to": last})) == [first + n * MINUTE_MS for n in range(4)]
    assert seconds(klines(**{"from": first + 1, "to": last - 1})) == [first + MINUTE_MS, last - MINUTE_MS]


def test_most_contract_candles_are_500(klines) -> None:
    start = START - 2 * DAY_MS
    assert seconds(klines(**{"from": start, "to": START})) == [start + n * MINUTE_MS for n in range(500)]
    assert seconds(klines(**{"from": start}))[0] == start
    assert seconds(klines(to=START))[-1] == START
    assert seconds(klines())[-1] == START + MINUTE_MS
    assert len(klines(to=START)) == len(klines()) == 500


@pytest.mark.parametrize(("name", "symbol"), [("XBTUSDTM", "BTC/USDT:USDT"), ("XBTUSDM", "BTC/USD:BTC")])
def test_a_contract_row_counts_lots(klines, still: Sandbox, name: str, symbol: str) -> None:
    (row,) = klines(symbol=name, **{"from": START, "to": START})
    candle = still.market.candles(symbol, "1m", START, START + 1)
    assert row[:5] == [getattr(candle, n)[0] for n in ("ts", "open", "high", "low", "close")]
    if name == "XBTUSDTM":
        assert row[5] == int(row[5]) == round(candle.volume[0] * 1000)
        assert row[6] == candle.turnover[0]
    else:
        assert row[5:] == [candle.turnover[0], candle.volume[0]]


def test_contract_trades_are_the_newest_hundred_newest_first(ask, still: Sandbox, shape_differences) -> None:
    reply = ask(FUTURES, "v1/trade/history", symbol="XBTUSDTM").json
    sample = {"sequence": 1697915257909, "contractId": 1, "tradeId": "1697915257909",
              "makerOrderId": "236679665752801280", "takerOrderId": "236679667975745536",
              "ts": 1729242032152000000, "size": 1, "price": "67878", "side": "sell"}  # fmt: skip
    assert not shape_differences(reply, {"code": "200000", "data": [sample]})
    wanted = still.market.trades(TradeSpan("BTC/USDT:USDT", limit=100, newest=True), NOW)
    newest_first = wanted.take(np.arange(len(wanted))[::-1])
    rows = reply["data"]
    assert [row["sequence"] for row in rows] == newest_first.id.tolist()
    assert [row["size"] for row in rows] == np.rint(newest_first.volume * 1000).tolist()
    assert [row["side"] == "buy" for row in rows] == newest_first.is_buy.tolist()


def test_funding_events_descend_between_inclusive_bounds_a_hundred_at_most(
    ask, still: Sandbox, shape_differences
) -> None:
    events = still.market.fundings("BTC/USDT:USDT", START - 90 * DAY_MS, NOW, NOW).ts.tolist()
    query = {"symbol": "XBTUSDTM", "from": events[-4], "to": events[-2]}
    reply = ask(FUTURES, "v1/contract/funding-rates", **query).json
    sample = {"symbol": "XBTUSDTM", "fundingRate": 2.1e-4, "timepoint": 1702296000000}
    assert not shape_differences(reply, {"code": "200000", "data": [sample]})
    assert [row["timepoint"] for row in reply["data"]] == events[-2:-5:-1]
    query = {"symbol": "XBTUSDTM", "from": events[0], "to": NOW + DAY_MS}
    rows = ask(FUTURES, "v1/contract/funding-rates", **query).json["data"]
    assert [row["timepoint"] for row in rows] == events[:-101:-1]


@pytest.mark.parametrize("depth", [20, 100])
def test_contract_books(ask, depth: int) -> None:
    data = ask(FUTURES, f"v1/level2/depth{depth}", symbol="XBTUSDTM").json["data"]
    assert (data["symbol"], data["ts"]) == ("XBTUSDTM", NOW * 1_000_000)
    assert isinstance(data["sequence"], int)
    assert len(data["bids"]) == len(data["asks"]) == depth
    assert data["bids"][0][0] < data["asks"][0][0]
    assert all(isinstance(lots, int) and lots > 0 for _, lots in data["bids"] + data["asks"])


def test_contracts_say_what_a_lot_is(ask) -> None:
    rows = {row["symbol"]: row for row in ask(FUTURES, "v1/contracts/active").json["data"]}
    linear, inverse = rows["XBTUSDTM"], rows["XBTUSDM"]
    assert (linear["multiplier"], linear["isInverse"], linear["settleCurrency"]) == (0.001, False, "USDT")
    assert (inverse["multiplier"], inverse["isInverse"], inverse["settleCurrency"]) == (-1.0, True, "XBT")
    assert (linear["baseCurrency"], linear["fundingRateGranularity"]) == ("XBT", 8 * HOUR_MS)
    assert linear["type"] == "FFWCSX" and linear["expireDate"] is None
    assert {row["quoteCurrency"] for row in rows.values()} == {"USDT", "USD"}


# --- both ---


@pytest.mark.parametrize("host", [SPOT, FUTURES])
def test_server_time_and_status(ask, host: str) -> None:
    assert ask(host, "v1/timestamp").json == {"code": "200000", "data": NOW}
    assert ask(host, "v1/status").json == {"code": "200000", "data": {"status": "open", "msg": ""}}


@pytest.mark.parametrize(
    ("host", "path", "query", "status", "code"),
    [
        (SPOT, "v1/market/candles", {"symbol": "NOPE-USDT", "type": "1min"}, 200, "400100"),
        (SPOT, "v1/market/candles", {"symbol": "BTC-USDT", "type": "1m"}, 200, "400100"),
        (SPOT, "v1/market/candles", {"symbol": "BTC-USDT"}, 200, "400100"),
        (SPOT, "v1/market/candles", {"type": "1min"}, 200, "400100"),
        (SPOT, "v1/market/candles", {"symbol": "BTC-USDT", "type": "1min", "startAt": "now"}, 200, "400100"),
        (SPOT, "v1/market/histories", {"symbol": "NOPE-USDT"}, 200, "900001"),
        (SPOT, "v1/market/orderbook/level2_20", {"symbol": "NOPE-USDT"}, 200, "900001"),
        (SPOT, "v1/market/orderbook/level2_50", {"symbol": "BTC-USDT"}, 404, "404000"),
        (SPOT, "v1/nope", {}, 404, "404000"),
        (FUTURES, "v1/kline/query", {"symbol": "NOPEUSDTM", "granularity": 1}, 200, "404000"),
        (FUTURES, "v1/kline/query", {"symbol": "XBTUSDTM", "granularity": 3}, 200, "400100"),
        (FUTURES, "v1/contract/funding-rates", {"symbol": "XBTUSDTM", "from": 1}, 200, "400100"),
        (FUTURES, "v1/level2/depth50", {"symbol": "XBTUSDTM"}, 404, "404000"),
    ],
)
def test_errors(ask, host: str, path: str, query: dict, status: int, code: str) -> None:
    reply = ask(host, path, **query)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert reply.json["msg"] and "data" not in reply.json


@pytest.mark.parametrize(("status", "code"), [(429, "429000"), (451, "400302"), (503, "503000")])
def test_http_errors_have_the_venues_body(ask, still: Sandbox, status: int, code: str) -> None:
    still.faults = [f"status:{status}"]
    reply = ask(SPOT, "v1/timestamp")
    assert (reply.status, reply.json["code"]) == (status, code)
    assert reply.headers.get("gw-ratelimit-remaining") == ("0" if status == 429 else None)


def test_the_headers_count_the_quota_of_half_a_minute(ask) -> None:
    first, second = (
        ask(FUTURES, "v1/level2/depth100", symbol="XBTUSDTM").headers["gw-ratelimit-remaining"] for _ in "12"
    )
    assert int(first) - int(second) == 10
    assert ask(FUTURES, "v1/timestamp").headers["gw-ratelimit-limit"] == "2000"


def test_maintenance(ask, still: Sandbox) -> None:
    still.faults = ["maintenance"]
    assert ask(SPOT, "v1/status").json["data"]["status"] == "close"
    reply = ask(SPOT, "v1/market/candles", symbol="BTC-USDT", type="1min")
    assert (reply.status, reply.json["code"]) == (503, "503000")


SPOT_OPTIONS = {"fetchMarkets": {"types": ["spot"], "fetchTickersFees": False}}


@pytest.mark.parametrize(
    ("venue", "symbol", "options"),
    [("kucoin", "BTC/USDT", SPOT_OPTIONS), ("kucoinfutures", "BTC/USDT:USDT", {})],
)
def test_ccxt_reads_everything(
    client, with_client, still: Sandbox, venue, symbol: str, options: dict
) -> None:
    async def use(exchange):
        return (
            await exchange.fetch_time(),
            await exchange.fetch_ohlcv(symbol, "1h", START - 5 * HOUR_MS, 5),
            await exchange.fetch_trades(symbol),
            await exchange.fetch_order_book(symbol, 20),
            await exchange.fetch_status(),
        )

    exchange = client(venue, still, options=options, has={"fetchCurrencies": False})
    now, rows, trades, book, status = with_client(exchange, use)
    assert now == NOW and status["status"] == "ok"
    wanted = still.market.candles(symbol, "1h", START - 5 * HOUR_MS, START)
    lot = exchange.market(symbol)["contractSize"] or 1.0
    assert [row[0] for row in rows] == wanted.ts.tolist()
    for column, name in enumerate(("open", "high", "low", "close"), 1):
        assert [row[column] for row in rows] == getattr(wanted, name).tolist()
    assert [row[5] * lot for row in rows] == pytest.approx(wanted.volume.tolist(), rel=1e-9)
    fills = still.market.trades(TradeSpan(symbol, limit=100, newest=True), NOW)
    assert [trade["timestamp"] for trade in trades] == fills.ts.tolist()
    assert [trade["side"] == "buy" for trade in trades] == fills.is_buy.tolist()
    assert book["nonce"] == still.market.book(symbol, 20, NOW).sequence


def test_ccxt_reads_funding(client, with_client, still: Sandbox) -> None:
    async def use(exchange):
        since = START - 10 * DAY_MS
        params = {"until": START}
        return await exchange.fetch_funding_rate_history("BTC/USDT:USDT", since, params=params)

    rows = with_client(client("kucoinfutures", still, has={"fetchCurrencies": False}), use)
    wanted = still.market.fundings("BTC/USDT:USDT", START - 10 * DAY_MS, START + 1, NOW)
    assert [row["timestamp"] for row in rows] == wanted.ts.tolist()
    assert [row["fundingRate"] for row in rows] == wanted.rate.tolist()
