"""``zvt-crypto serve`` as users start it, with clients that misbehave on real sockets."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import parse_time

ROOT = Path(__file__).resolve().parents[2]
ROWS = "/api/data/CryptoPair1mKdata?provider=binance&codes=btcusdt"
#: So many candles that no socket's buffers hold their text.
MANY = 400_000
FIRST = parse_time("2024-01-01")


class Served:
    """A running ``zvt-crypto serve``."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.address = (urlsplit(url).hostname or "", urlsplit(url).port or 0)

    def get(self, path: str, **headers: str) -> http.client.HTTPResponse:
        """An answer, its body not read yet."""
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        connection.request("GET", path, headers={name.replace("_", "-"): v for name, v in headers.items()})
        return connection.getresponse()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))


Start = Callable[..., Served]


def environment(settings: Settings, **given: Any) -> dict[str, str]:
    values = {"data_path": settings.data_path, "busy_timeout_seconds": 2, **given}
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ZVT_CRYPTO_CONFIG": str(settings.data_path.parent / "none.toml"),
        "ZVT_HOME": str(settings.data_path.parent),
        **{f"ZVT_CRYPTO_{name.upper()}": str(value) for name, value in values.items()},
    }


def run(settings: Settings, *arguments: str, **given: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "zvt_crypto.cli", "serve", *arguments],
        env=environment(settings, **given),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def starting(settings: Settings) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **given: Any) -> Served:
        process = run(settings, "--port", "0", *arguments, **given)
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+?:\d+", line)
        assert found, (line, process.stderr.read() if process.stderr else "")
        return Served(process, found[0])

    try:
        yield start
    finally:
        for process in running:
            process.kill()
            process.communicate()


@pytest.fixture
def serve(market: Settings) -> Iterator[Start]:
    """Starts servers of the recorded market on free ports; the settings are those of the environment."""
    with starting(market) as start:
        yield start


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for what needs neither rows nor settings."""
    with starting(Settings(data_path=tmp_path_factory.mktemp("shared") / "data")) as start:
        yield start()


@pytest.fixture
def many(recorder: Any) -> None:
    numbers = np.arange(MANY)
    close = 100 + numbers % 1000 / 100
    for first in range(0, MANY, 50_000):
        part = slice(first, first + 50_000)
        rows = {
            "ts": FIRST + numbers[part] * 60_000,
            **dict.fromkeys(("open", "high", "low", "close"), close[part]),
            "volume": close[part] / 7,
            "turnover": close[part] * 3,
            "trade_count": numbers[part],
        }
        recorder.series("binance", "CryptoPair1mKdata", "ethusdt", pa.table(rows))


STREAM = "/api/data/CryptoPair1mKdata?provider=binance&codes=ethusdt&format=ndjson"


def error_of(answer: http.client.HTTPResponse) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == "application/json"
    error: dict[str, Any] = json.loads(answer.read())["error"]
    assert set(error) == {"code", "message", "details", "recovery_suggestions", "timestamp", "trace_id"}
    assert error["trace_id"] == answer.headers["X-Trace-Id"]
    return error


def raw_answer(connection: socket.socket) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer


def wait_for(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_answers_until_told_to_end(serve: Start) -> None:
    served = serve()
    answer = served.get(ROWS + "&limit=3")
    assert answer.status == 200
    assert len(json.loads(answer.read())["data"]) == 3
    served.process.send_signal(signal.SIGTERM)
    out, err = served.process.communicate(timeout=30)
    assert (served.process.returncode, out, err) == (0, "", "")


def test_ctrl_c_ends_it_too_and_json_tells_the_url(market: Settings) -> None:
    process = run(market, "--port", "0", "--json")
    assert process.stdout is not None
    text = "".join(process.stdout.readline() for _ in range(3))
    host, port = urlsplit(json.loads(text)["url"]).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=30):
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_requests_under_way_are_answered_before_the_end(serve: Start, many: None) -> None:
    served = serve()
    answer = served.get(STREAM)
    assert answer.status == 200
    answer.read(10)
    served.process.send_signal(signal.SIGTERM)
    assert answer.read().count(b"\n") == MANY
    assert served.process.wait(30) == 0


def test_a_client_that_never_reads_does_not_keep_it_from_ending(serve: Start, many: None) -> None:
    served = serve()
    with served.connect() as client:
        client.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.recv(4) == b"HTTP"
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) == 0


def test_a_taken_port_is_told_in_one_line(market: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = run(market, "--port", str(port))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert err.count("\n") == 1
    assert f"127.0.0.1:{port}" in err
    assert "CRYPTO_INVALID_ARGUMENT" in err


@pytest.mark.parametrize(
    ("arguments", "warns"),
    [((), False), (("--host", "0.0.0.0"), True), (("--host", "0.0.0.0", "--trusted-proxies", "1"), False)],
)
def test_warns_where_others_can_reach_it(serve: Start, arguments: tuple[str, ...], warns: bool) -> None:
    served = serve(*arguments)
    served.process.send_signal(signal.SIGTERM)
    _, err = served.process.communicate(timeout=30)
    assert ("warning" in err) is warns


def test_200_clients_at_once_are_all_answered(serve: Start) -> None:
    served = serve()
    expected = json.loads(served.get(ROWS + "&limit=1000").read())

    def ask(number: int) -> bool:
        answer = served.get(ROWS + "&limit=1000")
        return answer.status == 200 and json.loads(answer.read()) == expected

    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        assert list(pool.map(ask, range(200))) == [True] * 200


def test_more_requests_than_allowed_are_told_to_come_back(serve: Start) -> None:
    served = serve(server_requests=2)
    with contextlib.ExitStack() as stack:
        # Two requests whose bodies never end.
        for _ in range(2):
            client = stack.enter_context(served.connect())
            client.sendall(b"POST /api/data/providers HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        wait_for(lambda: served.get("/api/data/providers").status == 503)
        answer = served.get("/api/data/providers")
        assert answer.headers["Retry-After"] == "1"
        assert error_of(answer)["code"] == "CRYPTO_SERVER_BUSY"
    wait_for(lambda: served.get("/api/data/providers").status == 200)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /api",
        b"GET / HTTP/1.1\r\nHost: a\r\nX",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
    ],
)
def test_a_request_that_never_ends_is_refused(serve: Start, sent: bytes) -> None:
    served = serve(receive_timeout_seconds=0.3)
    with served.connect() as client:
        client.sendall(sent)
        answer = raw_answer(client)
        assert answer.status == 408
        assert error_of(answer)["code"] == "CRYPTO_REQUEST_TIMEOUT"


def test_dripping_does_not_keep_a_request_alive(serve: Start) -> None:
    served = serve(receive_timeout_seconds=0.5)
    with served.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        ended = False
        for number in range(100):
            try:
                client.sendall(b"X-%d: 1\r\n" % number)
            except OSError:
                ended = True
                break
            client.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                if client.recv(64):
                    ended = True
                    break
        assert ended


def test_a_silent_connection_is_closed(serve: Start) -> None:
    served = serve(receive_timeout_seconds=0.3)
    with served.connect() as client:
        assert client.recv(1) == b""


def test_a_connection_serves_many_requests_and_pauses_between_them(serve: Start) -> None:
    served = serve(receive_timeout_seconds=0.3)
    connection = http.client.HTTPConnection(*served.address, timeout=30)
    for _ in range(3):
        connection.request("GET", ROWS + "&limit=1")
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        time.sleep(0.5)


def test_a_client_that_never_reads_loses_its_stream_thread_and_snapshot(serve: Start, many: None) -> None:
    served = serve(send_timeout_seconds=0.5, server_streams=1)
    with served.connect() as client:
        client.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.recv(4) == b"HTTP"
        # The one stream that there may be is given free, and the log of writes can shrink.
        wait_for(lambda: served.get(STREAM + "&limit=1").status == 200)
        received = 0
        with contextlib.suppress(OSError):
            while part := client.recv(1 << 20):
                received += len(part)
        assert received < MANY * 100


def test_a_client_that_reads_slowly_gets_all_of_it(serve: Start, many: None) -> None:
    served = serve(send_timeout_seconds=5)
    answer = served.get(STREAM)
    lines = 0
    while part := answer.read(1 << 22):
        lines += part.count(b"\n")
        time.sleep(0.02)
    assert lines == MANY


def test_a_client_that_leaves_frees_its_stream(serve: Start, many: None) -> None:
    served = serve(server_streams=1)
    with served.connect() as client:
        client.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.recv(4) == b"HTTP"
        refused = served.get(STREAM)
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert error_of(refused)["code"] == "CRYPTO_SERVER_BUSY"
        # Short answers have threads of their own.
        assert served.get(ROWS + "&limit=1").status == 200
    wait_for(lambda: served.get(STREAM + "&limit=1").status == 200)


def test_threads_stay_as_many_as_configured(serve: Start) -> None:
    served = serve(server_threads=2, server_streams=1)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: served.get(ROWS + "&limit=10").status, range(60))) == {200}
    first = served.threads()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: served.get(ROWS + "&limit=10").status, range(60))) == {200}
    assert served.threads() <= first


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /?q=" + b"a" * 10_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 10_000_000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01 this is TLS\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n1", 400),
    ],
    ids=["long URL", "large header", "TLS", "not ASCII", "smuggling"],
)
def test_what_is_no_request_of_ours_is_refused_in_our_form(shared: Served, head: bytes, status: int) -> None:
    with shared.connect() as client:
        client.sendall(head)
        answer = raw_answer(client)
        assert answer.status == status
        error_of(answer)
    assert shared.get("/api/data/providers").status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_large_is_refused(shared: Served, chunked: bool) -> None:
    connection = http.client.HTTPConnection(*shared.address, timeout=30)
    part = b"a" * 65_536
    body = (part for _ in range(64)) if chunked else part * 64
    connection.request("POST", "/api/data/providers", body=body, encode_chunked=chunked)
    answer = connection.getresponse()
    assert answer.status == 413
    assert error_of(answer)["code"] == "CRYPTO_REQUEST_TOO_LARGE"


def test_clients_are_told_apart_by_the_configured_proxies_only(serve: Start) -> None:
    def left(served: Served, *forwarded: str) -> int:
        answer = served.get(ROWS + "&limit=1", X_Forwarded_For=", ".join(forwarded))
        return int(answer.headers["X-RateLimit-Remaining"])

    alone, behind = serve(), serve("--trusted-proxies", "1")
    assert left(alone, "10.0.0.1") - left(alone, "10.0.0.2") == 1
    # The proxy adds the address that it sees; what a client claims stands before it.
    assert left(behind, "10.0.0.1") == left(behind, "10.0.0.2") == 999
    assert left(behind, "10.9.9.9", "10.0.0.1") == 998


def test_other_origins_need_permission(serve: Start) -> None:
    served = serve(cors_origins='["https://charts.example.org"]')
    allowed = served.get(ROWS + "&limit=1", Origin="https://charts.example.org")
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://charts.example.org"
    refused = served.get(ROWS + "&limit=1", Origin="https://example.org")
    assert refused.headers["Access-Control-Allow-Origin"] is None
