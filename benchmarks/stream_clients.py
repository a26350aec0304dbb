"""The delay that ``/ws`` adds: from a frame of an exchange to the same trade at each of many clients."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Row, child, medians

CLIENTS = 50
#: Messages a second that come in, over so many markets.
RATE = 2_000
MARKETS = 20
SECONDS = 10.0
#: What the delay may be, in ms.
MARK = 20.0

#: The server, and in its event loop an exchange that sends frames as Binance does, at an even pace. A trade's
#: id is the moment at which it was sent.
SERVER = """
import asyncio, gc, os, pathlib, resource, socket, sys, time
import pandas
from zvt_crypto.core.config import Settings
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.binance_streams import BinanceStreams
from zvt_crypto.server.liveservice import LiveService
from zvt_crypto.server.serving import server_of

folder, cores, markets, rate, seconds = sys.argv[1], json.loads(sys.argv[2]), *map(float, sys.argv[3:6])
if cores:
    os.sched_setaffinity(0, {cores[0]})
streams = BinanceStreams()
instruments = [Instrument("cryptopair", f"m{i}usdt", f"M{i}/USDT", f"M{i}USDT") for i in range(int(markets))]

class Frames:
    feeds, reconnects = streams.feeds, 0

    def __init__(self, sink):
        self.sink, self.reader, self.topics = sink, streams.reader(), []

    async def instruments(self, names, entity_type):
        return [next(one for one in instruments if one.code == name) for name in names]

    def serves(self, topic): return True
    def book_depths(self, entity_type): return ()
    def has_consecutive_ids(self, topic): return False
    def stop(self, topic): pass
    def trades(self, topic, rows): return streams.trades(topic.instrument, rows)
    def now(self, entity_type): return time.time_ns() // 1_000_000
    def resyncs(self, topic): return 0
    def health(self): return []
    async def close(self): pass

    def start(self, topic):
        self.topics.append(topic)
        self.reader.expect([topic])
        asyncio.get_running_loop().call_soon(self.sink.live, topic, self.now(""))
        if len(self.topics) == len(instruments):
            asyncio.get_running_loop().call_later(3.0, lambda: asyncio.ensure_future(self.send()))

    async def send(self):
        began, cpu, sent, every = time.monotonic(), time.process_time(), 0, 1 / rate
        while sent < rate * seconds:
            due = int((time.monotonic() - began) * rate)
            while sent < min(due, rate * seconds):
                name = instruments[sent % len(instruments)].native_id
                now = self.now("")
                frame = (
                    f'{{"e":"aggTrade","E":{now},"s":"{name}","a":{time.monotonic_ns()},"p":"{30000 + sent % 997}.{sent % 97:02d}",'
                    f'"q":"0.{sent % 89 + 10}","f":1,"l":1,"T":{now},"m":{"true" if sent % 2 else "false"},"M":true}}'
                )
                for message in self.reader.read(frame):
                    self.sink.received(message)
                sent += 1
            await asyncio.sleep(max(every, 0.001))
        took = time.monotonic() - began
        sys.stderr.write(json.dumps({"sent": sent, "cpu": (time.process_time() - cpu) / took}) + "\\n")

async def open_source(provider, sink):
    return Frames(sink)

settings = Settings(
    data_path=pathlib.Path(folder) / "data", stream_connections_per_client=0, public_requests_per_minute=0
)
listener = socket.create_server(("127.0.0.1", 0))
gc.freeze()  # as serve does
ready = lambda: sys.stderr.write(f"{listener.getsockname()[1]}\\n")
server_of(settings, LiveService(settings, open_source), ready).run(sockets=[listener])
"""

#: Reads frames as they come, without taking them apart; every client is subscribed to all markets.
CLIENT = """
import os, re, selectors, socket, statistics
port, cores, clients, markets, expected, patience = int(sys.argv[1]), json.loads(sys.argv[2]), *map(int, sys.argv[3:7])
if cores:
    os.sched_setaffinity(0, {cores[1]})
pattern = re.compile(rb'"trade_id":"(\\d+)"')
chosen = selectors.DefaultSelector()

def masked(text):
    head = bytes([0x81, 0x80 | 126]) + len(text).to_bytes(2, "big") if len(text) > 125 else bytes([0x81, 0x80 | len(text)])
    return head + bytes(4) + text

symbols = [f"m{i}usdt" for i in range(markets)]
wanted = {"stream": "crypto.trades", "provider": "binance", "symbols": symbols}
for number in range(clients):
    one = socket.create_connection(("127.0.0.1", port))
    one.sendall(
        b"GET /ws HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n"
        b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n"
    )
    answer = one.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    one.sendall(masked(json.dumps({"method": "subscribe", "params": wanted}).encode()))
    one.setblocking(False)
    chosen.register(one, selectors.EVENT_READ, number)

rests, counts, sums, delays, bytes_read = [b""] * clients, [0] * clients, [0] * clients, [], 0
quiet_since = time.monotonic()
while min(counts) < expected and time.monotonic() - quiet_since < patience:
    for key, _ in chosen.select(0.5):
        part = key.fileobj.recv(1 << 20)
        now = time.monotonic_ns()
        quiet_since = time.monotonic()
        bytes_read += len(part)
        text = rests[key.data] + part
        end = 0
        for found in pattern.finditer(text):
            sent = int(found[1])
            counts[key.data] += 1
            sums[key.data] += sent
            delays.append(now - sent)
            end = found.end()
        rests[key.data] = text[end:]
delays.sort()
facts |= {
    "lost": expected * clients - sum(counts),
    "differ": len(set(sums)) - 1,
    "p50": delays[len(delays) // 2] / 1e6,
    "p99": delays[len(delays) * 99 // 100] / 1e6,
    "longest": delays[-1] / 1e6,
    "mb_per_second": bytes_read / 1e6,
}
"""


def measure(
    clients: int = CLIENTS, rate: int = RATE, markets: int = MARKETS, seconds: float = SECONDS
) -> dict[str, float]:
    """One run: the server on one core, the clients in one process on another.

    Returns:
        ``p50``, ``p99`` and ``longest`` delay in ms, messages ``lost`` by all clients together, and ``cpu``:
        the share of a core that the server took.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    chosen = str(cores if len(cores) == 2 else [])
    with tempfile.TemporaryDirectory() as folder, _serving(folder, chosen, markets, rate, seconds) as server:
        port = server.line()
        given = (clients, markets, int(rate * seconds), int(seconds) + 10)
        found = child(CLIENT, port, chosen, *map(str, given))
        found |= server.facts()
    found["mb_per_second"] /= seconds
    return dict(found)


def rows(found: dict[str, float], clients: int = CLIENTS, rate: int = RATE) -> list[Row]:
    """The run as lines of a table."""
    what = f"/ws, {rate:,} messages/s in, {clients} clients subscribed to all"
    return [
        Row(
            f"{what}: p99 of the added delay, ms",
            f"{found['p99']:.1f}",
            f"at most {MARK:.0f}",
            found["p99"] / MARK,
            1,
            at_least=False,
        ),
        Row(f"{what}: messages lost", f"{found['lost']:.0f}", "none", found["lost"], 0, at_least=False),
    ]


def run(rounds: int = 3) -> tuple[str, list[Row], list[str]]:
    """Medians of some runs."""
    found = medians([measure() for _ in range(rounds)])
    return (
        "Live over WebSocket",
        rows(found),
        [
            f"Median of {rounds} runs of {SECONDS:.0f} s: p50 {found['p50']:.1f} ms, longest {found['longest']:.1f} ms,"
            f" {found['mb_per_second']:.0f} MB/s out, {found['cpu']:.0%} of the server's core.",
            f"Trades of {MARKETS} markets come as Binance's frames; the delay is from the moment before a frame is read to"
            " the moment at which a client's socket has the bytes. The server has one core, the clients another.",
        ],
    )


class _Server:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> str:
        assert self._process.stderr is not None
        found = self._process.stderr.readline().strip()
        assert re.fullmatch(r"\d+|{.*}", found), found + self._process.stderr.read()
        return found

    def facts(self) -> dict[str, Any]:
        import json

        return dict(json.loads(self.line()))


@contextlib.contextmanager
def _serving(folder: str, cores: str, *given: float) -> Iterator[_Server]:
    environment = {
        "PYTHONPATH": str(ROOT),
        "ZVT_HOME": folder,
        "ZVT_CRYPTO_CONFIG": str(Path(folder) / "none"),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", f"import json\n{SERVER}", folder, cores, *map(str, given)],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Server(process)
    finally:
        process.terminate()
        process.communicate()
