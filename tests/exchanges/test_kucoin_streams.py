"""KuCoin's streams: the frames of its documents value by value, answers, and that rows equal REST's.

There are no recorded frames of KuCoin. The frames here are the samples of its documents.
"""

import asyncio
import json
from urllib.parse import parse_qs, urlsplit

import ccxt.pro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_helpers import Sent, messages_of, reader_of, renamed, table_of
from venue_helpers import candles, parts_of, rows_of

from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.kucoin import Kucoin
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import BookUpdate, Confirmed, Funding, Refused, Topic

PROVIDER = "kucoin"
STREAMS = Kucoin.streams
SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC-USDT")
LINEAR = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "XBTUSDTM", contract_size=0.001)
INVERSE = Instrument("cryptoperp", "btcusd-btc", "BTC/USD:BTC", "XBTUSDM", contract_size=1.0, inverse=True)
MARKETS = pytest.mark.parametrize("instrument", [SPOT, LINEAR, INVERSE], ids=lambda i: i.symbol)

#: The samples of KuCoin's documents.
SPOT_FRAMES = {
    "trades": {"topic": "/market/match:BTC-USDT", "type": "message", "subject": "trade.l3match", "data": {"makerOrderId": "671b5007389355000701b1d3", "price": "67523", "sequence": "11067996711960577", "side": "buy", "size": "0.003", "symbol": "BTC-USDT", "takerOrderId": "671b50161777ff00074c168d", "time": "1729843222921000000", "tradeId": "11067996711960577", "type": "match"}},
    "candles": {"topic": "/market/candles:BTC-USDT_1hour", "type": "message", "subject": "trade.candles.update", "data": {"symbol": "BTC-USDT", "candles": ["1729839600", "67644.9", "67437.6", "67724.8", "67243.8", "44.88321441", "3027558.991928447"], "time": 1729842192785164840}},
    "order_book": {"type": "message", "topic": "/spotMarket/level2Depth50:BTC-USDT", "subject": "level2", "data": {"asks": [["95964.3", "0.08168874"], ["95967.9", "0.00985094"]], "bids": [["95964.2", "1.35483359"], ["95964.1", "0.01117492"]], "timestamp": 1733124805073}},
}  # fmt: skip
CONTRACT_FRAMES = {
    "trades": {"topic": "/contractMarket/execution:XBTUSDTM", "type": "message", "subject": "match", "sn": 1794100537695, "data": {"symbol": "XBTUSDTM", "sequence": 1794100537695, "side": "buy", "size": 2, "price": "90503.9", "takerOrderId": "247822202957807616", "makerOrderId": "247822167163555840", "tradeId": "1794100537695", "ts": 1731898619520000000}},
    "candles": {"topic": "/contractMarket/limitCandle:XBTUSDTM_1hour", "type": "message", "data": {"symbol": "XBTUSDTM", "candles": ["1731898200", "90638.6", "90638.6", "90638.6", "90638.6", "21.0", "21"], "time": 1731898208357}, "subject": "candle.stick"},
    "order_book": {"topic": "/contractMarket/level2Depth50:XBTUSDTM", "type": "message", "subject": "level2", "sn": 1731680019100, "data": {"bids": [["89720.9", 513], ["89720.8", 12]], "sequence": 1709294294670, "timestamp": 1731680019100, "ts": 1731680019100, "asks": [["89721", 906], ["89721.1", 203]]}},
    "funding": {"topic": "/contract/instrument:XBTUSDTM", "type": "message", "subject": "mark.index.price", "data": {"markPrice": 90445.02, "indexPrice": 90445.02, "granularity": 1000, "timestamp": 1731899129000}},
}  # fmt: skip
RATE = {"topic": "/contract/instrument:XBTUSDTM", "subject": "funding.rate", "data": {"granularity": 60000, "fundingRate": -0.002966, "timestamp": 1731899160000}}  # fmt: skip
DETAILS = {"trades": {}, "candles": {"level": "1h"}, "order_book": {"depth": 50}, "funding": {}}
SAMPLES = [(SPOT, feed, frame) for feed, frame in SPOT_FRAMES.items()]
SAMPLES += [(LINEAR, feed, frame) for feed, frame in CONTRACT_FRAMES.items()]
SAMPLES.append((LINEAR, "funding", RATE))


def topic_of(feed, instrument=LINEAR, **details):
    return Topic(feed, instrument, **{**DETAILS[feed], **details})


def messages(frames, *topics):
    return messages_of(STREAMS, topics, frames)


def frame_of(feed, instrument, **data):
    """A sample frame about an instrument, with other data."""
    sample = SPOT_FRAMES[feed] if instrument is SPOT else CONTRACT_FRAMES[feed]
    name = sample["topic"].replace("XBTUSDTM", instrument.native_id)
    return sample | {"topic": name, "data": sample["data"] | data}


def rest(data):
    return json.dumps({"code": "200000", "data": data})


# The documents' frames


def test_spot_trades_as_documented():
    assert table_of(STREAMS, messages([SPOT_FRAMES["trades"]], topic_of("trades", SPOT))).to_pylist() == [
        {"ts": 1729843222921, "trade_id": "11067996711960577", "price": 67523.0, "volume": 0.003,
         "side": "buy", "nanosecond": 0}
    ]  # fmt: skip


def test_contract_trades_as_documented():
    assert table_of(STREAMS, messages([CONTRACT_FRAMES["trades"]], topic_of("trades"))).to_pylist() == [
        {"ts": 1731898619520, "trade_id": "1794100537695", "price": 90503.9, "volume": 0.002,
         "side": "buy", "nanosecond": 0}
    ]  # fmt: skip


def test_spot_candles_as_documented():
    told = messages([SPOT_FRAMES["candles"]], topic_of("candles", SPOT))
    assert table_of(STREAMS, told).to_pylist() == [
        {"ts": 1729839600000, "open": 67644.9, "high": 67724.8, "low": 67243.8, "close": 67437.6,
         "volume": 44.88321441, "turnover": 3027558.991928447, "trade_count": None, "is_closed": None}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("instrument", "volume", "turnover"), [(LINEAR, 0.025, None), (INVERSE, 25 / 90638.6, 25.0)]
)
def test_contract_candles_count_the_last_value(instrument, volume, turnover):
    # The one before it is wrong, as KuCoin says itself.
    values = [*CONTRACT_FRAMES["candles"]["data"]["candles"][:5], "21.0", "25"]
    told = messages([frame_of("candles", instrument, candles=values)], topic_of("candles", instrument))
    assert table_of(STREAMS, told).to_pylist() == [
        {"ts": 1731898200000, "open": 90638.6, "high": 90638.6, "low": 90638.6, "close": 90638.6,
         "volume": pytest.approx(volume, rel=1e-12), "turnover": turnover, "trade_count": None,
         "is_closed": None}
    ]  # fmt: skip


def test_books_are_whole():
    spot, contract = topic_of("order_book", SPOT), topic_of("order_book")
    assert messages([SPOT_FRAMES["order_book"], CONTRACT_FRAMES["order_book"]], spot, contract) == [
        BookUpdate(spot, True, [(95964.2, 1.35483359), (95964.1, 0.01117492)],
                   [(95964.3, 0.08168874), (95967.9, 0.00985094)], ts=1733124805073),
        BookUpdate(contract, True, [(89720.9, 513.0), (89720.8, 12.0)], [(89721.0, 906.0), (89721.1, 203.0)],
                   last=1709294294670, ts=1731680019100),
    ]  # fmt: skip


def test_mark_prices_and_rates_come_apart():
    topic = topic_of("funding")
    mark = CONTRACT_FRAMES["funding"]
    paid = RATE | {"data": {"granularity": 28_800_000, "fundingRate": 0.5, "timestamp": 1731899170000}}
    later = mark | {"data": mark["data"] | {"markPrice": "90446", "timestamp": 1731899180000}}
    assert messages([mark, RATE, paid, later], topic) == [
        Funding(topic, 1731899129000, 90445.02),
        Funding(topic, 1731899160000, 90445.02, -0.002966),
        # What was paid tells nothing of the payment to come.
        Funding(topic, 1731899180000, 90446.0, -0.002966),
    ]


def test_a_rate_that_was_forgotten_is_not_told_again():
    topic = topic_of("funding")
    reader = reader_of(STREAMS, topic)
    reader.read(json.dumps(RATE))
    reader.forget([topic])
    assert reader.read(json.dumps(RATE)) == ()
    reader.expect([topic])
    mark = CONTRACT_FRAMES["funding"]
    assert reader.read(json.dumps(mark)) == (Funding(topic, 1731899129000, 90445.02),)


# As over REST

DECIMALS = st.decimals("0.00000001", "99999999.99999999", places=8).map(str)
FILLS = st.builds(
    lambda number, ns, price, size, side: {
        "sequence": str(number), "time": str(ns), "price": price, "size": size, "side": side,
    },
    st.integers(0, 2**63),
    st.integers(1_500_000_000_000_000_000, 2_000_000_000_000_000_000),
    DECIMALS,
    DECIMALS,
    st.sampled_from(["buy", "sell"]),
)  # fmt: skip


@given(st.lists(FILLS, min_size=1, max_size=20))
def test_trades_come_out_as_they_were_sent(fills):
    table = table_of(
        STREAMS, messages([frame_of("trades", SPOT, **fill) for fill in fills], topic_of("trades", SPOT))
    )
    assert table.schema.equals(TRADES)
    assert table.to_pylist() == [
        {"ts": int(fill["time"]) // 1_000_000, "trade_id": fill["sequence"], "price": float(fill["price"]),
         "volume": float(fill["size"]), "side": fill["side"], "nanosecond": int(fill["time"]) % 1_000_000}
        for fill in fills
    ]  # fmt: skip


def test_no_rows_are_empty_columns():
    assert STREAMS.trades(LINEAR, []).schema.equals(TRADES)
    assert STREAMS.candles(SPOT, "1m", []).num_rows == STREAMS.candles(INVERSE, "1m", []).num_rows == 0


@MARKETS
def test_streamed_trades_are_those_of_rest(told, instrument):
    pairs = instrument is SPOT
    sizes = ["0.00000007", "123456789.876", "0.3"] if pairs else [1, 123456789, 3]
    names = ("sequence", "time") if pairs else ("tradeId", "ts")
    sent = [
        {names[0]: f"1106799671196057{n}", names[1]: 1729843222921000000 + 1_234_567 * n,
         "price": price, "size": size, "side": side}
        for n, (price, size, side) in enumerate(
            zip(["0.00000012", "69420.1", "4001.6500000000"], sizes, ["buy", "sell", "buy"], strict=True)
        )
    ]  # fmt: skip
    parts, _ = told(parts_of("trades", instrument, 0, 2_000_000_000_000), rest(sent))
    # On the stream of pairs, times are texts.
    kind = str if pairs else int
    frames = [frame_of("trades", instrument, **row | {names[1]: kind(row[names[1]])}) for row in sent]
    table = table_of(STREAMS, messages(frames, topic_of("trades", instrument)))
    assert table.to_pylist() == rows_of(parts)


def test_streamed_candles_of_pairs_are_those_of_rest(told):
    values = SPOT_FRAMES["candles"]["data"]["candles"]
    start = int(values[0]) * 1000
    page, _ = told(candles(SPOT, start, start + 60 * MINUTE_MS, "1h"), rest([values]))
    table = table_of(STREAMS, messages([SPOT_FRAMES["candles"]], topic_of("candles", SPOT)))
    assert table.drop_columns(["is_closed"]).equals(page)


@pytest.mark.parametrize("instrument", [LINEAR, INVERSE], ids=lambda i: i.symbol)
def test_streamed_candles_of_contracts_are_those_of_rest_without_a_value(told, instrument):
    second, opened, close, high, low = (1731898200, 90638.6, 90650.1, 90700.0, 90600.5)
    start = second * 1000
    page, _ = told(
        candles(instrument, start, start + 60 * MINUTE_MS, "1h"),
        rest([[start, opened, high, low, close, 2100]]),
    )
    values = [str(value) for value in (second, opened, close, high, low, 1.0, 2100)]
    told_live = messages([frame_of("candles", instrument, candles=values)], topic_of("candles", instrument))
    assert table_of(STREAMS, told_live).drop_columns(["is_closed"]).equals(page)


# Frames that say something else


@pytest.mark.parametrize(
    ("instrument", "feed", "frame", "path"),
    [
        *((SPOT, "trades", SPOT_FRAMES["trades"], ("data", name)) for name in
          ("sequence", "time", "price", "size", "side")),
        *((LINEAR, "trades", CONTRACT_FRAMES["trades"], ("data", name)) for name in
          ("tradeId", "ts", "price", "size", "side")),
        *((LINEAR, "order_book", CONTRACT_FRAMES["order_book"], ("data", name)) for name in
          ("bids", "asks", "timestamp")),
        *((LINEAR, "funding", CONTRACT_FRAMES["funding"], ("data", name)) for name in
          ("markPrice", "timestamp")),
        *((LINEAR, "funding", RATE, ("data", name)) for name in ("fundingRate", "granularity", "timestamp")),
        (SPOT, "candles", SPOT_FRAMES["candles"], ("data", "candles")),
        (LINEAR, "candles", CONTRACT_FRAMES["candles"], ("data", "candles")),
        *((*sample, (name,)) for sample in SAMPLES for name in ("topic", "subject", "data")),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_renamed_field_cannot_be_read(instrument, feed, frame, path):
    topic = topic_of(feed, instrument)
    [message] = messages([frame], topic)
    assert message.topic is topic
    with pytest.raises(msgspec.DecodeError):
        messages([renamed(frame, path)], topic)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pong",
        "[]",
        "{}",
        '{"type":"message","topic":"/market/match:BTC-USDT","data":{}}',
        '{"topic":"/market/match:BTC-USDT","subject":"trade.new","data":{}}',
        '{"topic":"/market/match:BTC-USDT","subject":"trade.l3match","data":{"price":',
        '{"topic":"/market/candles:BTC-USDT_1hour","subject":"trade.candles.update","data":{"candles":["1"]}}',
    ],
)
def test_what_kucoin_does_not_document_cannot_be_read(text):
    with pytest.raises(msgspec.DecodeError):
        reader_of(STREAMS, topic_of("trades", SPOT)).read(text)


def test_what_is_not_expected_is_of_no_interest():
    reader = reader_of(STREAMS, topic_of("trades"))
    others = [CONTRACT_FRAMES["candles"], SPOT_FRAMES["trades"]]
    assert [reader.read(json.dumps(frame)) for frame in others] == [(), ()]


@pytest.mark.parametrize(
    "frame",
    [
        {"id": "0b5bbd2b1c9a4e0d", "type": "welcome"},
        {"id": "1545910590801", "type": "pong", "timestamp": 1764215232226553},
    ],
)
def test_welcomes_and_pongs_are_left_to_ccxt(frame):
    assert reader_of(STREAMS).read(json.dumps(frame)) is None


# Answers


def acknowledged(frame):
    return {"id": frame["id"], "type": "ack"}


def refused(frame, code=404, data="topic does not exist"):
    return {"id": frame["id"], "type": "error", "code": code, "data": data}


def test_an_acknowledgement_confirms_the_frames_topics():
    topics = [topic_of(feed, i) for i in (LINEAR, INVERSE) for feed in DETAILS]
    frames = STREAMS.subscribe(topics, 4)
    told = [messages([acknowledged(frame)], *topics) for frame in frames]
    assert told == [[Confirmed([topic_of(feed, LINEAR), topic_of(feed, INVERSE)])] for feed in DETAILS]
    assert len({frame["id"] for frame in frames}) == len(frames)
    confirmed = {id(topic) for [message] in told for topic in message.topics}
    assert confirmed == {id(topic) for topic in topics}


def test_what_ends_is_not_confirmed():
    topic = topic_of("trades")
    [end] = STREAMS.unsubscribe([topic], 5)
    assert end["topic"] == STREAMS.subscribe([topic], 4)[0]["topic"]
    assert messages([acknowledged(end), refused(end)], topic) == []


def test_a_topic_alone_in_its_frame_is_refused():
    topics = [topic_of("trades"), topic_of("candles")]
    frames = STREAMS.subscribe(topics, 1)
    reason = "topic /contractMarket/execution:XBTUSDTM is not found"
    told = messages([refused(frames[0], 404, reason), acknowledged(frames[1])], *topics)
    assert told == [Refused(topics[0], f"404 {reason}"), Confirmed([topics[1]])]
    assert told[0].topic is topics[0]


def test_a_refusal_of_many_topics_tells_of_none():
    topics = [topic_of("trades", i) for i in (LINEAR, INVERSE)]
    [frame] = STREAMS.subscribe(topics, 1)
    assert messages([refused(frame)], *topics) == []
    assert messages([refused(frame)], topics[0]) == [], "also if the other one is of no interest any more"
    # Asked for alone, each has an answer of its own.
    alone = [STREAMS.subscribe([topic], n)[0] for n, topic in enumerate(topics, 2)]
    told = messages([refused(alone[0]), acknowledged(alone[1])], *topics)
    assert told == [Refused(topics[0], "404 topic does not exist"), Confirmed([topics[1]])]


@pytest.mark.parametrize(
    "frame",
    [
        refused({"id": "1 /contractMarket/execution:XBTUSDTM"}, 509, "exceed max permits per second"),
        refused({"id": "1 /contractMarket/execution:XBTUSDTM"}, "509", "exceed max permits per second"),
        refused({"id": "1 /contractMarket/execution:XBTUSDTM"}, 500, "system error"),
        {"type": "error", "code": 400, "data": "ping timeout"},
        refused({"id": 7}, 400, "Unrecognized token 'not'"),
    ],
)
def test_what_is_not_wrong_with_a_topic_does_not_refuse_it(frame):
    assert messages([frame], topic_of("trades")) == []


# What is sent

CCXT_MARKETS = {
    "BTC/USDT": {"id": "BTC-USDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "type": "spot", "spot": True, "contract": False},
    "BTC/USDT:USDT": {"id": "XBTUSDTM", "symbol": "BTC/USDT:USDT", "base": "BTC", "quote": "USDT", "settle": "USDT", "type": "swap", "spot": False, "swap": True, "contract": True, "linear": True, "inverse": False},
    "BTC/USD:BTC": {"id": "XBTUSDM", "symbol": "BTC/USD:BTC", "base": "BTC", "quote": "USD", "settle": "BTC", "type": "swap", "spot": False, "swap": True, "contract": True, "linear": False, "inverse": True},
}  # fmt: skip


def frame_of_ccxt(instrument, call, *args):
    """The frame that a call of ccxt.pro's class sends."""

    class Recording(getattr(ccxt.pro, Kucoin.ccxt_ids[instrument.entity_type])):
        async def negotiate(self, is_private, is_contract=False, params=None):
            return "wss://ws-api.kucoin.com?token=t"

        async def watch(self, url, message_hash, message=None, *rest):
            raise Sent(url, message)

        watch_multiple = watch

    async def run():
        exchange = Recording()
        exchange.set_markets([CCXT_MARKETS[instrument.symbol]])
        try:
            await getattr(exchange, call)(*args)
        except Sent as sent:
            return sent.frame
        finally:
            await exchange.close()

    return asyncio.run(run())


@MARKETS
@pytest.mark.parametrize(
    ("feed", "call", "args"),
    [
        ("trades", "watch_trades", ()),
        ("candles", "watch_ohlcv", ("1h",)),
        ("order_book", "watch_order_book", (50,)),
    ],
)
def test_subscribes_as_ccxt_does(instrument, feed, call, args):
    theirs = frame_of_ccxt(instrument, call, instrument.symbol, *args)
    [ours] = STREAMS.subscribe([topic_of(feed, instrument)], 7)
    assert ours | {"id": theirs["id"]} == theirs
    [end] = STREAMS.unsubscribe([topic_of(feed, instrument)], 8)
    assert end | {"id": theirs["id"], "type": "subscribe"} == theirs


def test_funding_is_told_with_the_mark_price():
    [frame] = STREAMS.subscribe([topic_of("funding")], 7)
    assert frame["topic"] == "/contract/instrument:XBTUSDTM"


def test_markets_of_a_channel_share_frames():
    markets = [Instrument("cryptopair", f"x{n}usdt", f"X{n}/USDT", f"X{n}-USDT") for n in range(13)]
    topics = [
        topic for market in markets for topic in (topic_of("trades", market), topic_of("order_book", market))
    ]
    frames = STREAMS.subscribe(topics, 1)
    names = [frame["topic"].partition(":") for frame in frames]
    assert [(channel, len(listed.split(","))) for channel, _, listed in names] == [
        ("/market/match", 10), ("/market/match", 3),
        ("/spotMarket/level2Depth50", 10), ("/spotMarket/level2Depth50", 3),
    ]  # fmt: skip
    assert names[1][2] == "X10-USDT,X11-USDT,X12-USDT"
    told = messages([acknowledged(frame) for frame in frames], *topics)
    assert {id(topic) for message in told for topic in message.topics} == {id(topic) for topic in topics}


def test_five_minutes_of_pairs_are_made_of_trades():
    assert not STREAMS.serves(topic_of("candles", SPOT, level="5m"))
    assert STREAMS.serves(topic_of("candles", LINEAR, level="5m"))
    assert not STREAMS.serves(topic_of("candles", LINEAR, level="3m"))
    assert all(STREAMS.serves(topic_of(feed, i)) for i in (SPOT, LINEAR) for feed in SPOT_FRAMES)
    assert STREAMS.serves(topic_of("funding")) and not STREAMS.serves(topic_of("funding", SPOT))


# Tokens

BULLET = {"token": "2neAiuYvAU61ZDXANAGAsiL4-iA==.Qe", "instanceServers": [{"endpoint": "wss://ws-api-spot.kucoin.com/", "encrypt": True, "protocol": "websocket", "pingInterval": 18000, "pingTimeout": 10000}]}  # fmt: skip


def connect_to(instrument):
    async def use(venue):
        endpoint = STREAMS.endpoint(topic_of("trades", instrument))
        return await STREAMS.url(endpoint, instrument.entity_type, venue.client)

    return use


@pytest.mark.parametrize(("instrument", "host"), [(SPOT, "api"), (LINEAR, "api-futures")])
def test_a_token_leads_to_the_server_that_kucoin_names(told, instrument, host):
    url, paths = told(connect_to(instrument), rest(BULLET))
    assert paths == [f"/{host}.kucoin.com/api/v1/bullet-public"]
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "wss://ws-api-spot.kucoin.com/"
    query = parse_qs(parts.query)
    assert query["token"] == [BULLET["token"]] and len(query["connectId"][0]) == 32


@pytest.mark.parametrize(
    "data", [None, {}, {"token": "x"}, {**BULLET, "instanceServers": []}, {**BULLET, "token": 5}]
)
def test_no_token_is_named(told, data):
    with pytest.raises(ProviderUnavailable, match="kucoin"):
        told(connect_to(SPOT), rest(data), max_attempts=1)


def test_pairs_and_contracts_have_hosts_of_their_own():
    hosts = [STREAMS.endpoint(topic_of("trades", i)) for i in (SPOT, LINEAR, INVERSE)]
    assert hosts == ["wss://ws-api-spot.kucoin.com", *["wss://ws-api-futures.kucoin.com"] * 2]
