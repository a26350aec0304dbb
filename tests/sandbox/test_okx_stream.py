"""OKX's streams: what a client is answered, and that what is streamed is what REST tells of the same time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import numpy as np
import pytest

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.sandbox.events import Trades
from zvt_crypto.sandbox.market import Market
from zvt_crypto.sandbox.okx import Okx
from zvt_crypto.sandbox.okx_stream import OkxStreams
from zvt_crypto.sandbox.pages import Pages
from zvt_crypto.sandbox.streams import Session, Subscription

#: Half a minute before perpetuals pay.
START = parse_time("2024-06-10T15:59:30Z")
PUBLIC, BUSINESS = "/ws/v5/public", "/ws/v5/business"
SPOT, LINEAR, INVERSE = "BTC-USDT", "BTC-USDT-SWAP", "BTC-USD-SWAP"
MARKETS = (SPOT, LINEAR, INVERSE)


class Clock:
    """The sandbox's time, which goes on when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(clock: Clock) -> Iterator[Sandbox]:
    with Sandbox(SimulatedMarket(1, now=clock), tick_ms=10) as running:
        yield running


class Client:
    """A connection that keeps what it has received."""

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, http: aiohttp.ClientSession, url: str
    ) -> None:
        self.socket, self._http, self._url = socket, http, url
        self.frames: list[Any] = []

    async def receive(self) -> Any:
        text = (await self.socket.receive(timeout=10)).data
        self.frames.append(json.loads(text) if text.startswith("{") else text)
        return self.frames[-1]

    async def answers(self, request: Any, count: int) -> list[Any]:
        await self.socket.send_str(request if isinstance(request, str) else json.dumps(request))
        return [await self.receive() for _ in range(count)]

    async def subscribe(self, channel: str, *markets: str) -> None:
        await self.socket.send_json({"op": "subscribe", "args": arguments(channel, *markets)})

    async def rows(self, enough: Callable[[list[Any]], bool]) -> list[Any]:
        """The data of all frames, when it is enough; answers are left out."""
        while not enough(rows := [row for frame in self.frames if "data" in frame for row in frame["data"]]):
            await self.receive()
        return rows

    async def rest(self, path: str, **query: Any) -> Any:
        async with self._http.get(f"{self._url}/www.okx.com/api/v5/{path}?{urlencode(query)}") as reply:
            return (await reply.json())["data"]


def arguments(channel: str, *markets: str) -> list[dict[str, str]]:
    return [{"channel": channel, "instId": market} for market in markets]


@pytest.fixture
def connected(timed: Sandbox) -> Callable[..., Any]:
    """Runs ``await use(client)`` with a connection to a path; gives the result."""

    def run(path: str, use: Callable[[Client], Awaitable[Any]]) -> Any:
        async def session() -> Any:
            async with aiohttp.ClientSession() as http:
                url = f"{timed.url.replace('http', 'ws', 1)}/ws.okx.com{path}"
                async with http.ws_connect(url) as socket:
                    return await use(Client(socket, http, timed.url))

        return asyncio.run(session())

    return run


# Answers


def unknown(channel: str, market: str) -> str:
    return (
        f"Wrong URL or channel:{channel},instId:{market} doesn't exist. "
        "Please use the correct URL, channel and parameters referring to API document."
    )


def test_each_subscription_of_a_frame_is_answered_by_itself(connected, timed: Sandbox) -> None:
    async def use(client: Client) -> Any:
        args = arguments("candle1m", SPOT, "FOO-USDT") + arguments("books", SPOT)
        answers = await client.answers({"id": "1512", "op": "subscribe", "args": args}, 3)
        [state] = timed.connections
        return answers, state.subscriptions

    answers, subscriptions = connected(BUSINESS, use)
    same = {"id": "1512", "connId": "00000001"}
    assert answers == [
        {**same, "event": "subscribe", "arg": {"channel": "candle1m", "instId": SPOT}},
        {**same, "event": "error", "code": "60018", "msg": unknown("candle1m", "FOO-USDT")},
        {**same, "event": "error", "code": "60018", "msg": unknown("books", SPOT)},
    ]
    assert subscriptions == (f"candle1m:{SPOT}",)


@pytest.mark.parametrize(
    ("path", "channel", "market"),
    [
        (PUBLIC, "trades-all", SPOT),
        (PUBLIC, "candle1m", SPOT),
        (BUSINESS, "trades", SPOT),
        (BUSINESS, "candle", SPOT),
        (BUSINESS, "candle2h", SPOT),
        (BUSINESS, "1m", SPOT),
        (PUBLIC, "funding-rate", SPOT),
        (PUBLIC, "books", "btc-usdt"),
        (PUBLIC, "book", SPOT),
    ],
)
def test_what_is_not_there_is_named(connected, path: str, channel: str, market: str) -> None:
    async def use(client: Client) -> Any:
        return await client.answers({"op": "subscribe", "args": arguments(channel, market)}, 1)

    [answer] = connected(path, use)
    assert (answer["code"], answer["msg"]) == ("60018", unknown(channel, market))


@pytest.mark.parametrize(
    "request_",
    ["x", "[]", '{"op":"login","args":[{}]}', '{"op":"subscribe"}', '{"op":"subscribe","args":["trades"]}'],
)
def test_frames_of_another_form_are_refused(connected, request_: str) -> None:
    async def use(client: Client) -> Any:
        return await client.answers(request_, 1)

    [answer] = connected(PUBLIC, use)
    assert answer == {
        "event": "error",
        "msg": f"Invalid request: {request_}",
        "code": "60012",
        "connId": "00000001",
    }


def test_a_ping_is_a_text(connected) -> None:
    async def use(client: Client) -> Any:
        return await client.answers("ping", 1)

    assert connected(PUBLIC, use) == ["pong"]


def test_other_paths_are_refused(connected) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        connected("/ws/v5/private", lambda client: client.receive())
    assert caught.value.status == 404


def test_nothing_comes_after_the_end_of_a_subscription(connected, clock: Clock) -> None:
    async def use(client: Client) -> Any:
        await client.subscribe("trades-all", SPOT, LINEAR)
        clock.now += MINUTE_MS
        await client.rows(lambda rows: len(rows) >= 2)
        await client.socket.send_json({"op": "unsubscribe", "args": arguments("trades-all", SPOT)})
        while client.frames[-1].get("event") != "unsubscribe":
            await client.receive()
        before = len(client.frames)
        clock.now += MINUTE_MS
        while len(client.frames) < before + 20:
            await client.receive()
        return client.frames[before - 1], {frame["arg"]["instId"] for frame in client.frames[before:]}

    answer, after = connected(BUSINESS, use)
    assert answer["arg"] == {"channel": "trades-all", "instId": SPOT}
    assert after == {LINEAR}


# What is streamed is what REST tells


@pytest.mark.parametrize("market", MARKETS)
def test_single_trades(connected, clock: Clock, market: str) -> None:
    async def use(client: Client) -> Any:
        await client.subscribe("trades-all", market)
        await client.receive()
        clock.now += 20_000
        theirs = await client.rest("market/history-trades", instId=market, type=2, after=clock.now + 1)
        return await client.rows(lambda rows: rows[-1:] == theirs[:1]), theirs

    ours, theirs = connected(BUSINESS, use)
    during = [row for row in theirs if int(row["ts"]) > START]
    assert len(during) > 5
    assert ours[-len(during) :] == during[::-1]
    assert len(theirs) == 100 or len(ours) == len(during)


def test_the_channel_of_joined_trades_begins_with_the_newest(connected) -> None:
    async def use(client: Client) -> Any:
        [_, frame] = await client.answers({"op": "subscribe", "args": arguments("trades", SPOT)}, 2)
        return frame, await client.rest("market/trades", instId=SPOT, limit=1)

    frame, newest = connected(PUBLIC, use)
    assert frame == {"arg": {"channel": "trades", "instId": SPOT}, "data": [newest[0] | {"count": "1"}]}


def test_what_one_order_traded_at_one_price_is_joined() -> None:
    """As ``trades`` does and ``trades-all`` does not: the last id, the sum of the sizes."""
    market: Market = SimulatedMarket(1, now=START)
    streams = OkxStreams(market, {"www.okx.com": Okx(market, Pages(market))})
    rows = Trades(
        ts=np.array([START, START, START, START, START + 1]),
        nanosecond=np.zeros(5, np.int64),
        id=np.arange(11, 16),
        price=np.array([100.0, 100.0, 100.5, 100.5, 100.5]),
        volume=np.array([0.1, 0.2, 1.0, 2.0, 4.0]),
        is_buy=np.array([True, True, True, False, False]),
    )

    def told(channel: str) -> list[tuple[str, ...]]:
        [argument] = arguments(channel, SPOT)
        subscription = Subscription("trades", "BTC/USDT", channel, argument=argument)
        frames = streams.trades(Session(1, "ws.okx.com", PUBLIC, {}, START), subscription, rows)
        return [tuple(frame["data"][0].get(n) for n in ("tradeId", "sz", "count")) for frame in frames]

    assert told("trades") == [("12", "0.3", "2"), ("13", "1", "1"), ("14", "2", "1"), ("15", "4", "1")]
    assert told("trades-all") == [
        ("11", "0.1", None),
        ("12", "0.2", None),
        ("13", "1", None),
        ("14", "2", None),
        ("15", "4", None),
    ]


@pytest.mark.parametrize("market", MARKETS)
def test_candles(connected, clock: Clock, market: str) -> None:
    async def use(client: Client) -> Any:
        await client.subscribe("candle1m", market)
        await client.receive()
        for _ in range(4):
            clock.now += 40_000
            await client.rows(lambda rows: clock.now - 40_000 < int((rows or [["0"]])[-1][0]) + MINUTE_MS)
        rows = await client.rows(lambda rows: int(rows[-1][0]) == clock.now // MINUTE_MS * MINUTE_MS)
        return rows, await client.rest("market/candles", instId=market, bar="1m", limit=10)

    ours, theirs = connected(BUSINESS, use)
    final = [row for row in ours if row[8] == "1"]
    assert [int(row[0]) for row in final] == [START - 30_000 + n * MINUTE_MS for n in range(3)]
    assert final[::-1] == [row for row in theirs if int(row[0]) >= START - 30_000 and row[8] == "1"]
    under_way = [row for row in ours if row[8] == "0"]
    assert under_way[-1] == theirs[0]
    times = [int(row[0]) for row in ours]
    assert times == sorted(times)


@pytest.mark.parametrize(("channel", "hour"), [("candle1Dutc", 0), ("candle1D", 16)])
def test_days_open_where_their_name_says(connected, clock: Clock, channel: str, hour: int) -> None:
    async def use(client: Client) -> Any:
        await client.subscribe(channel, SPOT)
        clock.now += 1000
        return (await client.rows(bool))[0]

    row = connected(BUSINESS, use)
    assert int(row[0]) % DAY_MS == hour * HOUR_MS
    assert START - DAY_MS < int(row[0]) <= START


def book_states(clock: Clock, channel: str, market: str, depth: int) -> Callable[[Client], Awaitable[Any]]:
    """Has a client collect the frames of a book while time goes on, and books over REST in between."""

    async def use(client: Client) -> Any:
        await client.subscribe(channel, market)
        theirs = []
        for _ in range(10):
            clock.now += 500
            so_far = len(client.frames)
            while len(client.frames) == so_far:
                await client.receive()
            theirs += await client.rest("market/books", instId=market, sz=depth)
        last = max(book["seqId"] for book in theirs)
        await client.rows(lambda rows: rows[-1]["seqId"] >= last)
        return [frame for frame in client.frames if "data" in frame], theirs

    return use


def sides(book: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {side: {price: size for price, size, *_ in book[side]} for side in ("bids", "asks")}


@pytest.mark.parametrize("market", MARKETS)
def test_a_numbered_book(connected, clock: Clock, market: str) -> None:
    frames, theirs = connected(PUBLIC, book_states(clock, "books", market, 400))
    assert [frame["action"] for frame in frames] == ["snapshot"] + ["update"] * (len(frames) - 1)
    states, book, number = {}, {"bids": {}, "asks": {}}, -1
    for frame in frames:
        [row] = frame["data"]
        assert (row["prevSeqId"], row["checksum"]) == (number, 0)
        assert all((level[1] == "0") == (level[3] == "0") for level in row["bids"] + row["asks"])
        number = row["seqId"]
        for side, changes in sides(row).items():
            book[side] |= changes
        states[number] = {
            side: {p: size for p, size in levels.items() if size != "0"} for side, levels in book.items()
        }
    told = [answer for answer in theirs if answer["seqId"] in states]
    assert len({answer["seqId"] for answer in told}) > 5
    assert all(len(answer["bids"]) == len(answer["asks"]) == 400 for answer in told)
    assert [states[answer["seqId"]] for answer in told] == [sides(answer) for answer in told]


@pytest.mark.parametrize(("channel", "depth"), [("books5", 5), ("bbo-tbt", 1)])
def test_small_books_come_whole(connected, clock: Clock, channel: str, depth: int) -> None:
    frames, theirs = connected(PUBLIC, book_states(clock, channel, SPOT, depth))
    assert not any("action" in frame for frame in frames)
    states = {row["seqId"]: sides(row) for frame in frames for row in frame["data"]}
    told = [answer for answer in theirs if answer["seqId"] in states]
    assert len({answer["seqId"] for answer in told}) > 5
    assert all(len(answer["bids"]) == len(answer["asks"]) == depth for answer in told)
    assert [states[answer["seqId"]] for answer in told] == [sides(answer) for answer in told]


@pytest.mark.parametrize("market", [LINEAR, INVERSE])
def test_the_rate_of_the_next_payment_is_what_is_paid(connected, clock: Clock, market: str) -> None:
    async def use(client: Client) -> Any:
        await client.subscribe("funding-rate", market)
        await client.subscribe("mark-price", market)
        clock.now += 2000
        await client.rows(lambda rows: len(rows) >= 2)
        clock.now += MINUTE_MS
        return client.frames, await client.rest("public/funding-rate-history", instId=market, limit=1)

    frames, [paid] = connected(PUBLIC, use)
    rows = {frame["arg"]["channel"]: frame["data"][0] for frame in frames if "data" in frame}
    rate, mark = rows["funding-rate"], rows["mark-price"]
    assert (rate["fundingTime"], rate["fundingRate"]) == (paid["fundingTime"], paid["realizedRate"])
    assert int(rate["fundingTime"]) - START < MINUTE_MS
    assert int(rate["nextFundingTime"]) - int(rate["fundingTime"]) == 8 * HOUR_MS
    assert int(rate["ts"]) == int(mark["ts"]) == START + 2000
    assert float(mark["markPx"]) > 0


# As recorded, and for ccxt


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("path", "channel", "payload"),
    [
        (PUBLIC, "trades", "ws_trades"),
        (BUSINESS, "candle1D", "ws_candle"),
        (PUBLIC, "books", "ws_books_snapshot"),
        (PUBLIC, "bbo-tbt", "ws_bbo_tbt"),
        (PUBLIC, "funding-rate", "ws_funding_rate"),
    ],
)
def test_frames_have_the_recorded_shape(
    connected, clock: Clock, real: Path, shape_differences, path: str, channel: str, payload: str
) -> None:
    theirs = json.loads((real / "payloads" / "okx" / f"{payload}.json").read_text())

    async def use(client: Client) -> Any:
        await client.subscribe(channel, LINEAR)
        clock.now += 2000
        while "data" not in await client.receive():
            pass
        return client.frames[-1]

    assert shape_differences(connected(path, use), theirs, exact=False) == []


def test_ccxt_understands_all_of_it(timed: Sandbox, clock: Clock, with_client) -> None:
    import ccxt.pro  # here, as it is large

    exchange = ccxt.pro.okx({"options": {"fetchMarkets": {"types": ["spot", "swap"]}}})
    stream = timed.url.replace("http", "ws", 1)
    exchange.urls["api"] = {"rest": f"{timed.url}/www.okx.com", "ws": f"{stream}/ws.okx.com/ws/v5"}

    async def watched(call: Awaitable[Any]) -> Any:
        """What a call gives while time goes on."""
        task = asyncio.ensure_future(asyncio.wait_for(call, 10))
        while not task.done():
            clock.now += 500
            await asyncio.sleep(0.02)
        return task.result()

    async def use(exchange: Any) -> None:
        symbol = "BTC/USDT:USDT"
        await exchange.load_markets()
        [trade, *_] = await watched(exchange.watch_trades(symbol))
        assert trade["price"] > 0
        [candle] = await watched(exchange.watch_ohlcv(symbol, "1m"))
        assert candle[0] == clock.now // MINUTE_MS * MINUTE_MS
        for _ in range(5):
            book = await watched(exchange.watch_order_book(symbol))
            assert book["bids"][0][0] < book["asks"][0][0]
        rate = await watched(exchange.watch_funding_rate(symbol))
        assert rate["fundingTimestamp"] > START
        mark = await watched(exchange.watch_mark_price(symbol))
        assert mark["markPrice"] > 0

    with_client(exchange, use)
