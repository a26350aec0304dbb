"""Trades, funding events and order books of Binance: what it answers, in our columns."""

import asyncio
import json

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from captures import REAL, captured_frames, captured_lines
from venue_helpers import after_the_clocks, book_of, order_book, parts_of, read_book, rows_of, spans

from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.exchanges.base import Instrument, open_venue
from zvt_crypto.exchanges.schemas import FUNDING, ORDER_BOOK, TRADES
from zvt_crypto.sandbox import ReplayMarket, Sandbox

PROVIDER = "binance"
SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
PERP = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTCUSDT", contract_size=1.0)
T = parse_time("2024-06-10T12:00:00Z")
CLOCK = {"serverTime": T}


def aggregate(number, ts, price="42000.5", quantity="0.25", buyer_is_maker=True):
    row = {"a": number, "p": price, "q": quantity, "f": number, "l": number, "T": ts, "m": buyer_is_maker}
    return {**row, "M": True}


def test_trades_with_every_value(told):
    page = [aggregate(7, T, "42000.50000000", "0.00013000"), aggregate(8, T + 1, buyer_is_maker=False)]
    parts, _ = told(parts_of("trades", SPOT, T, T + 2), page, [])
    assert parts[0].rows.schema.equals(TRADES)
    first, second = rows_of(parts)
    assert first == {
        "ts": T,
        "trade_id": "7",
        "price": 42000.5,
        "volume": 0.00013,
        "side": "sell",
        "nanosecond": None,
    }
    assert (second["trade_id"], second["side"]) == ("8", "buy")


def test_goes_on_by_id_where_a_page_is_cut_inside_a_millisecond(queried):
    pages = [
        [aggregate(1, T), aggregate(2, T + 5), aggregate(3, T + 5)],
        [aggregate(4, T + 5), aggregate(5, T + 5), aggregate(6, T + 9)],
        [aggregate(7, T + 30)],
    ]
    parts, queries = queried(parts_of("trades", SPOT, T, T + 20), *pages)
    assert [row["trade_id"] for row in rows_of(parts)] == list("123456")
    assert spans(parts) == [(T, T + 5), (T + 5, T + 9), (T + 9, T + 20)]
    assert queries == [
        {"symbol": "BTCUSDT", "startTime": str(T), "limit": "1000"},
        {"symbol": "BTCUSDT", "fromId": "4", "limit": "1000"},
        {"symbol": "BTCUSDT", "fromId": "7", "limit": "1000"},
    ]


def test_does_not_step_through_quiet_time(queried):
    """The first trade at or after the start is answered, however much later it is."""
    parts, queries = queried(
        parts_of("trades", SPOT, T, T + 30 * DAY_MS),
        [aggregate(1, T + 20 * DAY_MS)],
        [aggregate(2, T + 40 * DAY_MS)],
    )
    assert len(queries) == 2 and len(rows_of(parts)) == 1
    assert spans(parts) == [(T, T + 20 * DAY_MS), (T + 20 * DAY_MS, T + 30 * DAY_MS)]


def test_funding_with_every_value(queried):
    page = [
        {"symbol": "BTCUSDT", "fundingTime": T + 7, "fundingRate": "0.00004054", "markPrice": ""},
        {"symbol": "BTCUSDT", "fundingTime": T + 11, "fundingRate": "-0.00010000", "markPrice": "69500.10000000"},
    ]  # fmt: skip
    parts, queries = queried(parts_of("funding", PERP, T, T + HOUR_MS), page)
    assert parts[0].rows.schema.equals(FUNDING)
    assert rows_of(parts) == [
        {"ts": T + 7, "funding_rate": 0.00004054, "mark_price": None},
        {"ts": T + 11, "funding_rate": -0.0001, "mark_price": 69500.1},
    ]
    assert queries == [
        {"symbol": "BTCUSDT", "startTime": str(T), "endTime": str(T + HOUR_MS - 1), "limit": "1000"}
    ]


@pytest.mark.parametrize("events", [999, 1000, 1001])
def test_funding_around_a_full_page(asked, box, events):
    """A page that is not full is the last one; one that is full may be."""
    end = T
    due = box.market.fundings("BTC/USDT:USDT", end - 1100 * 8 * HOUR_MS, end)
    start = int(due.ts[-events])
    parts = asked(after_the_clocks(parts_of("funding", PERP, start, end), box))
    assert [row["ts"] for row in rows_of(parts)] == due.ts[-events:].tolist()
    assert spans(parts)[0][0] == start and spans(parts)[-1][1] == end
    assert len(box.requests) == {999: 1, 1000: 3, 1001: 2}[events]


def test_book_of_a_pair_has_the_exchanges_time(queried):
    answer = {
        "lastUpdateId": 1027024,
        "bids": [["4.0", "431.0"], ["3.9", "2"]],
        "asks": [["4.00000200", "12"]],
    }
    book, queries = queried(order_book(SPOT, 1), answer, CLOCK)
    row = book.to_pylist()[0]
    assert book.schema.equals(ORDER_BOOK) and abs(row.pop("ts") - T) < MINUTE_MS
    assert row == {
        "sequence": 1027024,
        "depth": 1,
        "best_bid": 4.0,
        "best_ask": 4.000002,
        "bids": "[[4.0,431.0]]",
        "asks": "[[4.000002,12.0]]",
    }
    assert queries[0] == {"symbol": "BTCUSDT", "limit": "1"}


def test_book_of_a_perpetual_has_the_time_of_its_last_change(queried):
    answer = {"lastUpdateId": 5, "E": T + 9, "T": T + 3, "bids": [["4.0", "1"]], "asks": []}
    book, queries = queried(order_book(PERP, 5), answer)
    row = book.to_pylist()[0]
    assert (row["ts"], row["sequence"], row["asks"], row["best_ask"]) == (T + 3, 5, "[]", None)
    assert len(queries) == 1


@pytest.mark.parametrize(
    ("instrument", "feed", "body"),
    [
        (SPOT, "trades", [{"a": 1, "p": "1", "q": "1", "T": T}]),
        (SPOT, "trades", {"rows": []}),
        (SPOT, "trades", [aggregate(1, T, price="much")]),
        (PERP, "funding", [{"symbol": "BTCUSDT", "fundingTime": T}]),
        (SPOT, "book", {"bids": [], "asks": []}),
        (SPOT, "book", []),
        (PERP, "book", {"lastUpdateId": 1, "T": T, "bids": [["1"]], "asks": []}),
        (PERP, "book", {"lastUpdateId": 1, "T": T, "bids": []}),
    ],
)
def test_answers_of_another_form_are_refused(told, instrument, feed, body):
    use = order_book(instrument, 5) if feed == "book" else parts_of(feed, instrument, T - DAY_MS, T)
    with pytest.raises(ProviderUnavailable):
        told(use, body, max_attempts=1)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "instrument"),
    [("BINANCE.http.0.0.gz", SPOT), ("BINANCE_FUTURES.http.0.0.gz", PERP)],
)
def test_recorded_books(told, name, instrument):
    answers = [line.split(": ", 1)[1] for line in captured_lines(name) if "/depth?" in line]
    assert len(answers) == 4
    for text in answers:
        answer = json.loads(text)
        book, _ = told(order_book(instrument, 1000), text, CLOCK)
        assert read_book(book) == book_of(answer, answer["lastUpdateId"])
        assert book["ts"][0].as_py() == answer.get("T", book["ts"][0].as_py())
        assert len(answer["bids"]) > 100


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "instrument"),
    [("BINANCE.ws.1.0.gz", SPOT), ("BINANCE_FUTURES.ws.1.0.gz", PERP)],
)
def test_recorded_aggregates(told, name, instrument):
    events = [frame["data"] for frame in captured_frames(name, "aggTrade")]
    by_market = {event["s"]: [e for e in events if e["s"] == event["s"]] for event in events}
    assert len(by_market) >= 2
    for theirs in by_market.values():
        # A stream's event is a row of the answer, with three names of its own.
        page = [{key: value for key, value in event.items() if key not in "eEs"} for event in theirs]
        start, end = theirs[0]["T"], theirs[-1]["T"] + 1
        clock = [] if instrument is SPOT else [{"serverTime": end}]
        parts, _ = told(parts_of("trades", instrument, start, end), *clock, page, [])
        assert rows_of(parts) == [
            {
                "ts": event["T"],
                "trade_id": str(event["a"]),
                "price": float(event["p"]),
                "volume": float(event["q"]),
                "side": "sell" if event["m"] else "buy",
                "nanosecond": None,
            }
            for event in theirs
        ]


@pytest.mark.real_data
def test_recorded_payloads(told):
    depth = (REAL / "payloads/binance/spot/http_json/depth_response.json").read_text()
    book, _ = told(order_book(SPOT, 1000), depth, CLOCK)
    assert read_book(book) == book_of(json.loads(depth), 1027024)
    event = json.loads((REAL / "payloads/binance/futures/market_data_json/agg_trade_stream.json").read_text())
    use = parts_of("trades", PERP, event["T"], event["T"] + 1)
    parts, _ = told(use, {"serverTime": event["T"] + 1}, [event], [])
    assert rows_of(parts) == [
        {
            "ts": 123456785,
            "trade_id": "5933014",
            "price": 0.001,
            "volume": 100.0,
            "side": "sell",
            "nanosecond": None,
        }
    ]


@pytest.fixture
def replayed(quick):
    """The parts of a feed of Binance over a market of recorded rows."""

    def run(market, use):
        async def main():
            with Sandbox(market) as box:
                async with open_venue("binance", quick(box.url)) as venue:
                    return await use(venue)

        return asyncio.run(main())

    return run


@pytest.mark.real_data
def test_recorded_trades_come_back_equal(replayed):
    path = REAL / "candles/binance-btcusdt-trades-2021-01-08.parquet"
    day = parse_time("2021-01-08")
    market = ReplayMarket({}, trades={"BTC/USDT": path}, now=day + DAY_MS)
    table = pa.parquet.read_table(path)
    parts = replayed(market, parts_of("trades", SPOT, day, day + DAY_MS))
    rows = pa.concat_tables([part.rows for part in parts])
    assert rows.num_rows == table.num_rows == 2001
    assert rows["ts"].to_pylist() == table["timestamp"].cast(pa.int64()).to_pylist()
    assert rows["trade_id"].to_pylist() == [str(number) for number in table["trade_id"].to_pylist()]
    assert rows["price"].to_pylist() == table["price"].to_pylist()
    # Spot writes eight decimal digits; some of the file's floats are a bit off such a number.
    assert np.allclose(rows["volume"].to_numpy(), table["quantity"].to_numpy(), rtol=1e-15, atol=0)
    sides = ["sell" if maker == "True" else "buy" for maker in table["buyer_maker"].to_pylist()]
    assert rows["side"].to_pylist() == sides
    assert [part.requests for part in parts] == [1, 1, 1, 2]


@pytest.mark.real_data
def test_recorded_funding_comes_back_equal(replayed):
    path = REAL / "candles/XRP_USDT_USDT-8h-funding_rate.feather"
    end = parse_time("2022-01-01")
    market = ReplayMarket({}, funding={"XRP/USDT:USDT": path}, now=end)
    table = pa.feather.read_table(path)
    instrument = Instrument("cryptoperp", "xrpusdt", "XRP/USDT:USDT", "XRPUSDT", contract_size=1.0)
    parts = replayed(market, parts_of("funding", instrument, parse_time("2021-11-01"), end))
    rows = pa.concat_tables([part.rows for part in parts])
    times = table["date"].cast(pa.int64()).to_numpy() // 1_000_000
    assert rows.num_rows == 91 and rows["ts"].to_pylist() == times.tolist()
    assert any(ts % 1000 for ts in times)
    assert rows["funding_rate"].to_pylist() == table["open"].to_pylist()
    assert rows["mark_price"].null_count == 91
