"""KuCoin's streams: what a client is answered, and that what is streamed is what REST tells of the same time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from live_reading import reading

from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox.kucoin import BULLET

#: Half a minute before perpetuals pay.
NOW = parse_time("2024-06-10T15:59:30Z")
SPOT = f"ws-api-spot.kucoin.com/?token={BULLET.replace('+', '%2B')}&connectId=me"
CONTRACTS = f"ws-api-futures.kucoin.com/?token={BULLET.replace('+', '%2B')}&connectId=me"
SYMBOLS = ("BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC")
ADDRESSES = {"BTC-USDT": SPOT, "XBTUSDTM": CONTRACTS, "XBTUSDM": CONTRACTS}
MARKETS = pytest.mark.parametrize("market", ADDRESSES)


def ask_for(topic: str, kind: str = "subscribe", number: str = "7") -> dict[str, Any]:
    return {"id": number, "type": kind, "topic": topic, "response": True}


def topic_of(feed: str, market: str) -> str:
    names = {
        "trades": ("/market/match", "/contractMarket/execution"),
        "candles": ("/market/candles", "/contractMarket/limitCandle"),
        "book": ("/spotMarket/level2Depth50", "/contractMarket/level2Depth50"),
    }
    return f"{names[feed][market != 'BTC-USDT']}:{market}{'_1min' if feed == 'candles' else ''}"


def error(code: int, data: str) -> dict[str, Any]:
    return {"id": "7", "type": "error", "code": code, "data": data}


@pytest.fixture
def rest(paced, fetch):
    """The data of an answer of REST, of the API that has a market."""

    async def asked(market: str, path: str, **query: Any) -> Any:
        host = "api" if market == "BTC-USDT" else "api-futures"
        text = "&".join(f"{name}={value}" for name, value in {"symbol": market, **query}.items())
        url = f"{paced.url}/{host}.kucoin.com/api/v1/{path}?{text}"
        return (await asyncio.to_thread(fetch, url)).json["data"]

    return asked


# Answers


@pytest.mark.parametrize(("api", "streams"), [("api", "spot"), ("api-futures", "futures")])
def test_a_token_leads_to_the_streams(paced, fetch, talk, api, streams) -> None:
    reply = fetch(f"{paced.url}/{api}.kucoin.com/api/v1/bullet-public", "POST", b"{}")
    [server] = reply.json["data"]["instanceServers"]
    assert server["endpoint"] == f"wss://ws-api-{streams}.kucoin.com/"
    token = reply.json["data"]["token"].replace("+", "%2B")
    address = f"{server['endpoint'].removeprefix('wss://')}?token={token}&connectId=5"
    assert talk(paced, lambda peer: peer.receive(), address) == {"id": "5", "type": "welcome"}


def test_without_a_token_the_connection_ends(paced, talk) -> None:
    async def use(peer) -> Any:
        told = await peer.receive()
        with pytest.raises(ConnectionError):
            await peer.receive()
        return told

    answer = talk(paced, use, "ws-api-spot.kucoin.com/?token=nonsense&connectId=7")
    assert answer == error(401, "token is invalid")


@pytest.mark.parametrize(
    ("topic", "answer"),
    [
        ("/market/match:FOO-USDT", error(404, "topic /market/match:FOO-USDT is not found")),
        ("/market/match:BTC-USDT,FOO-USDT", error(404, "topic /market/match:BTC-USDT,FOO-USDT is not found")),
        # One that is gone, one of another API, a channel, a candle type and a candle that is none.
        ("/market/match:EOS-USDT", error(404, "topic /market/match:EOS-USDT is not found")),
        ("/market/match:XBTUSDTM", error(404, "topic /market/match:XBTUSDTM is not found")),
        ("/market/nope:BTC-USDT", error(404, "topic /market/nope:BTC-USDT is not found")),
        ("/market/candles:BTC-USDT_7min", error(404, "topic /market/candles:BTC-USDT_7min is not found")),
        ("/market/candles:BTC-USDT_5min", error(404, "topic /market/candles:BTC-USDT_5min is not found")),
        ("/market/candles:BTC-USDT", error(404, "topic /market/candles:BTC-USDT is not found")),
        ("/market/match:BTC-USDT_1min", error(404, "topic /market/match:BTC-USDT_1min is not found")),
        ("", error(406, "topic is required")),
        (None, error(406, "topic is required")),
        (f"/market/match:{','.join(['BTC-USDT'] * 101)}", error(509, "exceed max subscription count limitation of 100 per time")),
    ],
)  # fmt: skip
def test_a_frame_about_pairs_with_a_wrong_topic_is_refused_whole(paced, talk, topic, answer) -> None:
    async def use(peer) -> Any:
        await peer.receive()
        return await peer.ask(ask_for(topic)), paced.connections[0].subscriptions

    assert talk(paced, use, SPOT) == (answer, ())


def test_contracts_that_there_are_not_are_acknowledged_and_say_nothing(paced, clock, talk) -> None:
    async def use(peer) -> Any:
        await peer.receive()
        answers = [
            await peer.ask(ask_for(f"/contractMarket/{name}"))
            for name in (
                "execution:NOPEUSDTM,XBTUSDTM",
                "level2Depth20:XBTUSDTM",
                "limitCandle:XBTUSDTM_3min",
            )
        ]
        clock.forward(MINUTE_MS)
        return answers, [await peer.receive(), *await peer.rest()]

    answers, told = talk(paced, use, CONTRACTS)
    missing = error(404, "topic does not exist")
    assert answers == [{"id": "7", "type": "ack"}, missing, missing]
    assert {message["topic"] for message in told} == {"/contractMarket/execution:XBTUSDTM"}


def test_the_end_of_a_subscription(paced, clock, talk) -> None:
    async def use(peer) -> Any:
        await peer.receive()
        await peer.ask(ask_for("/market/match:BTC-USDT,ETH-USDT"))
        again = await peer.ask(ask_for("/market/match:BTC-USDT", number="8"))
        answer = await peer.ask(ask_for("/market/match:BTC-USDT", "unsubscribe", "9"))
        clock.forward(MINUTE_MS)
        return again, answer, [await peer.receive(), *await peer.rest()]

    again, answer, told = talk(paced, use, SPOT)
    assert (again, answer) == ({"id": "8", "type": "ack"}, {"id": "9", "type": "ack"})
    assert {message["topic"] for message in told} == {"/market/match:ETH-USDT"}


def test_no_answer_is_sent_where_none_is_wanted(paced, talk) -> None:
    async def use(peer) -> Any:
        await peer.receive()
        await peer.send(ask_for("/market/match:BTC-USDT") | {"response": False})
        return await peer.ask({"id": "3", "type": "ping"})

    assert talk(paced, use, SPOT) == {"id": "3", "type": "pong", "timestamp": NOW * 1000}


@pytest.mark.parametrize(
    ("text", "code"), [("x", 400), ("[]", 415), ('{"id":"7"}', 415), ('{"id":"7","type":"login"}', 415)]
)
def test_frames_of_another_form_are_errors(paced, talk, text, code) -> None:
    async def use(peer) -> Any:
        await peer.receive()
        return await peer.ask(text)

    answer = talk(paced, use, SPOT)
    assert (answer["type"], answer["code"]) == ("error", code)


# What is streamed is what REST tells


@MARKETS
def test_trades(paced, clock, talk, rest, market) -> None:
    pair = market == "BTC-USDT"

    async def use(peer) -> Any:
        await peer.receive()
        await peer.ask(ask_for(topic_of("trades", market)))
        clock.forward(5_000)
        theirs = await rest(market, "market/histories" if pair else "trade/history")
        theirs = sorted(theirs, key=lambda row: int(row["sequence"]))
        newest = str(theirs[-1]["sequence"])
        return await peer.until(lambda frame: frame["data"]["tradeId"] == newest), theirs

    frames, theirs = talk(paced, use, ADDRESSES[market])
    assert {frame["subject"] for frame in frames} == {"trade.l3match" if pair else "match"}
    names = (
        ("sequence", "price", "size", "side", "time") if pair else ("tradeId", "price", "size", "side", "ts")
    )
    wanted = [{name: row[name] for name in names} for row in theirs if row[names[-1]] // 1_000_000 > NOW]
    ours = [{name: frame["data"][name] for name in names} for frame in frames]
    if pair:
        assert all(frame["data"]["tradeId"] == frame["data"]["sequence"] for frame in frames)
        wanted = [row | {"time": str(row["time"])} for row in wanted]
    assert len(wanted) > 5 and ours[-len(wanted) :] == wanted
    assert len(wanted) == 100 or len(ours) == len(wanted)


@MARKETS
def test_candles(paced, clock, talk, rest, market) -> None:
    pair = market == "BTC-USDT"

    async def use(peer) -> Any:
        await peer.receive()
        await peer.ask(ask_for(topic_of("candles", market)))
        frames = []
        for _ in range(4):
            clock.forward(40_000)
            frames += await peer.until(
                lambda frame: int(frame["data"]["candles"][0]) * 1000 > clock.now - MINUTE_MS
            )
        start = NOW - MINUTE_MS
        if pair:
            query = {"type": "1min", "startAt": start // 1000, "endAt": clock.now // 1000 + 1}
            return frames, await rest(market, "market/candles", **query)
        return frames, await rest(market, "kline/query", granularity=1, **{"from": start, "to": clock.now})

    frames, theirs = talk(paced, use, ADDRESSES[market])
    last = {}
    for frame in frames:
        values = frame["data"]["candles"]
        last[int(values[0])] = values
    assert list(last) == sorted(last) and len(last) == 4, "an earlier candle does not come again"
    if pair:
        wanted = {int(row[0]): row for row in theirs}
    else:
        wanted = {
            row[0] // 1000: [row[0] // 1000, row[1], row[4], row[2], row[3], row[5], row[5]] for row in theirs
        }
        last = {second: [int(values[0]), *map(float, values[1:])] for second, values in last.items()}
    assert last == {second: wanted[second] for second in last}


@MARKETS
def test_books(paced, clock, talk, rest, market) -> None:
    pair = market == "BTC-USDT"

    async def use(peer) -> Any:
        await peer.receive()
        await peer.ask(ask_for(topic_of("book", market)))
        frames, theirs = [await peer.receive()], []
        for _ in range(6):
            clock.forward(500)
            frames += await peer.until(lambda frame: frame["data"]["timestamp"] == clock.now)
            path = "market/orderbook/level2_100" if pair else "level2/depth100"
            theirs.append(await rest(market, path))
        return frames, theirs

    frames, theirs = talk(paced, use, ADDRESSES[market])
    assert {frame["subject"] for frame in frames} == {"level2"}

    def sides(book: Any) -> Any:
        return [[[float(price), float(size)] for price, size in book[name][:50]] for name in ("bids", "asks")]

    told = {frame["data"]["timestamp"]: frame["data"] for frame in frames}
    for book in theirs:
        ours = told[book["time"] if pair else book["ts"] // 1_000_000]
        assert sides(ours) == sides(book) and len(ours["bids"]) == len(ours["asks"]) == 50
        assert pair or ours["sequence"] == book["sequence"]


@pytest.mark.parametrize("market", ["XBTUSDTM", "XBTUSDM"])
def test_the_rate_of_the_next_payment_is_what_is_paid(paced, clock, talk, rest, market) -> None:
    async def use(peer) -> Any:
        await peer.receive()
        await peer.ask(ask_for(f"/contract/instrument:{market}"))
        frames = []
        for step in (2000, 2000, 2000, MINUTE_MS):
            clock.forward(step)
            frames += await peer.until(lambda frame: frame["data"]["timestamp"] == clock.now)
        frames.append(await peer.receive())
        query = {"from": NOW, "to": clock.now + HOUR_MS}
        return frames, await rest(market, "contract/funding-rates", **query)

    frames, [paid] = talk(paced, use, CONTRACTS)
    assert [frame["subject"] for frame in frames] == [
        "mark.index.price", "funding.rate", "mark.index.price", "mark.index.price",
        "mark.index.price", "funding.rate",
    ]  # fmt: skip
    rate = frames[1]["data"]
    assert (rate["fundingRate"], rate["granularity"]) == (paid["fundingRate"], 60_000)
    assert frames[-1]["data"]["fundingRate"] != rate["fundingRate"]
    assert frames[0]["data"]["timestamp"] == rate["timestamp"] == NOW + 2000
    assert frames[0]["data"]["markPrice"] > 0


# For our own streams


def read_by_ours(use, *args: Any, **details: Any) -> None:
    async def session() -> None:
        async with reading(*args, **details) as live:
            await use(live)

    asyncio.run(session())


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_our_streams_read_the_trades_of_our_requests(paced, clock, tmp_path, symbol) -> None:
    async def use(live) -> None:
        instrument, end = live.topic.instrument, clock.forward(5000) + 1
        [part] = [part async for part in live.venue.fetch_trades(instrument, NOW, end)]
        theirs = sorted(part.rows.to_pylist(), key=lambda row: int(row["trade_id"]))
        theirs = [row for row in theirs if row["ts"] > NOW]
        newest = theirs[-1]["trade_id"]
        told = await live.until(lambda messages: messages[-1].rows[-1].id == newest)
        rows = [row for message in told for row in message.rows]
        assert live.venue.streams.trades(instrument, rows).to_pylist()[-len(theirs) :] == theirs

    read_by_ours(use, paced, tmp_path, "kucoin", symbol, "trades")


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_our_streams_read_the_candles_of_our_requests(paced, clock, tmp_path, symbol) -> None:
    async def use(live) -> None:
        instrument, start = live.topic.instrument, NOW // MINUTE_MS * MINUTE_MS
        clock.forward(MINUTE_MS)
        told = await live.until(lambda messages: messages[-1].rows[0].seconds * 1000 > start)
        row = next(message.rows[0] for message in told if message.rows[0].seconds * 1000 == start)
        [ours] = live.venue.streams.candles(instrument, "1m", [row]).to_pylist()
        page = await live.venue.fetch_candle_page(instrument, "1m", start, start + MINUTE_MS)
        [theirs] = page.to_pylist()
        # What streams do not tell: the turnover of linear contracts, and how many coins inverse ones were.
        if symbol == "BTC/USDT:USDT":
            theirs["turnover"] = None
        if symbol == "BTC/USD:BTC":
            theirs["volume"] = pytest.approx(theirs["volume"], rel=1e-3)
        assert ours == theirs | {"is_closed": None}

    read_by_ours(use, paced, tmp_path, "kucoin", symbol, "candles", level="1m")


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("depth", [5, 50])
def test_our_streams_read_the_books_of_our_requests(paced, tmp_path, symbol, depth) -> None:
    async def use(live) -> None:
        [snapshot] = await live.until(bool)
        [theirs] = (await live.venue.fetch_order_book(live.topic.instrument, 100)).to_pylist()
        assert (snapshot.is_snapshot, snapshot.ts) == (True, theirs["ts"])
        assert snapshot.last == (None if symbol == "BTC/USDT" else theirs["sequence"])
        for side in ("bids", "asks"):
            ours = [price for price, _ in getattr(snapshot, side)]
            assert ours == [price for price, _ in json.loads(theirs[side])][:depth]

    read_by_ours(use, paced, tmp_path, "kucoin", symbol, "order_book", depth=depth)


def test_our_streams_read_the_next_payment(paced, clock, tmp_path) -> None:
    async def use(live) -> None:
        clock.forward(2000)
        told = await live.until(lambda messages: messages[-1].rate is not None)
        assert [(message.mark_price is not None, message.rate is not None) for message in told[-2:]] == [
            (True, False), (True, True)
        ]  # fmt: skip
        events = paced.market.fundings("BTC/USDT:USDT", NOW, NOW + MINUTE_MS)
        assert told[-1].rate == events.rate[0]

    read_by_ours(use, paced, tmp_path, "kucoin", "BTC/USDT:USDT", "funding")
