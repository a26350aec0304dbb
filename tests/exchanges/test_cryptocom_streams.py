"""Crypto.com's streams: documented frames value by value, answers, and that streamed rows equal REST's.

Nothing was recorded there: the frames are those of its documents and of ccxt's comments, with the fields that
came later.
"""

import asyncio
import json
import time

import ccxt.pro
import msgspec
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_helpers import apply, messages_of, reader_of, renamed, sent_by_ccxt, table_of
from venue_helpers import candles, order_book, parts_of, read_book, rows_of

from zvt_crypto.core.levels import HOUR_MS, LEVEL_MS
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import kdata
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.cryptocom import Cryptocom
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import BookUpdate, Candles, Confirmed, Funding, Refused, Topic, Trades
from zvt_crypto.exchanges.wire import Wire

assert kdata
PROVIDER = "cryptocom"
STREAMS = Cryptocom.streams
PAIR = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC_USDT")
PERP = Instrument("cryptoperp", "btcusd", "BTC/USD:USD", "BTCUSD-PERP", contract_size=1.0)
MARKETS = pytest.mark.parametrize("instrument", [PAIR, PERP], ids=lambda i: i.symbol)
FEEDS = {"trades": {}, "candles": {"level": "1m"}, "order_book": {"depth": 50}, "funding": {}}
NS = 1_000_000
START = 1_782_032_400_000


def topic_of(feed, instrument=PERP):
    return Topic(feed, instrument, **FEEDS[feed])


TOPICS = [topic_of(feed) for feed in FEEDS]


def data(channel, subscription, *rows, number=-1, **more):
    result = {"instrument_name": subscription.split(".")[1], "subscription": subscription, "channel": channel}
    return {"id": number, "method": "subscribe", "code": 0, "result": {**result, **more, "data": list(rows)}}


def trade(ns, price="63958.47", amount="0.04333", side="SELL", **more):
    return {"d": str(ns), "t": ns // NS, "p": price, "q": amount, "s": side, "i": "BTCUSD-PERP",
            "m": "4611686018731788404", **more}  # fmt: skip


CANDLE = {"o": "64349.71", "h": "64356.28", "l": "64349.71", "c": "64356.28", "v": "0.22838", "t": START, "ut": START + 35_996}  # fmt: skip
BOOK = {
    "asks": [["2749.62", "0.2008", "2"], ["2749.79", "0.0001", "1"]],
    "bids": [["2749.61", "0.0786", "2"], ["2749.59", "0.0001", "1"]],
    "t": 1790114273395, "tt": 1790114273346, "u": 375554806244928, "cs": -1183713967,
}  # fmt: skip
CHANGE = {
    "update": {
        "asks": [["2749.62", "0", "0"], ["2753.11", "0.2616", "1"]],
        "bids": [["2749.61", "0.0700", "1"]],
    },
    "t": 1790114273659, "tt": 1790114273655, "u": 375554807336512, "pu": 375554806244928, "cs": 1522984915,
}  # fmt: skip
FRAMES = {
    "trade": data("trade", "trade.BTCUSD-PERP", trade(1782032437671850129)),
    "candlestick": data("candlestick", "candlestick.1m.BTCUSD-PERP", CANDLE, interval="1m"),
    "book": data("book", "book.BTCUSD-PERP.50", BOOK, depth=50),
    "book.update": data("book.update", "book.BTCUSD-PERP.50", CHANGE, depth=50),
    "mark": data("mark", "mark.BTCUSD-PERP", {"v": "86176.3", "t": 1790114562000}),
    "funding": data("funding", "funding.BTCUSD-PERP", {"v": "-0.000004992", "t": 1790114525000}),
}


# Documented frames


def test_trades():
    [message] = messages_of(STREAMS, TOPICS, [FRAMES["trade"]])
    assert message.topic is TOPICS[0]
    table = table_of(STREAMS, [message])
    assert table.schema.equals(TRADES)
    assert table.to_pylist() == [
        {"ts": 1782032437671, "trade_id": "1782032437671850129", "price": 63958.47, "volume": 0.04333,
         "side": "sell", "nanosecond": 850_129}
    ]  # fmt: skip


def test_the_documents_trade_whose_id_is_no_time():
    row = {"d": "2030407068", "t": 1613581138462, "p": "51327.500000", "q": "0.000100", "s": "SELL",
           "i": "BTCUSD-PERP"}  # fmt: skip
    [message] = messages_of(STREAMS, TOPICS, [data("trade", "trade.BTCUSD-PERP", row, number=1)])
    assert table_of(STREAMS, [message]).to_pylist() == [
        {"ts": 1613581138462, "trade_id": "2030407068", "price": 51327.5, "volume": 0.0001, "side": "sell",
         "nanosecond": None}
    ]  # fmt: skip


def test_a_candle():
    [message] = messages_of(STREAMS, TOPICS, [FRAMES["candlestick"]])
    assert message.topic is TOPICS[1]
    assert table_of(STREAMS, [message]).to_pylist() == [
        {"ts": START, "open": 64349.71, "high": 64356.28, "low": 64349.71, "close": 64356.28,
         "volume": 0.22838, "turnover": None, "trade_count": None, "is_closed": None}
    ]  # fmt: skip


def test_a_book():
    whole, change = messages_of(STREAMS, TOPICS, [FRAMES["book"], FRAMES["book.update"]])
    topic = TOPICS[2]
    bids, asks = [(2749.61, 0.0786), (2749.59, 0.0001)], [(2749.62, 0.2008), (2749.79, 0.0001)]
    assert whole == BookUpdate(topic, True, bids, asks, 375554806244928, ts=1790114273395)
    assert change == BookUpdate(
        topic, False, [(2749.61, 0.07)], [(2749.62, 0.0), (2753.11, 0.2616)], 375554807336512,
        previous=375554806244928, ts=1790114273659,
    )  # fmt: skip
    state = {}
    for update in (whole, change):
        apply(state, update)
    assert list(state["asks"].values()) == [(2749.79, 0.0001), (2753.11, 0.2616)]
    assert list(state["bids"].values()) == [(2749.61, 0.07), (2749.59, 0.0001)]


def test_a_quiet_book_is_told_of_with_the_number_that_it_has():
    idle = {**CHANGE, "update": {"asks": [], "bids": []}, "pu": CHANGE["u"]}
    frame = data("book.update", "book.BTCUSD-PERP.50", idle, depth=50)
    [update] = messages_of(STREAMS, TOPICS, [frame])
    assert (update.last, update.previous, update.bids, update.asks) == (CHANGE["u"], CHANGE["u"], [], [])


def test_funding_is_of_the_payment_at_the_end_of_the_hour():
    mark, rate = messages_of(STREAMS, TOPICS, [FRAMES["mark"], FRAMES["funding"]])
    topic = TOPICS[3]
    assert mark == Funding(topic, 1790114562000, mark_price=86176.3)
    assert rate == Funding(topic, 1790114525000, rate=-0.000004992, next_ts=1790114400000 + HOUR_MS)
    on_the_hour = data("funding", "funding.BTCUSD-PERP", {"v": "0.1", "t": START})
    assert messages_of(STREAMS, TOPICS, [on_the_hour])[0].next_ts == START + HOUR_MS


# As over REST

MADE = st.builds(
    trade,
    st.integers(START * NS, (START + HOUR_MS) * NS - 1),
    st.decimals("0.00000001", "99999999.99999999", places=8).map(str),
    st.decimals("0.00000001", "99999999.99999999", places=8).map(str),
    st.sampled_from(["BUY", "SELL"]),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MADE, min_size=1, max_size=20, unique_by=lambda row: row["d"]), st.sampled_from([PAIR, PERP]))
def test_streamed_trades_are_those_of_rest(told, rows, instrument):
    """Over REST there is ``tn``, and sides are in small letters; ids are the time in ns."""
    answered = [{**row, "tn": int(row["d"]), "s": row["s"].lower()} for row in rows]
    answered.append({**answered[0], "d": "1", "t": START - 1, "tn": START * NS - 1})
    answer = {"id": -1, "method": "public/get-trades", "code": 0, "result": {"data": answered}}
    parts, _ = told(parts_of("trades", instrument, START, START + HOUR_MS), answer)
    frame = data("trade", f"trade.{instrument.native_id}", *rows)
    streamed = table_of(STREAMS, messages_of(STREAMS, [topic_of("trades", instrument)], [frame])).to_pylist()
    by_id = [sorted(found, key=lambda row: row["trade_id"]) for found in (streamed, rows_of(parts))]
    assert by_id[0] == by_id[1]


def test_nanoseconds_are_taken_where_they_are_told():
    rows = [trade(1782032437671850129, tn=1782032437671000001), trade(1782032437671850130)]
    rows.append({**trade(1782032437672000000), "d": "17820324376720000xx"})
    rows.append({**trade(1782032437673000000), "d": "9999999999999000000"})
    [message] = messages_of(STREAMS, TOPICS, [data("trade", "trade.BTCUSD-PERP", *rows)])
    assert table_of(STREAMS, [message])["nanosecond"].to_pylist() == [1, 850_130, None, None]


@MARKETS
@pytest.mark.parametrize("level", LEVEL_MS)
def test_streamed_candles_are_those_of_rest(told, instrument, level):
    topic = Topic("candles", instrument, level=level)
    row = {**CANDLE, "t": START // LEVEL_MS[level] * LEVEL_MS[level]}
    end = row["t"] + LEVEL_MS[level]
    answer = {"code": 0, "result": {"data": [row]}}
    page, _ = told(candles(instrument, row["t"], end, level), answer)
    [request] = STREAMS.subscribe([topic], 1)
    frame = data("candlestick", request["params"]["channels"][0], row)
    table = table_of(STREAMS, messages_of(STREAMS, [topic], [frame]))
    assert table.drop_columns(["is_closed"]).equals(page)
    assert table.drop_columns(["is_closed"]).schema.equals(
        tables.candles(instrument.entity_type, level).schema
    )
    assert str(table.schema.field("is_closed").type) == "bool"


@MARKETS
def test_a_streamed_book_is_that_of_rest(told, instrument):
    answer = {"code": 0, "result": {"depth": 50, "data": [BOOK]}}
    row, _ = told(order_book(instrument, 50), answer)
    topic = topic_of("order_book", instrument)
    frame = data("book", f"book.{instrument.native_id}.50", BOOK, depth=50)
    [update] = messages_of(STREAMS, [topic], [frame])
    found = read_book(row)
    assert [list(level) for level in update.bids] == found["bids"]
    assert [list(level) for level in update.asks] == found["asks"]
    assert update.ts == row["ts"][0].as_py()


def test_trades_come_oldest_first_whatever_their_order():
    newest_first = [trade(START * NS + n) for n in (3 * NS, 7, 5)]
    for rows in (newest_first, newest_first[::-1]):
        [message] = messages_of(STREAMS, TOPICS, [data("trade", "trade.BTCUSD-PERP", *rows)])
        assert [int(row.d) - START * NS for row in message.rows] == [5, 7, 3 * NS]


# Answers, and frames that say something else


def answered(number, code=0, **more):
    return {"id": number, "method": "subscribe", "code": code, **more}


def test_a_confirmation_names_its_channel():
    frames = [answered(1, channel="book.BTCUSD-PERP.50"), answered(2), answered(2, channel="book.X.10")]
    assert messages_of(STREAMS, TOPICS, frames) == [Confirmed((TOPICS[2],))]


@pytest.mark.parametrize("channel", ["trade.BTCUSD-PERP", "candlestick.1m.BTCUSD-PERP"])
def test_a_market_without_rows_is_confirmed_all_the_same(channel):
    frame = data(channel.split(".")[0], channel, number=7)
    [confirmed] = messages_of(STREAMS, TOPICS, [frame])
    assert [STREAMS.subscribe([topic], 1)[0]["params"]["channels"] for topic in confirmed.topics] == [
        [channel]
    ]


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (
            answered(11, 40003, channel="book.BTCUSD-PERP.50", message="Unknown symbol"),
            [Refused(TOPICS[2], "Unknown symbol (40003)")],
        ),
        (
            answered(11, 40003, channel="mark.BTCUSD-PERP", message="Unsupported instrument"),
            [Refused(TOPICS[3], "Unsupported instrument (40003)")],
        ),
        (
            answered(11, "40003", message="Unrecognized channel"),
            [Refused(None, "Unrecognized channel (40003)")],
        ),
        (
            answered(0, 10004, message='invalid channel {"channels":["trade.BTCUSD-PERP"]}'),
            [Refused(None, 'invalid channel {"channels":["trade.BTCUSD-PERP"]} (10004)')],
        ),
        (answered(11, 40003, channel="book.OTHER.50", message="Unknown symbol"), []),
        (answered(11, 50001, message="Internal error"), []),
        (answered(11, 42901, message="TOO_MANY_REQUESTS"), []),
        (answered(9, 40107, message="Maximum subscriptions exceeded"), []),
        ({"id": 12, "method": "unsubscribe", "code": 40003, "message": "Unknown symbol"}, []),
    ],
)
def test_an_error_refuses_what_it_names_and_only_if_it_lasts(error, refused):
    assert messages_of(STREAMS, TOPICS, [error, FRAMES["mark"]])[:-1] == refused


FIELDS = [
    *((kind, (name,)) for kind in FRAMES for name in ("method", "result")),
    *((kind, ("result", name)) for kind in FRAMES for name in ("channel", "subscription", "data")),
    *(("trade", ("result", "data", 0, name)) for name in "dtpqs"),
    *(("candlestick", ("result", "data", 0, name)) for name in "tohlcv"),
    *(("book", ("result", "data", 0, name)) for name in ("asks", "bids", "t", "u")),
    *(("book.update", ("result", "data", 0, name)) for name in ("update", "t", "u", "pu")),
    *(("book.update", ("result", "data", 0, "update", name)) for name in ("asks", "bids")),
    *((kind, ("result", "data", 0, name)) for kind in ("mark", "funding") for name in "vt"),
]


@pytest.mark.parametrize(
    ("kind", "path"), FIELDS, ids=lambda value: value if isinstance(value, str) else str(value[-1])
)
def test_a_renamed_field_cannot_be_read(kind, path):
    assert len(messages_of(STREAMS, TOPICS, [FRAMES[kind]])) == 1
    with pytest.raises(msgspec.DecodeError):
        messages_of(STREAMS, TOPICS, [renamed(FRAMES[kind], path)])


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"method":"subscribe"', json.dumps(data("settlement", "settlement.BTCUSD-PERP")),
     json.dumps(data("trade", "trade.BTCUSD-PERP", trade(1, price="ten"))),
     json.dumps(data("book", "book.BTCUSD-PERP.50", {**BOOK, "bids": [["1"]]}))],
)  # fmt: skip
def test_what_cryptocom_does_not_document_cannot_be_read(text):
    with pytest.raises(msgspec.DecodeError):
        reader_of(STREAMS, *TOPICS).read(text)


def test_what_is_not_expected_is_of_no_interest():
    reader = reader_of(STREAMS, *TOPICS)
    reader.forget([TOPICS[0], TOPICS[3]])
    others = [
        FRAMES["trade"], FRAMES["mark"], FRAMES["funding"], {"id": 3, "method": "unsubscribe", "code": 0},
        data("book", "book.BTCUSD-PERP.10", BOOK), data("trade", "trade.ETHUSD-PERP", trade(1)),
    ]  # fmt: skip
    assert [list(reader.read(json.dumps(frame))) for frame in others] == [[]] * len(others)
    kinds = [type(reader.read(json.dumps(FRAMES[kind]))[0]) for kind in ("candlestick", "book")]
    assert kinds == [Candles, BookUpdate]


def test_heartbeats_are_answered_by_ccxt(quick):
    """Over a socket: ccxt's own class reads what our reader leaves to it."""
    answers = asyncio.Queue()
    number = 1587523073344

    async def handle(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"id": number, "method": "public/heartbeat", "code": 0})
        await socket.send_json(FRAMES["trade"])
        async for message in socket:
            answers.put_nowait((request.path, message.json()))
        return socket

    async def main():
        runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, read = reader_of(STREAMS, *TOPICS), []

        def on_frame(text):
            messages = reader.read(text)
            read.extend(messages or ())
            return messages is not None

        try:
            async with Wire("cryptocom", quick(f"http://127.0.0.1:{runner.addresses[0][1]}")) as wire:
                line = await wire.connect(STREAMS.endpoint(TOPICS[0]), on_frame)
                answer = await asyncio.wait_for(answers.get(), 10)
                await line.close()
            return answer, read
        finally:
            await runner.cleanup()

    (path, answer), read = asyncio.run(main())
    assert path == "/stream.crypto.com/exchange/v1/market"
    assert answer == {"id": number, "method": "public/respond-heartbeat"}
    assert [type(message) for message in read] == [Trades]


# What is sent

CCXT_MARKETS = {
    "cryptopair": {"id": "BTC_USDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "type": "spot", "spot": True},
    "cryptoperp": {"id": "BTCUSD-PERP", "symbol": "BTC/USD:USD", "base": "BTC", "quote": "USD", "settle": "USD", "type": "swap", "spot": False, "swap": True, "contract": True},
}  # fmt: skip


@MARKETS
@pytest.mark.parametrize(
    ("feed", "call"), [("trades", "watch_trades_for_symbols"), ("order_book", "watch_order_book_for_symbols")]
)
def test_subscribes_where_and_as_ccxt_does(instrument, feed, call):
    """With an id, and with parameters of books by their documented names."""
    topic = topic_of(feed, instrument)
    before = time.time_ns() // NS
    market = CCXT_MARKETS[instrument.entity_type]
    url, sent = sent_by_ccxt("cryptocom", market, call, [instrument.symbol])
    assert url == STREAMS.endpoint(topic)
    [ours] = STREAMS.subscribe([topic], 7)
    assert before <= ours["nonce"] <= time.time_ns() // NS
    assert ours["params"]["channels"] == sent["params"]["channels"]
    assert {**ours, "params": sent["params"], "nonce": sent["nonce"]} == {**sent, "id": 7}
    if feed == "order_book":
        assert ours["params"]["book_subscription_type"] == sent["params"]["bookSubscriptionType"]
        assert ours["params"]["book_update_frequency"] == 100
    [end] = STREAMS.unsubscribe([topic], 8)
    channels = ours["params"]["channels"]
    assert {**end, "nonce": 0} == {
        "id": 8,
        "method": "unsubscribe",
        "params": {"channels": channels},
        "nonce": 0,
    }


def test_candles_have_the_names_that_ccxt_has_for_them():
    timeframes = ccxt.pro.cryptocom().timeframes
    assert STREAMS.levels == tuple(LEVEL_MS)
    for level in LEVEL_MS:
        [frame] = STREAMS.subscribe([Topic("candles", PAIR, level=level)], 1)
        assert frame["params"] == {"channels": [f"candlestick.{timeframes[level]}.BTC_USDT"]}


def test_books_have_a_frame_of_their_own():
    others, books = STREAMS.subscribe([*TOPICS, Topic("order_book", PAIR, depth=10)], 1)
    assert others["params"] == {
        "channels": [
            "trade.BTCUSD-PERP",
            "candlestick.1m.BTCUSD-PERP",
            "funding.BTCUSD-PERP",
            "mark.BTCUSD-PERP",
        ]
    }
    assert books["params"]["channels"] == ["book.BTCUSD-PERP.50", "book.BTC_USDT.10"]


def test_all_that_fits_in_a_connection_is_within_what_cryptocom_allows():
    perpetuals = [Instrument("cryptoperp", f"c{n}", f"C{n}/USD:USD", f"C{n}USD-PERP") for n in range(1000)]
    topics = [topic_of("funding", perpetual) for perpetual in perpetuals[: STREAMS.limits.topics]]
    [frame] = STREAMS.subscribe(topics, 1)
    assert len(frame["params"]["channels"]) <= 400


def test_serves_what_cryptocom_streams():
    assert all(STREAMS.serves(topic) for topic in TOPICS)
    assert not STREAMS.serves(topic_of("funding", PAIR))
    assert STREAMS.serves(Topic("candles", PAIR, level="1d"))
    assert not STREAMS.serves(Topic("candles", PAIR, level="3m"))
