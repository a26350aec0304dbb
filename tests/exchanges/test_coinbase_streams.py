"""Coinbase's streams: recorded frames value by value, answers, and that streamed rows equal REST's."""

import json

import msgspec
import pytest
from captures import REAL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_helpers import apply, messages_of, reader_of, renamed, sent_by_ccxt, table_of
from venue_helpers import parts_of, rows_of

from zvt_crypto.core.levels import parse_time
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.coinbase import Coinbase
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import BookUpdate, Confirmed, Missed, Refused, Topic, Trades

PROVIDER = "coinbase"
STREAMS = Coinbase.streams
PAIR = Instrument("cryptopair", "btcusd", "BTC/USD", "BTC-USD")
OTHER = Instrument("cryptopair", "ethusd", "ETH/USD", "ETH-USD")
USDC = Instrument("cryptopair", "btcusdc", "BTC/USDC", "BTC-USDC")
TRADES_TOPIC, BOOK_TOPIC = Topic("trades", PAIR), Topic("order_book", PAIR, depth=1000)
OTHER_TRADES, OTHER_BOOK = Topic("trades", OTHER), Topic("order_book", OTHER, depth=1000)
TOPICS = (TRADES_TOPIC, BOOK_TOPIC, OTHER_TRADES, OTHER_BOOK)
START = parse_time("2026-04-07T14:30:00Z")


def frame(channel, number, *events):
    return {
        "channel": channel, "timestamp": "2026-04-07T14:30:01.456789012Z", "sequence_num": number,
        "events": list(events),
    }  # fmt: skip


def trade(number, time="2026-04-07T14:30:02.789012Z", side="BUY", product="BTC-USD", price="10", size="1"):
    return {"product_id": product, "trade_id": str(number), "price": price, "size": size, "time": time,
            "side": side}  # fmt: skip


def trades(number, *rows, kind="update"):
    return frame("market_trades", number, {"type": kind, "trades": list(rows)})


def book(number, *levels, kind="update", product="BTC-USD"):
    updates = [
        {"side": side, "event_time": "1970-01-01T00:00:00Z", "price_level": price, "new_quantity": size}
        for side, price, size in levels
    ]
    return frame("l2_data", number, {"type": kind, "product_id": product, "updates": updates})


def heartbeat(number):
    time = "2026-09-07 23:37:22.674409 +0000 UTC m=+139651.272674714"
    return frame("heartbeats", number, {"current_time": time, "heartbeat_counter": 139651})


def subscribed(number, **products):
    return frame("subscriptions", number, {"subscriptions": products})


# Recorded frames


def recorded(name):
    return (REAL / "payloads" / "coinbase" / f"ws_{name}.json").read_text()


@pytest.mark.real_data
def test_recorded_trades():
    messages = messages_of(STREAMS, TOPICS, [recorded("market_trades")])
    assert [message.topic for message in messages] == [TRADES_TOPIC]
    table = table_of(STREAMS, messages)
    assert table.schema.equals(TRADES)
    assert table.to_pylist() == [
        {"ts": START + 2789, "trade_id": "995098700", "price": 68900.5, "volume": 0.0015, "side": "sell",
         "nanosecond": 12_000},
        {"ts": START + 2800, "trade_id": "995098701", "price": 68900.0, "volume": 0.05, "side": "buy",
         "nanosecond": 0},
    ]  # fmt: skip


@pytest.mark.real_data
def test_a_recorded_book():
    texts = [recorded("l2_data_snapshot"), recorded("l2_data_update")]
    whole, change = messages_of(STREAMS, TOPICS, texts)
    bids = [(68900.0, 1.5), (68899.5, 0.75), (68899.0, 2.3)]
    asks = [(68901.0, 0.5), (68901.5, 1.2), (68902.0, 0.8)]
    assert whole == BookUpdate(BOOK_TOPIC, True, bids, asks, ts=START + 123)
    assert change == BookUpdate(BOOK_TOPIC, False, [(68900.0, 2.0)], [(68901.0, 0.0)], ts=START + 1456)
    state = {}
    for update in (whole, change):
        apply(state, update)
    assert [level for _, level in sorted(state["bids"].items(), reverse=True)] == [(68900.0, 2.0), *bids[1:]]
    assert [level for _, level in sorted(state["asks"].items())] == asks[1:]


@pytest.mark.real_data
def test_a_recorded_confirmation_and_a_heartbeat():
    topics = [Topic("order_book", PAIR, depth=1000), Topic("trades", PAIR), Topic("trades", OTHER)]
    assert messages_of(STREAMS, topics, [recorded("subscriptions")]) == [Confirmed(topics)]
    assert messages_of(STREAMS, topics, [recorded("heartbeats")]) == []


# As over REST

MADE = st.builds(
    trade,
    st.integers(0, 2**53),
    st.builds(
        lambda second, digits: f"2026-04-07T14:30:{second:02}{'.' if digits else ''}{digits}Z",
        st.integers(0, 59),
        st.text("0123456789", max_size=9),
    ),
    st.sampled_from(["BUY", "SELL", "UNKNOWN_ORDER_SIDE"]),
    price=st.decimals("0.00000001", "99999999.99999999", places=8).map(str),
    size=st.decimals("0.00000001", "99999999.99999999", places=8).map(str),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MADE, min_size=1, max_size=20, unique_by=lambda row: row["trade_id"]))
def test_streamed_trades_are_those_of_rest(told, rows):
    answer = {"trades": [{**row, "bid": "", "ask": "", "exchange": "coinbase"} for row in rows]}
    answer["trades"].append(trade(1, "2026-04-07T14:29:00Z"))
    parts, _ = told(parts_of("trades", PAIR, START, START + 60_000), answer)
    streamed = table_of(STREAMS, messages_of(STREAMS, TOPICS, [trades(0, *rows)])).to_pylist()
    by_id = [sorted(found, key=lambda row: int(row["trade_id"])) for found in (streamed, rows_of(parts))]
    assert by_id[0] == by_id[1]


def test_trades_come_oldest_first_whatever_their_order():
    newest_first = [trade(n) for n in (1000, 999, 998)]
    for rows in (newest_first, newest_first[::-1]):
        [message] = messages_of(STREAMS, TOPICS, [trades(0, *rows)])
        assert [row.trade_id for row in message.rows] == ["998", "999", "1000"]


def test_trades_of_several_products_are_told_apart():
    rows = [trade(1), trade(7, product="ETH-USD"), trade(2), trade(3, product="SOL-USD")]
    messages = messages_of(STREAMS, TOPICS, [trades(0, *rows)])
    found = {message.topic: [row.trade_id for row in message.rows] for message in messages}
    assert found == {TRADES_TOPIC: ["1", "2"], OTHER_TRADES: ["7"]}


def test_books_of_several_products_are_told_apart():
    both = book(0, ("bid", "1", "2"), kind="snapshot")
    both["events"] += book(0, ("offer", "3", "4"), product="ETH-USD")["events"]
    ts = START + 1456
    assert messages_of(STREAMS, TOPICS, [both]) == [
        BookUpdate(BOOK_TOPIC, True, [(1.0, 2.0)], [], ts=ts),
        BookUpdate(OTHER_BOOK, False, [], [(3.0, 4.0)], ts=ts),
    ]


# Products in USDC are those in USD by another name


def test_what_is_sent_of_a_product_in_usdc_has_the_name_of_that_in_usd():
    topics = [Topic("trades", USDC), Topic("order_book", USDC, depth=1000)]
    frames = [trades(0, trade(1)), book(1, ("bid", "1", "2")), subscribed(2, level2=["BTC-USD"])]
    made, changed, confirmed = messages_of(STREAMS, topics, frames)
    assert made.topic is topics[0] and [row.trade_id for row in made.rows] == ["1"]
    assert changed.topic is topics[1]
    assert confirmed == Confirmed(topics[1:])
    own = [trades(0, trade(1, product="BTC-USDC")), subscribed(1, market_trades=["BTC-USDC"])]
    assert [type(message) for message in messages_of(STREAMS, topics, own)] == [Trades, Confirmed]


def test_products_in_usdc_do_not_share_connections_with_those_in_usd():
    assert STREAMS.endpoint(TRADES_TOPIC) == STREAMS.endpoint(OTHER_BOOK)
    assert STREAMS.endpoint(Topic("trades", USDC)) == f"{STREAMS.endpoint(TRADES_TOPIC)}/"


@pytest.mark.parametrize("base", ["USDT", "EURC"])
def test_stable_coins_in_usdc_are_markets_of_their_own(base):
    topic = Topic("trades", Instrument("cryptopair", f"{base}usdc".lower(), f"{base}/USDC", f"{base}-USDC"))
    assert messages_of(STREAMS, [topic], [trades(0, trade(1, product=f"{base}-USD"))]) == []
    [message] = messages_of(STREAMS, [topic], [trades(0, trade(1, product=f"{base}-USDC"))])
    assert message.topic is topic
    assert STREAMS.endpoint(topic) == STREAMS.endpoint(TRADES_TOPIC)


# The connection's count


def test_messages_of_all_channels_are_counted_as_one():
    frames = [book(0, ("bid", "1", "2")), subscribed(1), heartbeat(2), trades(3, trade(1)), heartbeat(4)]
    assert [type(message) for message in messages_of(STREAMS, TOPICS, frames)] == [BookUpdate, Trades]


@pytest.mark.parametrize("late", [heartbeat, lambda n: subscribed(n), lambda n: trades(n, trade(9))])
def test_a_hole_tells_of_lost_messages_whatever_comes_behind_it(late):
    told = messages_of(STREAMS, TOPICS, [heartbeat(7), late(9), heartbeat(10)])
    assert told[0] == Missed("message 9 came where 8 was due")
    assert [type(message) for message in told[1:]] in ([], [Trades])


def test_the_same_message_again_is_of_no_interest():
    reader = reader_of(STREAMS, *TOPICS)
    frames = [book(0, ("bid", "1", "2")), book(0, ("bid", "1", "2")), book(1, ("bid", "1", "3"))]
    assert [len(reader.read(json.dumps(one))) for one in frames] == [1, 0, 1]


def test_messages_in_another_order_count_as_lost():
    told = messages_of(STREAMS, TOPICS, [heartbeat(0), heartbeat(2), heartbeat(1), heartbeat(2)])
    assert told == [Missed("message 2 came where 1 was due"), Missed("message 1 came where 3 was due")]


def test_each_connection_counts_for_itself():
    first, second = reader_of(STREAMS, *TOPICS), reader_of(STREAMS, *TOPICS)
    assert [first.read(json.dumps(heartbeat(n))) for n in (0, 1)] == [(), ()]
    assert second.read(json.dumps(heartbeat(0))) == ()


# Frames that say something else

FRAMES = {
    "trades": trades(0, trade(1)),
    "order_book": book(0, ("bid", "1", "2")),
    "subscriptions": subscribed(0, level2=["BTC-USD"]),
    "heartbeats": heartbeat(0),
}
ITEM = ("events", 0)
FIELDS = [
    *(("trades", path) for path in [("channel",), ("sequence_num",), ("events",), (*ITEM, "trades")]),
    *(("trades", (*ITEM, "trades", 0, name)) for name in trade(1)),
    *(("order_book", (name,)) for name in ("channel", "timestamp", "sequence_num", "events")),
    *(("order_book", (*ITEM, name)) for name in ("type", "product_id", "updates")),
    *(("order_book", (*ITEM, "updates", 0, name)) for name in ("side", "price_level", "new_quantity")),
    *(("subscriptions", path) for path in [("channel",), ("sequence_num",), (*ITEM, "subscriptions")]),
    *(("heartbeats", (name,)) for name in ("channel", "sequence_num")),
]


@pytest.mark.parametrize(
    ("kind", "path"), FIELDS, ids=lambda value: value if isinstance(value, str) else str(value[-1])
)
def test_a_renamed_field_cannot_be_read(kind, path):
    messages_of(STREAMS, TOPICS, [FRAMES[kind]])
    with pytest.raises(msgspec.DecodeError):
        messages_of(STREAMS, TOPICS, [renamed(FRAMES[kind], path)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"channel":"market_trades"',
        json.dumps({**heartbeat(0), "channel": "candles"}),
        json.dumps(book(0, ("ask", "1", "2"))),
        json.dumps({**book(0), "timestamp": "2026-04-07T14:30:01"}),
        json.dumps(trades(0, trade(1, price="ten"))),
    ],
)
def test_what_coinbase_does_not_document_cannot_be_read(text):
    with pytest.raises(msgspec.DecodeError):
        reader_of(STREAMS, *TOPICS).read(text)


def test_what_is_not_expected_is_of_no_interest():
    reader = reader_of(STREAMS, *TOPICS)
    reader.forget([BOOK_TOPIC, OTHER_TRADES])
    others = [book(0, ("bid", "1", "2")), trades(1, trade(1, product="ETH-USD")), trades(2)]
    others.append(subscribed(3, heartbeats=["heartbeats"], level2=["BTC-USD"], ticker=["BTC-USD"]))
    assert [list(reader.read(json.dumps(one))) for one in others] == [[]] * 4


def test_a_confirmation_lists_all_that_is_subscribed():
    frames = [
        subscribed(0, market_trades=["BTC-USD"]),
        subscribed(1, heartbeats=["heartbeats"], market_trades=["BTC-USD", "ETH-USD"], level2=["ETH-USD"]),
    ]
    assert messages_of(STREAMS, TOPICS, frames) == [
        Confirmed([TRADES_TOPIC]),
        Confirmed([TRADES_TOPIC, OTHER_TRADES, OTHER_BOOK]),
    ]


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        ({"message": "authentication failure"}, [Refused(None, "authentication failure")]),
        (
            {"message": "Failed to subscribe", "reason": "ETH-USD is not a valid product"},
            [Refused(topic, "Failed to subscribe: ETH-USD is not a valid product") for topic in TOPICS[2:]],
        ),
        ({"message": "rate limit exceeded"}, []),
        ({"message": "Internal Server Error"}, []),
    ],
)
def test_an_error_refuses_what_it_names_and_only_if_it_lasts(error, refused):
    told = messages_of(STREAMS, TOPICS, [heartbeat(0), {"type": "error", **error}, heartbeat(1)])
    assert told == refused


# What is sent

MARKETS = {
    "BTC/USD": {"id": "BTC-USD", "symbol": "BTC/USD", "base": "BTC", "quote": "USD", "type": "spot", "spot": True},
}  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "call"),
    [(TRADES_TOPIC, "watch_trades_for_symbols"), (BOOK_TOPIC, "watch_order_book_for_symbols")],
    ids=str,
)
def test_subscribes_where_and_as_ccxt_does(topic, call):
    url, sent = sent_by_ccxt("coinbase", MARKETS["BTC/USD"], call, ["BTC/USD"])
    assert url == STREAMS.endpoint(topic)
    subscription, heartbeats = STREAMS.subscribe([topic], 1)
    assert subscription == sent
    assert heartbeats == {"type": "subscribe", "channel": "heartbeats"}
    assert STREAMS.unsubscribe([topic], 2) == [{**sent, "type": "unsubscribe"}]


def test_a_frame_is_about_one_channel():
    frames = STREAMS.subscribe(TOPICS, 1)
    products = ["BTC-USD", "ETH-USD"]
    assert frames[:-1] == [
        {"type": "subscribe", "product_ids": products, "channel": channel}
        for channel in ("market_trades", "level2")
    ]


def test_serves_what_coinbase_streams():
    assert all(STREAMS.serves(topic) for topic in TOPICS)
    assert not STREAMS.serves(Topic("candles", PAIR, level="5m"))
    assert not STREAMS.serves(Topic("funding", PAIR))
