"""Kraken Futures' streams in our columns: recorded messages value by value, numbers of books, and errors."""

import json
from functools import partial

import msgspec
import pytest
import stream_helpers
from captures import REAL
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.errors import NotSupported
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.kraken import Kraken
from zvt_crypto.exchanges.kraken_futures import execution_rows
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import BookUpdate, Confirmed, Funding, Refused, Topic, Trades

PROVIDER = "kraken"
STREAMS = Kraken.streams
LINEAR = Instrument("cryptoperp", "btcusd", "BTC/USD:USD", "PF_XBTUSD", contract_size=1.0)
INVERSE = Instrument("cryptoperp", "btcusd-btc", "BTC/USD:BTC", "PI_XBTUSD", contract_size=1.0, inverse=True)
DEPTH = STREAMS.book_depths["cryptoperp"][0]


reader_of = partial(stream_helpers.reader_of, STREAMS)


def recorded(name):
    return (REAL / "payloads" / "kraken" / f"ws_futures_{name}.json").read_text()


def trade(number=1, product="PF_XBTUSD", **changed):
    usual = {"uid": f"05af78ac-{number:04}", "side": "sell", "type": "fill", "time": 1_612_266_317_519}
    return {
        "feed": "trade",
        "product_id": product,
        **usual,
        "seq": number,
        "qty": 0.5,
        "price": 34969.5,
        **changed,
    }


def read_one(topic, message):
    [found] = reader_of(topic).read(json.dumps(message))
    return found


# Trades


@pytest.mark.real_data
def test_a_recorded_trade_is_read():
    topic = Topic("trades", INVERSE)
    [message] = reader_of(topic).read(recorded("trade"))
    assert isinstance(message, Trades) and message.topic is topic
    rows = STREAMS.trades(INVERSE, message.rows)
    assert rows.schema == TRADES
    assert rows.to_pylist() == [
        {
            "ts": 1612266317519,
            "trade_id": "05af78ac-a774-478c-a50c-8b9c234e071e",
            "price": 34969.5,
            "volume": 15000 / 34969.5,
            "side": "sell",
            "nanosecond": None,
        }
    ]


@pytest.mark.real_data
def test_the_recorded_latest_trades_are_read_in_order_of_time():
    [message] = reader_of(Topic("trades", INVERSE)).read(recorded("trade_snapshot"))
    rows = STREAMS.trades(INVERSE, message.rows)
    assert rows["ts"].to_pylist() == [1612269656839, 1612269657781]
    assert rows["volume"].to_pylist() == [9643 / 34891, 440 / 34893]


def test_a_market_without_trades_tells_none():
    message = {"feed": "trade_snapshot", "product_id": "PF_XBTUSD", "trades": []}
    assert reader_of(Topic("trades", LINEAR)).read(json.dumps(message)) == ()
    assert STREAMS.trades(LINEAR, []).equals(TRADES.empty_table())


def as_streamed(execution, number, instrument):
    return trade(
        number,
        instrument.native_id,
        uid=execution["uid"],
        side=execution["takerOrder"]["direction"].lower(),
        time=execution["timestamp"],
        qty=float(execution["quantity"]),
        price=float(execution["price"]),
    )


def both_ways(executions, instrument):
    """Executions as REST answers them, and as they are streamed."""
    elements = [{"event": {"Execution": {"execution": execution}}} for execution in executions]
    reader = reader_of(Topic("trades", instrument))
    told = [as_streamed(execution, number, instrument) for number, execution in enumerate(executions)]
    rows = [row for one in told for message in reader.read(json.dumps(one)) for row in message.rows]
    return execution_rows(elements, instrument), STREAMS.trades(instrument, rows)


@pytest.mark.real_data
def test_recorded_executions_are_the_same_when_they_are_streamed(payload):
    elements = json.loads(payload("futures_public_executions"))["elements"]
    executions = [element["event"]["Execution"]["execution"] for element in elements]
    answered, streamed = both_ways(executions, LINEAR)
    assert streamed.num_rows == len(elements) > 1
    assert streamed.equals(answered)


decimals = st.decimals("0.0001", "999999", places=4, allow_nan=False).map(str)
executions = st.fixed_dictionaries(
    {
        "uid": st.uuids().map(str),
        "timestamp": st.integers(0, 2**43),
        "quantity": decimals,
        "price": decimals,
        "takerOrder": st.fixed_dictionaries({"direction": st.sampled_from(["Buy", "Sell"])}),
    }
)


@given(st.lists(executions, min_size=1), st.sampled_from([LINEAR, INVERSE]))
def test_trades_are_the_same_as_over_rest(executions, instrument):
    answered, streamed = both_ways(executions, instrument)
    assert streamed.equals(answered)


# Order books and funding


@pytest.mark.real_data
def test_recorded_books_are_read():
    topic = Topic("order_book", INVERSE, depth=DEPTH)
    reader = reader_of(topic)
    [whole] = reader.read(recorded("book_snapshot"))
    assert whole == BookUpdate(
        topic,
        True,
        [(34892.5, 6385.0), (34892.0, 10924.0)],
        [(34911.5, 20598.0), (34912.0, 2300.0)],
        last=326072249,
        ts=1612269825817,
    )
    [change] = reader.read(recorded("book_delta"))
    assert change == BookUpdate(
        topic, False, [], [(34981.0, 0.0)], last=326094134, previous=326094133, ts=1612269953629
    )


@pytest.mark.real_data
def test_empty_levels_of_a_whole_book_are_left_out():
    [whole] = reader_of(Topic("order_book", INVERSE, depth=DEPTH)).read(
        recorded("book_snapshot_with_zero_qty")
    )
    assert whole.bids == [(34892.5, 6385.0), (34891.5, 100.0)]
    assert whole.asks == [(34912.0, 2300.0)]


def test_a_change_is_of_its_side():
    change = {"feed": "book", "product_id": "PF_XBTUSD", "side": "buy", "seq": 8, "price": 5, "qty": 2.5}
    update = read_one(Topic("order_book", LINEAR, depth=DEPTH), change | {"timestamp": 7})
    assert (update.bids, update.asks, update.previous, update.last) == ([(5.0, 2.5)], [], 7, 8)


@pytest.mark.real_data
def test_a_recorded_ticker_tells_the_relative_rate():
    topic = Topic("funding", INVERSE)
    [message] = reader_of(topic).read(recorded("ticker"))
    assert message == Funding(
        topic,
        1676393235406,
        mark_price=21979.68641534714,
        rate=-8.047629166667e-6,
        next_ts=1676394000000,
    )


# What is asked for, and what is answered


MARKET = {"id": "PF_XBTUSD", "symbol": "BTC/USD:USD", "base": "BTC", "quote": "USD", "settle": "USD"}
MARKET |= {"type": "swap", "swap": True, "contract": True, "linear": True, "contractSize": 1.0}
MARKET |= dict.fromkeys(("spot", "future", "option", "inverse"), False)


@pytest.mark.parametrize(
    ("topic", "call"),
    [
        (Topic("trades", LINEAR), "watch_trades_for_symbols"),
        (Topic("order_book", LINEAR, depth=DEPTH), "watch_order_book_for_symbols"),
        (Topic("funding", LINEAR), "watch_tickers"),
    ],
    ids=str,
)
def test_subscribes_where_and_as_ccxt_does(topic, call):
    url, frame = stream_helpers.sent_by_ccxt("krakenfutures", MARKET, call, ["BTC/USD:USD"])
    assert url == STREAMS.endpoint(topic)
    assert STREAMS.subscribe([topic], 7) == [frame]


def test_frames_ask_for_a_feed_of_many_products():
    topics = [Topic("trades", LINEAR), Topic("order_book", LINEAR, depth=DEPTH), Topic("trades", INVERSE)]
    assert STREAMS.subscribe([*topics, Topic("funding", LINEAR)], 3) == [
        {"event": "subscribe", "feed": "trade", "product_ids": ["PF_XBTUSD", "PI_XBTUSD"]},
        {"event": "subscribe", "feed": "book", "product_ids": ["PF_XBTUSD"]},
        {"event": "subscribe", "feed": "ticker", "product_ids": ["PF_XBTUSD"]},
    ]
    assert STREAMS.unsubscribe([topics[1]], 4) == [
        {"event": "unsubscribe", "feed": "book", "product_ids": ["PF_XBTUSD"]}
    ]
    assert {STREAMS.endpoint(topic) for topic in topics} == {"wss://futures.kraken.com/ws/v1"}


def test_candles_are_not_streamed():
    assert not STREAMS.serves(Topic("candles", LINEAR, level="1m"))
    assert STREAMS.serves(Topic("funding", LINEAR)) and STREAMS.serves(Topic("trades", INVERSE))
    with pytest.raises(NotSupported, match="BTC/USD:USD"):
        STREAMS.candles(LINEAR, "1m", [])


def test_events_confirm_and_refuse_products():
    linear, inverse, book = (
        Topic("trades", LINEAR),
        Topic("trades", INVERSE),
        Topic("order_book", LINEAR, depth=DEPTH),
    )
    reader = reader_of(linear, inverse, book)
    both = {"feed": "trade", "product_ids": ["PF_XBTUSD", "PI_XBTUSD", "PF_ETHUSD"]}
    assert reader.read(json.dumps({"event": "subscribed", **both})) == (Confirmed([linear, inverse]),)
    failed = reader.read(json.dumps({"event": "subscribed_failed", **both}))
    assert [message.topic for message in failed] == [linear, inverse]
    assert reader.read(json.dumps({"event": "subscribed", "feed": "heartbeat"})) == ()
    assert reader.read(json.dumps({"event": "unsubscribed", **both})) == ()


@pytest.mark.parametrize("event", ["alert", "error"])
def test_an_error_refuses_the_product_that_it_names(event):
    linear, inverse = Topic("trades", LINEAR), Topic("trades", INVERSE)
    reader = reader_of(linear, inverse)
    named, nameless = "Unknown product: PI_XBTUSD", "Invalid product id"
    assert reader.read(json.dumps({"event": event, "message": named})) == [Refused(inverse, named)]
    assert reader.read(json.dumps({"event": event, "message": nameless})) == [Refused(None, nameless)]


@pytest.mark.parametrize(
    "message", ["Already subscribed to feed, re-requesting", "Not subscribed to feed", "Rate limit exceeded"]
)
def test_alerts_that_turn_nothing_down_refuse_nothing(message):
    assert reader_of(Topic("trades", LINEAR)).read(json.dumps({"event": "alert", "message": message})) == ()


def test_messages_that_nobody_expects_are_left_out():
    topic = Topic("trades", LINEAR)
    reader = reader_of(topic)
    assert reader.read('{"event":"pong"}') is None
    assert reader.read('{"event":"info","version":1}') == ()
    assert reader.read(json.dumps(trade(product="PF_ETHUSD"))) == ()
    assert len(reader.read(json.dumps(trade()))) == 1
    reader.forget([topic])
    assert reader.read(json.dumps(trade())) == ()


CHANGE = {
    "feed": "book",
    "product_id": "PF_XBTUSD",
    "side": "buy",
    "seq": 1,
    "price": 5,
    "qty": 1,
    "timestamp": 1,
}
WHOLE = {"feed": "book_snapshot", "product_id": "PF_XBTUSD", "seq": 1, "timestamp": 1, "bids": [], "asks": []}
TICKER = {
    "feed": "ticker",
    "product_id": "PF_XBTUSD",
    "time": 1,
    "markPrice": 5.0,
    "relative_funding_rate_prediction": 1e-5,
    "next_funding_rate_time": 3_600_000,
}


@pytest.mark.parametrize(
    ("message", "name"),
    [
        *((trade(), name) for name in trade() if name != "type"),
        *((CHANGE, name) for name in CHANGE),
        *((WHOLE, name) for name in WHOLE),
        *((TICKER, name) for name in TICKER),
    ],
)
def test_a_field_that_is_missing_or_renamed_is_an_error(message, name):
    reader = reader_of(
        Topic("trades", LINEAR), Topic("order_book", LINEAR, depth=DEPTH), Topic("funding", LINEAR)
    )
    assert len(reader.read(json.dumps(message))) == 1
    renamed = {key if key != name else f"{key}_new": value for key, value in message.items()}
    with pytest.raises(msgspec.ValidationError, match=name):
        reader.read(json.dumps(renamed))


@pytest.mark.parametrize("text", ["no JSON", json.dumps(trade(side="Buy")), json.dumps(trade(feed="fills"))])
def test_messages_of_another_form_are_errors(text):
    with pytest.raises(msgspec.DecodeError):
        reader_of(Topic("trades", LINEAR)).read(text)
