"""KuCoin: what it answers, in our columns; units, pages and refusals.

There are no recorded answers of KuCoin. The answers here are the samples of its documents and of ccxt.
"""

import json
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest
from venue_helpers import candle_window, candles, instruments, order_book, parts_of, query_of

from zvt_crypto.core.errors import (
    ExchangeMaintenance,
    NotSupported,
    PairNotFound,
    ProviderUnavailable,
    RateLimitExceeded,
    RegionBlocked,
)
from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.ccxt_errors import refusal
from zvt_crypto.exchanges.rawrows import RowLayout, cut_rows
from zvt_crypto.exchanges.schemas import FUNDING, ORDER_BOOK, TRADES
from zvt_crypto.sandbox.events import TradeSpan

PROVIDER = "kucoin"
SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC-USDT")
LINEAR = Instrument(
    "cryptoperp", "btcusdt", "BTC/USDT:USDT", "XBTUSDTM", contract_size=0.001, funding_interval_hours=8.0
)
INVERSE = Instrument("cryptoperp", "btcusd-btc", "BTC/USD:BTC", "XBTUSDM", contract_size=1.0, inverse=True)
MARKETS = pytest.mark.parametrize("instrument", [SPOT, LINEAR, INVERSE], ids=lambda i: i.symbol)
START = parse_time("2023-06-01")


def answer(data):
    return json.dumps({"code": "200000", "data": data})


# --- candles ---

SPOT_ROWS = [
    ["1591517700", "0.025078", "0.025069", "0.025084", "0.025064", "18.9883256", "0.4761861079404"],
    ["1591516800", "0.025089", "0.025079", "0.025089", "0.02506", "99.4716622", "2.494143499081"],
]
#: The sample of KuCoin's document: 602 lots of 0.001 BTC.
LINEAR_ROWS = [
    [1757659080000, 115328.4, 115328.4, 115284.2, 115284.2, 602, 69424.9528],
    [1757659140000, 115273.0, 115273.1, 115273.0, 115273.0, 114, 13141.1236],
]


def test_spot_candles(told):
    page, paths = told(candles(SPOT, 1591516800000, 1591518600000, "15m"), answer(SPOT_ROWS))
    assert page.to_pylist() == [
        {
            "ts": int(row[0]) * 1000,
            "open": float(row[1]),
            "high": float(row[3]),
            "low": float(row[4]),
            "close": float(row[2]),
            "volume": float(row[5]),
            "turnover": float(row[6]),
            "trade_count": None,
        }
        for row in SPOT_ROWS
    ]
    assert urlsplit(paths[0]).path == "/api.kucoin.com/api/v1/market/candles"
    # The last candle opens at 1591517700: inside, whether endAt is inclusive or not, and the next one outside.
    assert query_of(paths[0]) == {
        "symbol": "BTC-USDT",
        "type": "15min",
        "startAt": "1591516800",
        "endAt": "1591518599",
    }


def test_contract_candles(told):
    page, paths = told(candles(LINEAR, 1757659080000, 1757659200000), answer(LINEAR_ROWS))
    assert page["volume"].to_pylist() == [0.602, 0.114]
    assert page["turnover"].to_pylist() == [69424.9528, 13141.1236]
    assert [page[name][0].as_py() for name in ("ts", "open", "high", "low", "close")] == LINEAR_ROWS[0][:5]
    assert page["trade_count"].null_count == 2
    assert urlsplit(paths[0]).path == "/api-futures.kucoin.com/api/v1/kline/query"
    assert query_of(paths[0]) == {
        "symbol": "XBTUSDTM",
        "granularity": "1",
        "from": "1757659080000",
        "to": "1757659199999",
    }


def test_contract_candles_without_a_value(told):
    rows = [[1636459200000, 4779.3, 4792.1, 4768.7, 4770.3, 78051]]
    page, _ = told(candles(LINEAR, 1636459200000, 1636460100000, "15m"), answer(rows))
    assert page["volume"].to_pylist() == [78.051]
    assert page["turnover"].to_pylist() == [None]
    assert page["turnover"].type == pa.float64()


@pytest.mark.parametrize(
    ("value", "volume"),
    [
        ([0.0105], 0.0105),  # coins: 500 dollars between 47,600 and 48,000
        ([500.0], 500 / 47_800),  # dollars
        ([0.0], 500 / 47_800),
        ([], 500 / 47_800),
    ],
)
def test_inverse_candles_in_coins_whatever_the_value_is_in(told, value, volume):
    rows = [[START, 47_700.0, 48_000.0, 47_600.0, 47_800.0, 500, *value]]
    page, _ = told(candles(INVERSE, START, START + MINUTE_MS), answer(rows))
    assert page["volume"].to_pylist() == [pytest.approx(volume, rel=1e-12)]
    assert page["turnover"].to_pylist() == [500.0]


@MARKETS
def test_no_candles(told, instrument):
    page, _ = told(candles(instrument, START, START + MINUTE_MS), answer([]))
    assert page.num_rows == 0
    assert page.schema.names == ["ts", "open", "high", "low", "close", "volume", "turnover", "trade_count"]


@MARKETS
def test_more_candles_than_a_page_has(asked, box, instrument):
    end = START + 1700 * MINUTE_MS
    found = asked(candle_window(instrument, START, end))
    wanted = box.market.candles(instrument.symbol, "1m", START, end)
    rows = found.batch.sort_by("ts")
    assert rows["ts"].to_pylist() == wanted.ts.tolist()
    for name in ("open", "high", "low", "close", "volume", "turnover"):
        assert rows[name].to_numpy() == pytest.approx(getattr(wanted, name), rel=1e-9), name
    assert found.requests > 1


def test_a_candle_that_has_no_trades_is_no_end(told):
    rows = [[str(START // 1000 + 60 * n), "1", "1", "1", "1", "1", "1"] for n in (4, 2)]
    found, paths = told(candle_window(SPOT, START, START + 6 * MINUTE_MS), answer(rows), answer([]))
    assert sorted(found.batch["ts"].to_pylist()) == [START + n * MINUTE_MS for n in (2, 4)]
    asked_for = sorted((int(query_of(p)["startAt"]) - START // 1000, query_of(p)["endAt"]) for p in paths)
    assert [start for start, _ in asked_for] == [0, 0, 300]


LAYOUT = RowLayout({"ts": pa.int64(), "a": pa.float64(), "b": pa.float64()}, optional=2)


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 2.5, 3.5], [2, 0.1, 4.0]],
        [[1, 2.5], [2, 0.1]],
        [[1], [2]],
        [[1], [2, 0.5, 4.0]],
        [[1, 2.5, 3.5], [2]],
    ],
)
@pytest.mark.parametrize("blanks", ["", " "])
def test_last_values_that_are_missing_are_null(rows, blanks):
    table = LAYOUT.read(*cut_rows(json.dumps(rows, separators=(f",{blanks}", ":"))))
    assert table.schema == LAYOUT.schema
    assert [list(row.values()) for row in table.to_pylist()] == [[*row, None, None][:3] for row in rows]


def test_more_missing_than_may_be_is_a_cut_row():
    with pytest.raises(ProviderUnavailable, match="cut"):
        RowLayout({"ts": pa.int64(), "a": pa.float64(), "b": pa.float64()}, optional=1).read(
            *cut_rows("[[1]]")
        )


# --- trades ---


def test_spot_trades(told):
    rows = [
        {"sequence": "10976028003549185", "price": "67122", "size": "0.000025", "side": "buy",
         "time": 1729177117877000000},
        {"sequence": "10976028003549188", "price": "67122.9", "size": "0.01792257", "side": "sell",
         "time": 1729177117878203567},
    ]  # fmt: skip
    parts, paths = told(parts_of("trades", SPOT, 0, 1729177118000), answer(rows))
    assert [part.rows.schema for part in parts] == [TRADES]
    assert parts[0].rows.to_pylist() == [
        {"ts": 1729177117877, "trade_id": "10976028003549185", "price": 67122.0, "volume": 0.000025,
         "side": "buy", "nanosecond": 0},
        {"ts": 1729177117878, "trade_id": "10976028003549188", "price": 67122.9, "volume": 0.01792257,
         "side": "sell", "nanosecond": 203567},
    ]  # fmt: skip
    # The oldest millisecond may have trades that are not on the page.
    assert (parts[0].start, parts[0].stop) == (1729177117878, 1729177118000)
    assert paths == ["/api.kucoin.com/api/v1/market/histories?symbol=BTC-USDT"]


FILL = {"sequence": 32114961, "side": "buy", "size": 39, "price": "4001.6500000000",
        "takerOrderId": "61c20742f172110001e0ebe4", "makerOrderId": "61c2073fcfc88100010fcb5d",
        "tradeId": "61c2074277a0c473e69029b8", "ts": 1640105794099993896}  # fmt: skip


@pytest.mark.parametrize(("instrument", "volume"), [(LINEAR, 0.039), (INVERSE, 39 / 4001.65)])
def test_contract_trades_count_lots(told, instrument, volume):
    parts, paths = told(parts_of("trades", instrument, 0, 1640105795000), answer([FILL]))
    assert parts[0].rows.to_pylist() == [
        {"ts": 1640105794099, "trade_id": "61c2074277a0c473e69029b8", "price": 4001.65, "volume": volume,
         "side": "buy", "nanosecond": 993896}
    ]  # fmt: skip
    assert paths == [f"/api-futures.kucoin.com/api/v1/trade/history?symbol={instrument.native_id}"]


@MARKETS
def test_the_newest_trades_are_the_markets(asked, box, instrument):
    now = box.market.now()
    (part,) = asked(parts_of("trades", instrument, now - HOUR_MS, now))
    wanted = box.market.trades(TradeSpan(instrument.symbol, limit=100, newest=True, end=now), now)
    rows = part.rows.sort_by([("ts", "ascending"), ("trade_id", "ascending")])
    assert rows.num_rows == 100
    assert rows["trade_id"].to_pylist() == [str(i) for i in wanted.id]
    assert rows["nanosecond"].to_pylist() == wanted.nanosecond.tolist()
    assert rows["side"].to_pylist() == np.where(wanted.is_buy, "buy", "sell").tolist()
    assert rows["volume"].to_numpy() == pytest.approx(wanted.volume, rel=1e-9)
    assert (part.start, part.stop) == (int(wanted.ts[0]) + 1, now)


# --- funding events ---


def test_funding(told):
    rows = [
        {"symbol": "XBTUSDTM", "fundingRate": 2.1e-4, "timepoint": 1702296000000},
        {"symbol": "XBTUSDTM", "fundingRate": -8.2e-5, "timepoint": 1702267200000},
    ]
    start, end = 1702267200000, 1702310700001
    parts, paths = told(parts_of("funding", LINEAR, start, end), answer(rows))
    assert [part.rows.schema for part in parts] == [FUNDING]
    assert parts[0].rows.to_pylist() == [
        {"ts": 1702296000000, "funding_rate": 2.1e-4, "mark_price": None},
        {"ts": 1702267200000, "funding_rate": -8.2e-5, "mark_price": None},
    ]
    # Nothing can lie before a payment at the start, so there is no further request.
    assert [(part.start, part.stop) for part in parts] == [(start, end)]
    assert query_of(paths[0]) == {"symbol": "XBTUSDTM", "from": str(start), "to": "1702310700000"}


@pytest.mark.parametrize("hours", [8.0, 1.0, None, 24.0])
def test_funding_pages_tile_the_time(asked, box, hours):
    instrument = Instrument(
        "cryptoperp", "dogeusdt", "DOGE/USDT:USDT", "DOGEUSDTM", 1.0, funding_interval_hours=hours
    )
    # Paid each eight hours until May, each hour afterwards: 24-hour requests are answered with cut pages.
    start, end = parse_time("2024-04-01"), parse_time("2024-05-20")
    parts = asked(parts_of("funding", instrument, start, end))
    wanted = box.market.fundings(instrument.symbol, start, end)
    rows = {row["ts"]: row["funding_rate"] for part in parts for row in part.rows.to_pylist()}
    assert rows == dict(zip(wanted.ts.tolist(), wanted.rate.tolist(), strict=True))
    assert sum(part.rows.num_rows for part in parts) == len(wanted) > 500
    edges = [(part.start, part.stop) for part in reversed(parts) if part.start != part.stop]
    assert (edges[0][0], edges[-1][1]) == (start, end)
    assert all(stop == start for (_, stop), (start, _) in zip(edges, edges[1:], strict=False))


def test_pairs_have_no_funding(asked):
    with pytest.raises(NotSupported, match="no funding events of BTC/USDT"):
        asked(parts_of("funding", SPOT, START, START + HOUR_MS))


# --- order books ---


def test_spot_book(told):
    body = {"sequence": "3262786978", "time": 1550653727731,
            "bids": [["6500.12", "0.45054140"], ["6500.11", "0.45054140"]],
            "asks": [["6500.16", "0.57753524"], ["6500.15", "0.57753524"]]}  # fmt: skip
    row, paths = told(order_book(SPOT, 20), answer(body))
    assert row.schema == ORDER_BOOK
    assert row.to_pylist() == [
        {"ts": 1550653727731, "sequence": 3262786978, "depth": 20, "best_bid": 6500.12, "best_ask": 6500.15,
         "bids": "[[6500.12,0.4505414],[6500.11,0.4505414]]",
         "asks": "[[6500.15,0.57753524],[6500.16,0.57753524]]"}
    ]  # fmt: skip
    assert paths == ["/api.kucoin.com/api/v1/market/orderbook/level2_20?symbol=BTC-USDT"]


@pytest.mark.parametrize(
    ("instrument", "bids"),
    [(LINEAR, "[[3200.0,0.8],[3100.0,0.1]]"), (INVERSE, f"[[3200.0,0.25],[3100.0,{100 / 3100!r}]]")],
)
def test_contract_book(told, instrument, bids):
    body = {"symbol": instrument.native_id, "sequence": 100, "asks": [[5000.0, 1000], ["6000.0", 1983]],
            "bids": [["3200.0", 800], [3100, 100]], "ts": 1604643655040584408}  # fmt: skip
    row, paths = told(order_book(instrument, 100), answer(body))
    (got,) = row.to_pylist()
    assert (got["ts"], got["sequence"], got["depth"]) == (1604643655040, 100, 100)
    assert (got["best_bid"], got["best_ask"], got["bids"]) == (3200.0, 5000.0, bids)
    assert paths == [f"/api-futures.kucoin.com/api/v1/level2/depth100?symbol={instrument.native_id}"]


@MARKETS
@pytest.mark.parametrize("depth", [20, 100])
def test_books_are_the_markets(asked, box, instrument, depth):
    (row,) = asked(order_book(instrument, depth)).to_pylist()
    wanted = box.market.book(instrument.symbol, depth, box.market.now())
    assert (row["ts"], row["sequence"]) == (wanted.ts, wanted.sequence)
    for side in ("bids", "asks"):
        assert np.array(json.loads(row[side])) == pytest.approx(getattr(wanted, side), rel=1e-9)


@pytest.mark.parametrize("data", [None, {}, {"time": 1, "sequence": "2", "bids": None, "asks": []}])
def test_a_book_without_sides_is_no_book(told, data):
    with pytest.raises(ProviderUnavailable):
        told(order_book(SPOT, 20), answer(data), max_attempts=1)


# --- instruments ---


def test_one_request_lists_the_markets_of_an_api(asked, box):
    async def use(venue):
        return await venue.fetch_instruments("cryptopair"), await venue.fetch_instruments("cryptoperp")

    pairs, perps = asked(use)
    assert [request.path for request in box.requests] == ["/api/v2/symbols", "/api/v1/contracts/active"]
    assert not pairs.conflicts and not perps.conflicts
    pair = next(row for row in pairs.batch.to_pylist() if row["code"] == "btcusdt")
    assert (pair["native_id"], pair["min_notional"], pair["list_date"]) == ("BTC-USDT", 0.1, None)
    assert (pair["price_step"], pair["qty_step"], pair["min_qty"]) == (0.01, 0.00001, 0.00001)
    assert (pair["maker_fee"], pair["margin_enabled"], pair["is_active"]) == (None, True, True)
    gone = next(row for row in pairs.batch.to_pylist() if row["code"] == "eosusdt")
    assert gone["is_active"] is False
    by_symbol = {row["symbol"]: row for row in perps.batch.to_pylist()}
    linear, inverse = by_symbol["BTC/USDT:USDT"], by_symbol["BTC/USD:BTC"]
    assert (linear["native_id"], linear["contract_size"], linear["inverse"]) == ("XBTUSDTM", 0.001, False)
    assert (inverse["native_id"], inverse["contract_size"], inverse["inverse"]) == ("XBTUSDM", 1.0, True)
    assert linear["list_date"] == box.market.instrument("BTC/USDT:USDT").listed
    assert (linear["maker_fee"], linear["taker_fee"], linear["max_leverage"]) == (0.0002, 0.0006, 125)
    hours = {symbol: row["funding_interval_hours"] for symbol, row in by_symbol.items()}
    assert (hours["BTC/USDT:USDT"], hours["SOL/USDT:USDT"], hours["DOGE/USDT:USDT"]) == (8.0, 4.0, 1.0)


def test_a_call_auction_tells_when_trading_began(told):
    symbol = {"symbol": "NEW-USDT", "baseCurrency": "NEW", "quoteCurrency": "USDT", "minFunds": "0.5",
              "quoteMinSize": "0.1", "enableTrading": True, "tradingStartTime": 1740474000000}  # fmt: skip

    found, paths = told(instruments("cryptopair"), answer([symbol]))
    (row,) = found.batch.to_pylist()
    assert (row["list_date"], row["min_notional"]) == (1740474000000, 0.5)
    assert len(paths) == 1


# --- refusals ---

REFUSALS = [
    (SPOT, 200, '{"code":"400100","msg":"This pair is not provided at present."}', PairNotFound),
    (SPOT, 200, '{"msg":"Trading pair FOO-USDT does not exist.","code":"900001"}', PairNotFound),
    (SPOT, 200, '{"msg":"Unsupported trading pair.","code":"400100"}', PairNotFound),
    (LINEAR, 200, '{"msg":"The contract information you requested does not exist.","code":"404000"}',
     PairNotFound),
    (SPOT, 200, '{"msg":"This type of Candlestick is currently not provided.","code":"400100"}', NotSupported),
    (SPOT, 404, '{"code":"404000","msg":"URL Not Found"}', NotSupported),
    (SPOT, 429, '{"code":"429000","msg":"Too Many Requests"}', RateLimitExceeded),
    (LINEAR, 200, '{"code":"429000","msg":"Request limit"}', RateLimitExceeded),
    (SPOT, 200, '{"code":"200002","msg":"Exceeded the access frequency"}', RateLimitExceeded),
    (LINEAR, 200, '{"code":"503000","msg":"Service unavailable"}', ProviderUnavailable),
    (SPOT, 503, '{"code":"503000","msg":"The system is under maintenance."}', ExchangeMaintenance),
    (SPOT, 500, '{"code":"500000","msg":"Internal Server Error"}', ProviderUnavailable),
    (SPOT, 200, '{"code":"400302","msg":"Our services are currently unavailable in the U.S."}', RegionBlocked),
    (SPOT, 403, '{"code":"400302","msg":"Our services are currently unavailable in the U.S."}', RegionBlocked),
    (SPOT, 200, '{"code":"200000"}', ProviderUnavailable),
    (SPOT, 200, '{"code":"200000","data":[["1591517700","1","1","1","1","1"]]}', ProviderUnavailable),
    (LINEAR, 200, '{"code":"200000","data":[[1591517700000,1,1,1,1]]}', ProviderUnavailable),
]  # fmt: skip


@pytest.mark.parametrize(("instrument", "status", "body", "kind"), REFUSALS)
def test_a_refusal_becomes_our_error(refused, instrument, status, body, kind):
    error = refused(kind, candles(instrument, START, START + MINUTE_MS), (status, body))
    assert len(error.one_line()) < 600


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"gw-ratelimit-reset": "1250"}, 1.25),
        ({"GW-RateLimit-Reset": "0"}, 0.0),
        ({"Retry-After": "3", "gw-ratelimit-reset": "1250"}, 3.0),
        ({"gw-ratelimit-reset": "soon"}, None),
        ({}, None),
    ],
)
def test_the_quota_says_how_long_to_wait(headers, seconds):
    error = refusal("kucoin", 429, headers, '{"code":"429000","msg":"Too Many Requests"}')
    assert error.retry_after == seconds


@pytest.mark.parametrize("instrument", [SPOT, LINEAR], ids=lambda i: i.symbol)
@pytest.mark.parametrize("feed", ["candles", "trades", "book"])
def test_an_unknown_symbol_is_named(asked, instrument, feed):
    native = "FOO-USDT" if instrument is SPOT else "FOOUSDTM"
    unknown = Instrument(instrument.entity_type, "foousdt", "FOO/USDT", native, contract_size=1.0)
    use = {
        "candles": candles(unknown, START, START + MINUTE_MS),
        "trades": parts_of("trades", unknown, START, START + 1),
        "book": order_book(unknown, 20),
    }[feed]
    with pytest.raises(PairNotFound, match="FOO/USDT"):
        asked(use)
