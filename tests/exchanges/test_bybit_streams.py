"""Bybit's streams: recorded frames value by value, answers, and that streamed rows equal REST's."""

import json

import msgspec
import pytest
from captures import REAL
from hypothesis import given
from hypothesis import strategies as st
from stream_helpers import messages_of, reader_of, renamed, sent_by_ccxt, table_of
from venue_helpers import candles, parts_of, rows_of

from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.bybit import Bybit
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import BookUpdate, Confirmed, Funding, Refused, Topic

PROVIDER = "bybit"
STREAMS = Bybit.streams
SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
LINEAR = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTCUSDT", contract_size=1.0)
INVERSE = Instrument("cryptoperp", "btcusd-btc", "BTC/USD:BTC", "BTCUSD", contract_size=1.0, inverse=True)
MARKETS = pytest.mark.parametrize("instrument", [SPOT, LINEAR, INVERSE], ids=lambda i: i.symbol)

#: The samples of Bybit's documents, of BTCUSDT.
FRAMES = {
    "trades": {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1672304486868, "data": [{"T": 1672304486865, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "16578.50", "L": "PlusTick", "i": "20f43950-d8dd-5b31-9112-a178eb6023af", "BT": False}]},
    "candles": {"topic": "kline.5.BTCUSDT", "data": [{"start": 1672324800000, "end": 1672325099999, "interval": "5", "open": "16649.5", "close": "16677", "high": "16677", "low": "16608", "volume": "2.081", "turnover": "34666.4005", "confirm": False, "timestamp": 1672324988882}], "ts": 1672324988882, "type": "snapshot"},
    "order_book": {"topic": "orderbook.50.BTCUSDT", "type": "delta", "ts": 1687940967466, "data": {"s": "BTCUSDT", "b": [["30247.20", "30.028"], ["30245.40", "0"]], "a": [["30248.70", "0"], ["30249.30", "0.892"]], "u": 177400507, "seq": 66544703342}, "cts": 1687940967464},
    "funding": {"topic": "tickers.BTCUSDT", "type": "snapshot", "data": {"symbol": "BTCUSDT", "lastPrice": "17216.00", "markPrice": "17217.33", "nextFundingTime": "1673280000000", "fundingRate": "-0.000212"}, "cs": 24987956059, "ts": 1673272861686},
}  # fmt: skip
DETAILS = {"trades": {}, "candles": {"level": "5m"}, "order_book": {"depth": 50}, "funding": {}}


def topic_of(feed, instrument=LINEAR, **details):
    return Topic(feed, instrument, **{**DETAILS[feed], **details})


def messages(frames, *topics):
    return messages_of(STREAMS, topics, frames)


def answer(**fields):
    return {
        "success": True,
        "ret_msg": "",
        "conn_id": "cejreaspqfm9se7usbrg-2xh",
        "op": "subscribe",
        **fields,
    }


def rest(rows):
    return json.dumps({"retCode": 0, "retMsg": "OK", "result": {"list": rows}, "time": 1672324988882})


# Recorded frames


def recorded(name):
    return json.loads((REAL / "payloads" / "bybit" / f"ws_{name}.json").read_text())


@pytest.mark.real_data
def test_recorded_trades():
    topic = topic_of("trades")
    # The recording has been given a topic of the recorder's own.
    frame = recorded("public_trade") | {"topic": "publicTrade.BTCUSDT"}
    assert table_of(STREAMS, messages([frame], topic)).to_pylist() == [
        {"ts": 1709891679000, "trade_id": "9dc75fca-4bdd-4773-9f78-6f5d7ab2a110", "price": 27451.0,
         "volume": 0.01, "side": "buy", "nanosecond": None}
    ]  # fmt: skip


@pytest.mark.real_data
def test_recorded_candles():
    assert table_of(STREAMS, messages([recorded("kline")], topic_of("candles"))).to_pylist() == [
        {"ts": 1672324800000, "open": 16649.5, "high": 16677.0, "low": 16608.0, "close": 16677.0,
         "volume": 2.081, "turnover": 34666.4005, "trade_count": None, "is_closed": False}
    ]  # fmt: skip


@pytest.mark.real_data
def test_recorded_books():
    topic = topic_of("order_book", depth=1)
    frames = [recorded("orderbook_snapshot"), recorded("orderbook_delta")]
    assert messages(frames, topic) == [
        BookUpdate(topic, True, [(27450.0, 0.5), (27449.5, 1.0)], [(27451.0, 0.75), (27451.5, 0.9)],
                   last=123456789, ts=1709891679000),
        BookUpdate(topic, False, [(27450.0, 0.4)], [(27451.0, 0.0)],
                   last=123456790, previous=123456789, ts=1709891679500),
    ]  # fmt: skip


@pytest.mark.real_data
def test_recorded_tickers():
    topic = topic_of("funding")
    told = messages([recorded("ticker_linear")], topic)
    assert told == [Funding(topic, 1673272861686, 17217.33, -0.000212, 1673280000000)]


@pytest.mark.real_data
def test_recorded_answers():
    # Without an id they tell nothing of a topic: ours have one.
    frames = [recorded("subscription_ack"), recorded("subscription_failure")]
    assert messages(frames, topic_of("trades")) == []
    name = "publicTrade.BTCUSDT"
    ours = [frame | {"req_id": name} for frame in frames]
    topic = topic_of("trades")
    reason = "Invalid topic: invalid.topic.BTCUSDT"
    assert messages(ours, topic) == [Confirmed((topic,)), Refused(topic, reason)]


# As over REST

DECIMALS = st.decimals("0.00000001", "99999999.99999999", places=8).map(str)
MADE = st.builds(
    lambda ts, price, amount, side, number: {
        "T": ts, "s": "BTCUSDT", "S": side, "v": amount, "p": price, "i": number, "BT": False,
    },
    st.integers(1_500_000_000_000, 2_000_000_000_000),
    DECIMALS,
    DECIMALS,
    st.sampled_from(["Buy", "Sell", ""]),
    st.one_of(st.uuids().map(str), st.integers(0, 2**63).map(str)),
)  # fmt: skip


@given(st.lists(st.lists(MADE, min_size=1, max_size=9), min_size=1, max_size=5))
def test_trades_come_out_as_they_were_sent(batches):
    frames = [FRAMES["trades"] | {"data": batch} for batch in batches]
    table = table_of(STREAMS, messages(frames, topic_of("trades", SPOT)))
    assert table.schema.equals(TRADES)
    assert table.to_pylist() == [
        {"ts": row["T"], "trade_id": row["i"], "price": float(row["p"]), "volume": float(row["v"]),
         "side": row["S"].lower() or None, "nanosecond": None}
        for batch in batches
        for row in batch
    ]  # fmt: skip


def test_no_rows_are_empty_columns():
    assert STREAMS.trades(LINEAR, []).schema.equals(TRADES)
    assert STREAMS.candles(INVERSE, "1m", []).num_rows == 0


@MARKETS
def test_streamed_trades_are_those_of_rest(told, instrument):
    amounts = [("0.00000007", "0.1"), ("69420.12345678", "123456789.876"), ("0.3", "3")]
    sent = [
        {"T": 1672304486865 + number, "s": instrument.native_id, "S": side, "v": size, "p": price,
         "i": f"{number}", "BT": False}
        for number, ((price, size), side) in enumerate(zip(amounts, ("Buy", "Sell", ""), strict=True))
    ]  # fmt: skip
    listed = [
        {"execId": row["i"], "symbol": row["s"], "price": row["p"], "size": row["v"], "side": row["S"],
         "time": str(row["T"]), "isBlockTrade": row["BT"]}
        for row in sent
    ]  # fmt: skip
    parts, _ = told(parts_of("trades", instrument, 0, 2_000_000_000_000), rest(listed))
    frame = FRAMES["trades"] | {"topic": f"publicTrade.{instrument.native_id}", "data": sent}
    table = table_of(STREAMS, messages([frame], topic_of("trades", instrument)))
    assert table.to_pylist() == rows_of(parts)


@MARKETS
@pytest.mark.parametrize("closed", [False, True])
def test_streamed_candles_are_those_of_rest(told, instrument, closed):
    row = FRAMES["candles"]["data"][0] | {"confirm": closed}
    names = ("start", "open", "high", "low", "close", "volume", "turnover")
    page, _ = told(
        candles(instrument, row["start"], row["start"] + 5 * MINUTE_MS, "5m"),
        rest([[str(row[name]) for name in names]]),
    )
    frame = FRAMES["candles"] | {"topic": f"kline.5.{instrument.native_id}", "data": [row]}
    table = table_of(STREAMS, messages([frame], topic_of("candles", instrument)))
    assert table.drop_columns(["is_closed"]).equals(page)
    assert table["is_closed"].to_pylist() == [closed]


# Books


def test_each_update_names_the_one_before_it():
    topic = topic_of("order_book")
    data = FRAMES["order_book"]["data"]
    numbers = [(7, "snapshot"), (8, "delta"), (10, "delta"), (1, "snapshot"), (2, "delta")]
    frames = [FRAMES["order_book"] | {"type": kind, "data": data | {"u": number}} for number, kind in numbers]
    told = messages(frames, topic)
    assert [(m.is_snapshot, m.previous, m.last) for m in told] == [
        (True, None, 7), (False, 7, 8), (False, 9, 10), (True, None, 1), (False, 1, 2)
    ]  # fmt: skip


LEVELS = st.lists(st.tuples(DECIMALS, st.one_of(DECIMALS, st.just("0"))), max_size=20)


@given(LEVELS, LEVELS)
def test_levels_come_out_as_they_were_sent(bids, asks):
    topic = topic_of("order_book")
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": 2, "seq": 3}
    [update] = messages([FRAMES["order_book"] | {"data": data}], topic)
    assert update.bids == [(float(price), float(size)) for price, size in bids]
    assert update.asks == [(float(price), float(size)) for price, size in asks]


def test_a_book_without_the_engines_time_has_that_of_the_message():
    frame = {name: value for name, value in FRAMES["order_book"].items() if name != "cts"}
    assert [m.ts for m in messages([FRAMES["order_book"], frame], topic_of("order_book"))] == [
        1687940967464, 1687940967466
    ]  # fmt: skip


# Funding


def ticker(kind, ts, **fields):
    return {"topic": "tickers.BTCUSDT", "type": kind, "data": {"symbol": "BTCUSDT", **fields}, "ts": ts}


def test_what_a_ticker_leaves_out_has_not_changed():
    topic = topic_of("funding")
    frames = [
        FRAMES["funding"],
        ticker("delta", 2, bid1Price="17215.50"),
        ticker("delta", 3, markPrice="17218.5"),
        ticker("delta", 4, fundingRate="0", nextFundingTime="1673308800000"),
        ticker("snapshot", 5, markPrice="", fundingRate="", nextFundingTime="0"),
        ticker("delta", 6, markPrice="1"),
    ]
    assert messages(frames, topic) == [
        Funding(topic, 1673272861686, 17217.33, -0.000212, 1673280000000),
        Funding(topic, 3, 17218.5, -0.000212, 1673280000000),
        Funding(topic, 4, 17218.5, 0.0, 1673308800000),
        Funding(topic, 5, None, None, None),
        Funding(topic, 6, 1.0, None, None),
    ]


def test_a_ticker_that_was_forgotten_begins_anew():
    topic = topic_of("funding")
    reader = reader_of(STREAMS, topic)
    reader.read(json.dumps(FRAMES["funding"]))
    reader.forget([topic])
    assert reader.read(json.dumps(FRAMES["funding"])) == ()
    reader.expect([topic])
    assert reader.read(json.dumps(ticker("delta", 2, markPrice="3"))) == (Funding(topic, 2, 3.0),)


# Frames that say something else

FIELDS = [
    *(("trades", ("data", 0, name)) for name in "TSvpi"),
    ("trades", ("data",)),
    *(("candles", ("data", 0, name)) for name in ("start", "open", "high", "low", "close")),
    *(("candles", ("data", 0, name)) for name in ("volume", "turnover", "confirm")),
    *(("order_book", ("data", name)) for name in "bau"),
    *(("order_book", (name,)) for name in ("type", "ts", "data")),
    *(("funding", ("data", name)) for name in ("markPrice", "fundingRate", "nextFundingTime")),
    *(("funding", (name,)) for name in ("type", "ts", "data")),
    *((feed, ("topic",)) for feed in FRAMES),
]


@pytest.mark.parametrize(
    ("feed", "path"), FIELDS, ids=lambda value: value if isinstance(value, str) else value[-1]
)
def test_a_renamed_field_cannot_be_read(feed, path):
    topic = topic_of(feed)
    [message] = messages([FRAMES[feed]], topic)
    assert message.topic is topic
    with pytest.raises(msgspec.DecodeError):
        messages([renamed(FRAMES[feed], path)], topic)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pong",
        "[]",
        "{}",
        '{"op":"nonsense"}',
        '{"op":"subscribe","ret_msg":"","req_id":"publicTrade.BTCUSDT"}',
        '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1,"data":[{"T":1672',
        '{"topic":"publicTrade.BTCUSDT","data":[{"T":1,"S":"Buy","v":"x","p":"1","i":"1"}]}',
        '{"topic":"publicTrade.BTCUSDT","data":[{"T":1,"S":"buy","v":"1","p":"1","i":"1"}]}',
    ],
)
def test_what_bybit_does_not_document_cannot_be_read(text):
    with pytest.raises(msgspec.DecodeError):
        reader_of(STREAMS, topic_of("trades")).read(text)


def test_blanks_between_the_values_do_not_matter():
    topic = topic_of("trades")
    [message] = messages([json.dumps(FRAMES["trades"], indent=2)], topic)
    assert message.topic is topic


def test_what_is_not_expected_is_of_no_interest():
    reader = reader_of(STREAMS, topic_of("trades"))
    others = [FRAMES["candles"], FRAMES["trades"] | {"topic": "publicTrade.ETHUSDT"}]
    assert [reader.read(json.dumps(frame)) for frame in others] == [(), ()]


@pytest.mark.parametrize(
    "pong",
    [
        answer(op="ping", ret_msg="pong", req_id="3"),
        {"req_id": "2", "op": "pong", "args": ["1757405570352"], "conn_id": "d266o6hqo29sqmnq4vk0-1yus1"},
    ],
)
def test_pongs_are_left_to_ccxt(pong):
    assert reader_of(STREAMS).read(json.dumps(pong)) is None


# Answers

NAME = "publicTrade.BTCUSDT"


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (answer(req_id=NAME), Confirmed),
        (answer(req_id=NAME, ret_msg="subscribe"), Confirmed),
        (answer(req_id=NAME, success=False, ret_msg=f"error:already subscribed,topic:{NAME}"), Confirmed),
        (answer(req_id=NAME, success=False, ret_msg=f"error:handler not found,topic:{NAME}"), Refused),
        (answer(req_id=NAME, success=False, ret_msg=f"Invalid symbol :[{NAME}]"), Refused),
        # Not about the topic: whoever keeps the connection asks again.
        (answer(req_id=NAME, success=False, ret_msg="error:system busy"), None),
        (answer(req_id="publicTrade.ETHUSDT"), None),
        (answer(req_id=""), None),
        (answer(req_id=NAME, op="unsubscribe"), None),
        (answer(req_id=NAME, op="unsubscribe", success=False, ret_msg="error:handler not found"), None),
    ],
)
def test_answers_are_about_the_topic_that_their_id_names(frame, kind):
    topic = topic_of("trades")
    told = messages([frame], topic, topic_of("candles"))
    wanted = {
        Confirmed: [Confirmed((topic,))],
        Refused: [Refused(topic, frame["ret_msg"])],
        None: [],
    }
    assert told == wanted[kind]


# What is sent

CCXT_MARKETS = {
    "BTC/USDT": {"id": "BTCUSDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "type": "spot", "spot": True, "contract": False, "option": False},
    "BTC/USDT:USDT": {"id": "BTCUSDT", "symbol": "BTC/USDT:USDT", "base": "BTC", "quote": "USDT", "settle": "USDT", "type": "swap", "spot": False, "swap": True, "contract": True, "option": False, "linear": True, "inverse": False},
    "BTC/USD:BTC": {"id": "BTCUSD", "symbol": "BTC/USD:BTC", "base": "BTC", "quote": "USD", "settle": "BTC", "type": "swap", "spot": False, "swap": True, "contract": True, "option": False, "linear": False, "inverse": True},
}  # fmt: skip


@MARKETS
@pytest.mark.parametrize(
    ("feed", "call", "args"),
    [
        ("trades", "watch_trades_for_symbols", ()),
        ("candles", "watch_ohlcv_for_symbols", ()),
        ("order_book", "watch_order_book_for_symbols", (50,)),
        ("funding", "watch_tickers", ()),
    ],
)
def test_subscribes_where_and_as_ccxt_does(instrument, feed, call, args):
    topic = topic_of(feed, instrument)
    wanted = [[instrument.symbol, "5m"]] if feed == "candles" else [instrument.symbol]
    url, frame = sent_by_ccxt("bybit", CCXT_MARKETS[instrument.symbol], call, wanted, *args)
    assert url == STREAMS.endpoint(topic)
    [ours] = STREAMS.subscribe([topic], 7)
    assert ours | {"req_id": frame["req_id"]} == frame
    [end] = STREAMS.unsubscribe([topic], 8)
    assert end == ours | {"op": "unsubscribe"}


@pytest.mark.parametrize(("level", "interval"), [("1m", "1"), ("1h", "60"), ("4h", "240"), ("1d", "D")])
def test_levels_have_bybits_names(level, interval):
    [frame] = STREAMS.subscribe([topic_of("candles", level=level)], 1)
    assert frame["args"] == [f"kline.{interval}.BTCUSDT"]


def test_a_topic_that_is_refused_leaves_the_others_alone():
    topics = [topic_of("trades"), topic_of("candles"), topic_of("order_book")]
    frames = STREAMS.subscribe(topics, 1)
    answers = [answer(req_id=frame["req_id"]) for frame in frames]
    answers[1] |= {"success": False, "ret_msg": f"error:handler not found,topic:{frames[1]['args'][0]}"}
    told = messages(answers, *topics)
    assert told == [
        Confirmed((topics[0],)),
        Refused(topics[1], answers[1]["ret_msg"]),
        Confirmed((topics[2],)),
    ]


def test_serves_what_bybit_streams():
    assert all(STREAMS.serves(topic_of(feed)) for feed in FRAMES)
    assert not STREAMS.serves(topic_of("funding", SPOT))
    assert not STREAMS.serves(topic_of("candles", level="3m"))
