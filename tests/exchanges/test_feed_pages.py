"""Trades, funding events and order books of Binance and OKX: what they answer, in our columns."""

import asyncio
import gzip
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from venue_helpers import order_book, parts_of, rows_of

from zvt_crypto.core.errors import NotSupported, PairNotFound, ProviderUnavailable
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.exchanges.base import Instrument, open_venue
from zvt_crypto.exchanges.schemas import FUNDING, ORDER_BOOK, TRADES
from zvt_crypto.sandbox import ReplayMarket, Sandbox

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "real"

BINANCE_SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
BINANCE_PERP = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTCUSDT", contract_size=1.0)
OKX_SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC-USDT")
OKX_LINEAR = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTC-USDT-SWAP", contract_size=0.01)
OKX_INVERSE = Instrument(
    "cryptoperp", "btcusd-btc", "BTC/USD:BTC", "BTC-USD-SWAP", contract_size=100.0, inverse=True
)
MARKETS = [("binance", BINANCE_SPOT), ("binance", BINANCE_PERP), ("okx", OKX_SPOT), ("okx", OKX_LINEAR)]
PERPETUALS = [("binance", BINANCE_PERP), ("okx", OKX_LINEAR)]
T = parse_time("2024-06-10T12:00:00Z")


@pytest.fixture
def told(told):
    """As everywhere, of any venue, with the answers also as objects; gives the result and what was ``Asked``."""

    def run(provider, use, *bodies):
        texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
        result, paths = told(use, *texts, provider=provider, max_attempts=1)
        return result, [Asked(path) for path in paths]

    return run


@pytest.fixture
def asked(asked, box):
    """As everywhere, of any venue; the requests before ``use`` are forgotten."""

    def run(provider, use):
        async def prepared(venue):
            for kind in venue.ccxt_ids:
                await venue.client.now(kind)
            box.forget_requests()
            return await use(venue)

        return asked(prepared, provider=provider)

    return run


class Asked:
    """A request: its path, and its parameters without the symbol."""

    def __init__(self, url):
        parts = urlsplit(url)
        self.path = parts.path
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.market = self.query.pop("symbol", None) or self.query.pop("instId", None)


def spans(parts):
    return [(part.start, part.stop) for part in parts]


def aggregate(number, ts, price="42000.5", quantity="0.25", buyer_is_maker=True):
    row = {"a": number, "p": price, "q": quantity, "f": number, "l": number, "T": ts, "m": buyer_is_maker}
    return {**row, "M": True}


def okx(rows):
    return {"code": "0", "msg": "", "data": rows}


def okx_trade(number, ts, side="buy", price="42000.5", size="2"):
    return {
        "instId": "BTC-USDT",
        "side": side,
        "sz": size,
        "source": "0",
        "px": price,
        "tradeId": str(number),
        "ts": str(ts),
    }


BINANCE_TIME = {"serverTime": T}
OKX_TIME = okx([{"ts": str(T)}])


def test_binance_trades_with_every_value(told):
    page = [aggregate(7, T, "42000.50000000", "0.00013000"), aggregate(8, T + 1, buyer_is_maker=False)]
    parts, _ = told("binance", parts_of("trades", BINANCE_SPOT, T, T + 2), page, [])
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


def test_binance_goes_on_by_id_where_a_page_is_cut_inside_a_millisecond(told):
    pages = [
        [aggregate(1, T), aggregate(2, T + 5), aggregate(3, T + 5)],
        [aggregate(4, T + 5), aggregate(5, T + 5), aggregate(6, T + 9)],
        [aggregate(7, T + 30)],
    ]
    parts, requests = told("binance", parts_of("trades", BINANCE_SPOT, T, T + 20), *pages)
    assert [row["trade_id"] for row in rows_of(parts)] == list("123456")
    assert spans(parts) == [(T, T + 5), (T + 5, T + 9), (T + 9, T + 20)]
    assert [request.query for request in requests] == [
        {"startTime": str(T), "limit": "1000"},
        {"fromId": "4", "limit": "1000"},
        {"fromId": "7", "limit": "1000"},
    ]


def test_binance_does_not_step_through_quiet_time(told):
    """The first trade at or after the start is answered, however much later it is."""
    parts, requests = told(
        "binance",
        parts_of("trades", BINANCE_SPOT, T, T + 30 * DAY_MS),
        [aggregate(1, T + 20 * DAY_MS)],
        [aggregate(2, T + 40 * DAY_MS)],
    )
    assert len(requests) == 2 and len(rows_of(parts)) == 1
    assert spans(parts) == [(T, T + 20 * DAY_MS), (T + 20 * DAY_MS, T + 30 * DAY_MS)]


def test_okx_goes_on_by_id_where_a_page_is_cut_inside_a_millisecond(told):
    pages = [
        okx([okx_trade(9, T - 10), okx_trade(8, T - 20), okx_trade(7, T - 20)]),
        okx([okx_trade(6, T - 20), okx_trade(5, T - 20), okx_trade(4, T - 40)]),
        okx([okx_trade(3, T - 60)]),
    ]
    parts, requests = told("okx", parts_of("trades", OKX_SPOT, T - 50, T), OKX_TIME, *pages)
    assert [row["trade_id"] for row in rows_of(parts)] == list("987654")
    assert spans(parts) == [(T - 19, T), (T - 39, T - 19), (T - 50, T - 39)]
    assert [request.query for request in requests[1:]] == [
        {"type": "2", "after": str(T)},
        {"type": "1", "after": "7"},
        {"type": "1", "after": "4"},
    ]


@pytest.mark.parametrize(
    ("instrument", "volume"),
    [(OKX_SPOT, 2.0), (OKX_LINEAR, 0.02), (OKX_INVERSE, 0.005)],
    ids=lambda value: getattr(value, "symbol", value),
)
def test_okx_trades_are_in_base_currency(told, instrument, volume):
    page = okx([okx_trade(5, T - 1, "sell", "40000", "2"), okx_trade(4, T - DAY_MS)])
    parts, _ = told("okx", parts_of("trades", instrument, T - 100, T), OKX_TIME, page)
    assert rows_of(parts) == [
        {
            "ts": T - 1,
            "trade_id": "5",
            "price": 40000.0,
            "volume": volume,
            "side": "sell",
            "nanosecond": None,
        }
    ]


@pytest.mark.parametrize(
    ("provider", "feed", "instrument", "days"),
    [
        ("binance", "trades", BINANCE_PERP, 365),
        ("okx", "trades", OKX_SPOT, 89),
        ("okx", "funding", OKX_LINEAR, 89),
    ],
)
def test_what_a_venue_no_longer_has_is_in_no_stretch(asked, box, provider, feed, instrument, days):
    oldest = box.market.now() - days * DAY_MS
    gone = asked(provider, parts_of(feed, instrument, oldest - DAY_MS, oldest - HOUR_MS))
    assert spans(gone) == [(oldest - HOUR_MS, oldest - HOUR_MS)] and not box.requests
    assert [part.rows.num_rows for part in gone] == [sum(part.requests for part in gone)] == [0]
    parts = asked(provider, parts_of(feed, instrument, oldest - DAY_MS, oldest + MINUTE_MS))
    first, last = min(start for start, _ in spans(parts)), max(stop for _, stop in spans(parts))
    # The exchange's time goes on while it is asked.
    assert oldest <= first < last == oldest + MINUTE_MS


def test_binance_funding_with_every_value(told):
    page = [
        {"symbol": "BTCUSDT", "fundingTime": T + 7, "fundingRate": "0.00004054", "markPrice": ""},
        {"symbol": "BTCUSDT", "fundingTime": T + 11, "fundingRate": "-0.00010000", "markPrice": "69500.10000000"},
    ]  # fmt: skip
    parts, requests = told("binance", parts_of("funding", BINANCE_PERP, T, T + HOUR_MS), page)
    assert parts[0].rows.schema.equals(FUNDING)
    assert rows_of(parts) == [
        {"ts": T + 7, "funding_rate": 0.00004054, "mark_price": None},
        {"ts": T + 11, "funding_rate": -0.0001, "mark_price": 69500.1},
    ]
    assert [request.query for request in requests] == [
        {"startTime": str(T), "endTime": str(T + HOUR_MS - 1), "limit": "1000"}
    ]


@pytest.mark.parametrize("events", [999, 1000, 1001])
def test_binance_funding_around_a_full_page(asked, box, events):
    """A page that is not full is the last one; one that is full may be."""
    end = T
    due = box.market.fundings("BTC/USDT:USDT", end - 1100 * 8 * HOUR_MS, end)
    start = int(due.ts[-events])
    parts = asked("binance", parts_of("funding", BINANCE_PERP, start, end))
    assert [row["ts"] for row in rows_of(parts)] == due.ts[-events:].tolist()
    assert spans(parts)[0][0] == start and spans(parts)[-1][1] == end
    assert len(box.requests) == {999: 1, 1000: 3, 1001: 2}[events]


def test_okx_funding_is_what_was_paid(told):
    rows = [
        {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "fundingRate": "0.0001515032",
         "realizedRate": "0.00015", "fundingTime": str(T - 1)},
        {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "fundingRate": "-0.1",
         "realizedRate": "-0.00002", "fundingTime": str(T - DAY_MS)},
    ]  # fmt: skip
    parts, requests = told("okx", parts_of("funding", OKX_LINEAR, T - HOUR_MS, T), OKX_TIME, okx(rows))
    assert parts[0].rows.schema.equals(FUNDING)
    assert rows_of(parts) == [{"ts": T - 1, "funding_rate": 0.00015, "mark_price": None}]
    assert [request.query for request in requests[1:]] == [{"after": str(T), "limit": "400"}]


def test_okx_funding_of_three_months_is_one_request(asked, box):
    start = box.market.now() - 88 * DAY_MS
    parts = asked("okx", parts_of("funding", OKX_LINEAR, start, T))
    wanted = box.market.fundings("BTC/USDT:USDT", start, T)
    assert sorted(row["ts"] for row in rows_of(parts)) == wanted.ts.tolist()
    assert len(box.requests) == 1 and spans(parts) == [(start, T)]


def test_binance_book_of_a_pair_has_the_exchanges_time(told):
    answer = {
        "lastUpdateId": 1027024,
        "bids": [["4.0", "431.0"], ["3.9", "2"]],
        "asks": [["4.00000200", "12"]],
    }
    book, requests = told("binance", order_book(BINANCE_SPOT, 1), answer, BINANCE_TIME)
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
    assert requests[0].query == {"limit": "1"}


def test_binance_book_of_a_perpetual_has_the_time_of_its_last_change(told):
    answer = {"lastUpdateId": 5, "E": T + 9, "T": T + 3, "bids": [["4.0", "1"]], "asks": []}
    book, requests = told("binance", order_book(BINANCE_PERP, 5), answer)
    row = book.to_pylist()[0]
    assert (row["ts"], row["sequence"], row["asks"], row["best_ask"]) == (T + 3, 5, "[]", None)
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("instrument", "volumes"),
    [(OKX_SPOT, (3.0, 7.0)), (OKX_LINEAR, (0.03, 0.07)), (OKX_INVERSE, (0.0075, 0.0175))],
    ids=lambda value: getattr(value, "symbol", "volumes"),
)
@pytest.mark.parametrize("sequence", [None, 3235851742])
def test_okx_books_are_in_base_currency(told, instrument, volumes, sequence):
    state = {"asks": [["40000", "7", "0", "2"]], "bids": [["40000", "3", "0", "1"]], "ts": str(T)}
    state |= {} if sequence is None else {"seqId": sequence}
    book, requests = told("okx", order_book(instrument, 2), okx([state]))
    row = book.to_pylist()[0]
    assert (row["ts"], row["sequence"], row["depth"]) == (T, sequence, 2)
    assert (json.loads(row["bids"]), json.loads(row["asks"])) == (
        [[40000.0, volumes[0]]],
        [[40000.0, volumes[1]]],
    )
    assert requests[0].query == {"sz": "2"}


BROKEN = [
    ("binance", BINANCE_SPOT, "trades", [{"a": 1, "p": "1", "q": "1", "T": T}]),
    ("binance", BINANCE_SPOT, "trades", {"rows": []}),
    ("binance", BINANCE_SPOT, "trades", [aggregate(1, T, price="much")]),
    ("binance", BINANCE_PERP, "funding", [{"symbol": "BTCUSDT", "fundingTime": T}]),
    ("binance", BINANCE_SPOT, "book", {"bids": [], "asks": []}),
    ("binance", BINANCE_SPOT, "book", []),
    ("binance", BINANCE_PERP, "book", {"lastUpdateId": 1, "T": T, "bids": [["1"]], "asks": []}),
    ("binance", BINANCE_PERP, "book", {"lastUpdateId": 1, "T": T, "bids": []}),
    ("okx", OKX_LINEAR, "trades", {"code": "0", "msg": ""}),
    ("okx", OKX_LINEAR, "trades", okx([{"tradeId": "1", "px": "1"}])),
    ("okx", OKX_LINEAR, "funding", okx([{"fundingTime": str(T - 1), "realizedRate": ""}])),
    ("okx", OKX_LINEAR, "book", okx([])),
    ("okx", OKX_LINEAR, "book", okx([{"ts": str(T), "asks": [], "bids": None}])),
]


@pytest.mark.parametrize(("provider", "instrument", "feed", "body"), BROKEN)
def test_answers_of_another_form_are_refused(told, provider, instrument, feed, body):
    use = order_book(instrument, 5) if feed == "book" else parts_of(feed, instrument, T - DAY_MS, T)
    first = [] if feed == "book" or instrument is BINANCE_SPOT else [BINANCE_TIME]
    if provider == "okx":
        first = [] if feed == "book" else [OKX_TIME]
    if (provider, feed) == ("binance", "funding"):
        first = []
    with pytest.raises(ProviderUnavailable):
        told(provider, use, *first, body)


@pytest.mark.parametrize("feed", ["trades", "funding", "book"])
@pytest.mark.parametrize(("provider", "instrument"), MARKETS, ids=lambda v: getattr(v, "symbol", v))
def test_unknown_markets_are_named(asked, provider, instrument, feed):
    if feed == "funding" and instrument.entity_type == "cryptopair":
        return
    nowhere = Instrument(instrument.entity_type, "nope", "NOPE/USDT", "NOPE")
    use = order_book(nowhere, 5) if feed == "book" else parts_of(feed, nowhere, T - HOUR_MS, T)
    with pytest.raises(PairNotFound, match="NOPE/USDT"):
        asked(provider, use)


@pytest.mark.parametrize(("provider", "instrument"), MARKETS[::2], ids=lambda v: getattr(v, "symbol", v))
def test_pairs_have_no_funding_events(asked, box, provider, instrument):
    with pytest.raises(NotSupported, match="BTC/USDT"):
        asked(provider, parts_of("funding", instrument, T - DAY_MS, T))
    assert not box.requests


def lines(name):
    with gzip.open(REAL / "captures" / name, "rt") as file:
        return file.read().splitlines()


def frames(name, channel):
    """The payloads of a capture's frames of a channel."""
    texts = (line.split(": ", 1)[1] for line in lines(name) if line[:1].isdigit())
    return [frame for frame in map(json.loads, texts) if channel in json.dumps(frame)]


def assert_book_is(book, bids, asks, sequence):
    row = book.to_pylist()[0]
    for side, levels in (("bids", bids), ("asks", asks)):
        wanted = [[float(level[0]), float(level[1])] for level in levels]
        assert json.loads(row[side]) == wanted
    assert (row["best_bid"], row["best_ask"]) == (float(bids[0][0]), float(asks[0][0]))
    assert row["sequence"] == sequence and row["depth"] == 1000


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "instrument"),
    [("BINANCE.http.0.0.gz", BINANCE_SPOT), ("BINANCE_FUTURES.http.0.0.gz", BINANCE_PERP)],
)
def test_recorded_books_of_binance(told, name, instrument):
    answers = [line.split(": ", 1)[1] for line in lines(name) if "/depth?" in line]
    assert len(answers) == 4
    for text in answers:
        answer = json.loads(text)
        book, _ = told("binance", order_book(instrument, 1000), text, BINANCE_TIME)
        assert_book_is(book, answer["bids"], answer["asks"], answer["lastUpdateId"])
        assert book["ts"][0].as_py() == answer.get("T", book["ts"][0].as_py())
        assert len(answer["bids"]) > 100


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "instrument"),
    [("BINANCE.ws.1.0.gz", BINANCE_SPOT), ("BINANCE_FUTURES.ws.1.0.gz", BINANCE_PERP)],
)
def test_recorded_aggregates_of_binance(told, name, instrument):
    events = [frame["data"] for frame in frames(name, "aggTrade")]
    by_market = {event["s"]: [e for e in events if e["s"] == event["s"]] for event in events}
    assert len(by_market) >= 2
    for theirs in by_market.values():
        # A stream's event is a row of the answer, with three names of its own.
        page = [{key: value for key, value in event.items() if key not in "eEs"} for event in theirs]
        start, end = theirs[0]["T"], theirs[-1]["T"] + 1
        clock = [] if instrument is BINANCE_SPOT else [{"serverTime": end}]
        parts, _ = told("binance", parts_of("trades", instrument, start, end), *clock, page, [])
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
def test_recorded_payloads_of_binance(told):
    depth = (REAL / "payloads/binance/spot/http_json/depth_response.json").read_text()
    book, _ = told("binance", order_book(BINANCE_SPOT, 1000), depth, BINANCE_TIME)
    assert_book_is(book, json.loads(depth)["bids"], json.loads(depth)["asks"], 1027024)
    event = json.loads((REAL / "payloads/binance/futures/market_data_json/agg_trade_stream.json").read_text())
    use = parts_of("trades", BINANCE_PERP, event["T"], event["T"] + 1)
    parts, _ = told("binance", use, {"serverTime": event["T"] + 1}, [event], [])
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


def okx_payload(name):
    return (REAL / f"payloads/okx/http_get_{name}.json").read_text()


@pytest.mark.real_data
def test_recorded_trades_of_okx(told):
    theirs = json.loads(okx_payload("trades"))["data"]
    end = int(theirs[0]["ts"]) + 1
    clock = okx([{"ts": str(end)}])
    use = parts_of("trades", OKX_SPOT, int(theirs[-1]["ts"]), end)
    parts, _ = told("okx", use, clock, okx_payload("trades"), okx([]))
    assert rows_of(parts) == [okx_row(row, float(row["sz"])) for row in theirs]


def okx_row(row, volume):
    return {
        "ts": int(row["ts"]),
        "trade_id": row["tradeId"],
        "price": float(row["px"]),
        "volume": volume,
        "side": row["side"],
        "nanosecond": None,
    }


UNI = Instrument("cryptoperp", "uniusd-uni", "UNI/USD:UNI", "UNI-USD-SWAP", contract_size=10.0, inverse=True)


@pytest.mark.real_data
@pytest.mark.parametrize("instrument", [OKX_SPOT, UNI], ids=lambda i: i.symbol)
def test_recorded_events_of_okx(told, instrument):
    """A trade and a book of the stream have the fields of the answers."""
    with_data = [frame for frame in frames("OKX.ws.1.0.gz", instrument.native_id) if "data" in frame]
    of_market = [frame for frame in with_data if frame["arg"]["instId"] == instrument.native_id]

    def volume(row, price, size):
        return 10.0 * float(row[size]) / float(row[price]) if instrument.inverse else float(row[size])

    theirs = [row for frame in of_market if frame["arg"]["channel"] == "trades" for row in frame["data"]]
    theirs.sort(key=lambda row: -int(row["tradeId"]))
    end = int(theirs[0]["ts"]) + 1
    use = parts_of("trades", instrument, int(theirs[-1]["ts"]), end)
    parts, _ = told("okx", use, okx([{"ts": str(end)}]), okx(theirs), okx([]))
    assert rows_of(parts) == [okx_row(row, volume(row, "px", "sz")) for row in theirs]
    snapshot = next(frame["data"][0] for frame in of_market if frame.get("action") == "snapshot")
    book, _ = told("okx", order_book(instrument, 400), okx([snapshot]))
    row = book.to_pylist()[0]
    assert (row["ts"], row["sequence"]) == (int(snapshot["ts"]), None)
    for side in ("bids", "asks"):
        assert len(snapshot[side]) > 50
        assert json.loads(row[side]) == [[float(level[0]), volume(level, 0, 1)] for level in snapshot[side]]


@pytest.mark.real_data
def test_recorded_funding_and_book_of_okx(told):
    theirs = json.loads(okx_payload("funding_rate_history"))["data"]
    end = int(theirs[0]["fundingTime"]) + 1
    use = parts_of("funding", OKX_LINEAR, int(theirs[-1]["fundingTime"]), end)
    parts, _ = told("okx", use, okx([{"ts": str(end)}]), okx_payload("funding_rate_history"), okx([]))
    assert rows_of(parts) == [
        {"ts": int(row["fundingTime"]), "funding_rate": float(row["realizedRate"]), "mark_price": None}
        for row in theirs
    ]
    answer = json.loads(okx_payload("order_book"))["data"][0]
    book, _ = told("okx", order_book(OKX_SPOT, 1000), okx_payload("order_book"))
    assert_book_is(book, answer["bids"], answer["asks"], None)


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
    parts = replayed(market, parts_of("trades", BINANCE_SPOT, day, day + DAY_MS))
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
