"""Binance's streams: recorded frames value by value, answers, and that streamed rows equal REST's."""

import json
from itertools import pairwise

import msgspec
import pytest
from captures import REAL, captured_lines
from hypothesis import given
from hypothesis import strategies as st
from stream_helpers import apply, messages_of, reader_of, renamed, sent_by_ccxt, table_of
from venue_helpers import candles, parts_of, rows_of

from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.binance import Binance
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import BookUpdate, Confirmed, Funding, Refused, Topic

STREAMS = Binance.streams
SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
PERP = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTCUSDT", contract_size=1.0)
FEEDS = {
    "trades": {},
    "candles": {"level": "1m"},
    "order_book": {"depth": 1000},
    "funding": {},
}
#: What the futures of Binance sent, and of spot's what is different.
EVENTS = {
    "trades": {"e": "aggTrade", "E": 1700000000123, "s": "BTCUSDT", "a": 16599292, "p": "1.01100", "q": "0.10", "f": 23961322, "l": 23961322, "T": 1700000000100, "m": False},
    "candles": {"e": "kline", "E": 1700000001424, "s": "BTCUSDT", "k": {"t": 1699999980000, "T": 1700000039999, "s": "BTCUSDT", "i": "1m", "f": 23961275, "L": 23961322, "o": "1.01000", "c": "1.01100", "h": "1.01200", "l": "1.00900", "v": "3917", "n": 48, "x": True, "q": "3957.89900", "V": "1729", "Q": "1748.01900", "B": "0"}},
    "order_book": {"e": "depthUpdate", "E": 1700000000140, "T": 1700000000123, "s": "BTCUSDT", "U": 600859601193, "u": 600859602861, "pu": 600859600917, "b": [["7.5980", "1433"], ["7.6000", "0"]], "a": [["7.6170", "534.5"]]},
    "funding": {"e": "markPriceUpdate", "E": 1700000000000, "s": "BTCUSDT", "p": "11794.15000000", "i": "11784.62659091", "P": "11784.25641265", "r": "-0.00038167", "T": 1700006400000},
}  # fmt: skip


def topic_of(feed, instrument=PERP):
    return Topic(feed, instrument, **FEEDS[feed])


def wrapped(event, stream):
    return {"stream": stream, "data": event}


def stream_of(topic):
    [subscription, _] = STREAMS.subscribe([topic], 1)
    return subscription["params"][0]


# Recorded frames

CAPTURES = {"BINANCE": "cryptopair", "BINANCE_FUTURES": "cryptoperp"}


def recorded(name):
    """The frames of a capture, and its topics by the streams' names."""
    texts = [line.split(": ", 1)[1] for line in captured_lines(f"{name}.ws.1.0.gz") if line[:1].isdigit()]
    symbols = {json.loads(text)["data"]["s"] for text in texts}
    instruments = [Instrument(CAPTURES[name], s.lower(), s, s) for s in sorted(symbols)]
    topics = [topic_of(feed, i) for feed in ("trades", "candles", "order_book") for i in instruments]
    return texts, {stream_of(topic): topic for topic in topics}


@pytest.mark.real_data
@pytest.mark.parametrize("name", CAPTURES)
def test_recorded_frames_are_read_value_by_value(name):
    texts, topics = recorded(name)
    reader = reader_of(STREAMS, *topics.values())
    read = dict.fromkeys(FEEDS, 0)
    for text in texts:
        frame = json.loads(text)
        messages = reader.read(text)
        if frame["stream"].endswith("@bookTicker"):
            assert not messages
            continue
        [message] = messages
        topic, theirs = topics[frame["stream"]], frame["data"]
        assert message.topic is topic
        read[topic.feed] += 1
        if topic.feed == "order_book":
            assert message == book_update(topic, theirs)
        else:
            expected = stored_trade(theirs) if topic.feed == "trades" else stored_candle(theirs["k"])
            assert table_of(STREAMS, messages).to_pylist() == [expected]
        assert messages_of(STREAMS, topics.values(), [theirs]) == [message]
    counts = (2, 2, 177) if name == "BINANCE" else (91, 67, 764)
    assert tuple(read[feed] for feed in ("trades", "candles", "order_book")) == counts


def stored_trade(row):
    return {
        "ts": row["T"],
        "trade_id": str(row["a"]),
        "price": float(row["p"]),
        "volume": float(row["q"]),
        "side": "sell" if row["m"] else "buy",
        "nanosecond": None,
    }


def stored_candle(k):
    numbers = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "turnover": "q"}
    values = {name: float(k[field]) for name, field in numbers.items()}
    return {"ts": k["t"], **values, "trade_count": k["n"], "is_closed": k["x"]}


def book_update(topic, row):
    bids, asks = ([(float(p), float(a)) for p, a in row[side]] for side in "ba")
    return BookUpdate(topic, False, bids, asks, row["u"], row["U"], row.get("pu"), ts=row.get("T", row["E"]))


@pytest.mark.real_data
@pytest.mark.parametrize("name", CAPTURES)
def test_recorded_books_are_those_of_a_plain_replay(name):
    answers = dict(
        (line.split("symbol=")[1].split("&")[0], json.loads(line.split(": ", 1)[1]))
        for line in captured_lines(f"{name}.http.0.0.gz")
        if "/depth?" in line
    )
    texts, topics = recorded(name)
    applied = 0
    for topic in (topic for topic in topics.values() if topic.feed == "order_book"):
        answer = answers[topic.instrument.native_id]
        plain = {side: dict(answer[side]) for side in ("bids", "asks")}
        ours = {side: {float(p): (float(p), float(a)) for p, a in answer[side]} for side in ("bids", "asks")}
        theirs = [json.loads(text)["data"] for text in texts if f'"{stream_of(topic)}"' in text]
        updates = messages_of(STREAMS, [topic], theirs)
        beginning = joins_at(updates, answer["lastUpdateId"])
        for update, event in zip(updates[beginning:], theirs[beginning:], strict=True):
            apply(ours, update)
            for side, field in (("bids", "b"), ("asks", "a")):
                plain[side].update(event[field])
                present = {float(p): float(a) for p, a in plain[side].items() if float(a)}
                assert {p: amount for p, (_, amount) in ours[side].items()} == present
            applied += 1
    assert applied > 100


def joins_at(updates, number):
    """The position of the first update that goes on from an answer with this number; the others follow."""
    for before, after in pairwise(updates):
        assert before.last == (after.first - 1 if after.previous is None else after.previous)
    if updates[0].previous is None:
        return next(n for n, update in enumerate(updates) if update.first <= number + 1 <= update.last)
    return next(n for n, update in enumerate(updates) if update.first <= number <= update.last)


@pytest.mark.real_data
@pytest.mark.parametrize("instrument", [SPOT, PERP], ids=lambda i: i.entity_type)
def test_frames_of_today_are_read(instrument):
    """Unwrapped, and with fields that came later; their values are the documents' examples."""

    def example(name):
        folder = REAL / "payloads" / "binance" / "futures" / "market_data_json"
        return (folder / f"{name}.json").read_text().replace("\n", "").replace(" ", "")

    topics = {feed: topic_of(feed, instrument) for feed in FEEDS}
    names = {"trades": ["agg_trade_stream"], "candles": ["kline_stream_open", "kline_stream_closed"]}
    for feed, files in names.items():
        messages = messages_of(STREAMS, topics.values(), map(example, files))
        stored = stored_trade if feed == "trades" else lambda row: stored_candle(row["k"])
        expected = [stored(json.loads(example(file))) for file in files]
        assert table_of(STREAMS, messages).to_pylist() == expected
    [book] = messages_of(STREAMS, topics.values(), [example("depth_update_stream")])
    ts = 123456789 if instrument is SPOT else 123456788
    assert book == BookUpdate(
        topics["order_book"], False, [(0.0024, 10.0)], [(0.0026, 100.0)], 160, 157, 149, ts
    )
    [funding] = messages_of(STREAMS, topics.values(), [example("mark_price_stream")])
    assert funding == Funding(topics["funding"], 1562305380000, 11794.15, 0.00038167, 1562306400000)


# As over REST

DECIMALS = st.decimals("0.00000001", "99999999.99999999", places=8).map(str)
MADE = st.builds(
    lambda number, ts, price, amount, is_sell: (
        EVENTS["trades"] | {"a": number, "T": ts, "p": price, "q": amount, "m": is_sell}
    ),
    st.integers(0, 2**53),
    st.integers(1_500_000_000_000, 2_000_000_000_000),
    DECIMALS,
    DECIMALS,
    st.booleans(),
)


@given(st.lists(MADE, min_size=1, max_size=20), st.booleans())
def test_trades_come_out_as_they_were_sent(events, is_wrapped):
    topic = topic_of("trades")
    frames = [wrapped(event, stream_of(topic)) for event in events] if is_wrapped else events
    table = table_of(STREAMS, messages_of(STREAMS, [topic], frames))
    assert table.schema.equals(TRADES)
    assert table.to_pylist() == [stored_trade(event) for event in events]


AWKWARD = [("0.00000007", "0.1"), ("69420.12345678", "123456789.87654321"), ("0.30000000", "1e-7")]


@pytest.mark.parametrize("instrument", [SPOT, PERP], ids=lambda i: i.entity_type)
def test_streamed_trades_are_those_of_rest(told, instrument):
    events = [
        EVENTS["trades"]
        | {"a": number, "T": EVENTS["trades"]["T"] + number, "p": p, "q": q, "m": number % 2 == 0}
        for number, (p, q) in enumerate(AWKWARD, 99)
    ]
    start, end = events[0]["T"], events[-1]["T"] + 1
    answers = [events, []] if instrument is SPOT else [{"serverTime": end}, events, []]
    parts, _ = told(parts_of("trades", instrument, start, end), *answers)
    messages = messages_of(STREAMS, [topic_of("trades", instrument)], events)
    assert table_of(STREAMS, messages).to_pylist() == rows_of(parts)


@pytest.mark.parametrize("instrument", [SPOT, PERP], ids=lambda i: i.entity_type)
def test_streamed_candles_are_those_of_rest(told, instrument):
    k = EVENTS["candles"]["k"]
    row = [k[field] for field in ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")]
    page, _ = told(candles(instrument, k["t"], k["t"] + MINUTE_MS), [row])
    table = table_of(STREAMS, messages_of(STREAMS, [topic_of("candles", instrument)], [EVENTS["candles"]]))
    assert table.drop_columns(["is_closed"]).equals(page)
    assert table["is_closed"].to_pylist() == [True]


# Frames that say something else

FIELDS = [
    *(("trades", (name,)) for name in ("e", "s", "a", "p", "q", "T", "m")),
    *(("candles", path) for path in [("e",), ("s",), ("k",), *(("k", name) for name in "tiohlcvqnx")]),
    *(("order_book", (name,)) for name in ("e", "s", "E", "T", "U", "u", "pu", "b", "a")),
    *(("funding", (name,)) for name in ("e", "s", "E", "p", "r", "T")),
]


@pytest.mark.parametrize("is_wrapped", [False, True], ids=["raw", "wrapped"])
@pytest.mark.parametrize(
    ("feed", "path"), FIELDS, ids=lambda value: value if isinstance(value, str) else value[-1]
)
def test_a_renamed_field_cannot_be_read(feed, path, is_wrapped):
    topic = topic_of(feed)
    [message] = messages_of(STREAMS, [topic], [EVENTS[feed]])
    assert message.topic is topic
    event = renamed(EVENTS[feed], path)
    with pytest.raises(msgspec.DecodeError):
        messages_of(STREAMS, [topic], [wrapped(event, stream_of(topic)) if is_wrapped else event])


@pytest.mark.parametrize(
    "text",
    ["", "pong", '{"e":"aggTrade"', '{"stream":1}', "[]", "{}", '{"id":1}', '{"stream_":"x","data":{}}'],
)
def test_what_binance_does_not_document_cannot_be_read(text):
    with pytest.raises(msgspec.DecodeError):
        reader_of(STREAMS, topic_of("trades")).read(text)


def test_spot_books_have_neither_time_nor_previous_number():
    event = {name: value for name, value in EVENTS["order_book"].items() if name not in ("T", "pu")}
    topic = topic_of("order_book", SPOT)
    [update] = messages_of(STREAMS, [topic], [event])
    assert (update.ts, update.first, update.last, update.previous) == (
        1700000000140,
        600859601193,
        600859602861,
        None,
    )


def test_what_is_not_expected_is_of_no_interest():
    reader = reader_of(STREAMS, topic_of("trades"), topic_of("candles"))
    reader.forget([topic_of("candles")])
    others = [
        EVENTS["candles"],
        EVENTS["trades"] | {"s": "ETHUSDT"},
        wrapped({"u": 1, "s": "BTCUSDT", "b": "1", "B": "2", "a": "3", "A": "4"}, "btcusdt@bookTicker"),
        {"e": "serverShutdown", "E": 1700000000000},
        {"result": None, "id": 1},
        {"result": [], "id": 3},
    ]
    assert [list(reader.read(json.dumps(frame, separators=(",", ":")))) for frame in others] == [[]] * 6
    assert len(reader.read(json.dumps(EVENTS["trades"], separators=(",", ":")))) == 1


def test_a_list_of_subscriptions_confirms_what_is_expected():
    topics = [topic_of(feed) for feed in FEEDS]
    listed = ["ethusdt@aggTrade", *map(stream_of, topics[:3])]
    assert messages_of(STREAMS, topics, [{"result": listed, "id": 3}]) == [Confirmed(topics[:3])]


@pytest.mark.parametrize(
    "frame",
    [
        {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 1},
        {"code": 2, "msg": "Invalid request: invalid stream", "id": 1},
    ],
)
def test_an_error_tells_no_topic(frame):
    told = messages_of(STREAMS, [topic_of("trades")], [frame])
    assert told == [Refused(None, "Invalid request: invalid stream (2)")]


# What is sent


MARKETS = {
    "cryptopair": {"id": "BTCUSDT", "lowercaseId": "btcusdt", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "type": "spot", "spot": True, "contract": False},
    "cryptoperp": {"id": "BTCUSDT", "lowercaseId": "btcusdt", "symbol": "BTC/USDT:USDT", "base": "BTC", "quote": "USDT", "settle": "USDT", "type": "swap", "spot": False, "swap": True, "contract": True, "linear": True, "inverse": False},
}  # fmt: skip


@pytest.mark.parametrize(
    ("instrument", "feed", "call"),
    [
        *((i, "trades", "watch_trades_for_symbols") for i in (SPOT, PERP)),
        *((i, "candles", "watch_ohlcv_for_symbols") for i in (SPOT, PERP)),
        *((i, "order_book", "watch_order_book_for_symbols") for i in (SPOT, PERP)),
        (PERP, "funding", "watch_mark_prices"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.entity_type,
)
def test_subscribes_where_and_as_ccxt_does(instrument, feed, call):
    topic = topic_of(feed, instrument)
    wanted = [[instrument.symbol, "1m"]] if feed == "candles" else [instrument.symbol]
    params = {"name": "aggTrade"} if feed == "trades" else {}
    name = Binance.ccxt_ids[instrument.entity_type]
    url, frame = sent_by_ccxt(name, MARKETS[instrument.entity_type], call, wanted, **params)
    assert url == f"{STREAMS.endpoint(topic)}/0"
    subscription, listing = STREAMS.subscribe([topic], 7)
    assert {**subscription, "id": frame["id"]} == frame
    assert listing["method"] == "LIST_SUBSCRIPTIONS"
    [end] = STREAMS.unsubscribe([topic], 8)
    assert {**end, "method": "SUBSCRIBE", "id": frame["id"]} == frame
    assert len({subscription["id"], listing["id"], end["id"]}) == 3


def test_serves_what_binance_streams():
    assert all(STREAMS.serves(topic_of(feed)) for feed in FEEDS)
    assert not STREAMS.serves(topic_of("funding", SPOT))
    assert not STREAMS.serves(Topic("candles", SPOT, level="3m"))
