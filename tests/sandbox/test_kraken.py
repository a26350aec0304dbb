"""Kraken's two wire formats: what the documents say, and the shape of what was recorded there."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ccxt.async_support as ccxt
import numpy as np
import pytest

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, LEVEL_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.events import TradeSpan

START = parse_time("2024-03-01")
NOW = START + 90_000
MINUTE = MINUTE_MS // 1000


@pytest.fixture
def spot(get) -> Callable[..., Any]:
    """The decoded answer of a path below ``/0/public/``, about XBTUSDT unless told otherwise."""
    return lambda path, **query: get("api.kraken.com/0/public", path, **{"pair": "XBTUSDT", **query}).json


@pytest.fixture
def rows(spot) -> Callable[..., list[Any]]:
    """The rows of an answer."""
    return lambda path, **query: spot(path, **query)["result"]["XBTUSDT"]


@pytest.fixture
def futures(get) -> Callable[..., Any]:
    """The reply of a path of futures.kraken.com."""
    return partial(get, "futures.kraken.com")


@pytest.fixture
def executions(futures) -> Callable[..., Any]:
    return lambda **query: futures("api/history/v3/market/PF_XBTUSD/executions", **query).json


def nanoseconds(trades: Any) -> np.ndarray:
    return trades.ts * 1_000_000 + trades.nanosecond


# Spot


def test_the_newest_720_finished_candles_and_the_unfinished_one(still, spot, rows) -> None:
    found = rows("OHLC")
    assert len(found) == 721
    assert [row[0] for row in found] == [START // 1000 + MINUTE * n for n in range(-719, 2)]
    assert spot("OHLC")["result"]["last"] == START // 1000
    final = still.market.candles("BTC/USDT", "1m", START + MINUTE_MS, START + MINUTE_MS + 1)
    assert float(found[-1][6]) < final.volume[0]


def test_older_candles_cannot_be_had(rows) -> None:
    assert rows("OHLC", since=0) == rows("OHLC", since=START // 1000 - 30 * DAY_MS // 1000) == rows("OHLC")


def test_since_is_exclusive(rows) -> None:
    assert [row[0] for row in rows("OHLC", since=START // 1000)] == [START // 1000 + MINUTE]
    assert rows("OHLC", since=START // 1000 - 1)[0][0] == START // 1000


def test_the_average_price_is_rounded_to_the_prices_decimals(still, rows) -> None:
    candle = still.market.candles("BTC/USDT", "1m", START, START + 1)
    row = rows("OHLC", since=START // 1000 - 1)[0]
    assert float(row[5]) == pytest.approx(candle.turnover[0] / candle.volume[0], abs=0.005)
    assert len(row[5].partition(".")[2]) == 2
    assert (float(row[6]), row[7]) == (candle.volume[0], candle.trade_count[0])


@pytest.mark.parametrize("interval", [5, 1440, 10_080, 21_600])
def test_candles_open_at_multiples_of_their_length(rows, interval: int) -> None:
    assert {row[0] % (interval * 60) for row in rows("OHLC", interval=interval)} == {0}


@pytest.mark.parametrize("name", ["XXBTZUSD", "XBTUSD", "XBT/USD"])
def test_a_pair_has_three_names(spot, name: str) -> None:
    result = spot("Depth", pair=name, count=1)["result"]
    assert list(result) == ["XXBTZUSD"]


def test_trades_go_on_after_the_exact_time_of_the_last(still, spot) -> None:
    since = (START - HOUR_MS) * 1_000_000
    wanted = still.market.trades(TradeSpan("BTC/USDT", START - HOUR_MS, limit=1500), NOW)
    first = spot("Trades", since=since)["result"]
    second = spot("Trades", since=first["last"], count=500)["result"]
    assert [len(page["XBTUSDT"]) for page in (first, second)] == [1000, 500]
    assert [row[6] for page in (first, second) for row in page["XBTUSDT"]] == wanted.id.tolist()
    assert [int(page["last"]) for page in (first, second)] == nanoseconds(wanted)[[999, 1499]].tolist()


def test_times_of_trades_are_numbers_of_seconds(still, spot) -> None:
    wanted = still.market.trades(TradeSpan("BTC/USDT", START, limit=50), NOW)
    found = [row[2] for row in spot("Trades", since=START // 1000, count=50)["result"]["XBTUSDT"]]
    assert found == (nanoseconds(wanted) // 1000 / 1e6).tolist()
    assert [row[3] for row in spot("Trades", since=START // 1000, count=50)["result"]["XBTUSDT"]] == [
        "b" if is_buy else "s" for is_buy in wanted.is_buy
    ]


def test_without_since_the_newest_trades_come(still, rows) -> None:
    newest = still.market.trades(TradeSpan("BTC/USDT", limit=3, newest=True), NOW)
    assert [row[6] for row in rows("Trades", count=3)] == newest.id.tolist()
    assert len(rows("Trades")) == 1000


def test_the_first_trade_is_where_time_begins(still, rows) -> None:
    first = still.market.trades(TradeSpan("BTC/USDT", limit=1))
    assert [row[6] for row in rows("Trades", since=0, count=1)] == first.id.tolist()


def test_after_the_last_trade_there_is_none(spot) -> None:
    since = str(NOW * 1_000_000)
    assert spot("Trades", since=since)["result"] == {"XBTUSDT": [], "last": since}


@pytest.mark.parametrize("count", [1, 100, 500])
def test_order_books(rows, book_flaws, count: int) -> None:
    book = rows("Depth", count=count)
    bids, asks = ([float(level[0]) for level in book[side]] for side in ("bids", "asks"))
    assert not book_flaws(bids, asks, count)


@pytest.mark.parametrize(
    ("path", "query", "error"),
    [
        ("OHLC", {"pair": "NOPE"}, "EQuery:Unknown asset pair"),
        ("Trades", {"pair": "NOPE"}, "EQuery:Unknown asset pair"),
        ("AssetPairs", {"pair": "XBTUSD,NOPE"}, "EQuery:Unknown asset pair"),
        ("OHLC", {"pair": None}, "EGeneral:Invalid arguments"),
        ("OHLC", {"interval": 7}, "EGeneral:Invalid arguments:interval"),
        ("OHLC", {"since": "now"}, "EGeneral:Invalid arguments:since"),
        ("Trades", {"count": 1001}, "EGeneral:Invalid arguments:count"),
        ("Depth", {"count": 501}, "EGeneral:Invalid arguments:count"),
        ("Nope", {}, "EGeneral:Unknown method"),
    ],
)
def test_errors_of_spot(spot, path: str, query: dict, error: str) -> None:
    assert spot(path, **query) == {"error": [error]}


def test_maintenance_of_spot(still: Sandbox, spot) -> None:
    assert spot("SystemStatus")["result"]["status"] == "online"
    still.faults = ["maintenance"]
    assert spot("SystemStatus")["result"]["status"] == "maintenance"
    assert spot("OHLC") == {"error": ["EService:Unavailable"]}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("path", "query", "file"),
    [
        ("Time", {}, "server_time"),
        ("SystemStatus", {}, "system_status"),
        ("OHLC", {}, "ohlc"),
        ("Trades", {}, "trades"),
        ("Depth", {"count": 5}, "order_book"),
        ("AssetPairs", {"pair": "XBTUSDT"}, "asset_pairs"),
    ],
)
def test_answers_of_spot_have_the_recorded_shape(
    spot, real: Path, shape_differences, path: str, query: dict, file: str
) -> None:
    theirs = json.loads((real / f"payloads/kraken/http_{file}.json").read_text())
    ours = spot(path, **query)
    assert not shape_differences(ours, theirs)
    if path in ("OHLC", "Trades"):
        our_rows, their_rows = (answer["result"]["XBTUSDT"] for answer in (ours, theirs))
        assert len(our_rows) == len(their_rows)
        kinds = {tuple(map(type, row)) for row in their_rows}
        assert {tuple(map(type, row)) for row in our_rows} <= kinds
        # Decimals of prices depend on the pair; the others are fixed.
        column = 6 if path == "OHLC" else 1
        assert {len(row[column].partition(".")[2]) for row in our_rows} == {8}


@pytest.mark.real_data
def test_recorded_pairs_load(real: Path, client, with_client, fetch) -> None:
    with Sandbox(captures=[real / "captures/KRAKEN.0.gz"]) as box:
        markets = with_client(client("kraken", box), lambda exchange: exchange.load_markets())
        recorded = fetch(f"{box.url}/api.kraken.com/0/public/AssetPairs").json["result"]
    # Dark pools had names that end in ".d".
    assert 250 < len(markets) <= len(recorded)
    assert markets["ETH/BTC"]["id"].startswith("XETHXXBT")


# Futures


def charts(futures, symbol: str = "PF_XBTUSD", resolution: str = "1m", **query: Any) -> Any:
    return futures(f"api/charts/v1/trade/{symbol}/{resolution}", **query).json


def test_candles_ascend_between_inclusive_bounds(futures) -> None:
    answer = charts(futures, **{"from": START // 1000 - 180, "to": START // 1000 - 60})
    assert [row["time"] for row in answer["candles"]] == [START - n * MINUTE_MS for n in (3, 2, 1)]
    assert answer["more_candles"] is False


def test_more_candles_than_an_answer_holds(futures) -> None:
    since = START // 1000 - 3000 * MINUTE
    answer = charts(futures, **{"from": since})
    assert len(answer["candles"]) == 2000 and answer["candles"][0]["time"] == since * 1000
    assert answer["more_candles"] is True
    assert charts(futures)["candles"][-1]["time"] == START + MINUTE_MS


def test_volumes_of_linear_and_inverse_contracts(still, futures) -> None:
    bounds = {"from": START // 1000, "to": START // 1000}
    for symbol, name, column in (
        ("BTC/USD:USD", "PF_XBTUSD", "volume"),
        ("BTC/USD:BTC", "PI_XBTUSD", "turnover"),
    ):
        candle = still.market.candles(symbol, "1m", START, START + 1)
        [row] = charts(futures, name, **bounds)["candles"]
        assert float(row["volume"]) == getattr(candle, column)[0]
    mark = futures("api/charts/v1/mark/PF_XBTUSD/1m", **bounds).json["candles"]
    assert [row["volume"] for row in mark] == ["0"]


@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_executions_follow_the_token(still, executions, sort: str) -> None:
    start, end = START - 3 * MINUTE_MS, START
    query = {"since": start, "before": end, "sort": sort, "count": 400}
    found: list[dict] = []
    answer: dict[str, Any] = {"continuationToken": ""}
    while "continuationToken" in answer:
        answer = executions(**query, continuation_token=answer["continuationToken"])
        assert answer["len"] == len(answer["elements"]) <= 400
        found += [element["event"]["Execution"]["execution"] for element in answer["elements"]]
    wanted = still.market.trades(TradeSpan("BTC/USD:USD", start, end), NOW)
    found = found if sort == "asc" else found[::-1]
    assert len(found) > 800
    assert [row["timestamp"] for row in found] == wanted.ts.tolist()
    assert [float(row["quantity"]) for row in found] == wanted.volume.tolist()
    assert len({row["uid"] for row in found}) == len(found)
    directions = [(row["takerOrder"]["direction"], row["makerOrder"]["direction"]) for row in found]
    assert directions == [("Buy", "Sell") if is_buy else ("Sell", "Buy") for is_buy in wanted.is_buy]


def test_all_funding_events_come_at_the_full_hour(still, futures) -> None:
    rates = futures("derivatives/api/v4/historicalfundingrates", symbol="PF_XBTUSD").json["rates"]
    assert rates == futures("derivatives/api/v3/historical-funding-rates", symbol="PF_XBTUSD").json["rates"]
    wanted = still.market.fundings("BTC/USD:USD", 0, NOW, NOW)
    assert [parse_time(row["timestamp"]) for row in rates] == (wanted.ts // HOUR_MS * HOUR_MS).tolist()
    assert [row["relativeFundingRate"] for row in rates] == wanted.rate.tolist()
    assert rates[-1]["fundingRate"] == pytest.approx(wanted.rate[-1] * wanted.mark_price[-1])


@pytest.mark.parametrize(
    ("path", "query", "status", "text"),
    [
        ("api/charts/v1/trade/PF_NOPEUSD/1m", {}, 404, "Contract does not exist"),
        ("api/charts/v1/trade/PF_XBTUSD/7m", {}, 400, "Unsupported tick type or resolution"),
        ("api/charts/v1/trade/PF_XBTUSD/1m", {"from": "now"}, 400, "Invalid value of parameter from"),
        ("api/history/v3/market/PF_NOPEUSD/executions", {}, 404, "Contract does not exist"),
        ("api/history/v3/market/PF_XBTUSD/executions", {"sort": "up"}, 400, "Invalid sort or count"),
        (
            "api/history/v3/market/PF_XBTUSD/executions",
            {"continuation_token": "?"},
            400,
            "Invalid continuation token",
        ),
        ("derivatives/api/v3/orderbook", {"symbol": "PF_NOPEUSD"}, 200, "invalidArgument: symbol"),
        ("derivatives/api/v3/orderbook", {}, 200, "requiredArgumentMissing: symbol"),
        ("derivatives/api/v4/historicalfundingrates", {"symbol": "x"}, 200, "invalidArgument: symbol"),
        ("derivatives/api/v3/nope", {}, 404, "apiNotFound"),
    ],
)
def test_errors_of_futures(futures, path: str, query: dict, status: int, text: str) -> None:
    reply = futures(path, **query)
    body = reply.json
    assert (reply.status, body["result"]) == (status, "error")
    assert (body["errors"][0]["message"] if "errors" in body else body["error"]) == text


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("path", "query", "file"),
    [
        ("api/charts/v1/trade/PI_XBTUSD/1h", {}, "futures_candles_trade"),
        ("api/charts/v1/mark/PI_XBTUSD/1h", {}, "futures_candles_mark"),
        ("api/history/v3/market/PF_XBTUSD/executions", {}, "futures_public_executions"),
        (
            "derivatives/api/v4/historicalfundingrates",
            {"symbol": "PF_XBTUSD"},
            "futures_historical_funding_rates",
        ),
        ("derivatives/api/v3/orderbook", {"symbol": "PF_XBTUSD"}, "futures_orderbook"),
    ],
)
def test_answers_of_futures_have_the_recorded_shape(
    futures, real: Path, shape_differences, path: str, query: dict, file: str
) -> None:
    theirs = json.loads((real / f"payloads/kraken/http_{file}.json").read_text())
    assert not shape_differences(futures(path, **query).json, theirs)


@pytest.mark.real_data
def test_contracts_have_the_recorded_shape(futures, real: Path, shape_differences) -> None:
    theirs = json.loads((real / "payloads/kraken/http_futures_instruments.json").read_text())
    by_type = {row["type"]: row for row in theirs["instruments"]}
    ours = futures("derivatives/api/v3/instruments").json
    assert len(ours["instruments"]) > 3
    for row in ours["instruments"]:
        assert not shape_differences(row, by_type[row["type"]])
        assert row["symbol"].startswith({"futures_inverse": "PI_", "flexible_futures": "PF_"}[row["type"]])


# ccxt


VENUES = [("kraken", "BTC/USDT"), ("kraken", "BTC/USD"), ("krakenfutures", "BTC/USD:USD")]


@pytest.mark.parametrize(("venue", "symbol"), VENUES)
def test_ccxt_reads_markets_candles_trades_and_books(still, client, with_client, venue, symbol: str) -> None:
    async def use(exchange: Any) -> Any:
        markets = await exchange.load_markets()
        candles = {
            level: await exchange.fetch_ohlcv(symbol, level, since=START - 20 * step, limit=20)
            for level, step in LEVEL_MS.items()
        }
        trades = await exchange.fetch_trades(symbol, since=START, limit=100)
        return markets, candles, trades, await exchange.fetch_order_book(symbol, 50)

    markets, candles, trades, book = with_client(client(venue, still), use)
    for name, market in markets.items():
        instrument = still.market.instruments[name]
        assert (market["base"], market["quote"], market["settle"]) == (
            instrument.base,
            instrument.quote,
            instrument.settle,
        )
        assert market["precision"]["price"] == pytest.approx(10.0**-instrument.price_digits)
    names = ("ts", "open", "high", "low", "close", "volume")
    for level, found in candles.items():
        start = -(-(START - 20 * LEVEL_MS[level]) // LEVEL_MS[level]) * LEVEL_MS[level]
        wanted = still.market.candles(symbol, level, start, start + 20 * LEVEL_MS[level], NOW)
        columns = np.stack([getattr(wanted, name) for name in names], axis=1)
        assert np.array_equal(np.array(found), columns), level
    wanted_trades = still.market.trades(TradeSpan(symbol, START, limit=100), NOW)
    assert [trade["timestamp"] for trade in trades] == wanted_trades.ts.tolist()
    assert [trade["amount"] for trade in trades] == wanted_trades.volume.tolist()
    assert len(book["bids"]) >= 50 and book["bids"][0][0] < book["asks"][0][0]


def test_ccxt_reads_funding_rates(still, client, with_client) -> None:
    async def use(exchange: Any) -> list[dict]:
        return await exchange.fetch_funding_rate_history("BTC/USD:USD", since=START - DAY_MS)

    rates = with_client(client("krakenfutures", still), use)
    assert [rate["timestamp"] for rate in rates] == [START - DAY_MS + n * HOUR_MS for n in range(25)]


def test_ccxt_reads_the_time_and_the_status(still, client, with_client) -> None:
    async def use(exchange: Any) -> tuple[int, dict]:
        return await exchange.fetch_time(), await exchange.fetch_status()

    told, status = with_client(client("kraken", still), use)
    assert told == NOW // 1000 * 1000 and status["status"] == "ok"


@pytest.mark.parametrize(
    ("venue", "fault", "error"),
    [
        ("kraken", "status:429", ccxt.DDoSProtection),
        ("kraken", "status:503", ccxt.ExchangeNotAvailable),
        ("kraken", "maintenance", ccxt.ExchangeNotAvailable),
        ("krakenfutures", "status:429", ccxt.DDoSProtection),
        ("krakenfutures", "status:503", ccxt.ExchangeNotAvailable),
        ("krakenfutures", "maintenance", ccxt.ExchangeNotAvailable),
    ],
)
def test_faults_as_ccxt_sees_them(box: Sandbox, client, with_client, venue, fault, error: type) -> None:
    box.faults = [fault]
    with pytest.raises(error):
        with_client(client(venue, box), lambda exchange: exchange.load_markets())
