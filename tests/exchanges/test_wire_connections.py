"""Connections through ccxt.pro against a server of the test's own: frames, pings, and every kind of end."""

import asyncio
import contextlib
import json
import logging
import socket
import time

import pytest
from aiohttp import WSMsgType, web

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import StreamDisconnected
from zvt_crypto.exchanges.wire import Wire

URL = "wss://stream.binance.com:9443/ws"


class Server:
    """Takes WebSocket connections at any path; ``script`` is what it does with each."""

    def __init__(self, script, status=None, autoping=True):
        self.script, self.status, self.autoping = script, status, autoping
        self.paths, self.received, self.sockets = [], [], []
        self.url = ""

    async def handle(self, request):
        self.paths.append(request.path)
        if self.status is not None:
            return web.Response(status=self.status)
        peer = web.WebSocketResponse(autoping=self.autoping)
        await peer.prepare(request)
        self.sockets.append(peer)
        await self.script(peer)
        async for message in peer:
            self.received.append(message)
        return peer

    async def __aenter__(self):
        self.runner = web.ServerRunner(web.Server(self.handle), shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_):
        for peer in self.sockets:
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(peer.close(), 1)
        await self.runner.cleanup()


async def nothing(peer):
    """Says nothing."""


def saying(*frames):
    async def script(peer):
        for frame in frames:
            await (peer.send_bytes(frame) if isinstance(frame, bytes) else peer.send_str(frame))

    return script


class Ear:
    """Keeps frames; takes those for ours that begin so."""

    def __init__(self, ours=""):
        self.frames, self.ours = [], ours

    def __call__(self, frame):
        self.frames.append(frame)
        return frame.startswith(self.ours)


async def until(holds):
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        await asyncio.sleep(0.005)


def wire_to(url, ccxt_id="binance", **options):
    return Wire(ccxt_id, Settings(gateway=url), **options)


def run(use):
    return asyncio.run(asyncio.wait_for(use(), 30))


def test_frames_come_as_text_and_in_order():
    frames = [json.dumps({"n": n}) for n in range(2000)]

    async def use():
        ear = Ear()
        async with (
            Server(saying(*frames, '{"é": 1}'.encode(), b"\xff")) as server,
            wire_to(server.url) as wire,
        ):
            line = await wire.connect(URL, ear)
            await until(lambda: len(ear.frames) == 2002)
            assert server.paths == ["/stream.binance.com/ws"], "the original host and path are kept"
            assert not line.ended.done()
            await line.close()
        assert ear.frames == [*frames, '{"é": 1}', "�"]

    run(use)


def test_more_than_ccxts_own_loop_can_take():
    # That one takes frames out of the buffer behind aiohttp's back, which at some point stops reading.
    frame, count = json.dumps({"n": "x" * 2000}), 5_000

    async def use():
        ear = Ear()
        async with Server(saying(*[frame] * count)) as server, wire_to(server.url) as wire:
            line = await wire.connect(URL, ear)
            await until(lambda: len(ear.frames) == count)
            await line.close()

    run(use)


def test_what_we_send_is_text_or_json():
    async def use():
        async with Server(nothing) as server, wire_to(server.url) as wire:
            line = await wire.connect(URL, Ear())
            await line.send("ping")
            await line.send({"method": "SUBSCRIBE", "params": ["é"]})
            await until(lambda: len(server.received) == 2)
            assert [message.data for message in server.received] == [
                "ping",
                '{"method":"SUBSCRIBE","params":["é"]}',
            ]
            await line.close()

    run(use)


@pytest.mark.parametrize(
    "frame",
    [
        "nonsense",
        "[]",
        "null",
        "5",
        '{"e":"trade"}',
        '{"e":"kline","k":5}',
        '{"code":-1121,"msg":"Invalid symbol."}',
        '{"error":{"code":2,"msg":"x"},"id":"1"}',
        '{"event":"error","code":"60012"}',
        '{"stream":"btcusdt@trade","data":[]}',
        "{",
    ],
)
@pytest.mark.parametrize("ccxt_id", ["binance", "okx", "kraken", "coinbase"])
def test_frames_over_which_ccxt_stumbles_end_nothing(ccxt_id, frame):
    async def use():
        ear = Ear(ours="ours")
        async with Server(saying(frame, "ours 1")) as server, wire_to(server.url, ccxt_id) as wire:
            line = await wire.connect(URL, ear)
            await until(lambda: "ours 1" in ear.frames)
            await server.sockets[0].send_str("ours 2")
            await until(lambda: "ours 2" in ear.frames)
            await line.close()

    run(use)


def test_an_error_of_ours_ends_the_connection_and_is_told(caplog):
    def faulty(frame):
        raise KeyError("a mistake")

    async def use():
        async with Server(saying("frame")) as server, wire_to(server.url) as wire:
            line = await wire.connect(URL, faulty)
            return await line.ended

    with caplog.at_level(logging.ERROR, "zvt_crypto"):
        error = run(use)
    assert "KeyError: 'a mistake'" in error.message
    assert "a frame cannot be handled" in caplog.text and "Traceback" in caplog.text


class TestEnds:
    def ended(self, script, then=None, **options):
        """The error that a line ends with."""

        async def use():
            async with Server(script) as server, wire_to(server.url, **options) as wire:
                line = await wire.connect(URL, Ear())
                if then is not None:
                    await then(server, line)
                error = await line.ended
                with pytest.raises(StreamDisconnected):
                    await line.send("anything")
                return error

        return run(use)

    def test_a_close_frame(self):
        async def script(peer):
            await peer.close(code=1012)

        assert "closing code 1012" in self.ended(script).message

    def test_a_cut_line(self):
        async def script(peer):
            peer._req.transport.abort()

        error = self.ended(script)
        assert error.code == "CRYPTO_WEBSOCKET_DISCONNECTED"
        assert "stream.binance.com" in error.message

    def test_we_close_it(self):
        async def close(server, line):
            await line.close("enough")
            await until(lambda: server.sockets[0].closed)

        assert self.ended(nothing, close).message == "enough"

    def test_we_close_it_though_nobody_answers(self):
        async def script(peer):
            await asyncio.sleep(60)  # reads nothing, as if the other end were gone

        async def close(server, line):
            await line.close()

        assert self.ended(script, close).message == "closed by us"

    def test_pings_without_pongs(self):
        async def use():
            async with (
                Server(nothing, autoping=False) as server,
                wire_to(server.url, ping_seconds=0.1) as wire,
            ):
                line = await wire.connect(URL, Ear())
                error = await line.ended
                kinds = {message.type for message in server.received}
                return error, kinds

        error, kinds = run(use)
        assert "ping-pong keepalive" in error.message
        assert kinds == {WSMsgType.PING}

    def test_pongs_are_signs_of_life(self):
        async def use():
            async with Server(nothing) as server, wire_to(server.url, ping_seconds=0.1) as wire:
                line = await wire.connect(URL, Ear())
                heard = []
                for _ in range(8):
                    await asyncio.sleep(0.1)
                    heard.append(line.heard)
                assert not line.ended.done()
                assert len(set(heard)) > 2 and heard == sorted(heard)
                await line.close()

        run(use)


class TestNoConnection:
    def refusal(self, connect):
        with pytest.raises(StreamDisconnected) as caught:
            run(connect)
        return caught.value.message

    def test_the_handshake_is_refused(self):
        async def use():
            async with Server(nothing, status=503) as server, wire_to(server.url) as wire:
                await wire.connect(URL, Ear())

        assert "503" in self.refusal(use)

    def test_nobody_listens(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"

        async def use():
            async with wire_to(url) as wire:
                await wire.connect(URL, Ear())

        assert url.partition("//")[2] in self.refusal(use)

    def test_called_off_while_it_is_made(self):
        """What comes of the handshake afterwards is closed, and nobody is left connected."""
        may_answer = None

        async def handle(request):
            await may_answer.wait()
            peer = web.WebSocketResponse()
            await peer.prepare(request)
            peers.append(peer)
            async for _ in peer:
                pass
            return peer

        peers = []

        async def use():
            nonlocal may_answer
            may_answer = asyncio.Event()
            runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            async with wire_to(f"http://127.0.0.1:{runner.addresses[0][1]}") as wire:
                connecting = asyncio.create_task(wire.connect(URL, Ear()))
                await asyncio.sleep(0.1)
                connecting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await connecting
                may_answer.set()
                await until(lambda: peers and peers[0].closed)
            await runner.cleanup()

        run(use)


def test_each_exchanges_own_answers_to_heartbeats():
    """Crypto.com ends a connection that leaves its heartbeats unanswered; ccxt answers what is not ours."""
    heartbeat = json.dumps({"id": 7, "method": "public/heartbeat", "code": 0})

    async def use():
        async with Server(saying(heartbeat)) as server, wire_to(server.url, "cryptocom") as wire:
            line = await wire.connect("wss://stream.crypto.com/exchange/v1/market", Ear(ours="ours"))
            await until(lambda: server.received)
            answer = json.loads(server.received[0].data)
            assert (answer["method"], answer["id"]) == ("public/respond-heartbeat", 7)
            await line.close()

    run(use)


def test_each_exchanges_own_pings():
    async def use():
        async with Server(nothing) as server, wire_to(server.url, "okx", ping_seconds=0.1) as wire:
            line = await wire.connect("wss://ws.okx.com:8443/ws/v5/public", Ear())
            await until(lambda: len(server.received) > 1)
            assert {message.data for message in server.received} == {"ping"}
            await line.close()

    run(use)
