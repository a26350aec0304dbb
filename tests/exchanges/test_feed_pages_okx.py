"""Trades, funding events and order books of OKX: what it answers, in our columns."""

import json

import pytest
from captures import captured_frames
from venue_helpers import after_the_clocks, book_of, order_book, parts_of, read_book, rows_of, spans

from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, parse_time
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.schemas import FUNDING

PROVIDER = "okx"
SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC-USDT")
LINEAR = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTC-USDT-SWAP", contract_size=0.01)
INVERSE = Instrument(
    "cryptoperp", "btcusd-btc", "BTC/USD:BTC", "BTC-USD-SWAP", contract_size=100.0, inverse=True
)
UNI = Instrument("cryptoperp", "uniusd-uni", "UNI/USD:UNI", "UNI-USD-SWAP", contract_size=10.0, inverse=True)
T = parse_time("2024-06-10T12:00:00Z")


def answer(rows):
    return {"code": "0", "msg": "", "data": rows}


CLOCK = answer([{"ts": str(T)}])


def trade(number, ts, side="buy", price="42000.5", size="2"):
    return {
        "instId": "BTC-USDT",
        "side": side,
        "sz": size,
        "source": "0",
        "px": price,
        "tradeId": str(number),
        "ts": str(ts),
    }


def test_goes_on_by_id_where_a_page_is_cut_inside_a_millisecond(queried):
    pages = [
        answer([trade(9, T - 10), trade(8, T - 20), trade(7, T - 20)]),
        answer([trade(6, T - 20), trade(5, T - 20), trade(4, T - 40)]),
        answer([trade(3, T - 60)]),
    ]
    parts, queries = queried(parts_of("trades", SPOT, T - 50, T), CLOCK, *pages)
    assert [row["trade_id"] for row in rows_of(parts)] == list("987654")
    assert spans(parts) == [(T - 19, T), (T - 39, T - 19), (T - 50, T - 39)]
    assert queries[1:] == [
        {"instId": "BTC-USDT", "type": "2", "after": str(T)},
        {"instId": "BTC-USDT", "type": "1", "after": "7"},
        {"instId": "BTC-USDT", "type": "1", "after": "4"},
    ]


@pytest.mark.parametrize(
    ("instrument", "volume"),
    [(SPOT, 2.0), (LINEAR, 0.02), (INVERSE, 0.005)],
    ids=lambda value: getattr(value, "symbol", value),
)
def test_trades_are_in_base_currency(told, instrument, volume):
    page = answer([trade(5, T - 1, "sell", "40000", "2"), trade(4, T - DAY_MS)])
    parts, _ = told(parts_of("trades", instrument, T - 100, T), CLOCK, page)
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


def test_funding_is_what_was_paid(queried):
    rows = [
        {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "fundingRate": "0.0001515032",
         "realizedRate": "0.00015", "fundingTime": str(T - 1)},
        {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "fundingRate": "-0.1",
         "realizedRate": "-0.00002", "fundingTime": str(T - DAY_MS)},
    ]  # fmt: skip
    parts, queries = queried(parts_of("funding", LINEAR, T - HOUR_MS, T), CLOCK, answer(rows))
    assert parts[0].rows.schema.equals(FUNDING)
    assert rows_of(parts) == [{"ts": T - 1, "funding_rate": 0.00015, "mark_price": None}]
    assert queries[1:] == [{"instId": "BTC-USDT-SWAP", "after": str(T), "limit": "400"}]


def test_funding_of_three_months_is_one_request(asked, box):
    start = box.market.now() - 88 * DAY_MS
    parts = asked(after_the_clocks(parts_of("funding", LINEAR, start, T), box))
    wanted = box.market.fundings("BTC/USDT:USDT", start, T)
    assert sorted(row["ts"] for row in rows_of(parts)) == wanted.ts.tolist()
    assert len(box.requests) == 1 and spans(parts) == [(start, T)]


@pytest.mark.parametrize(
    ("instrument", "volumes"),
    [(SPOT, (3.0, 7.0)), (LINEAR, (0.03, 0.07)), (INVERSE, (0.0075, 0.0175))],
    ids=lambda value: getattr(value, "symbol", "volumes"),
)
@pytest.mark.parametrize("sequence", [None, 3235851742])
def test_books_are_in_base_currency(queried, instrument, volumes, sequence):
    state = {"asks": [["40000", "7", "0", "2"]], "bids": [["40000", "3", "0", "1"]], "ts": str(T)}
    state |= {} if sequence is None else {"seqId": sequence}
    book, queries = queried(order_book(instrument, 2), answer([state]))
    row = book.to_pylist()[0]
    assert (row["ts"], row["sequence"], row["depth"]) == (T, sequence, 2)
    assert (json.loads(row["bids"]), json.loads(row["asks"])) == (
        [[40000.0, volumes[0]]],
        [[40000.0, volumes[1]]],
    )
    assert queries[0] == {"instId": instrument.native_id, "sz": "2"}


@pytest.mark.parametrize(
    ("instrument", "feed", "body"),
    [
        (LINEAR, "trades", {"code": "0", "msg": ""}),
        (LINEAR, "trades", answer([{"tradeId": "1", "px": "1"}])),
        (LINEAR, "funding", answer([{"fundingTime": str(T - 1), "realizedRate": ""}])),
        (LINEAR, "book", answer([])),
        (LINEAR, "book", answer([{"ts": str(T), "asks": [], "bids": None}])),
    ],
)
def test_answers_of_another_form_are_refused(told, instrument, feed, body):
    use = order_book(instrument, 5) if feed == "book" else parts_of(feed, instrument, T - DAY_MS, T)
    with pytest.raises(ProviderUnavailable):
        told(use, *([] if feed == "book" else [CLOCK]), body, max_attempts=1)


def stored_trade(row, volume):
    return {
        "ts": int(row["ts"]),
        "trade_id": row["tradeId"],
        "price": float(row["px"]),
        "volume": volume,
        "side": row["side"],
        "nanosecond": None,
    }


@pytest.mark.real_data
def test_recorded_trades(told, payload):
    theirs = json.loads(payload("get_trades"))["data"]
    end = int(theirs[0]["ts"]) + 1
    clock = answer([{"ts": str(end)}])
    use = parts_of("trades", SPOT, int(theirs[-1]["ts"]), end)
    parts, _ = told(use, clock, payload("get_trades"), answer([]))
    assert rows_of(parts) == [stored_trade(row, float(row["sz"])) for row in theirs]


@pytest.mark.real_data
@pytest.mark.parametrize("instrument", [SPOT, UNI], ids=lambda i: i.symbol)
def test_recorded_events(told, instrument):
    """A trade and a book of the stream have the fields of the answers."""
    with_data = [frame for frame in captured_frames("OKX.ws.1.0.gz", instrument.native_id) if "data" in frame]
    of_market = [frame for frame in with_data if frame["arg"]["instId"] == instrument.native_id]

    def volume(row, price, size):
        return 10.0 * float(row[size]) / float(row[price]) if instrument.inverse else float(row[size])

    theirs = [row for frame in of_market if frame["arg"]["channel"] == "trades" for row in frame["data"]]
    theirs.sort(key=lambda row: -int(row["tradeId"]))
    end = int(theirs[0]["ts"]) + 1
    use = parts_of("trades", instrument, int(theirs[-1]["ts"]), end)
    parts, _ = told(use, answer([{"ts": str(end)}]), answer(theirs), answer([]))
    assert rows_of(parts) == [stored_trade(row, volume(row, "px", "sz")) for row in theirs]
    snapshot = next(frame["data"][0] for frame in of_market if frame.get("action") == "snapshot")
    book, _ = told(order_book(instrument, 400), answer([snapshot]))
    row = book.to_pylist()[0]
    assert (row["ts"], row["sequence"]) == (int(snapshot["ts"]), None)
    for side in ("bids", "asks"):
        assert len(snapshot[side]) > 50
        assert json.loads(row[side]) == [[float(level[0]), volume(level, 0, 1)] for level in snapshot[side]]


@pytest.mark.real_data
def test_recorded_funding_and_book(told, payload):
    theirs = json.loads(payload("get_funding_rate_history"))["data"]
    end = int(theirs[0]["fundingTime"]) + 1
    use = parts_of("funding", LINEAR, int(theirs[-1]["fundingTime"]), end)
    parts, _ = told(use, answer([{"ts": str(end)}]), payload("get_funding_rate_history"), answer([]))
    assert rows_of(parts) == [
        {"ts": int(row["fundingTime"]), "funding_rate": float(row["realizedRate"]), "mark_price": None}
        for row in theirs
    ]
    state = json.loads(payload("get_order_book"))["data"][0]
    book, _ = told(order_book(SPOT, 1000), payload("get_order_book"))
    assert read_book(book) == book_of(state, None)
