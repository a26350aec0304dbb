"""Faults of streams, as a client sees them: each kind against the same market without faults."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import parse_time
from zvt_crypto.sandbox import Sandbox, parse_fault
from zvt_crypto.sandbox.events import TradeSpan

NOW = parse_time("2024-03-01T00:01:30Z")
SPOT = "stream.binance.com/ws"
TRADES = {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}
BOTH = {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "ethusdt@trade"], "id": 1}
ACK = {"result": None, "id": 1}


def texts(paced, clock, talk, faults: list[str], frame: Any = TRADES) -> list[str]:
    """The messages of two seconds with these faults in force."""

    async def use(peer) -> list[str]:
        assert await peer.ask(frame) == ACK
        clock.forward(2000)
        return await peer.rest_of_texts()

    paced.faults = faults
    clock.now = NOW
    try:
        return talk(paced, use, SPOT)
    finally:
        paced.faults = []


@pytest.fixture
def good(paced) -> list[int]:
    """Ids of the trades of those two seconds."""
    return paced.market.trades(TradeSpan("BTC/USDT", NOW + 1, NOW + 2001)).id.tolist()


def ids(messages: list[str]) -> list[int]:
    return [json.loads(message)["t"] for message in messages]


def test_without_faults(paced, clock, talk, good) -> None:
    assert ids(texts(paced, clock, talk, [])) == good
    assert len(good) > 8


def test_a_message_that_comes_twice(paced, clock, talk, good) -> None:
    assert ids(texts(paced, clock, talk, ["ws_duplicate,after=2,times=1"])) == [*good[:3], *good[2:]]


def test_a_flood(paced, clock, talk, good) -> None:
    assert ids(texts(paced, clock, talk, ["ws_flood:50,times=1"])) == [good[0]] * 50 + good[1:]


def test_a_message_that_is_lost(paced, clock, talk, good) -> None:
    assert ids(texts(paced, clock, talk, ["ws_skip,after=3,times=2"])) == good[:3] + good[5:]


def test_a_message_that_is_late(paced, clock, talk, good) -> None:
    late = ids(texts(paced, clock, talk, ["ws_reorder,after=1,times=1"]))
    assert late == [good[0], good[2], good[1], *good[3:]]


def test_messages_that_are_late_together(paced, clock, talk, good) -> None:
    assert ids(texts(paced, clock, talk, ["ws_reorder,times=2"])) == [good[2], good[0], good[1], *good[3:]]


def test_a_field_with_another_name(paced, clock, talk, good) -> None:
    received = [json.loads(text) for text in texts(paced, clock, talk, ["ws_rename:p,to=price,every=2"])]
    assert ["price" in message for message in received] == [n % 2 == 1 for n in range(len(good))]
    assert all(("p" in message) != ("price" in message) for message in received)


def test_a_message_that_is_not_json(paced, clock, talk, good) -> None:
    received = texts(paced, clock, talk, ["ws_garbage,times=1"])
    assert received[0] == "garbage"
    assert ids(received[1:]) == good[1:]


def test_faults_know_symbols_and_channels(paced, clock, talk, good) -> None:
    for fault in ("ws_skip,symbol=ETH/USDT", "ws_skip,path=ethusdt@trade", "ws_skip,symbol=ethusdt@trade"):
        assert ids(texts(paced, clock, talk, [fault], BOTH)) == good
    assert texts(paced, clock, talk, ["ws_skip,path=stream.binance.com/ws"], BOTH) == []
    assert ids(texts(paced, clock, talk, ["ws_skip,path=fstream"])) == good


@pytest.mark.parametrize(("fault", "code"), [("ws_disconnect", 1006), ("ws_disconnect:1008", 1008)])
def test_the_end_in_the_middle(paced, clock, talk, good, fault: str, code: int) -> None:
    async def use(peer) -> None:
        await peer.ask(TRADES)
        clock.forward(2000)
        assert [(await peer.receive())["t"] for _ in range(3)] == good[:3]
        with pytest.raises(ConnectionError, match=str(code)):
            await peer.receive()

    paced.faults = [f"{fault},after=3,times=1"]
    talk(paced, use, SPOT)
    clock.now = NOW
    talk(paced, lambda peer: peer.ask(TRADES), SPOT)


def test_silence(paced, clock, talk) -> None:
    async def use(peer) -> None:
        await peer.ask(TRADES)
        clock.forward(1000)
        assert await peer.rest() == []
        await peer.send({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        assert await peer.rest() == [], "answers do not come either"
        await asyncio.sleep(0.9)
        begin = clock.now
        clock.forward(1000)
        wanted = paced.market.trades(TradeSpan("BTC/USDT", begin + 1, clock.now + 1)).id.tolist()
        assert [message["t"] for message in await peer.rest()] == wanted

    paced.faults = ["ws_silence:0.8,times=1"]
    talk(paced, use, SPOT)


@pytest.mark.parametrize("pongs", [0, 1])
def test_pings_during_silence(paced, clock, talk, pongs: int) -> None:
    async def use(peer) -> bool:
        await peer.ask(TRADES)
        clock.forward(1000)
        await asyncio.sleep(0.1)
        await peer.socket.ping(b"here?")
        try:
            message = await peer.socket.receive(timeout=0.5)
        except asyncio.TimeoutError:  # not the builtin one before Python 3.11
            return False
        return message.type is aiohttp.WSMsgType.PONG

    paced.faults = [f"ws_silence:5,times=1,pongs={pongs}"]
    assert talk(paced, use, SPOT) == bool(pongs)


def test_a_handshake_that_is_refused(box: Sandbox, talk) -> None:
    box.faults = ["ws_refuse:429,times=1,path=stream.binance.com"]
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        talk(box, lambda peer: peer.ask(TRADES), SPOT)
    assert caught.value.status == 429
    assert talk(box, lambda peer: peer.ask(TRADES), SPOT) == ACK


def test_a_checksum_that_is_wrong(paced, clock, talk) -> None:
    subscribe = {"op": "subscribe", "args": [{"channel": "books", "instId": "BTC-USDT"}]}

    async def use(peer) -> list[int]:
        await peer.ask(subscribe)
        sums = [(await peer.receive())["data"][0]["checksum"]]
        clock.forward(1000)
        return [*sums, (await peer.receive())["data"][0]["checksum"]]

    right = talk(paced, use, "ws.okx.com/ws/v5/public")
    paced.faults = ["ws_checksum,after=1"]
    clock.now = NOW
    wrong = talk(paced, use, "ws.okx.com/ws/v5/public")
    assert (wrong[0], wrong[1]) == (right[0], right[1] + 1)


@pytest.mark.parametrize("text", ["ws_refuse:999", "ws_silence:soon", "ws_rename:p,into=q", "ws_unknown"])
def test_faults_that_are_not_understood(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_fault(text)
