"""Crypto.com: what it answers, in our columns; bounds, pages and refusals.

Nothing was recorded there: the answers are those of its documents and of ccxt's comments.
"""

import json

import numpy as np
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from venue_helpers import candle_window, candles, once_listed, order_book, parts_of

from zvt_crypto.core.errors import (
    AuthError,
    ClockSkew,
    DataQualityFailure,
    ExchangeMaintenance,
    NotSupported,
    PairNotFound,
    ProviderUnavailable,
    RateLimitExceeded,
)
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, LEVEL_MS, parse_time
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import kdata
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.schemas import FUNDING, ORDER_BOOK, TRADES

assert kdata
PROVIDER = "cryptocom"
PAIR = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC_USDT")
PERP = Instrument("cryptoperp", "btcusd", "BTC/USD:USD", "BTCUSD-PERP", contract_size=1.0)
MARKETS = pytest.mark.parametrize("instrument", [PAIR, PERP], ids=lambda i: i.symbol)
PATH = "/api.crypto.com/exchange/v1/public/get"
START = parse_time("2023-06-01")
NS = 1_000_000


def answer(rows, **more):
    return json.dumps({"id": -1, "method": "public/get", "code": 0, "result": {"data": rows, **more}})


def candle(ts):
    return {"o": "2", "h": "4", "l": "1", "c": "3", "v": "5", "t": ts}


def trade(ns, number, side="SELL"):
    return {"d": str(number), "t": ns // NS, "tn": str(ns), "q": "0.5", "p": "10", "s": side,
            "i": "BTC_USDT", "m": "1"}  # fmt: skip


# --- documented answers, value by value ---


@MARKETS
def test_documented_candles(told, instrument):
    row = {
        "o": "26949.89",
        "h": "26957.64",
        "l": "26948.24",
        "c": "26950.00",
        "v": "0.0670",
        "t": 1687237080000,
    }
    start = 1687237080000
    page, paths = told(candles(instrument, start, start + 120_000), answer([row], interval="1m"))
    assert page.schema.equals(tables.candles(instrument.entity_type, "1m").schema)
    assert page.to_pylist() == [
        {"ts": start, "open": 26949.89, "high": 26957.64, "low": 26948.24, "close": 26950.0, "volume": 0.067,
         "turnover": None, "trade_count": None}
    ]  # fmt: skip
    query = f"instrument_name={instrument.native_id}&timeframe=1m&start_ts={start - 60_000}"
    assert paths == [f"{PATH}-candlestick?{query}&end_ts={start + 119_999}&count=3"]


def test_documented_trades(told):
    row = {"d": "15281981878", "t": 1613547060925, "tn": "1613547060925523623", "q": "0.181900",
           "p": "50772.000000", "s": "SELL", "i": "BTCUSD-PERP", "m": "76423"}  # fmt: skip
    older = {**row, "d": "15281981877", "tn": "1613547000000000000", "s": "buy"}
    start, end = 1613547060000, 1613547061000
    (part,), paths = told(parts_of("trades", PERP, start, end), answer([row, older]))
    assert (part.start, part.stop, part.requests) == (start, end, 1)
    assert part.rows.schema.equals(TRADES)
    assert part.rows.to_pylist() == [
        {"ts": 1613547060925, "trade_id": "15281981878", "price": 50772.0, "volume": 0.1819, "side": "sell",
         "nanosecond": 523_623}
    ]  # fmt: skip
    bounds = f"start_ts={(end - DAY_MS) * NS}&end_ts={end * NS}"
    assert paths == [f"{PATH}-trades?instrument_name=BTCUSD-PERP&{bounds}&count=150"]


def test_documented_funding_events(told):
    rows = [{"v": "-0.000001884", "t": 1687892400000}, {"v": "-0.000001775", "t": 1687888800000}]
    start, end = 1687892400000, 1687896000000
    (part,), paths = told(parts_of("funding", PERP, start, end), answer(rows))
    assert (part.start, part.stop) == (start, end)
    assert part.rows.schema.equals(FUNDING)
    assert part.rows.to_pylist() == [{"ts": start, "funding_rate": -0.000001884, "mark_price": None}]
    bounds = f"start_ts={end - 1 - 100 * HOUR_MS}&end_ts={end}&count=100"
    assert paths == [f"{PATH}-valuations?instrument_name=BTCUSD-PERP&valuation_type=funding_hist&{bounds}"]


@MARKETS
def test_a_documented_order_book(told, instrument):
    state = {
        "bids": [["30025.00", "0.00004", "1"], ["30020.15", "0.02498", "1"]],
        "asks": [["30025.01", "0.04090", "2"], ["30025.70", "0.01000", "1"]],
        "t": 1687491287380,
    }
    row, paths = told(order_book(instrument, 50), answer([state], depth=50))
    assert row.schema.equals(ORDER_BOOK)
    found = row.to_pylist()[0]
    assert json.loads(found.pop("bids")) == [[30025.0, 0.00004], [30020.15, 0.02498]]
    assert json.loads(found.pop("asks")) == [[30025.01, 0.0409], [30025.7, 0.01]]
    assert found == {"ts": 1687491287380, "sequence": None, "depth": 50, "best_bid": 30025.0,
                     "best_ask": 30025.01}  # fmt: skip
    assert paths == [f"{PATH}-book?instrument_name={instrument.native_id}&depth=50"]


# --- candles ---


@pytest.mark.parametrize("level", LEVEL_MS)
@MARKETS
def test_a_page_is_the_markets_candles(asked, box, instrument, level):
    end = START + 300 * LEVEL_MS[level]
    window = asked(candle_window(instrument, START, end, level))
    found = window.batch.sort_by("ts").to_pydict()
    market = box.market.candles(instrument.symbol, level, START, end)
    assert window.requests == 1 or len(market) < 300
    for name in ("ts", "open", "high", "low", "close", "volume"):
        assert found[name] == getattr(market, name).tolist(), name


class Candles:
    """A server of minutes, with bounds that count or do not, and with one end that ``count`` cuts."""

    def __init__(self, opens, start_counts, end_counts, keeps_newest):
        self.opens = sorted(opens)
        self.start_counts, self.end_counts, self.keeps_newest = start_counts, end_counts, keeps_newest

    async def handle(self, request):
        start, end, count = (int(request.query[name]) for name in ("start_ts", "end_ts", "count"))
        rows = [
            candle(ts) for ts in self.opens if start + (not self.start_counts) <= ts < end + self.end_counts
        ]
        return web.json_response(text=answer(rows[-count:] if self.keeps_newest else rows[:count]))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.integers(-5, 320)), st.integers(1, 300), st.tuples(st.booleans(), st.booleans(), st.booleans())
)
def test_every_meaning_of_the_bounds_gives_all_candles(served, minutes, length, meaning):
    opens = [START + minute * 60_000 for minute in minutes]
    end = START + length * 60_000
    window = served(Candles(opens, *meaning), candle_window(PAIR, START, end))
    assert sorted(window.batch["ts"].to_pylist()) == sorted(ts for ts in opens if START <= ts < end)


@pytest.mark.parametrize(
    "body",
    ['{"code":0}', '{"code":0,"result":{}}', '{"code":0,"result":{"data":[{"o":"1"}]}}',
     '{"code":0,"result":{"data":[[1]]}}'],
)  # fmt: skip
def test_rows_in_another_form_are_an_error(told, body):
    with pytest.raises(ProviderUnavailable, match="the exchange sent"):
        told(candles(PAIR, START, START + 60_000), body, max_attempts=1)


# --- trades ---


class Tape:
    """A server of trades as Crypto.com is: nanoseconds, the end exclusive, the newest of them."""

    def __init__(self, times):
        self.times = sorted(times)
        self.windows = []

    async def handle(self, request):
        start, end, count = (int(request.query[name]) for name in ("start_ts", "end_ts", "count"))
        self.windows.append(end - start)
        rows = [trade(ns, n) for n, ns in enumerate(self.times) if start <= ns < end]
        return web.json_response(text=answer(rows[::-1][:count]))


def ids(parts):
    return {row["trade_id"] for part in parts for row in part.rows.to_pylist()}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    # Few moments and many trades, so that pages are cut among trades of one nanosecond.
    st.lists(st.sampled_from(range(-1, 9)), max_size=700).filter(
        lambda at: max(np.bincount(np.array(at, np.int64) + 1, minlength=1), default=0) < 150
    ),
    st.sampled_from([1, NS // 2, NS]),
)
def test_pages_cut_anywhere_lose_nothing(served, moments, spacing):
    tape = Tape([START * NS + moment * spacing for moment in moments])
    end = START + 7
    parts = served(tape, parts_of("trades", PAIR, START, end))
    wanted = {str(n) for n, ns in enumerate(tape.times) if START * NS <= ns < end * NS}
    assert ids(parts) == wanted
    assert parts[0].stop == end and parts[-1].start == START
    assert [part.stop for part in parts[1:]] == [part.start for part in parts[:-1]]


def test_quiet_days_are_crossed_a_day_at_a_time(served):
    tape = Tape([START * NS, (START + 5 * DAY_MS) * NS])
    parts = served(tape, parts_of("trades", PAIR, START, START + 6 * DAY_MS))
    assert ids(parts) == {"0", "1"}
    assert set(tape.windows) == {DAY_MS * NS}


def test_more_trades_of_one_nanosecond_than_a_page_are_named(served):
    tape = Tape([START * NS] * 150)
    with pytest.raises(DataQualityFailure, match="the same page again"):
        served(tape, parts_of("trades", PAIR, START, START + 1))


@pytest.mark.parametrize("count", [3, 150])
def test_a_page_of_trades_that_repeats_is_named(told, count):
    rows = [trade((START + 200 - n) * NS, 200 - n) for n in range(count)]
    with pytest.raises(DataQualityFailure, match="the same page again"):
        told(parts_of("trades", PAIR, START, START + 1000), answer(rows))


# --- funding events ---


class Payments:
    """A server of hourly payments, with an end that counts or does not, in either order."""

    def __init__(self, hours, end_counts, ascends):
        self.hours, self.end_counts, self.ascends = sorted(hours), end_counts, ascends

    async def handle(self, request):
        start, end, count = (int(request.query[name]) for name in ("start_ts", "end_ts", "count"))
        times = [START + hour * HOUR_MS for hour in self.hours]
        rows = [{"v": "0.0001", "t": ts} for ts in times if start <= ts < end + self.end_counts]
        newest = rows[-count:]
        return web.json_response(text=answer(newest if self.ascends else newest[::-1]))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(-150, 400)), st.integers(1, 350), st.booleans(), st.booleans())
def test_all_payments_come_whatever_the_bounds_mean(served, hours, length, end_counts, ascends):
    end = START + length * HOUR_MS
    parts = served(Payments(hours, end_counts, ascends), parts_of("funding", PERP, START, end))
    got = {ts for part in parts for ts in part.rows["ts"].to_pylist()}
    assert got == {START + hour * HOUR_MS for hour in hours if 0 <= hour < length}
    assert parts[0].stop == end and parts[-1].start == START


def test_a_page_of_payments_that_repeats_is_named(told):
    rows = [{"v": "0.0001", "t": START + hour * HOUR_MS} for hour in (9, 8, 7)]
    with pytest.raises(DataQualityFailure, match="the same page again"):
        told(parts_of("funding", PERP, START, START + 10 * HOUR_MS), answer(rows))


def test_a_pair_has_no_funding(asked):
    async def use(venue):
        venue.fetch_funding(PAIR, START, START + DAY_MS)

    with pytest.raises(NotSupported, match="no funding events of BTC/USDT"):
        asked(use)


# --- instruments, clock, refusals ---


def test_all_markets_take_one_call(asked, box):
    async def use(venue):
        return [await venue.fetch_instruments(kind) for kind in ("cryptopair", "cryptoperp")]

    pairs, perpetuals = asked(use)
    assert [request.path for request in box.requests] == ["/exchange/v1/public/get-instruments"]
    assert {"btcusdt", "btcusd", "ethbtc"} <= set(pairs.batch["code"].to_pylist())
    rows = {row["code"]: row for row in perpetuals.batch.to_pylist()}
    row = rows["btcusd"]
    assert (row["symbol"], row["native_id"]) == ("BTC/USD:USD", "BTCUSD-PERP")
    assert (row["contract_size"], row["max_leverage"], row["inverse"]) == (1, 50, False)
    assert row["funding_interval_hours"] == 1
    assert {row["settlement_symbol"] for row in rows.values()} == {"usd"}


def test_the_time_is_that_of_bitcoins_mark(asked, box):
    async def use(venue):
        return await venue.client.now("cryptopair"), await venue.client.now("cryptoperp")

    for now in asked(use):
        assert abs(now - box.market.now()) < 5000
    assert [request.query["valuation_type"] for request in box.requests] == ["mark_price"]


@pytest.mark.parametrize("body", [answer([]), '{"code":0}', answer([{"v": "1"}]), answer([{"t": "soon"}])])
def test_an_answer_without_the_time_is_an_error(told, body):
    async def use(venue):
        await venue.client.now("cryptopair")

    with pytest.raises(ProviderUnavailable, match="without the time"):
        told(use, body, max_attempts=1)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, '{"code":40004,"message":"Invalid instrument_name"}', PairNotFound),
        (400, '{"code":"30003","message":"Instrument not found"}', PairNotFound),
        (400, '{"code":40004,"message":"Invalid timeframe"}', NotSupported),
        (400, '{"code":40004,"message":"Missing instrument_name param"}', NotSupported),
        (401, '{"code":40101,"message":"UNAUTHORIZED"}', AuthError),
        (400, '{"code":40102,"message":"INVALID_NONCE"}', ClockSkew),
        (408, '{"code":40801,"message":"REQUEST_TIMEOUT"}', ProviderUnavailable),
        (429, '{"code":42901,"message":"TOO_MANY_REQUESTS"}', RateLimitExceeded),
        (200, '{"code":42901,"message":"TOO_MANY_REQUESTS"}', RateLimitExceeded),
        (500, '{"code":50001,"message":"INTERNAL_SERVER_ERROR"}', ProviderUnavailable),
        (503, '{"code":9010001,"message":"SYSTEM_MAINTENANCE","details":"down"}', ExchangeMaintenance),
        (404, '{"status":404,"error":"Not Found","path":"/v1/public/get-nope"}', ProviderUnavailable),
        (502, "<html>Bad Gateway</html>", ProviderUnavailable),
    ],
)
def test_refusals(refused, status, body, kind):
    error = refused(kind, candles(PAIR, START, START + DAY_MS, "1d"), (status, body))
    assert "?" not in error.message


@pytest.mark.parametrize("instrument", [
    Instrument("cryptopair", "btcusdx", "BTC/USDX", "BTC_USDX"),
    Instrument("cryptoperp", "btcusdx", "BTC/USDX:USDX", "BTCUSDX-PERP", contract_size=1.0),
], ids=lambda i: i.symbol)  # fmt: skip
def test_an_unknown_market_names_the_nearest(asked, instrument):
    with pytest.raises(PairNotFound, match="unknown cryptocom symbol") as caught:
        asked(once_listed(candles(instrument, START, START + 60_000), instrument.entity_type))
    assert "BTC/USD" in caught.value.one_line()
