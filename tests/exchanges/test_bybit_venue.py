"""Bybit: what it answers, in our columns; units, pages and refusals."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from venue_helpers import candles, instruments, order_book, parts_of, rows_of

from zvt_crypto.core.errors import (
    AuthError,
    ClockSkew,
    DataQualityFailure,
    ExchangeMaintenance,
    NotSupported,
    PairNotFound,
    ProviderUnavailable,
    RateLimitExceeded,
    RegionBlocked,
)
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.schemas import FUNDING, ORDER_BOOK, TRADES
from zvt_crypto.sandbox.events import TradeSpan

PROVIDER = "bybit"
SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
LINEAR = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTCUSDT", contract_size=1.0)
INVERSE = Instrument("cryptoperp", "btcusd-btc", "BTC/USD:BTC", "BTCUSD", contract_size=1.0, inverse=True)
CHANGING = Instrument("cryptoperp", "dogeusdt", "DOGE/USDT:USDT", "DOGEUSDT", contract_size=1.0)
MARKETS = pytest.mark.parametrize("instrument", [SPOT, LINEAR, INVERSE], ids=lambda i: i.symbol)
START = parse_time("2023-06-01")


def answer(result, code=0, message="OK"):
    body = {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": START}
    return json.dumps(body)


# --- recorded answers, value by value ---


@pytest.mark.real_data
def test_recorded_candles(told, payload):
    page, paths = told(candles(LINEAR, 1_709_891_640_000, 1_709_891_700_000), payload("get_klines_linear"))
    assert page.to_pylist() == [
        {"ts": 1_709_891_679_000, "open": 27450.0, "high": 27460.0, "low": 27440.0, "close": 27455.0,
         "volume": 123.45, "turnover": 3_390_000.0, "trade_count": None}
    ]  # fmt: skip
    query = "category=linear&symbol=BTCUSDT&interval=1&start=1709891640000&end=1709891699999&limit=1"
    assert paths == [f"/api.bybit.com/v5/market/kline?{query}"]


@pytest.mark.real_data
@pytest.mark.parametrize(("instrument", "volume"), [(LINEAR, 0.005), (INVERSE, 0.005 / 27450.5)])
def test_recorded_trades(told, payload, instrument, volume):
    at = 1_709_891_679_000
    (part,), paths = told(parts_of("trades", instrument, at - 1000, at + 1000), payload("get_trades_recent"))
    assert part.rows.schema.equals(TRADES)
    assert part.rows.to_pylist() == [
        {"ts": at, "trade_id": "a905d5c3-1ed0-4f37-83e4-9c73a2fe2f01", "price": 27450.5, "volume": volume,
         "side": "buy", "nanosecond": None}
    ]  # fmt: skip
    # More trades of that millisecond may not have fitted into the page.
    assert (part.start, part.stop) == (at + 1, at + 1000)
    assert paths[0].endswith("&limit=1000")


@pytest.mark.real_data
def test_recorded_funding(told, payload):
    start, end = 1_709_856_000_000, 1_709_884_800_001
    parts, paths = told(
        parts_of("funding", LINEAR, start, end), payload("get_funding_history"), answer({"list": []})
    )
    assert all(part.rows.schema.equals(FUNDING) for part in parts)
    assert rows_of(parts) == [
        {"ts": 1_709_884_800_000, "funding_rate": 0.0001, "mark_price": None},
        {"ts": 1_709_856_000_000, "funding_rate": 0.00015, "mark_price": None},
    ]
    assert [path.partition("&endTime=")[2] for path in paths] == [f"{end - 1}&limit=200"] + [
        f"{start - 1}&limit=200"
    ] * 2


@pytest.mark.real_data
def test_a_recorded_order_book(told, payload):
    row, paths = told(order_book(LINEAR, 2), payload("get_orderbook"))
    assert row.schema.equals(ORDER_BOOK)
    assert row.to_pylist() == [
        {"ts": 1_709_891_679_000, "sequence": 9_876_543, "depth": 2, "best_bid": 27450.5, "best_ask": 27451.0,
         "bids": "[[27450.5,1.5],[27450.0,2.0]]", "asks": "[[27451.0,1.2],[27451.5,3.0]]"}
    ]  # fmt: skip
    assert paths == ["/api.bybit.com/v5/market/orderbook?category=linear&symbol=BTCUSDT&limit=2"]


@pytest.mark.real_data
def test_recorded_instruments(told, payload):
    # Spot, then linear and inverse, each once more for what is not launched yet.
    lists = {
        "spot": payload("get_instruments_spot"),
        "linear": payload("get_instruments_linear_symbol_type"),
        "inverse": payload("get_instruments_inverse_symbol_type"),
    }
    order = ["spot", "linear", "linear", "inverse", "inverse"]
    nothing = answer({"category": "linear", "list": [], "nextPageCursor": ""})
    answers = [lists[kind] if kind not in order[:i] else nothing for i, kind in enumerate(order)]

    async def use(venue):
        found = [await venue.fetch_instruments(kind) for kind in ("cryptopair", "cryptoperp")]
        return [{row["code"]: row for row in instruments.batch.to_pylist()} for instruments in found]

    (pairs, perps), paths = told(use, *answers, concurrency=1)
    assert len(paths) == 5, "one list of each kind, and what is not launched yet of the contracts"
    assert set(pairs) == {"btcusdt", "ethusdt"} and set(perps) == {"tslausdt", "brentusd-brent"}
    pair = pairs["btcusdt"]
    assert (pair["price_step"], pair["qty_step"], pair["min_qty"], pair["max_qty"]) == (
        0.1,
        0.0001,
        0.001,
        100,
    )
    assert (pair["min_notional"], pair["margin_enabled"], pair["is_active"]) == (10.0, True, True)
    linear, inverse = perps["tslausdt"], perps["brentusd-brent"]
    assert (linear["contract_size"], linear["inverse"], linear["funding_interval_hours"]) == (1.0, False, 8.0)
    assert (linear["min_notional"], linear["max_leverage"], linear["settlement_symbol"]) == (
        1.0,
        10.0,
        "usdt",
    )
    # A launch or delivery at 0 is none.
    assert (linear["list_date"], linear["end_date"]) == (None, None)
    # ccxt's market has the smallest order, 0.001, as the size of the contract.
    assert (inverse["contract_size"], inverse["inverse"], inverse["min_qty"]) == (1.0, True, 0.001)


# --- units ---


def test_candles_of_inverse_contracts_change_columns(told):
    rows = [["1670608800000", "17071", "17073", "17027", "17055.5", "268611", "15.74462667"]]
    page, _ = told(candles(INVERSE, 1_670_608_800_000, 1_670_612_400_000, "1h"), answer({"list": rows}))
    row = page.to_pylist()[0]
    assert (row["volume"], row["turnover"]) == (15.74462667, 268_611.0)
    assert row["turnover"] / row["volume"] == pytest.approx(row["close"], rel=1e-3)


@MARKETS
@pytest.mark.parametrize("level", ["1m", "4h", "1d"])
def test_candles_of_the_sandbox(asked, box, instrument, level):
    step = {"1m": MINUTE_MS, "4h": 4 * HOUR_MS, "1d": DAY_MS}[level]
    page = asked(candles(instrument, START, START + 300 * step, level)).sort_by("ts")
    ours = box.market.candles(instrument.symbol, level, START, START + 300 * step).table()
    for name in ("ts", "open", "high", "low", "close", "volume", "turnover"):
        assert page[name].to_pylist() == ours[name].to_pylist(), name
    assert page["trade_count"].null_count == page.num_rows == 300


@MARKETS
def test_trades_of_the_sandbox(asked, box, instrument):
    now = box.market.now()
    (part,) = asked(parts_of("trades", instrument, now - DAY_MS, now))
    ours = box.market.trades(TradeSpan(instrument.symbol, part.start, part.stop), now)
    rows = part.rows.filter(pc.greater_equal(part.rows["ts"], part.start)).take(
        np.arange(len(ours))[::-1].copy()
    )
    assert part.stop == now and len(ours) >= (50 if instrument is SPOT else 900)
    assert rows["ts"].to_pylist() == ours.ts.tolist()
    assert rows["price"].to_pylist() == ours.price.tolist()
    assert rows["volume"].to_pylist() == pytest.approx(ours.volume.tolist(), rel=1e-9)
    assert [side == "buy" for side in rows["side"].to_pylist()] == ours.is_buy.tolist()
    assert len(set(rows["trade_id"].to_pylist())) == rows.num_rows


@MARKETS
def test_order_books_of_the_sandbox(asked, box, instrument):
    depth = 200 if instrument is SPOT else 500
    row = asked(order_book(instrument, depth)).to_pylist()[0]
    ours = box.market.book(instrument.symbol, depth, box.market.now())
    assert (row["ts"], row["sequence"], row["depth"]) == (ours.ts, ours.sequence, depth)
    for name, levels in (("bids", ours.bids), ("asks", ours.asks)):
        assert np.array(json.loads(row[name])) == pytest.approx(levels, rel=1e-9)


def test_the_time_of_a_book_is_the_matching_engines(told):
    levels = {"s": "BTCUSDT", "b": [["65485.47", "47.081829"]], "a": [["65557.7", "16.606555"]]}
    state = {"ts": 1_716_863_719_031, "u": 230_704, "seq": 1_432_604_333, "cts": 1_716_863_718_905}
    row = told(order_book(SPOT, 1), answer(levels | state))[0].to_pylist()[0]
    assert (row["ts"], row["sequence"]) == (1_716_863_718_905, 1_432_604_333)


def test_a_book_without_the_engines_time_has_that_of_the_answer(told):
    levels = {"s": "BTCUSDT", "b": [], "a": [["2", "1"]], "ts": START, "u": 5}
    row = told(order_book(SPOT, 200), answer(levels))[0].to_pylist()[0]
    assert (row["ts"], row["sequence"], row["best_bid"], row["best_ask"]) == (START, None, None, 2.0)


# --- pages ---


def test_the_newest_trades_are_complete_after_their_oldest_millisecond(told):
    times = [START + 9, START + 9, START + 5, START + 5]
    rows = [
        {"execId": str(i), "symbol": "BTCUSDT", "price": "2", "size": "1", "side": "Sell", "time": str(t)}
        for i, t in enumerate(times)
    ]
    (part,), paths = told(parts_of("trades", SPOT, START, START + 20), answer({"list": rows}))
    assert (part.start, part.stop, part.rows.num_rows) == (START + 6, START + 20, 4)
    assert paths[0].endswith("category=spot&symbol=BTCUSDT&limit=60")
    (part,), _ = told(parts_of("trades", SPOT, START + 7, START + 20), answer({"list": rows}))
    assert (part.start, part.rows["ts"].to_pylist()) == (START + 7, times[:2])


def test_without_trades_nothing_is_known(told):
    (part,), _ = told(parts_of("trades", SPOT, START, START + 20), answer({"list": []}))
    assert (part.start, part.stop) == (START + 20, START + 20)


@pytest.mark.parametrize(
    ("instrument", "start", "end"),
    [
        (LINEAR, "2024-01-01", "2024-03-08T16:30:00Z"),
        # Hours between payments change from 8 to 1 on 2024-05-01.
        (CHANGING, "2024-03-01", "2024-05-20"),
        (INVERSE, "2018-12-01", "2019-06-01"),
    ],
    ids=lambda v: getattr(v, "symbol", v),
)
def test_funding_over_several_pages(asked, box, instrument, start, end):
    start, end = parse_time(start), parse_time(end)
    box.forget_requests()
    parts = asked(parts_of("funding", instrument, start, end))
    ours = box.market.fundings(instrument.symbol, start, end)
    rows = pa.concat_tables(part.rows for part in parts).sort_by("ts")
    assert rows["ts"].to_pylist() == ours.ts.tolist() and len(ours) > 200
    assert rows["funding_rate"].to_pylist() == ours.rate.tolist()
    assert len(parts) > 1 and (parts[-1].start, parts[0].stop) == (start, end)
    assert all(late.start == early.stop for late, early in zip(parts, parts[1:], strict=False))
    assert sum(part.requests for part in parts) == len(box.requests)


def test_the_payment_at_the_start_counts_and_the_one_at_the_end_does_not(asked, box):
    times = box.market.fundings(LINEAR.symbol, START, START + 3 * DAY_MS).ts.tolist()
    parts = asked(parts_of("funding", LINEAR, times[2], times[5]))
    assert sorted(t for part in parts for t in part.rows["ts"].to_pylist()) == times[2:5]


def test_a_funding_page_that_repeats_is_named(asked, box):
    box.faults = ["repeat"]
    with pytest.raises(DataQualityFailure, match="same page again"):
        asked(parts_of("funding", LINEAR, START, START + 200 * DAY_MS))


def test_pairs_have_no_funding(asked):
    with pytest.raises(NotSupported, match="no funding events of BTC/USDT"):
        asked(parts_of("funding", SPOT, START, START + DAY_MS))


# --- instruments of the sandbox ---


def test_perpetuals_of_the_sandbox(asked, box):
    found = asked(instruments("cryptoperp"))
    rows = {row["symbol"]: row for row in found.batch.to_pylist()}
    for symbol, row in rows.items():
        instrument = box.market.instrument(symbol)
        assert row["contract_size"] == 1.0 and row["inverse"] == instrument.inverse
        assert row["funding_interval_hours"] == instrument.funding_hours
        assert (row["list_date"], row["end_date"], row["min_notional"]) == (instrument.listed, None, 5.0)
    assert {"BTC/USDT:USDT", "DOGE/USDT:USDT", "BTC/USD:BTC"} <= set(rows)
    assert len(box.requests) == 5


# --- refusals ---

BLOCKED = (
    "<HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD><BODY><H1>403 ERROR</H1>"
    "The Amazon CloudFront distribution is configured to block access from your country.</BODY></HTML>"
)
REFUSALS = [
    (200, answer({}, 10001, "Not supported symbols"), PairNotFound),
    (200, answer({}, 10001, "params error: Symbol Invalid"), PairNotFound),
    (200, answer({}, 10001, "params error: symbol invalid BTCUSDX"), PairNotFound),
    (200, answer({}, 10001, "params error: intervalTime is invalid"), NotSupported),
    (200, answer({}, 10002, "invalid request, please check your server timestamp"), ClockSkew),
    (200, answer({}, 10003, "API key is invalid."), AuthError),
    (200, answer({}, 10006, "Too many visits. Exceeded the API Rate Limit."), RateLimitExceeded),
    (200, answer({}, 10018, "Exceeded the IP Rate Limit."), RateLimitExceeded),
    (200, answer({}, 10016, "System error. Please try again later."), ProviderUnavailable),
    (200, answer({}, 10016, "Service is under maintenance"), ExchangeMaintenance),
    (200, answer({}, 10000, "Server Timeout"), ProviderUnavailable),
    (403, "403, access too frequent", RateLimitExceeded),
    (403, "<html><body>Access Too Frequent</body></html>", RateLimitExceeded),
    (403, BLOCKED, RegionBlocked),
    (403, "<html>403 Forbidden</html>", ProviderUnavailable),
    (429, answer({}, 10429, "System level frequency protection"), RateLimitExceeded),
    (404, "404 page not found", ProviderUnavailable),
    (200, answer(None), ProviderUnavailable),
    (200, answer({"list": None}), ProviderUnavailable),
    (200, answer({"list": [["1", "2"]]}), ProviderUnavailable),
]


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS)
def test_a_refusal_becomes_our_error(refused, status, body, kind):
    error = refused(kind, candles(SPOT, START, START + MINUTE_MS), (status, body))
    assert error.details["attempts"] == 1 and len(error.message) < 300


def test_a_ban_is_not_asked_again_for_ten_minutes(told):
    use = candles(SPOT, START, START + MINUTE_MS)
    with pytest.raises(RateLimitExceeded) as caught:
        told(use, (403, "403, access too frequent"), max_attempts=3)
    assert caught.value.retry_after == 600
    assert caught.value.details["attempts"] == 1


@pytest.mark.parametrize(
    ("use", "result"),
    [
        (parts_of("trades", SPOT, START, START + 1), None),
        (parts_of("trades", SPOT, START, START + 1), {"list": [{"execId": "1", "price": "2"}]}),
        (parts_of("trades", SPOT, START, START + 1), {"list": "none"}),
        (parts_of("funding", LINEAR, START, START + 1), {"list": [{"fundingRate": "x", "fundingRateTimestamp": "1"}]}),
        (order_book(SPOT, 200), None),
        (order_book(SPOT, 200), {"b": [["1", "x"]], "a": [], "ts": START}),
        (order_book(SPOT, 200), {"b": [["1"]], "a": [], "ts": START}),
        (order_book(SPOT, 200), {"a": [], "ts": START}),
        (order_book(SPOT, 200), {"b": [], "a": []}),
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_named(told, use, result):
    with pytest.raises(ProviderUnavailable):
        told(use, answer(result), max_attempts=1)
