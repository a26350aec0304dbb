"""Kraken's pairs in our columns: recorded answers value by value, and what is peculiar to its paging."""

import json
import re

import pyarrow as pa
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from venue_helpers import candles, instruments, order_book, parts_of, rows_of

from zvt_crypto.core.errors import DataQualityFailure, ProviderUnavailable
from zvt_crypto.core.levels import DAY_MS, MINUTE_MS, parse_time
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.kraken import epoch_ns, trade_rows

PROVIDER = "kraken"
SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "XBTUSDT")
SECOND_NS = 1_000_000_000
#: A moment in epoch seconds.
NOON = 1_762_776_000


def spot_answer(rows, last, name="XBTUSDT"):
    return json.dumps({"error": [], "result": {name: rows, "last": last}})


# Candles


@pytest.mark.real_data
def test_recorded_candles_are_read(queried, payload):
    raw = json.loads(payload("ohlc"))["result"]["XBTUSDT"]
    start, end = raw[0][0] * 1000, raw[-1][0] * 1000 + MINUTE_MS

    page, [query] = queried(candles(SPOT, start, end), payload("ohlc"))
    assert query == {"pair": "XBTUSDT", "interval": "1"}
    assert page.num_rows == len(raw) == 721
    for row, (time, opened, high, low, close, vwap, volume, count) in zip(page.to_pylist(), raw, strict=True):
        assert row == {
            "ts": time * 1000,
            "open": float(opened),
            "high": float(high),
            "low": float(low),
            "close": float(close),
            "volume": float(volume),
            "turnover": float(vwap) * float(volume),
            "trade_count": count,
        }
    without_trades = [row for row in page.to_pylist() if row["trade_count"] == 0]
    assert len(without_trades) > 100
    assert {(row["volume"], row["turnover"]) for row in without_trades} == {(0.0, 0.0)}


def candle(time, price="5.0"):
    return [time, price, price, price, price, price, "2.00000000", 3]


def test_candles_outside_of_the_range_are_left_out(told):
    rows = [candle(NOON + 60 * n) for n in range(10)]

    page, _ = told(
        candles(SPOT, NOON * 1000 + 120_000, NOON * 1000 + 300_000), spot_answer(rows, NOON, name="XBT/USDT")
    )
    assert page["ts"].to_pylist() == [(NOON + 60 * n) * 1000 for n in (2, 3, 4)]
    assert page["turnover"].to_pylist() == [10.0] * 3


def test_candles_that_end_before_the_range_show(told):
    """An old answer must not look like a market without candles."""

    page, _ = told(
        candles(SPOT, NOON * 1000 + DAY_MS, NOON * 1000 + 2 * DAY_MS), spot_answer([candle(NOON)], NOON)
    )
    assert page["ts"].to_pylist() == [NOON * 1000]


@pytest.mark.parametrize(
    "body", ['{"error":[]}', '{"error":[],"result":[]}', '{"error":[],"result":{"XBTUSDT":[[1,"2"]]}}', "[]"]
)
def test_an_answer_without_candles_is_an_error(told, body):
    with pytest.raises(ProviderUnavailable):
        told(candles(SPOT, 0, MINUTE_MS), body, max_attempts=1)


def test_the_listing_is_the_day_of_the_first_trade(queried):
    async def use(venue):
        return await venue.find_listing(SPOT)

    first = [["874.67", "0.1", 1381095255.1234, "b", "m", "", 1]]
    listed, queries = queried(use, spot_answer(first, "1381095255123400000"))
    assert listed == parse_time("2013-10-06")
    assert queries == [{"pair": "XBTUSDT", "since": "0", "count": "1"}]
    assert queried(use, spot_answer([], "0"))[0] is None


# Times and ids of trades


@given(st.integers(0, 4 * 10**18), st.integers(0, 9))
def test_times_are_read_digit_by_digit(ns, digits):
    kept = ns // 10 ** (9 - digits) * 10 ** (9 - digits)
    whole, rest = divmod(kept, SECOND_NS)
    text = f"{whole}.{rest:09d}"[: len(str(whole)) + 1 + digits] if digits else str(whole)
    assert epoch_ns(pa.array([text])).to_pylist() == [kept]


@given(st.integers(1_400_000_000 * SECOND_NS, 2_000_000_000 * SECOND_NS))
def test_a_number_of_seconds_is_off_by_less_than_the_pages_overlap(ns):
    read = epoch_ns(pa.array([repr(ns / SECOND_NS)]))[0].as_py()
    assert abs(read - ns) < 240


@pytest.mark.parametrize("text", ["", "soon", "-1", "1e9", "1.2.3", "123456789012"])
def test_a_time_that_is_no_number_is_an_error(text):
    with pytest.raises(ProviderUnavailable, match="time is no number"):
        epoch_ns(pa.array([text]))


old_trades = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["5.0", "6.0"]), st.sampled_from("bs")),
    min_size=1,
    max_size=40,
)


@given(old_trades, st.data())
def test_ids_that_are_made_up_are_distinct_and_the_same_in_each_page(trades, data):
    trades.sort(key=lambda trade: trade[0])
    rows = [[price, "0.1", NOON + tick / 10_000, side, "l", ""] for tick, price, side in trades]
    ids = trade_rows(rows)[0]["trade_id"].to_pylist()
    assert len(set(ids)) == len(rows)
    # A page begins between two times, and ends anywhere.
    begins = [n for n in range(len(rows)) if n == 0 or rows[n][2] != rows[n - 1][2]]
    begin = data.draw(st.sampled_from(begins))
    end = data.draw(st.integers(begin, len(rows)))
    assert trade_rows(rows[begin:end])[0]["trade_id"].to_pylist() == ids[begin:end]
    # One that begins amid a time has no ids that the page before it does not have.
    assert set(trade_rows(rows[end:])[0]["trade_id"].to_pylist()) <= set(ids)


def test_trades_with_and_without_an_id_may_come_together():
    rows = [["5.0", "0.1", NOON + 0.25, "b", "l", ""], ["5.0", "0.1", NOON + 0.25, "s", "m", "", 7]]
    table, times = trade_rows(rows)
    made, given_id = table["trade_id"].to_pylist()
    assert given_id == "7" and made == f"{NOON}250000000-5-0.1-b-0"
    assert table["side"].to_pylist() == ["buy", "sell"]
    assert times.tolist() == [NOON * SECOND_NS + 250_000_000] * 2


@pytest.mark.parametrize("rows", [None, {}, [["5.0"]], [["x", "0.1", 1.0, "b", "l", "", 1]]])
def test_what_is_no_trade_is_an_error(rows):
    with pytest.raises(ProviderUnavailable):
        trade_rows(rows)


# Pages of trades


@pytest.mark.real_data
def test_recorded_trades_are_read(queried, payload):
    text = payload("trades")
    result = json.loads(text)["result"]
    raw, last = result["XBTUSDT"], int(result["last"])
    start, end = int(raw[0][2]) * 1000, int(raw[-1][2] + 1) * 1000
    parts, queries = queried(parts_of("trades", SPOT, start, end), text, spot_answer(raw[-1:], str(last)))
    rows = rows_of(parts)
    assert rows.pop() == rows[-1]
    # The digits of the text itself, which a float would only be near to.
    times = re.findall(r'"\d+\.\d+",\s*(\d{10}(?:\.\d+)?),\s*"[bs]"', text)
    assert len(rows) == len(raw) == len(times) == 1000
    for row, (price, volume, _, side, _, _, number), time in zip(rows, raw, times, strict=True):
        whole, _, rest = time.partition(".")
        ns = int(whole + rest.ljust(9, "0"))
        assert row == {
            "ts": ns // 1_000_000,
            "trade_id": str(number),
            "price": float(price),
            "volume": float(volume),
            "side": {"b": "buy", "s": "sell"}[side],
            "nanosecond": ns % 1_000_000,
        }
    assert [query["since"] for query in queries] == [str(start * 1_000_000 - 1000), str(last - 1000)]
    assert (parts[0].start, parts[-1].stop) == (start, end)


class Exchange:
    """Pages through trades as Kraken does: by the exact time, with the rounded one in the rows."""

    def __init__(self, times, size, with_ids):
        self.times = sorted(times)
        self.size = size
        self.rows = [
            ["5.0", "0.1", ns / SECOND_NS, "b", "l", "", *([number + 1] if with_ids else [])]
            for number, ns in enumerate(self.times)
        ]
        self.paths = []

    async def handle(self, request):
        self.paths.append(request.path_qs)
        since = int(request.query["since"])
        first = next((n for n, ns in enumerate(self.times) if ns > since), len(self.times))
        stop = min(first + self.size, len(self.times))
        last = self.times[stop - 1] if stop > first else since
        body = spot_answer(self.rows[first:stop], str(last))
        return web.Response(text=body, content_type="application/json")


@pytest.mark.parametrize(
    ("size", "with_ids"), [(6, True), (7, True), (50, True), (7, False), (8, False), (50, False)]
)
def test_pages_that_are_cut_inside_a_moment_lose_nothing(served, size, with_ids):
    start = NOON * 1000
    base = NOON * SECOND_NS
    # Four at the same nanosecond, others within one step of the number that is written, and at the bounds.
    moments = [0, 1, 40, 60, 130, 200, 999_950, 5_000_000, 5_000_000, 5_000_000, 5_000_000, 5_000_001]
    moments += [5_000_150, 7_999_999, 8_000_000, 9_999_900, 9_999_999, 10_000_000, 12_000_000]
    exchange = Exchange([base + moment for moment in (-90, *moments)], size, with_ids)
    parts = served(exchange, parts_of("trades", SPOT, start, start + 10))
    written = [epoch_ns(pa.array([repr(row[2])]))[0].as_py() for row in exchange.rows]
    wanted = [ns for ns in written if base <= ns < base + 10_000_000]
    found = {row["trade_id"]: row["ts"] * 1_000_000 + row["nanosecond"] for row in rows_of(parts)}
    assert sorted(found.values()) == wanted
    assert (parts[0].start, parts[-1].stop) == (start, start + 10)
    for before, after in zip(parts, parts[1:], strict=False):
        assert before.stop == after.start


def test_a_page_full_of_one_moment_is_not_the_end(queried):
    """What the overlap leaves no room for is asked for without it."""
    moment, later = NOON * SECOND_NS, NOON * SECOND_NS + 400_000_000
    full = spot_answer([["5.0", "0.1", NOON, "b", "l", "", n] for n in range(1, 1001)], str(moment))
    more = spot_answer([["5.0", "0.1", NOON + 0.4, "b", "l", "", 1001]], str(later))
    use = parts_of("trades", SPOT, NOON * 1000 - 10, NOON * 1000 + 900)
    parts, queries = queried(use, full, full, more, more)
    assert {row["trade_id"] for row in rows_of(parts)} == {*map(str, range(1, 1002))}
    sinces = [int(query["since"]) for query in queries]
    assert sinces == [moment - 10_001_000, moment - 1000, moment, later - 1000]


def test_the_end_of_a_quiet_market_is_confirmed(queried):
    """A page of one trade, which is the overlap itself, says nothing about what follows."""
    one = spot_answer([["5.0", "0.1", NOON, "b", "l", "", 1]], str(NOON * SECOND_NS))
    none = spot_answer([], str(NOON * SECOND_NS))
    parts, queries = queried(
        parts_of("trades", SPOT, NOON * 1000 - 5, NOON * 1000 + 10), one, one, none, none
    )
    assert {row["trade_id"] for row in rows_of(parts)} == {"1"}
    assert parts[-1].stop == NOON * 1000 + 10 and len(queries) == 4


def test_a_page_from_before_is_not_the_end(told):
    old = spot_answer([["5.0", "0.1", NOON - 60, "b", "l", "", 1]], str((NOON - 60) * SECOND_NS))
    with pytest.raises(DataQualityFailure, match="same page again"):
        told(parts_of("trades", SPOT, NOON * 1000, NOON * 1000 + 10), old)


def test_trades_without_the_time_of_the_last_are_an_error(told):
    answer = spot_answer([["5.0", "0.1", NOON, "b", "l", "", 1]], None)
    with pytest.raises(ProviderUnavailable, match="time of the last one"):
        told(parts_of("trades", SPOT, NOON * 1000, NOON * 1000 + 10), answer, max_attempts=1)


# Order books and instruments


@pytest.mark.real_data
def test_a_recorded_order_book_is_read(queried, payload):
    raw = json.loads(payload("order_book"))["result"]["XBTUSDT"]

    book, queries = queried(order_book(SPOT, 4), payload("order_book"), payload("server_time"))
    row = book.to_pylist()[0]
    assert json.loads(row["bids"]) == [[float(price), float(size)] for price, size, _ in raw["bids"][:4]]
    assert json.loads(row["asks"]) == [[float(price), float(size)] for price, size, _ in raw["asks"][:4]]
    assert (row["best_bid"], row["best_ask"], row["depth"], row["sequence"]) == (105944.2, 105944.3, 4, None)
    assert abs(row["ts"] - 1_762_820_224_000) < 60_000
    assert queries[0] == {"pair": "XBTUSDT", "count": "4"}


@pytest.mark.real_data
def test_recorded_pairs_are_read(told, payload):
    assets = {
        "XXBT": {"aclass": "currency", "altname": "XBT", "decimals": 10, "status": "enabled"},
        "USDT": {"aclass": "currency", "altname": "USDT", "decimals": 8, "status": "enabled"},
        "ZUSD": {"aclass": "currency", "altname": "USD", "decimals": 4, "status": "enabled"},
    }
    pairs = json.loads(payload("asset_pairs"))
    pairs["result"] |= json.loads(payload("asset_pairs_tokenized"))["result"]
    pairs["result"]["XBTUSDT"]["tick_size"] = "0.5"

    answers = [json.dumps({"error": [], "result": assets}), json.dumps(pairs)]
    found, _ = told(instruments("cryptopair"), *answers)
    rows = {row["symbol"]: row for row in found.batch.to_pylist()}
    assert set(rows) == {"BTC/USDT", "AAPLX/USD"} and not found.conflicts
    row = rows["BTC/USDT"]
    assert (row["native_id"], row["price_step"], row["qty_step"]) == ("XBTUSDT", 0.5, 1e-8)
    assert (row["min_qty"], row["min_notional"]) == (0.00005, 0.5)
    assert (row["maker_fee"], row["taker_fee"]) == (0.0025, 0.004)
    assert row["is_active"] and row["margin_enabled"]
