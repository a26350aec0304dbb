"""``python -m benchmarks.flood SANDBOX_PORT RATE``: so many of Binance's trades a second, each other than the others.

A WebSocket frame a trade, of time now and with ids without holes; over REST the sandbox at that port answers, but
for trades, of which there are none. Prints the port where it listens; ``/flood/count`` tells how many trades have
been sent, ``/flood/stop`` ends them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import struct
import sys
import time
from collections import Counter
from typing import Any, Final

import aiohttp
from aiohttp import web

#: Seconds between the subscription and the first trade, and between two lots of them.
_PAUSE: Final = 1.0
_LOT: Final = 0.005
#: Bytes that may wait for the reader.
_WAITING: Final = 1 << 20
#: FIN and text; the length follows in two bytes.
_FRAME: Final = b"\x81\x7e"


class Flood:
    """The server.

    Args:
        sandbox: Port of the sandbox.
        rate: Trades a second.
    """

    def __init__(self, sandbox: int, rate: float) -> None:
        self.sandbox = sandbox
        self.rate = rate
        self.sent = 0
        self.is_stopped = False
        self._ids: Counter[str] = Counter()
        self._prices = [f"{random.uniform(60_000, 61_000):.2f}" for _ in range(997)]
        self._amounts = [f"{random.uniform(0, 2):.5f}" for _ in range(991)]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer anything."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        if request.path == "/flood/count":
            return web.Response(text=str(self.sent))
        if request.path == "/flood/stop":
            self.is_stopped = True
            return web.Response(text=str(self.sent))
        if request.path.endswith("/aggTrades"):
            return web.json_response([])
        url = f"http://127.0.0.1:{self.sandbox}{request.path_qs}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return web.Response(body=await answer.read(), content_type="application/json")

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        streams: list[str] = []
        pump: asyncio.Task[None] | None = None
        async for message in socket:
            asked = json.loads(message.data)
            if asked["method"] == "SUBSCRIBE":
                streams += asked["params"]
            listed = streams if asked["method"] == "LIST_SUBSCRIPTIONS" else None
            await socket.send_json({"result": listed, "id": asked["id"]})
            if listed and pump is None:
                pump = asyncio.create_task(self._pump(request.transport, streams))
        if pump is not None:
            pump.cancel()
        return socket

    async def _pump(self, transport: Any, streams: list[str]) -> None:
        await asyncio.sleep(_PAUSE)
        began, sent = time.monotonic(), 0
        symbols = itertools.cycle(stream.partition("@")[0].upper() for stream in streams)
        while not self.is_stopped and not transport.is_closing():
            due = int((time.monotonic() - began) * self.rate) - sent
            if due > 0 and transport.get_write_buffer_size() < _WAITING:
                transport.write(b"".join(self._trade(symbol) for symbol in itertools.islice(symbols, due)))
                sent += due
                self.sent += due
            await asyncio.sleep(_LOT)

    def _trade(self, symbol: str) -> bytes:
        self._ids[symbol] += 1
        number, ts = self._ids[symbol] + 50_000_000, time.time_ns() // 1_000_000
        price, amount = self._prices[number % 997], self._amounts[number % 991]
        buyer_is_maker = "true" if number % 3 else "false"
        text = (
            f'{{"e":"aggTrade","E":{ts},"s":"{symbol}","a":{number},"p":"{price}","q":"{amount}","f":{number},'
            f'"l":{number},"T":{ts},"m":{buyer_is_maker},"M":true}}'
        ).encode()
        return _FRAME + struct.pack("!H", len(text)) + text


async def main(sandbox: int, rate: float) -> None:
    """Serve until killed."""
    runner = web.ServerRunner(web.Server(Flood(sandbox, rate).handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
