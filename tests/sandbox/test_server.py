"""The server: what it records, faults over a socket, captures, and the sandbox as a process."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from pathlib import Path

import pytest

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import MINUTE_MS, parse_time
from zvt_crypto.sandbox import Fault, Sandbox, SandboxSettings, SimulatedMarket

START = parse_time("2024-03-01")
PATH = f"/api.binance.com/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime={START}&limit=20"
OKX = "/www.okx.com/api/v5/market/history-candles?instId=BTC-USDT&limit=20"


def test_requests_are_recorded(box: Sandbox, fetch) -> None:
    box.forget_requests()
    fetch(box.url + PATH)
    fetch(box.url + "/")
    (request,) = box.requests
    assert (request.host, request.path) == ("api.binance.com", "/api/v3/klines")
    assert request.query == {"symbol": "BTCUSDT", "interval": "1m", "startTime": str(START), "limit": "20"}
    assert abs(request.time - time.time()) < 10


def test_the_root_tells_what_there_is(box: Sandbox, fetch) -> None:
    box.faults = ["slow:0,times=1"]
    told = fetch(box.url + "/").json
    assert "www.okx.com" in told["venues"]["okx"]
    assert "BTC/USDT" in told["symbols"]
    assert told["faults"] == [{"fault": "slow,seconds=0,times=1", "struck": 0}]


def test_an_unknown_host_is_answered_with_the_known_ones(box: Sandbox, fetch) -> None:
    reply = fetch(box.url + "/api.example.com/time")
    assert reply.status == 404
    assert "api.binance.com" in reply.json["known"]


@pytest.mark.parametrize(
    ("fault", "path", "status", "code"),
    [
        ("status:429,retry_after=7", PATH, 429, -1003),
        ("status:418,retry_after=7", PATH, 418, -1003),
        ("status:451", PATH, 451, 0),
        ("status:500", PATH, 500, -1000),
        ("status:503", PATH, 503, -1008),
        ("maintenance", PATH, 503, 1),
        ("status:429,retry_after=7", OKX, 429, "50011"),
        ("status:500", OKX, 500, "50000"),
        ("maintenance", OKX, 503, "50001"),
    ],
)
def test_error_statuses_have_the_venues_body(box: Sandbox, fetch, fault, path, status, code) -> None:
    box.faults = [fault]
    reply = fetch(box.url + path)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert reply.headers.get("Retry-After") == ("7" if "retry_after" in fault else None)


def test_faults_take_turns(box: Sandbox, fetch) -> None:
    box.faults = ["status:429,times=1", "status:503,times=1"]
    assert [fetch(box.url + PATH).status for _ in range(3)] == [429, 503, 200]


@pytest.mark.parametrize("fault", ["html:200", "html:502", "status:502", "status:403"])
def test_html_instead_of_json(box: Sandbox, fetch, fault: str) -> None:
    box.faults = [fault]
    reply = fetch(box.url + PATH)
    assert reply.status == int(fault[-3:])
    assert reply.headers["Content-Type"].startswith("text/html")
    assert reply.body.startswith(b"<html>")


def test_a_body_cut_in_the_middle(box: Sandbox, fetch) -> None:
    whole = fetch(box.url + PATH).body
    box.faults = ["cut"]
    cut = fetch(box.url + PATH).body
    assert whole.startswith(cut)
    assert len(cut) == len(whole) // 2
    box.faults = ["cut:close"]
    with pytest.raises(http.client.IncompleteRead):
        fetch(box.url + PATH)


def test_an_empty_body(box: Sandbox, fetch) -> None:
    box.faults = ["empty"]
    assert fetch(box.url + PATH).body == b""


def test_a_closed_connection(box: Sandbox, fetch) -> None:
    box.faults = ["disconnect,times=1"]
    with pytest.raises((ConnectionError, urllib.error.URLError)):
        fetch(box.url + PATH)
    assert fetch(box.url + PATH).status == 200


def test_no_answer_at_all(box: Sandbox, fetch) -> None:
    box.faults = ["timeout,times=1"]
    with pytest.raises(TimeoutError):
        fetch(box.url + PATH, timeout=0.3)
    assert fetch(box.url + PATH).status == 200


def test_a_slow_answer_does_not_hold_up_the_others(box: Sandbox, fetch) -> None:
    box.faults = ["slow:0.4,path=okx"]
    began = time.monotonic()
    slow = threading.Thread(target=fetch, args=(box.url + OKX,))
    slow.start()
    assert fetch(box.url + PATH).status == 200
    assert time.monotonic() - began < 0.4
    slow.join()
    assert time.monotonic() - began >= 0.4


def test_a_fault_for_one_symbol_spares_the_others(box: Sandbox, fetch) -> None:
    box.faults = [Fault("status", symbol="BTC/USDT", params={"status": 503})]
    assert fetch(box.url + PATH).status == 503
    assert fetch(box.url + PATH.replace("BTCUSDT", "ETHUSDT")).status == 200
    assert fetch(box.url + OKX).status == 503


@pytest.mark.parametrize("path", [PATH, OKX], ids=["binance", "okx"])
def test_row_faults(box: Sandbox, fetch, path: str) -> None:
    def rows(fault: str | None = None) -> list[list]:
        box.faults = [fault] if fault else []
        answer = fetch(box.url + path).json
        return answer["data"] if isinstance(answer, dict) else answer

    good = rows()
    assert rows("empty_rows") == []
    assert len(rows("duplicate")) == 2 * len(good)
    assert len(rows("missing:3")) == len(good) - 3
    shuffled = rows("reorder")
    assert sorted(shuffled) == sorted(good)
    assert shuffled != good
    assert [row[4] for row in rows("nan:1")].count("NaN") == 1
    assert [row[4] for row in rows("nan:1,text=")].count("") == 1
    assert sum(float(row[1]) < 0 for row in rows("negative:2,column=open")) == 2
    assert sum(float(row[2]) < float(row[3]) for row in rows("high_below_low:2")) == 2
    assert rows() == good


def test_the_same_page_for_ever(box: Sandbox, fetch) -> None:
    box.faults = ["repeat"]
    first = fetch(box.url + PATH).json
    later = PATH.replace(str(START), str(START + 99 * MINUTE_MS))
    assert fetch(box.url + later).json == first
    box.faults = ["repeat"]
    assert fetch(box.url + later).json != first, "setting faults starts anew"


def test_clock_skew(fetch) -> None:
    with Sandbox(SimulatedMarket(1, now=START), faults=["clock_skew:-90000"]) as box:
        assert fetch(box.url + "/api.binance.com/api/v3/time").json["serverTime"] == START - 90_000
        assert fetch(box.url + OKX).json["data"][0][0] == str(START - 3 * MINUTE_MS)


def test_faults_change_over_http(box: Sandbox, fetch) -> None:
    texts = ["status:429,path=klines,times=1"]
    set_reply = fetch(f"{box.url}/_faults", "POST", json.dumps({"faults": texts}).encode())
    assert set_reply.json == {"faults": [{"fault": "status,status=429,path=klines,times=1", "struck": 0}]}
    assert [fetch(box.url + PATH).status for _ in range(2)] == [429, 200]
    assert fetch(f"{box.url}/_faults").json["faults"][0]["struck"] == 1
    assert fetch(f"{box.url}/_faults", "DELETE").json == {"faults": []}
    assert len(box.faults) == 0


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"faults": [1]}', b'{"faults": ["statsu"]}'])
def test_wrong_faults_over_http(box: Sandbox, fetch, body: bytes) -> None:
    box.faults = ["slow:0"]
    reply = fetch(f"{box.url}/_faults", "POST", body)
    assert (reply.status, reply.json["code"]) == (400, "CRYPTO_INVALID_ARGUMENT")
    assert len(box.faults) == 1, "the faults in force stay"


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidArgument, match=f"cannot listen at 127.0.0.1:{port}"):
            Sandbox(port=port).start()


def test_stopping_does_not_wait_for_a_client_that_hangs(fetch) -> None:
    box = Sandbox(faults=["timeout"]).start()
    with socket.create_connection((box.host, box.port)) as hanging:
        hanging.sendall(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(0.1)
        began = time.monotonic()
        box.stop()
        assert time.monotonic() - began < 3
    with pytest.raises(urllib.error.URLError):
        fetch(box.url + "/")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"replay": "rows.csv"}, "--symbol"),
        ({"symbol": "BTC/USDT"}, "--replay"),
        ({"now": "soon"}, "now 'soon' is not a time"),
        ({"speed": 0}, "speed 0 is not above 0"),
    ],
)
def test_settings_that_do_not_fit(settings: dict, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        SandboxSettings(**settings).market()
    assert says in caught.value.one_line()


def test_a_clock_that_runs_fast() -> None:
    clock = SandboxSettings(now="2024-03-01", speed=36_000.0).market().now
    assert START <= clock() < START + 60 * MINUTE_MS
    while clock() < START + 60 * MINUTE_MS:
        time.sleep(0.01)


@pytest.fixture
def process():
    started = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "zvt_crypto.sandbox", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        started.append(process)
        return process

    yield start
    for one in started:
        one.kill()
        one.communicate()


def test_a_process_of_its_own(process, fetch, box: Sandbox) -> None:
    running = process("--seed", "1", "--fault", "status:429,times=1")
    url = running.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    assert [fetch(url + PATH).status for _ in range(2)] == [429, 200]
    assert fetch(url + PATH).body == fetch(box.url + PATH).body, "the same seed is the same market"
    running.send_signal(signal.SIGTERM)
    assert running.wait(5) == 0


def test_a_process_sends_recorded_streams(process, fetch, tmp_path: Path) -> None:
    lines = ["wss://ws.okx.com:8443/ws/v5/public <-> 1652459224.5", '1652459225.25: {"event":"subscribe"}']
    (tmp_path / "OKX").write_text("\n".join(lines))
    running = process("--capture-stream", str(tmp_path / "OKX"), "--speed", "0")
    url = running.stdout.readline().strip()
    assert fetch(f"{url}/www.okx.com/api/v5/public/time").json["data"] == [{"ts": "1652459225250"}]


def test_a_process_says_what_is_wrong(process) -> None:
    running = process("--fault", "statsu:429")
    out, err = running.communicate(timeout=20)
    assert running.returncode == 2
    assert out == ""
    assert err.startswith("CRYPTO_INVALID_ARGUMENT: unknown fault 'statsu'")
    assert "did you mean status" in err


def test_captures_are_served_word_for_word(fetch, tmp_path: Path) -> None:
    lines = [
        'https://www.okx.com/api/v5/public/instruments?instType=SPOT&x=1 -> 1.5: {"recorded": 1}',
        'https://www.okx.com/api/v5/public/instruments?instType=SPOT&x=1 -> 2.5: {"recorded": 2}',
        "configuration: {}",
    ]
    with gzip.open(tmp_path / "OKX.0.gz", "wt") as file:
        file.write("\n".join(lines))
    with Sandbox(captures=[tmp_path / "OKX.0.gz"], faults=["status:429,after=1,times=1"]) as box:
        url = f"{box.url}/www.okx.com/api/v5/public/instruments"
        assert fetch(f"{url}?x=1&instType=SPOT").body == b'{"recorded": 2}'
        assert fetch(f"{url}?x=1&instType=SPOT").status == 429, "faults strike recorded answers too"
        assert fetch(f"{url}?instType=SPOT").json["code"] == "0"


def test_a_capture_without_answers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing")
    with pytest.raises(InvalidArgument, match="holds no recorded answer"):
        Sandbox(captures=[tmp_path / "x"])
    with pytest.raises(InvalidArgument, match="cannot be read"):
        Sandbox(captures=[tmp_path / "none"])
