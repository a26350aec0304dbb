"""Coinbase: what it answers, in our columns; pages, sides and refusals."""

import json

import numpy as np
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from venue_helpers import candle_window, candles, instruments, once_listed, order_book, parts_of

from zvt_crypto.core.errors import (
    AuthError,
    DataQualityFailure,
    ExchangeMaintenance,
    NotSupported,
    PairNotFound,
    ProviderUnavailable,
    RateLimitExceeded,
)
from zvt_crypto.core.levels import DAY_MS, LEVEL_MS, parse_time
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import kdata
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.schemas import ORDER_BOOK, TRADES

assert kdata
PROVIDER = "coinbase"
PAIR = Instrument("cryptopair", "btcusd", "BTC/USD", "BTC-USD")
PRODUCT = "/api.coinbase.com/api/v3/brokerage/market/products/BTC-USD"
START = parse_time("2023-06-01")
SECOND = 1000


def trade(number, time, side="BUY", price="10", size="1"):
    return {"trade_id": str(number), "product_id": "BTC-USD", "price": price, "size": size,
            "time": time, "side": side, "bid": "", "ask": "", "exchange": "coinbase"}  # fmt: skip


def ticker(*rows):
    return json.dumps({"trades": list(rows), "best_bid": "9", "best_ask": "10"})


# --- recorded answers, value by value ---


@pytest.mark.real_data
def test_recorded_candles(told, payload):
    page, paths = told(candles(PAIR, 1_712_188_800_000, 1_712_196_000_000, "1h"), payload("candles"))
    assert page.schema.equals(tables.candles("cryptopair", "1h").schema)
    assert page.to_pylist() == [
        {"ts": 1_712_192_400_000, "open": 66312.4, "high": 66331.99, "low": 66055.14, "close": 66181.6,
         "volume": 355.82896243, "turnover": None, "trade_count": None},
        {"ts": 1_712_188_800_000, "open": 65984.18, "high": 66387.77, "low": 65857.35, "close": 66314.59,
         "volume": 358.74851052, "turnover": None, "trade_count": None},
    ]  # fmt: skip
    assert paths == [f"{PRODUCT}/candles?granularity=ONE_HOUR&start=1712188800&end=1712195999"]


@pytest.mark.real_data
def test_recorded_trades(told, payload):
    start, end = parse_time("2026-04-07T00:28:58Z"), parse_time("2026-04-07T00:28:59Z")
    (part,), paths = told(parts_of("trades", PAIR, start, end), payload("ticker"))
    assert (part.start, part.stop, part.requests) == (start, end, 1)
    assert part.rows.schema.equals(TRADES)
    assert part.rows.to_pylist() == [
        {"ts": start + 544, "trade_id": "995098663", "price": 68923.67, "volume": 0.00064, "side": "buy",
         "nanosecond": 778_000},
        {"ts": start + 250, "trade_id": "995098662", "price": 68923.67, "volume": 0.00123858, "side": "buy",
         "nanosecond": 358_000},
    ]  # fmt: skip
    seconds = start // SECOND
    assert paths == [f"{PRODUCT}/ticker?start={seconds - 1}&end={seconds + 1}&limit=1000"]


@pytest.mark.real_data
def test_recorded_trades_at_the_best_ask_are_those_that_a_taker_bought(payload):
    """That is what makes ``side`` the maker's."""
    answer = json.loads(payload("ticker"))
    sides = {row["side"] for row in answer["trades"] if row["price"] == answer["best_ask"]}
    assert sides == {"SELL"}


@pytest.mark.real_data
def test_a_recorded_order_book(told, payload):
    row, paths = told(order_book(PAIR, 3), payload("product_book"))
    assert row.schema.equals(ORDER_BOOK)
    found = row.to_pylist()[0]
    assert json.loads(found.pop("bids")) == [
        [68923.66, 0.17189468],
        [68923, 0.05795895],
        [68922.99, 0.02177956],
    ]
    assert json.loads(found.pop("asks")) == [[68923.67, 0.16987193], [68926, 0.058], [68926.09, 0.01015616]]
    assert found == {
        "ts": parse_time("2026-04-07T00:28:59Z") + 662, "sequence": None, "depth": 3,
        "best_bid": 68923.66, "best_ask": 68923.67,
    }  # fmt: skip
    assert paths == ["/api.coinbase.com/api/v3/brokerage/market/product_book?product_id=BTC-USD&limit=3"]


@pytest.mark.real_data
def test_recorded_products(told, payload):
    answers = (payload("products"), payload("products_future"), '{"products":[],"num_products":0}')
    found, paths = told(instruments("cryptopair"), *answers)
    rows = {row["code"]: row for row in found.batch.to_pylist()}
    assert found.conflicts == () and set(rows) == {"btcusd", "btcusdc"}
    row = rows["btcusd"]
    assert (row["symbol"], row["native_id"], row["is_active"]) == ("BTC/USD", "BTC-USD", True)
    assert (row["price_step"], row["qty_step"]) == (0.01, 1e-8)
    assert (row["min_qty"], row["max_qty"], row["min_notional"]) == (1e-8, 3400, 1)
    # ``new_at`` is not when it was listed: Coinbase's bitcoin is older than 2023.
    assert row["list_date"] is None
    assert {path.split("?")[0] for path in paths} == {PRODUCT.removesuffix("/BTC-USD")}


# --- candles ---


@pytest.mark.parametrize("level", LEVEL_MS)
def test_a_page_is_the_markets_candles(asked, box, level):
    end = START + 300 * LEVEL_MS[level]
    pair = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC-USDT")
    window = asked(candle_window(pair, START, end, level))
    found = window.batch.sort_by("ts").to_pydict()
    market = box.market.candles("BTC/USDT", level, START, end)
    assert window.requests == 1 if len(market) == 300 else len(market) < 300
    for name in ("ts", "open", "high", "low", "close", "volume"):
        assert found[name] == getattr(market, name).tolist(), name


def test_minutes_without_trades_are_left_out_and_nothing_is_made_up(told):
    row = {
        "start": str(START // SECOND + 120),
        "low": "1",
        "high": "4",
        "open": "2",
        "close": "3",
        "volume": "5",
    }
    page, _ = told(candles(PAIR, START, START + 300_000), json.dumps({"candles": [row]}))
    assert page.to_pydict() == {
        "ts": [START + 120_000], "open": [2], "high": [4], "low": [1], "close": [3], "volume": [5],
        "turnover": [None], "trade_count": [None],
    }  # fmt: skip


@pytest.mark.parametrize(
    "body", ['{"candles":[{"start":"1"}]}', "{}", '{"candles":"none"}', '{"candles":[[1]]}']
)
def test_rows_in_another_form_are_an_error(told, body):
    with pytest.raises(ProviderUnavailable, match="the exchange sent"):
        told(candles(PAIR, START, START + 60_000), body, max_attempts=1)


# --- trades ---


def test_sides_are_the_takers_and_unknown_ones_are_null(told):
    times = [f"2023-06-01T00:00:0{n}Z" for n in (4, 3, 2, 1)]
    sides = ("SELL", "BUY", "UNKNOWN_ORDER_SIDE", "")
    rows = [trade(n, time, side) for n, (time, side) in enumerate(zip(times, sides, strict=True))]
    parts, _ = told(parts_of("trades", PAIR, START + 1500, START + 5000), ticker(*rows))
    assert parts[0].rows["side"].to_pylist() == ["buy", "sell", None]


@pytest.mark.parametrize(
    ("time", "ms", "nanosecond"),
    [
        ("2023-06-01T00:00:01Z", 1000, 0),
        ("2023-06-01T00:00:01.5Z", 1500, 0),
        ("2023-06-01T00:00:01.000001Z", 1000, 1000),
        ("2023-06-01T00:00:01.123456789Z", 1123, 456_789),
    ],
)
def test_times_keep_all_their_digits(told, time, ms, nanosecond):
    parts, _ = told(
        parts_of("trades", PAIR, START, START + 2000),
        ticker(trade(2, time), trade(1, "2023-05-31T00:00:00Z")),
    )
    assert parts[0].rows.select(["ts", "nanosecond"]).to_pylist() == [
        {"ts": START + ms, "nanosecond": nanosecond}
    ]


class Tape:
    """A server of trades as Coinbase is: seconds, inclusive, the newest of them up to a limit."""

    def __init__(self, microseconds, cap):
        self.at = sorted(microseconds)
        self.cap = cap

    async def handle(self, request):
        lower, upper, limit = (int(request.query[name]) for name in ("start", "end", "limit"))
        rows = [
            trade(n, str(np.datetime64(at, "us")) + "Z")
            for n, at in enumerate(self.at)
            if lower * 1_000_000 <= at <= upper * 1_000_000
        ]
        return web.json_response(text=ticker(*rows[::-1][: min(self.cap, limit)]))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 12_000_000), max_size=400),
    st.integers(0, 12_000),
    st.integers(1, 12_000),
    st.sampled_from([100, 1000]),
)
def test_what_the_parts_call_complete_is_complete(served, offsets, first, length, cap):
    """Whatever a second holds, more than a page of it included."""
    base = START * 1000
    tape = Tape([base + offset for offset in offsets], cap)
    start, end = START + first, START + first + length
    parts = served(tape, parts_of("trades", PAIR, start, end))
    got = {row["trade_id"] for part in parts for row in part.rows.to_pylist()}
    covered = [ts for part in parts for ts in range(part.start, part.stop)]
    assert len(covered) == len(set(covered)) and set(covered) <= set(range(start, end))
    complete = set(covered)
    wanted = {str(n) for n, at in enumerate(tape.at) if at // 1000 in complete}
    assert wanted <= got
    crowded = np.bincount(
        np.array([at // 1_000_000 - START // SECOND for at in tape.at], np.int64), minlength=1
    )
    if crowded.max() < cap:
        assert complete == set(range(start, end))


def test_several_trades_of_one_microsecond_at_the_cut_of_a_page_are_all_there(served):
    base = START * 1000
    tape = Tape([base + 500_000] * 60 + [base + 2_500_000] * 90 + [base + 3_500_000] * 20, 100)
    parts = served(tape, parts_of("trades", PAIR, START, START + 5000))
    assert {row["trade_id"] for part in parts for row in part.rows.to_pylist()} == {
        str(n) for n in range(170)
    }
    assert parts[0].stop == START + 5000 and parts[-1].start == START
    assert [part.stop for part in parts[1:]] == [part.start for part in parts[:-1]]


def test_a_second_with_more_trades_than_a_page_leaves_a_hole_that_is_named(served, caplog):
    base = START * 1000
    tape = Tape([base + 1_000_000 + 1000 * n for n in range(150)] + [base + 400_000], 100)
    parts = served(tape, parts_of("trades", PAIR, START, START + 2000))
    spans = sorted((part.start - START, part.stop - START) for part in parts if part.start < part.stop)
    # The 100 newest are those of 1.050 s and later; of that millisecond itself there may be more.
    assert spans == [(0, 1000), (1051, 2000)]
    assert "only the newest 100 trades of BTC/USD in the second of 2023-06-01T00:00:01" in caplog.text


def test_an_empty_answer_is_asked_for_again(told):
    parts, paths = told(parts_of("trades", PAIR, START, START + SECOND), ticker())
    assert len(paths) == 2 and len(parts) == 1
    assert (parts[0].start, parts[0].stop, parts[0].requests) == (START, START + SECOND, 2)


def test_trades_of_another_time_are_not_taken(told):
    with pytest.raises(DataQualityFailure, match="the same page again"):
        told(parts_of("trades", PAIR, START, START + SECOND), ticker(trade(1, "2023-06-01T00:00:09Z")))


# --- instruments, refusals ---


def test_markets_take_three_calls_and_the_clock_one(asked, box):
    async def use(venue):
        return await venue.fetch_instruments("cryptopair"), await venue.client.now("cryptopair")

    found, now = asked(use)
    assert abs(now - box.market.now()) < 5000
    assert [request.path for request in box.requests] == ["/api/v3/brokerage/market/products"] * 3 + [
        "/api/v3/brokerage/time"
    ]
    assert {"btcusdt", "btcusd", "ethbtc"} <= set(found.batch["code"].to_pylist())
    inactive = {row["code"] for row in found.batch.to_pylist() if not row["is_active"]}
    assert inactive == {"eosusdt"}


def test_perpetuals_are_not_served(asked):
    with pytest.raises(NotSupported, match="cryptoperp"):
        asked(instruments("cryptoperp"))


INVALID = '{"error":"INVALID_ARGUMENT","error_details":"%s","message":"%s"}'


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, INVALID % (("valid product_id is required",) * 2), PairNotFound),
        (404, '{"error":"NOT_FOUND","message":"Product NOPE-USD not supported"}', PairNotFound),
        (400, INVALID % (("granularity argument is invalid",) * 2), NotSupported),
        (401, "Unauthorized", AuthError),
        (429, '{"error":"RESOURCE_EXHAUSTED","message":"Too many requests"}', RateLimitExceeded),
        (429, '{"errors":[{"id":"rate_limit_exceeded","message":"Too many requests"}]}', RateLimitExceeded),
        (500, '{"error":"INTERNAL","message":"internal server error"}', ProviderUnavailable),
        (503, '{"error":"UNAVAILABLE","message":"down for maintenance"}', ExchangeMaintenance),
        (502, "<html>Bad Gateway</html>", ProviderUnavailable),
    ],
)
def test_refusals(refused, status, body, kind):
    error = refused(kind, candles(PAIR, START, START + DAY_MS, "1d"), (status, body))
    assert "?" not in error.message


def test_an_unknown_pair_names_the_nearest(asked):
    wrong = Instrument("cryptopair", "btcusdx", "BTC/USDX", "BTC-USDX")
    with pytest.raises(PairNotFound, match="unknown coinbase symbol 'BTC/USDX'") as caught:
        asked(once_listed(candles(wrong, START, START + 60_000), "cryptopair"))
    assert "BTC/USDT" in caught.value.one_line()
