"""OKX's streams: recorded frames value by value, answers, and that streamed rows equal REST's."""

import json

import msgspec
import pytest
from captures import REAL, captured_lines
from hypothesis import given
from hypothesis import strategies as st
from stream_helpers import apply, messages_of, reader_of, renamed, sent_by_ccxt, table_of
from venue_helpers import candles, parts_of, rows_of

from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.okx import Okx
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import BookUpdate, Confirmed, Funding, Refused, Topic

PROVIDER = "okx"
STREAMS = Okx.streams
SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC-USDT")
LINEAR = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTC-USDT-SWAP", contract_size=0.01)
INVERSE = Instrument("cryptoperp", "uniusd", "UNI/USD:UNI", "UNI-USD-SWAP", contract_size=10.0, inverse=True)
FUTURE = Instrument(
    "cryptoperp", "f", "BTC/USD:BTC-220527", "BTC-USD-220527", contract_size=100.0, inverse=True
)
MARKETS = (SPOT, LINEAR, INVERSE)
FEEDS = {"trades": {}, "candles": {"level": "1m"}, "order_book": {"depth": 400}, "funding": {}}
TRADE = {"instId": "BTC-USDT", "tradeId": "130639474", "px": "42219.9", "sz": "0.12060306", "side": "buy", "source": "0", "ts": "1630048897897"}  # fmt: skip
CANDLE = [
    "1699999980000",
    "8533.02",
    "8553.74",
    "8527.17",
    "8548.26",
    "45247",
    "529.5858061",
    "5529.58580",
    "1",
]
BOOK = {"asks": [["8476.98", "415", "0", "13"], ["8477", "0", "0", "0"]], "bids": [["8476.97", "25.6", "0", "12"]], "ts": "1597026383085", "checksum": 0, "seqId": 123457, "prevSeqId": 123456}  # fmt: skip
RATE = {"instType": "SWAP", "fundingRate": "-0.0001875391284828", "nextFundingRate": "", "fundingTime": "1700726400000", "nextFundingTime": "1700755200000", "ts": "1700724675402"}  # fmt: skip
MARK = {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "markPx": "42310.6", "ts": "1700724675500"}


def topic_of(feed, instrument=LINEAR):
    return Topic(feed, instrument, **FEEDS[feed])


def data(channel, *rows, market=LINEAR, **more):
    return {"arg": {"channel": channel, "instId": market.native_id}, **more, "data": list(rows)}


FRAMES = {
    "trades": data("trades-all", TRADE),
    "candles": data("candle1m", CANDLE),
    "order_book": data("books", BOOK, action="update"),
    "funding": data("funding-rate", RATE),
    "mark": data("mark-price", MARK),
}


def message_of(frame, topic):
    [message] = messages_of(STREAMS, [topic], [frame])
    assert message.topic is topic
    return message


# Recorded frames


def base_amount(instrument, row):
    """What a trade amounts to in base currency."""
    price, size = float(row["px"]), float(row["sz"])
    if instrument.contract_size is None:
        return size
    if instrument.inverse:
        return size * instrument.contract_size / price
    return float(f"{size * instrument.contract_size:.15g}")


def stored_trade(instrument, row):
    return {
        "ts": int(row["ts"]),
        "trade_id": row["tradeId"],
        "price": float(row["px"]),
        "volume": base_amount(instrument, row),
        "side": row["side"],
        "nanosecond": None,
    }


def recorded():
    texts = [line.split(": ", 1)[1] for line in captured_lines("OKX.ws.1.0.gz") if line[:1].isdigit()]
    instruments = (SPOT, INVERSE, FUTURE)
    return texts, [topic_of(feed, i) for feed in ("trades", "order_book") for i in instruments]


@pytest.mark.real_data
def test_recorded_frames_are_read_value_by_value():
    texts, topics = recorded()
    by_name = {(t.feed, t.instrument.native_id): t for t in topics}
    reader = reader_of(STREAMS, *topics)
    read = {"trades": 0, "order_book": 0, "confirmed": 0}
    for text in texts:
        frame, messages = json.loads(text), reader.read(text)
        channel, market = frame["arg"]["channel"], frame["arg"]["instId"]
        topic = by_name.get(({"books": "order_book"}.get(channel, channel), market))
        if topic is None:
            assert channel == "tickers" and not messages
        elif "event" in frame:
            assert list(messages) == [Confirmed((topic,))]
            read["confirmed"] += 1
        elif topic.feed == "trades":
            expected = [stored_trade(topic.instrument, row) for row in frame["data"]]
            assert table_of(STREAMS, messages).to_pylist() == expected
            read["trades"] += 1
        else:
            assert messages == [summed_book(topic, frame)]
            read["order_book"] += 1
    assert read == {"trades": 74, "order_book": 290, "confirmed": 9}


def summed_book(topic, frame):
    """As OKX sent it in 2022, without numbers."""
    [book] = frame["data"]
    bids, asks = ([(float(p), float(a), p, a) for p, a, *_ in book[side]] for side in ("bids", "asks"))
    is_snapshot = frame["action"] == "snapshot"
    return BookUpdate(topic, is_snapshot, bids, asks, ts=int(book["ts"]), checksum=book["checksum"])


@pytest.mark.real_data
def test_recorded_books_are_those_of_a_plain_replay_and_have_their_checksums():
    texts, topics = recorded()
    ours, plain = {}, {}
    frames = [text for text in texts if '"channel":"books"' in text and '"data"' in text]
    for text in frames:
        [update], frame = messages_of(STREAMS, topics, [text]), json.loads(text)
        name = update.topic.instrument.native_id
        book = ours.setdefault(name, {})
        apply(book, update)
        sides = plain[name] = {"bids": {}, "asks": {}} if update.is_snapshot else plain[name]
        for side, levels in sides.items():
            levels.update((price, amount) for price, amount, *_ in frame["data"][0][side])
            present = {float(p): float(a) for p, a in levels.items() if a != "0"}
            assert {price: level[1] for price, level in book[side].items()} == present
        bids = sorted(book["bids"].values(), reverse=True)
        assert STREAMS.checksum(bids, sorted(book["asks"].values())) == update.checksum
    assert len(frames) == 290


def payload_frame(name):
    return json.loads((REAL / "payloads" / "okx" / f"ws_{name}.json").read_text())


@pytest.mark.real_data
def test_frames_of_today_are_read():
    trades = payload_frame("trades")
    market = Instrument("cryptopair", "btcusd", "BTC/USD", "BTC-USD")
    table = table_of(STREAMS, messages_of(STREAMS, [topic_of("trades", market)], [trades]))
    assert table.to_pylist() == [stored_trade(market, row) for row in trades["data"]]
    for name, previous, last in (("books_snapshot", None, 123456), ("books_update", 123456, 123457)):
        frame = payload_frame(name)
        [book], topic = frame["data"], topic_of("order_book", SPOT)
        bids, asks = ([(float(p), float(a)) for p, a, *_ in book[side]] for side in ("bids", "asks"))
        assert len(bids) == len(asks) == 8
        expected = BookUpdate(topic, previous is None, bids, asks, last, previous=previous, ts=1597026383085)
        assert message_of(frame, topic) == expected
    topic = topic_of("funding")
    ts = 1744590349506
    assert message_of(payload_frame("funding_rate"), topic) == Funding(topic, ts, None, 0.0001, ts)


# As over REST

DECIMALS = st.decimals("0.00000001", "99999999.99999999", places=8).map(str)
MADE = st.builds(
    lambda number, ts, price, size, side: (
        TRADE | {"tradeId": str(number), "ts": str(ts), "px": price, "sz": size, "side": side}
    ),
    st.integers(0, 2**53),
    st.integers(1_500_000_000_000, 2_000_000_000_000),
    DECIMALS,
    DECIMALS,
    st.sampled_from(("buy", "sell")),
)


@given(st.lists(st.lists(MADE, min_size=1, max_size=5), min_size=1, max_size=5), st.sampled_from(MARKETS))
def test_trades_come_out_as_they_were_sent(batches, instrument):
    channels = ("trades", "trades-all")
    frames = [data(channels[n % 2], *rows, market=instrument) for n, rows in enumerate(batches)]
    table = table_of(STREAMS, messages_of(STREAMS, [topic_of("trades", instrument)], frames))
    assert table.schema.equals(TRADES)
    assert table.to_pylist() == [stored_trade(instrument, row) for rows in batches for row in rows]


def answer(rows):
    return {"code": "0", "msg": "", "data": rows}


AWKWARD = [("0.00000007", "0.1"), ("69420.12345678", "123456789.87654321"), ("0.3", "3")]


@pytest.mark.parametrize("instrument", MARKETS, ids=lambda i: i.symbol)
def test_streamed_trades_are_those_of_rest(told, instrument):
    start = int(TRADE["ts"])
    rows = [
        TRADE | {"tradeId": str(99 + n), "ts": str(start + n), "px": px, "sz": sz}
        for n, (px, sz) in enumerate(AWKWARD)
    ]
    end = start + len(rows)
    clock = answer([{"ts": str(end)}])
    parts, _ = told(parts_of("trades", instrument, start, end), clock, answer(rows[::-1]), answer([]))
    frames = [data("trades-all", row, market=instrument) for row in rows]
    streamed = table_of(STREAMS, messages_of(STREAMS, [topic_of("trades", instrument)], frames))
    assert streamed.to_pylist() == sorted(rows_of(parts), key=lambda row: row["ts"])


@pytest.mark.parametrize("instrument", MARKETS, ids=lambda i: i.symbol)
def test_streamed_candles_are_those_of_rest(told, instrument):
    start = int(CANDLE[0])
    clock = answer([{"ts": str(start + 2 * MINUTE_MS)}])
    page, _ = told(candles(instrument, start, start + MINUTE_MS), clock, answer([CANDLE]))
    under_way = [str(start + MINUTE_MS), *CANDLE[1:-1], "0"]
    frames = [data("candle1m", CANDLE, market=instrument), data("candle1m", under_way, market=instrument)]
    table = table_of(STREAMS, messages_of(STREAMS, [topic_of("candles", instrument)], frames))
    assert table["is_closed"].to_pylist() == [True, False]
    assert table.slice(0, 1).drop_columns(["is_closed"]).equals(page)


# Frames that say something else

FIELDS = [
    *(("trades", path) for path in [("arg",), ("arg", "channel"), ("arg", "instId"), ("data",)]),
    *(("trades", ("data", 0, name)) for name in ("tradeId", "px", "sz", "side", "ts")),
    ("candles", ("data",)),
    ("order_book", ("action",)),
    *(("order_book", ("data", 0, name)) for name in ("asks", "bids", "ts", "seqId", "prevSeqId")),
    *(("funding", ("data", 0, name)) for name in ("fundingRate", "fundingTime", "ts")),
    *(("mark", ("data", 0, name)) for name in ("markPx", "ts")),
]


@pytest.mark.parametrize(
    ("name", "path"), FIELDS, ids=lambda value: value if isinstance(value, str) else value[-1]
)
def test_a_renamed_field_cannot_be_read(name, path):
    topic = topic_of("funding" if name == "mark" else name)
    message_of(FRAMES[name], topic)
    with pytest.raises(msgspec.DecodeError):
        messages_of(STREAMS, [topic], [renamed(FRAMES[name], path)])


NUMBERS = ("seqId", "prevSeqId")


@pytest.mark.parametrize(
    "frame",
    [
        data("candle1m", CANDLE[:-1]),
        data("candle1m", ["x", *CANDLE[1:]]),
        data("books", BOOK | {"asks": [["1"]]}, action="update"),
        data("books", {name: value for name, value in BOOK.items() if name not in (*NUMBERS, "checksum")}, action="update"),
        data("books", BOOK, action="partial"),
        {},
        "",
        "ping",
        '{"arg":',
    ],
)  # fmt: skip
def test_what_okx_does_not_document_cannot_be_read(frame):
    with pytest.raises(msgspec.DecodeError):
        messages_of(STREAMS, [topic_of("candles"), topic_of("order_book")], [frame])


def test_the_answer_to_a_ping_is_left_to_ccxt():
    assert reader_of(STREAMS, topic_of("trades")).read("pong") is None


def test_what_is_not_expected_is_of_no_interest():
    topics = [topic_of("trades"), topic_of("candles")]
    reader = reader_of(STREAMS, *topics)
    reader.forget(topics[1:])
    others = [
        FRAMES["candles"],
        data("trades-all", TRADE, market=SPOT),
        data("tickers", {"last": "1"}),
        {"event": "unsubscribe", "arg": {"channel": "trades-all", "instId": "BTC-USDT-SWAP"}, "connId": "a"},
        {"event": "subscribe", "arg": {"channel": "candle1m", "instId": "BTC-USDT-SWAP"}, "connId": "a"},
        {"event": "notice", "code": "64008", "msg": "The connection will soon be closed for a service upgrade.", "connId": "a"},
        {"event": "channel-conn-count", "channel": "orders", "connCount": "2", "connId": "a"},
        refusal("candle1m", "BTC-USDT-SWAP"),
    ]  # fmt: skip
    assert [list(reader.read(json.dumps(frame))) for frame in others] == [[]] * len(others)
    assert len(reader.read(json.dumps(FRAMES["trades"]))) == 1


def refusal(channel, market):
    message = f"Wrong URL or channel:{channel},instId:{market} doesn't exist. Please use the correct URL, channel and parameters referring to API document."
    return {"event": "error", "msg": message, "code": "60018", "connId": "4d7cf3c1"}


CHANNELS = [
    ("trades", "trades-all"),
    ("candles", "candle1m"),
    ("order_book", "books"),
    ("funding", "funding-rate"),
    ("funding", "mark-price"),
]


@pytest.mark.parametrize(("feed", "channel"), CHANNELS)
def test_an_error_names_the_market_and_the_others_live_on(feed, channel):
    topics = [topic_of(feed), topic_of(feed, INVERSE)]
    arg = {"channel": channel, "instId": INVERSE.native_id}
    frames = [refusal(channel, LINEAR.native_id), {"event": "subscribe", "arg": arg, "connId": "4d7cf3c1"}]
    refused, confirmed = messages_of(STREAMS, topics, frames)
    assert refused.topic is topics[0] and refused.reason.endswith("(60018)")
    assert confirmed == Confirmed((topics[1],))


def test_an_error_of_a_whole_frame_names_no_market():
    frame = {"event": "error", "code": "60012", "msg": 'Invalid request: {"op": "subscribe"}', "connId": "a"}
    assert messages_of(STREAMS, [topic_of("trades")], [frame]) == [
        Refused(None, 'Invalid request: {"op": "subscribe"} (60012)')
    ]


def test_funding_comes_from_two_channels():
    topic = topic_of("funding")
    assert messages_of(STREAMS, [topic], [FRAMES["funding"], FRAMES["mark"]]) == [
        Funding(topic, 1700724675402, rate=-0.0001875391284828, next_ts=1700726400000),
        Funding(topic, 1700724675500, mark_price=42310.6),
    ]


# What is sent


def ccxt_market(instrument):
    is_spot = instrument.contract_size is None
    kind = {"type": "spot" if is_spot else "swap", "spot": is_spot, "contract": not is_spot}
    base, quote = instrument.symbol.partition(":")[0].split("/")
    return {"id": instrument.native_id, "symbol": instrument.symbol, "base": base, "quote": quote, **kind}


CALLS = [
    ("trades", "watch_trades_for_symbols", {"channel": "trades-all"}),
    ("candles", "watch_ohlcv_for_symbols", {}),
    ("order_book", "watch_order_book_for_symbols", {}),
    ("funding", "watch_funding_rates", {}),
    ("funding", "watch_mark_prices", {}),
]
SENT = [(i, *call) for i in (SPOT, LINEAR) for call in CALLS if i is LINEAR or call[0] != "funding"]


@pytest.mark.parametrize(("instrument", "feed", "call", "params"), SENT)
def test_subscribes_where_and_as_ccxt_does(instrument, feed, call, params):
    topic = topic_of(feed, instrument)
    wanted = [[instrument.symbol, "1m"]] if feed == "candles" else [instrument.symbol]
    url, frame = sent_by_ccxt("okx", ccxt_market(instrument), call, wanted, **params)
    assert url == STREAMS.endpoint(topic)
    [subscription], [end] = STREAMS.subscribe([topic], 1), STREAMS.unsubscribe([topic], 2)
    assert (subscription["op"], end["op"]) == (frame["op"], "unsubscribe")
    assert subscription["args"] == end["args"]
    if feed == "funding":
        assert len(subscription["args"]) == 2
        assert frame["args"][0] in subscription["args"]
    else:
        assert subscription["args"] == frame["args"]


def test_days_open_at_midnight_utc():
    [frame] = STREAMS.subscribe([Topic("candles", SPOT, level="1d"), Topic("candles", SPOT, level="4h")], 1)
    assert [argument["channel"] for argument in frame["args"]] == ["candle1Dutc", "candle4H"]


def test_serves_what_okx_streams():
    assert all(STREAMS.serves(topic_of(feed)) for feed in FEEDS)
    assert STREAMS.levels == Okx.capabilities.levels
    assert not STREAMS.serves(topic_of("funding", SPOT))
    assert not STREAMS.serves(Topic("candles", SPOT, level="3m"))
