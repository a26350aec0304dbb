"""A provider whose live data a test publishes itself, and a server of its streams on a real socket."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import uvicorn
import websocket

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ZvtCryptoError, unknown_value
from zvt_crypto.core.symbols import PAIR, PERP
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import Candles, Funding, StreamFeed, Topic, Trades
from zvt_crypto.recorders.entities import entity_spec, find_entity
from zvt_crypto.server.liveservice import LiveService
from zvt_crypto.server.serving import server_of
from zvt_crypto.stream.broadcast.sources import Levels, Sink
from zvt_crypto.stream.topics import State, TopicHealth

#: 2024-06-01
NOW = 1_717_200_000_000
#: Seconds that a test waits for something to happen.
PATIENCE = 20.0

PAIRS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
PERPS = ("BTC/USDT:USDT",)


def _instrument(symbol: str) -> Instrument:
    base, quote = symbol.partition(":")[0].split("/")
    return Instrument(PERP if ":" in symbol else PAIR, (base + quote).lower(), symbol, base + quote)


INSTRUMENTS = {symbol: _instrument(symbol) for symbol in (*PAIRS, *PERPS)}
BTC = INSTRUMENTS["BTC/USDT"]
ETH = INSTRUMENTS["ETH/USDT"]
PERPETUAL = INSTRUMENTS["BTC/USDT:USDT"]


class Book:
    """A state of an order book."""

    def __init__(self, number: int, bids: Levels, asks: Levels, ts: int | None = NOW) -> None:
        self.number = number
        self.ts = ts
        self._sides = bids, asks

    def best(self, depth: int) -> tuple[Levels, Levels]:
        bids, asks = self._sides
        return bids[:depth], asks[:depth]


class Publisher:
    """A ``Source`` of which a test decides what it sends; its clock stands unless it is moved."""

    def __init__(self, sink: Sink, provider: str = "binance") -> None:
        self.sink = sink
        self.provider = provider
        self.time = NOW
        self.started: list[Topic] = []
        self.stopped: list[Topic] = []
        self.refusing: dict[str, ZvtCryptoError] = {}
        self.consecutive = False
        self.is_closed = False
        self._topics: dict[Topic, TopicHealth] = {}
        self._trades = 0

    # What a test does.

    def topic(self, feed: StreamFeed, instrument: Instrument = BTC) -> Topic:
        """The one topic of a feed that is streamed."""
        [found] = [one for one in self._topics if (one.feed, one.instrument) == (feed, instrument)]
        return found

    def live(self, topic: Topic) -> None:
        self._topics[topic].state = State.LIVE
        self.sink.live(topic, self.time)

    def lose(self, topic: Topic, reason: str = "the connection is lost") -> None:
        self._topics[topic].state = State.LOST
        self._topics[topic].losses += 1
        self.sink.lost(topic, reason)

    def trade(
        self, *prices: float, instrument: Instrument = BTC, ts: int | None = None, first_id: int | None = None
    ) -> None:
        """Trades of 0.5 each."""
        number = self._trades if first_id is None else first_id - 1
        ids = range(number + 1, number + 1 + len(prices))
        self._trades = max(self._trades, ids[-1])
        when = self.time if ts is None else ts
        rows = [
            (when, str(i), price, 0.5, "buy" if i % 2 else "sell")
            for i, price in zip(ids, prices, strict=True)
        ]
        topic = self.topic("trades", instrument)
        self._note(topic)
        self.sink.received(Trades(topic, rows))

    def candle(self, ts: int, close: float, is_closed: bool | None = None) -> None:
        topic = self.topic("candles")
        self._note(topic)
        self.sink.received(Candles(topic, [(ts, close, is_closed)]))

    def book(self, number: int, *, levels: int = 30, instrument: Instrument = BTC) -> None:
        bids = [(100.0 - i, 1.0 + i) for i in range(levels)]
        asks = [(101.0 + i, 2.0 + i) for i in range(levels)]
        topic = self.topic("order_book", instrument)
        self._note(topic)
        self.sink.book(topic, Book(number, bids, asks))

    def funding(self, **values: Any) -> None:
        topic = self.topic("funding", PERPETUAL)
        self.sink.received(Funding(topic, self.time, **values))

    def _note(self, topic: Topic) -> None:
        self._topics[topic].last_message = time.time()
        self._topics[topic].messages += 1
        self._topics[topic].lag_ms = 12.0

    # Source

    feeds: Mapping[str, frozenset[StreamFeed]] = {
        PAIR: frozenset(("trades", "candles", "order_book")),
        PERP: frozenset(("trades", "funding")),
    }
    reconnects = 3

    async def instruments(self, names: Sequence[str], entity_type: str) -> list[Instrument | ZvtCryptoError]:
        load_tables()
        rows = [
            {"id": f"{one.entity_type}_binance_{one.code}", "code": one.code, "symbol": symbol}
            | {"native_id": one.native_id}
            for symbol, one in INSTRUMENTS.items()
            if one.entity_type == entity_type
        ]
        found: list[Instrument | ZvtCryptoError] = []
        for name in names:
            try:
                row = find_entity(name, entity_spec(entity_type), self.provider, rows)
                found.append(INSTRUMENTS[str(row["symbol"])])
            except ZvtCryptoError as error:
                found.append(error)
        return found

    def serves(self, topic: Topic) -> bool:
        is_level = topic.feed != "candles" or topic.level in ("1m", "1h")
        return topic.feed in self.feeds[topic.instrument.entity_type] and is_level

    def book_depths(self, entity_type: str) -> Sequence[int]:
        return (10, 50) if entity_type == PAIR else ()

    def has_consecutive_ids(self, topic: Topic) -> bool:
        return self.consecutive

    def start(self, topic: Topic) -> None:
        self.started.append(topic)
        if topic.feed in self.refusing:
            raise self.refusing[topic.feed]
        self._topics[topic] = TopicHealth(topic)

    def stop(self, topic: Topic) -> None:
        self.stopped.append(topic)
        del self._topics[topic]

    def trades(self, topic: Topic, rows: Sequence[Any]) -> pa.Table:
        return pa.table([*map(list, zip(*rows, strict=True)), [None] * len(rows)], schema=TRADES)

    def candles(self, topic: Topic, rows: Sequence[Any]) -> pa.Table:
        return pa.table(
            {
                "ts": [row[0] for row in rows],
                "open": [100.0 for _ in rows],
                "high": [max(100.0, row[1]) for row in rows],
                "low": [min(100.0, row[1]) for row in rows],
                "close": [row[1] for row in rows],
                "volume": [2.5 for _ in rows],
                "is_closed": pa.array([row[2] for row in rows], pa.bool_()),
            }
        )

    def now(self, entity_type: str) -> int:
        return self.time

    def resyncs(self, topic: Topic) -> int:
        return 2

    def health(self) -> list[TopicHealth]:
        return list(self._topics.values())

    async def close(self) -> None:
        self.is_closed = True


class Publishers:
    """Opens publishers, one for each provider that is asked for."""

    def __init__(self, *providers: str) -> None:
        self.providers = providers or ("binance",)
        self.opened: dict[str, Publisher] = {}
        self.failures: list[ZvtCryptoError] = []

    async def open(self, provider: str, sink: Sink) -> Publisher:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop()
        if provider not in self.providers:
            raise unknown_value("provider", provider, self.providers)
        self.opened[provider] = Publisher(sink, provider)
        return self.opened[provider]

    @property
    def binance(self) -> Publisher:
        return self.opened["binance"]


class LiveServer:
    """A server with its streams in a thread."""

    def __init__(
        self, settings: Settings, publishers: Publishers | None = None, port: int = 0, source: Any = None
    ) -> None:
        self.publishers = publishers or Publishers()
        self.service = LiveService(settings, source or self.publishers.open)
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._ready = threading.Event()
        self._server: uvicorn.Server = server_of(settings, self.service, self._on_ready)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def publisher(self) -> Publisher:
        return self.publishers.binance

    def __enter__(self) -> LiveServer:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def do(self, call: Callable[[], Any]) -> Any:
        """What a call returns in the server's event loop."""
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(call())
            except Exception as error:  # noqa: BLE001
                done.set_exception(error)

        assert self._loop is not None
        self._loop.call_soon_threadsafe(run)
        return done.result(PATIENCE)

    def connect(self, buffer: int | None = None, **headers: str) -> Client:
        return Client(self.port, headers, buffer)

    def connections(self) -> list[Any]:
        """The server's ends of what is connected."""
        return list(self._server.server_state.connections)

    def drop_connections(self) -> None:
        """Cut what is connected, without a word."""
        self.do(lambda: [one._transport.abort() for one in self.connections()])

    def _on_ready(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))


class Client:
    """A client of ``/ws`` that reads message by message."""

    def __init__(
        self,
        port: int,
        headers: Mapping[str, str] = {},  # noqa: B006
        buffer: int | None = None,
    ) -> None:
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{port}/ws",
            timeout=PATIENCE,
            header=[f"{name.replace('_', '-')}: {value}" for name, value in headers.items()],
            suppress_origin=True,
            sockopt=() if buffer is None else ((socket.SOL_SOCKET, socket.SO_RCVBUF, buffer),),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, method: str, number: Any = None, **params: Any) -> None:
        message = {"method": method, "params": params} | ({} if number is None else {"id": number})
        self.socket.send(json.dumps(message))

    def ask(self, method: str, number: Any = None, **params: Any) -> dict[str, Any]:
        """The next message after a command."""
        self.say(method, number, **params)
        return self.read()

    def read(self) -> dict[str, Any]:
        """The next message."""
        text = self.socket.recv()
        assert text, "the connection is closed"
        found = json.loads(text)
        assert isinstance(found, dict)
        return found

    def many(self, count: int) -> list[dict[str, Any]]:
        return [self.read() for _ in range(count)]

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message of which something holds; the others before it are dropped."""
        while True:
            found = self.read()
            if holds(found):
                return found

    def closed(self) -> int:
        """The code with which the server closes; other messages before it are dropped."""
        while True:
            opcode, data = self.socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big")

    def trades(self, *symbols: str, **params: Any) -> dict[str, Any]:
        """The answer to a subscription to trades."""
        wanted = {"stream": "crypto.trades", "provider": "binance", "symbols": list(symbols or ("btcusdt",))}
        return self.ask("subscribe", **wanted, **params)


@contextmanager
def serving(settings: Settings, *providers: str, **changes: Any) -> Iterator[LiveServer]:
    """A server of publishers."""
    with LiveServer(settings.model_copy(update=changes), Publishers(*providers)) as server:
        yield server


def wait_for(holds: Callable[[], Any]) -> Any:
    """What a question answers, as soon as the answer is true."""
    end = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found
