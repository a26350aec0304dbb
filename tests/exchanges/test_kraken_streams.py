"""Kraken's streams of pairs in our columns: recorded messages value by value, errors, and the checksum."""

import asyncio
import json
import re
from functools import partial

import msgspec
import pytest
import stream_helpers
from captures import REAL, captured_lines
from hypothesis import assume, given
from hypothesis import strategies as st
from venue_helpers import candles, instruments

from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.core.levels import LEVEL_MS, iso, parse_time
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.kraken import Kraken, trade_rows
from zvt_crypto.exchanges.kraken_streams import stream_name
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import BookUpdate, Candles, Confirmed, Refused, Topic, Trades

PROVIDER = "kraken"
STREAMS = Kraken.streams
BTC = Instrument("cryptopair", "btcusd", "BTC/USD", "XXBTZUSD")
ETH = Instrument("cryptopair", "ethusd", "ETH/USD", "XETHZUSD")
SECOND_NS = 1_000_000_000
#: A moment in epoch seconds.
NOON = 1_762_776_000


reader_of = partial(stream_helpers.reader_of, STREAMS)


def recorded(name):
    return (REAL / "payloads" / "kraken" / f"ws_{name}.json").read_text()


def trade(number=1, symbol="BTC/USD", **changed):
    usual = {
        "side": "buy",
        "price": 5.0,
        "qty": 0.1,
        "ord_type": "limit",
        "timestamp": "2025-11-10T12:00:00.25Z",
    }
    return {"symbol": symbol, **usual, "trade_id": number, **changed}


def frame(channel, rows, kind="update"):
    return json.dumps({"channel": channel, "type": kind, "data": rows})


# Trades


@pytest.mark.real_data
def test_recorded_trades_are_read():
    topic = Topic("trades", BTC)
    [message] = reader_of(topic).read(recorded("trade_update"))
    assert isinstance(message, Trades) and message.topic is topic

    rows = STREAMS.trades(BTC, message.rows)
    assert rows.schema == TRADES
    assert rows.to_pylist() == [
        {
            "ts": parse_time("2023-10-06T17:35:55.440Z"),
            "trade_id": "10218208",
            "price": 105944.2,
            "volume": 0.00027625,
            "side": "buy",
            "nanosecond": 295_000,
        },
        {
            "ts": parse_time("2023-10-06T17:35:56.123Z"),
            "trade_id": "10218209",
            "price": 105910.5,
            "volume": 0.0001246,
            "side": "sell",
            "nanosecond": 456_000,
        },
    ]


def stream_time(ns):
    """As the stream writes it: with microseconds."""
    return f"{second(ns // SECOND_NS)}.{ns % SECOND_NS // 1000:06d}Z"


def second(seconds):
    return iso(seconds * 1000).removesuffix("Z")


def both_ways(ns, price="105944.20000", volume="0.00027625", side="b"):
    """A trade of a time as REST answers it, and as it is streamed."""
    answered, _ = trade_rows([[price, volume, ns / SECOND_NS, side, "l", "", 7]])
    sides = {"b": "buy", "s": "sell"}
    told = trade(7, timestamp=stream_time(ns), price=float(price), qty=float(volume), side=sides[side])
    [message] = reader_of(Topic("trades", BTC)).read(frame("trade", [told]))
    return answered, STREAMS.trades(BTC, message.rows)


moments = st.integers(1_500_000_000 * SECOND_NS, 2_000_000_000 * SECOND_NS)
decimals = st.decimals("0.00000001", "99999999", places=8, allow_nan=False).map(str)


@given(moments, decimals, decimals, st.sampled_from("bs"))
def test_a_trade_of_a_full_microsecond_is_the_same_as_over_rest(ns, price, volume, side):
    answered, streamed = both_ways(ns // 1000 * 1000, price, volume, side)
    assert streamed.equals(answered)


@given(moments)
def test_a_trade_has_the_same_key_as_over_rest(ns):
    """REST writes the nearest float, up to 239 ns away: only by a full millisecond may the keys differ."""
    assume(ns % 1_000_000 < 999_500)
    answered, streamed = both_ways(ns)
    key = ["ts", "trade_id"]
    assert streamed.select(key).equals(answered.select(key))
    assert abs(streamed["nanosecond"][0].as_py() - answered["nanosecond"][0].as_py()) < 1_500


@pytest.mark.real_data
def test_recorded_answers_have_the_keys_that_they_are_streamed_with(payload):
    text = payload("trades")
    raw = json.loads(text)["result"]["XBTUSDT"]
    answered, times = trade_rows(raw)
    told = [
        trade(
            number,
            timestamp=stream_time(ns),
            price=float(price),
            qty=float(volume),
            side={"b": "buy", "s": "sell"}[side],
        )
        for (price, volume, _, side, _, _, number), ns in zip(raw, times.tolist(), strict=True)
    ]
    [message] = reader_of(Topic("trades", BTC)).read(frame("trade", told))
    streamed = STREAMS.trades(BTC, message.rows)
    assert streamed.num_rows == 1000
    assert streamed.drop_columns("nanosecond").equals(answered.drop_columns("nanosecond"))


def test_trades_of_several_pairs_in_one_message_are_kept_apart():
    btc, eth = Topic("trades", BTC), Topic("trades", ETH)
    rows = [trade(1), trade(8, "ETH/USD"), trade(2), trade(5, "SOL/USD")]
    messages = reader_of(btc, eth).read(frame("trade", rows, "snapshot"))
    found = {message.topic: [row.trade_id for row in message.rows] for message in messages}
    assert found == {btc: [1, 2], eth: [8]}


def test_no_trades_are_an_empty_table():
    assert STREAMS.trades(BTC, []).equals(TRADES.empty_table())


def test_a_time_that_is_none_is_an_error():
    [message] = reader_of(Topic("trades", BTC)).read(frame("trade", [trade(timestamp="noon")]))
    with pytest.raises(ProviderUnavailable, match="noon"):
        STREAMS.trades(BTC, message.rows)


# Candles


@pytest.mark.real_data
def test_recorded_candles_are_read():
    topic = Topic("candles", BTC, level="1m")
    [message] = reader_of(topic, Topic("candles", BTC, level="5m")).read(recorded("ohlc_update"))
    assert isinstance(message, Candles) and message.topic is topic
    assert STREAMS.candles(BTC, "1m", message.rows).to_pylist() == [
        {
            "ts": parse_time("2023-10-04T16:25:00Z"),
            "open": 106038.2,
            "high": 106044.3,
            "low": 106038.1,
            "close": 106040.1,
            "volume": 30927.68066226,
            "turnover": 106039.6 * 30927.68066226,
            "trade_count": 12,
            "is_closed": None,
        }
    ]


def test_candles_are_the_same_as_over_rest(told):
    fields = {
        "open": "5.1",
        "high": "7.0",
        "low": "4.3",
        "close": "6.6",
        "vwap": "5.7",
        "volume": "2.50000000",
    }
    answer = {"error": [], "result": {"XXBTZUSD": [[NOON, *fields.values(), 3]], "last": NOON}}
    page, _ = told(candles(BTC, NOON * 1000, NOON * 1000 + 300_000, "5m"), answer)

    row = {name: float(text) for name, text in fields.items()}
    begin = f"{second(NOON)}.000000000Z"
    row |= {"symbol": "BTC/USD", "interval": 5, "interval_begin": begin, "trades": 3}
    reader = reader_of(Topic("candles", BTC, level="5m"))
    [message] = reader.read(frame("ohlc", [row]))
    streamed = STREAMS.candles(BTC, "5m", message.rows)
    assert streamed["is_closed"].null_count == 1
    assert streamed.drop_columns("is_closed").equals(page)
    assert reader.read(frame("ohlc", [row | {"interval": 1}])) == ()


# Order books


@pytest.mark.real_data
def test_recorded_books_are_read():
    topic = Topic("order_book", BTC, depth=10)
    reader = reader_of(topic)
    [whole] = reader.read(recorded("book_snapshot"))
    # The file was written by hand: its checksum is not that of its levels.
    assert whole == BookUpdate(
        topic,
        True,
        [
            (105944.2, 0.136, "10594420136"),
            (105935.4, 0.024, "1059354024"),
            (105920.1, 0.052, "1059201052"),
        ],
        [
            (105944.3, 0.136, "10594430136"),
            (105946.9, 0.095, "1059469095"),
            (105955.8, 0.003, "105955803"),
        ],
        ts=parse_time("2023-10-06T17:35:55.440Z"),
        checksum=2439117997,
    )
    [change] = reader.read(recorded("book_update"))
    assert (change.is_snapshot, change.asks, change.checksum) == (False, [], 2114181697)
    assert change.bids == [(105944.2, 0.25, "10594420250")]


def test_the_checksum_is_that_of_the_documented_book():
    """https://docs.kraken.com/api/docs/guides/spot-ws-book-v2"""
    asks = """45285.2 0.00100000 45286.4 1.54571953 45286.6 1.54571109 45289.6 1.54560911 45290.2 0.15890660
        45291.8 1.54553491 45294.7 0.04454749 45296.1 0.35380000 45297.5 0.09945542 45299.5 0.18772827"""
    bids = """45283.5 0.10000000 45283.4 1.54582015 45282.1 0.10000000 45281.0 0.10000000 45280.3 1.54592586
        45279.0 0.07990000 45277.6 0.03310103 45277.5 0.30000000 45277.3 1.54602737 45276.6 0.15445238"""
    levels = {}
    for side, text in (("asks", asks), ("bids", bids)):
        numbers = text.split()
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        levels[side] = ",".join(f'{{"price":{price},"qty":{amount}}}' for price, amount in pairs)
    data = '{{"symbol":"BTC/USD","bids":[{bids}],"asks":[{asks}],"checksum":3310070434}}'.format(**levels)
    text = f'{{"channel":"book","type":"snapshot","data":[{data}]}}'

    [book] = reader_of(Topic("order_book", BTC, depth=10)).read(text)
    assert STREAMS.checksum(book.bids, book.asks) == book.checksum == 3310070434
    assert STREAMS.checksum(book.bids, book.asks + [(45300.0, 1.0, "453000100000000")]) == book.checksum
    assert STREAMS.checksum(book.bids, book.asks[:9]) != book.checksum
    assert book.ts is None


def as_v2(symbol, told):
    """A message of a book in WebSocket v1, whose numbers are texts, in v2; None if it is none."""
    sides = {name: [] for name in ("bids", "asks")}
    for part in told:
        for key, rows in part.items():
            if key != "c":
                sides["asks" if key[0] == "a" else "bids"] += rows
    rows = {
        side: ",".join(f'{{"price":{price},"qty":{amount}}}' for price, amount, *_ in levels)
        for side, levels in sides.items()
    }
    kind = "snapshot" if "as" in told[0] else "update"
    checksum = next((int(part["c"]) for part in told if "c" in part), 0)
    data = '"bids":[{bids}],"asks":[{asks}]'.format(**rows)
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}",{data},"checksum":{checksum}}}]}}'
    )


@pytest.mark.real_data
def test_recorded_books_keep_to_their_checksums():
    """The checksum is the same in v1, of which there is a recording: ten pairs, 1,000 levels on each side."""
    depth = 1000
    texts = [line.split(": ", 1)[1] for line in captured_lines("KRAKEN.ws.50.0.gz") if line[:1].isdigit()]
    told = [message for message in map(json.loads, texts) if isinstance(message, list)]
    topics = {
        name: Topic("order_book", Instrument("cryptopair", name, name, name.replace("/", "")), depth=depth)
        for name in {message[-1] for message in told}
    }
    reader = reader_of(*topics.values())
    books, checked = {}, 0
    for message in told:
        [update] = reader.read(as_v2(message[-1], message[1:-2]))
        book = books.setdefault(update.topic, ({}, {}))
        for side, changes, sign in zip(book, (update.bids, update.asks), (-1, 1), strict=True):
            for level in changes:
                side[level[0]] = level
            best = sorted((level for level in side.values() if level[1]), key=lambda level: sign * level[0])
            side.clear()
            side.update((level[0], level) for level in best[:depth])
        if not update.is_snapshot:
            assert STREAMS.checksum(*(list(side.values())[:10] for side in book)) == update.checksum
            checked += 1
    assert len(books) == 10 and checked > 4000


# What is asked for, and what is answered


MARKET = {"id": "XXBTZUSD", "symbol": "BTC/USD", "base": "BTC", "quote": "USD", "type": "spot", "spot": True}
MARKET |= dict.fromkeys(("swap", "future", "option", "contract"), False)


@pytest.mark.parametrize(
    ("topic", "call", "args"),
    [
        (Topic("trades", BTC), "watch_trades_for_symbols", ()),
        (Topic("order_book", BTC, depth=25), "watch_order_book_for_symbols", (25,)),
    ],
    ids=str,
)
def test_subscribes_where_and_as_ccxt_does(topic, call, args):
    """Of trades, the latest ones too."""
    url, frame = stream_helpers.sent_by_ccxt("kraken", MARKET, call, ["BTC/USD"], *args)
    assert url == asyncio.run(STREAMS.url(STREAMS.endpoint(topic), "cryptopair", None))
    if topic.feed == "trades":
        frame["params"]["snapshot"] = True
    assert STREAMS.subscribe([topic], frame["req_id"]) == [frame]


def test_frames_ask_for_a_channel_of_many_pairs():
    """Of candles as ccxt.pro's ``watch_ohlcv`` does."""
    topics = [Topic("trades", BTC), Topic("candles", BTC, level="4h"), Topic("trades", ETH)]
    assert STREAMS.subscribe(topics, 3) == [
        {
            "method": "subscribe",
            "params": {"channel": "trade", "symbol": ["BTC/USD", "ETH/USD"], "snapshot": True},
            "req_id": 3,
        },
        {
            "method": "subscribe",
            "params": {"channel": "ohlc", "symbol": ["BTC/USD"], "interval": 240},
            "req_id": 3,
        },
    ]
    assert STREAMS.unsubscribe([Topic("order_book", ETH, depth=100)], 4) == [
        {
            "method": "unsubscribe",
            "params": {"channel": "book", "symbol": ["ETH/USD"], "depth": 100},
            "req_id": 4,
        }
    ]


def test_each_level_has_the_interval_that_rest_has():
    topics = [Topic("candles", BTC, level=level) for level in STREAMS.levels]
    intervals = [asked["params"]["interval"] for asked in STREAMS.subscribe(topics, 1)]
    assert intervals == [1, 5, 15, 30, 60, 240, 1440] and set(STREAMS.levels) == set(LEVEL_MS)


def test_books_of_different_depths_have_different_connections():
    """Their messages do not tell the depth."""
    topics = [Topic("order_book", BTC, depth=depth) for depth in STREAMS.book_depths["cryptopair"]]
    endpoints = {STREAMS.endpoint(topic) for topic in [*topics, Topic("trades", BTC)]}
    assert len(endpoints) == 6
    urls = {asyncio.run(STREAMS.url(endpoint, "cryptopair", None)) for endpoint in endpoints}
    assert urls == {"wss://ws.kraken.com/v2"}


@pytest.mark.real_data
def test_recorded_replies_are_told_apart():
    reader = reader_of(Topic("trades", BTC))
    assert reader.read(recorded("pong")) is None
    assert reader.read(recorded("subscribe_response")) == ()  # of a channel that is not ours


def reply(**fields):
    return json.dumps(
        {"method": "subscribe", "success": True, **fields, "time_in": "2023-09-25T09:04:31.742599Z"}
    )


def test_replies_confirm_one_topic():
    topics = [
        Topic("trades", BTC),
        Topic("candles", BTC, level="1m"),
        Topic("candles", BTC, level="5m"),
        Topic("order_book", BTC, depth=25),
    ]
    reader = reader_of(*topics)
    options = [{"channel": "trade"}, {"channel": "ohlc", "interval": 1}, {"channel": "ohlc", "interval": 5}]
    options.append({"channel": "book", "depth": 25})
    for topic, option in zip(topics, options, strict=True):
        assert reader.read(reply(result={"symbol": "BTC/USD", "snapshot": True, **option})) == (
            Confirmed([topic]),
        )
    assert reader.read(reply(result={"symbol": "BTC/USD", "channel": "trade"}, method="unsubscribe")) == ()


def test_an_error_refuses_the_pair_that_it_names():
    trades, minutes, other = Topic("trades", BTC), Topic("candles", BTC, level="1m"), Topic("trades", ETH)
    reader = reader_of(trades, minutes, other)
    reason = "Currency pair not supported BTC/USD"
    messages = reader.read(reply(success=False, error=reason, symbol="BTC/USD"))
    assert messages == [Refused(trades, reason), Refused(minutes, reason)]
    assert reader.read(reply(success=False, error=reason, symbol="SOL/USD")) == []
    nameless = "Malformed request"
    assert reader.read(reply(success=False, error=nameless)) == (Refused(None, nameless),)


@pytest.mark.parametrize("error", ["Exceeded msg rate", "EGeneral:Internal error", "Already subscribed"])
def test_errors_that_pass_refuse_nothing(error):
    assert reader_of(Topic("trades", BTC)).read(reply(success=False, error=error, symbol="BTC/USD")) == ()


def test_messages_that_nobody_expects_are_left_out():
    topic = Topic("trades", BTC)
    reader = reader_of(topic, Topic("trades", ETH))
    status = frame(
        "status", [{"system": "online", "api_version": "v2", "connection_id": 1, "version": "2.0.10"}]
    )
    for text in (status, '{"channel":"heartbeat"}', frame("trade", [trade(symbol="SOL/USD")])):
        assert list(reader.read(text)) == []
    assert len(reader.read(frame("trade", [trade()]))) == 1
    reader.forget([topic])
    assert reader.read(frame("trade", [trade()])) == ()
    assert STREAMS.reader().read(status) == ()


LEVEL = {"price": 5.0, "qty": 1.0}
BOOK = {
    "symbol": "BTC/USD",
    "bids": [LEVEL],
    "asks": [],
    "checksum": 1,
    "timestamp": "2025-11-10T12:00:00.25Z",
}
CANDLE = {"symbol": "BTC/USD", "interval": 1, "interval_begin": "2025-11-10T12:00:00.000000000Z", "trades": 1}
CANDLE |= dict.fromkeys(("open", "high", "low", "close", "vwap", "volume"), 5.0)


@pytest.mark.parametrize(
    ("channel", "row", "name"),
    [
        *(("trade", trade(), name) for name in ("symbol", "side", "price", "qty", "trade_id", "timestamp")),
        *(("ohlc", CANDLE, name) for name in CANDLE),
        *(("book", BOOK, name) for name in ("symbol", "bids", "asks", "checksum")),
    ],
)
def test_a_field_that_is_missing_or_renamed_is_an_error(channel, row, name):
    reader = reader_of(
        Topic("trades", BTC), Topic("candles", BTC, level="1m"), Topic("order_book", BTC, depth=10)
    )
    assert len(reader.read(frame(channel, [row]))) == 1
    renamed = {key if key != name else f"{key}_new": value for key, value in row.items()}
    with pytest.raises(msgspec.ValidationError, match=name):
        reader.read(frame(channel, [renamed]))


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        '{"channel":"trade","rows":[]}',
        '{"channel":"news","type":"update","data":[]}',
        '{"type":"update","data":[]}',
        '{"Error":"Exceeded msg rate"}',
        frame("book", [BOOK | {"bids": [{"price": "five", "qty": 1.0}]}]),
        frame("book", [BOOK | {"asks": [{"price": 5.0, "qty": None}]}]),
        frame("book", [BOOK | {"timestamp": "2025-11-10T12:00:00"}]),
        frame("trade", [trade(price="5.0")]),
        frame("trade", [trade(side="b")]),
    ],
)
def test_messages_of_another_form_are_errors(text):
    with pytest.raises(msgspec.DecodeError):
        reader_of(Topic("trades", BTC), Topic("order_book", BTC, depth=10)).read(text)


# Names


@pytest.mark.parametrize(
    ("symbol", "native_id", "name"),
    [
        ("BTC/USD", "XXBTZUSD", "BTC/USD"),
        ("DOGE/BTC", "XXDGXXBT", "DOGE/BTC"),
        ("LUNA/USD", "LUNA2USD", "LUNA2/USD"),
        ("LUNC/USD", "LUNAUSD", "LUNA/USD"),
        ("REP/EUR", "REPV2EUR", "REPV2/EUR"),
        ("AAPLX/USD", "AAPLxUSD", "AAPLx/USD"),
    ],
)
def test_a_pair_is_asked_for_by_the_name_of_the_stream(symbol, native_id, name):
    assert stream_name(Instrument("cryptopair", "any", symbol, native_id)) == name


@pytest.mark.real_data
def test_all_recorded_pairs_are_asked_for_by_the_names_of_the_stream(told):
    """v2 streams have the names of v1 with BTC and DOGE for XBT and XDG."""
    [line] = [line for line in captured_lines("KRAKEN.0.gz") if "AssetPairs" in line]
    pairs = json.loads(line[line.index("{") :])
    # Dark pools were not streamed, and are gone.
    pairs["result"] = {name: pair for name, pair in pairs["result"].items() if "wsname" in pair}
    # Without this, ccxt takes the first REP for the second one.
    assets = {"XREP": {"aclass": "currency", "altname": "REP", "decimals": 10, "status": "enabled"}}
    found, _ = told(instruments("cryptopair"), {"error": [], "result": assets}, pairs)
    wanted = {
        name: re.sub("XDG", "DOGE", re.sub("XBT", "BTC", pair["wsname"]))
        for name, pair in pairs["result"].items()
    }
    rows = found.batch.to_pylist()
    assert len(rows) == len(wanted) > 250
    names = {
        row["native_id"]: stream_name(Instrument("cryptopair", row["code"], row["symbol"], row["native_id"]))
        for row in rows
    }
    assert names == wanted
