"""record, from the sandbox exchange over a socket."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import time

MARCH = ("--timerange", "20240227-20240301")
ONE = ("record", "--provider", "okx", "--codes", "btcusdt", "--levels", "1h", *MARCH)
THREE_DAYS_1H = 72


def pages(box) -> int:
    return sum("candles" in request.path for request in box.requests)


def test_pairs_and_perpetuals_at_two_levels_and_nothing_twice(exchange, box):
    words = "record --provider okx --codes BTC/USDT,ethusdt --codes BTC/USDT:USDT,ethusdt-perp"
    command = (*words.split(), "--levels", "5m,1h", *MARCH)
    report = exchange.json(*command)
    assert {(o["table"], o["entity_id"], o["rows"], o["state"]) for o in report["outcomes"]} == {
        (f"{kind}_{level}_kdata", f"{kind}_okx_{code}", rows, "recorded")
        for kind in ("cryptopair", "cryptoperp")
        for code in ("btcusdt", "ethusdt")
        for level, rows in (("5m", 12 * THREE_DAYS_1H), ("1h", THREE_DAYS_1H))
    }
    assert report["exit_code"] == 0
    first_run = pages(box)
    assert first_run >= 8
    again = exchange.json(*command)
    assert (again["rows"], again["requests"]) == (0, 0)
    assert {o["state"] for o in again["outcomes"]} == {"already recorded"}
    assert pages(box) == first_run


def test_table_for_people_and_a_line_per_symbol_where_stderr_is_no_terminal(exchange):
    done = exchange(*ONE)
    assert re.search(r"okx btcusdt 1h +72 +\d+ +[\d,]+ +recorded", done.stdout)
    assert "72 rows in" in done.stdout
    assert re.fullmatch(r"okx btcusdt 1h: 72 rows in \d+\.\d s\n", done.stderr)
    assert "already recorded" in exchange(*ONE).stdout
    assert exchange(*ONE, "--no-progress").stderr == ""


def test_bars_on_a_terminal(exchange):
    parent, child = pty.openpty()
    process = exchange.start(*ONE, stderr=child)
    os.close(child)
    shown = b""
    while process.poll() is None or select.select([parent], [], [], 0)[0]:
        if select.select([parent], [], [], 0.1)[0]:
            try:
                shown += os.read(parent, 65536)
            except OSError:
                break
    os.close(parent)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "okx btcusdt 1h" in text
    assert "72/72" in text
    assert "100%" in text


def test_instruments_only(exchange):
    report = exchange.json("record", "--provider", "okx", "--entities")
    tables = {outcome["table"] for outcome in report["outcomes"]}
    assert {"cryptopair", "cryptoperp"} <= tables
    rows = exchange.json("query", "CryptoPerp", "--codes", "btcusdt")
    assert rows[0]["symbol"] == "BTC/USDT:USDT"
    assert rows[0]["is_active"] is True


def test_force_fetches_again(exchange):
    assert "Traceback" not in exchange(*ONE, "-vv").stderr
    report = exchange.json(*ONE, "--force")
    assert report["requests"] > 0
    assert report["outcomes"][0]["rows"] == THREE_DAYS_1H


def test_all_perpetuals(exchange):
    report = exchange.json("record", "--provider", "okx", "--all", "--perps", "--levels", "1d", *MARCH)
    assert len(report["outcomes"]) > 3
    assert {outcome["table"] for outcome in report["outcomes"]} == {"cryptoperp_1d_kdata"}


def test_one_unknown_market_among_good_ones_is_partial(exchange):
    done = exchange(*ONE, "--codes", "btcusdx", "--levels", "4h", code=3)
    assert "recorded" in done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "btcusdt" in errors[0]
    assert "[CRYPTO_PAIR_NOT_FOUND]" in errors[0]


def test_only_an_unknown_market_is_misuse(exchange):
    done = exchange("record", "--provider", "okx", "--codes", "btcusdx", "--levels", "1h", *MARCH, code=2)
    assert "did you mean" in done.stderr


def test_an_exchange_out_of_reach_is_one_line(cli):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gateway = f"http://127.0.0.1:{unused.getsockname()[1]}"
    done = cli(*ONE, "--gateway", gateway, code=1)
    assert done.stderr.count("\n") == 1
    assert "[CRYPTO_PROVIDER_UNAVAILABLE]" in done.stderr
    report = cli.json(*ONE, code=1)
    assert report["exit_code"] == 1


def test_one_symbol_failing_leaves_the_others(exchange, box):
    box.faults = ["status:503,path=candles,symbol=ETH-USDT"]
    report = exchange.json(*ONE, "--codes", "ethusdt", "--max-attempts", "2", code=3)
    states = {outcome["entity_id"]: outcome["state"] for outcome in report["outcomes"]}
    assert states == {"cryptopair_okx_btcusdt": "recorded", "cryptopair_okx_ethusdt": "failed"}
    assert report["outcomes"][1]["errors"][0]["code"] == "CRYPTO_PROVIDER_UNAVAILABLE"


def interrupted(exchange, box, *command):
    """Starts a recording, presses Ctrl-C after a few pages and answers what it wrote."""
    process = exchange.start(*command)
    seen = pages(box)
    wait_until(lambda: pages(box) > seen + 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert re.search(r"^interrupted: [\d,]+ rows are stored and stay; the same command again", err, re.M)
    assert "Traceback" not in err
    return out


def test_ctrl_c_keeps_what_is_stored_and_the_same_command_continues(exchange, box):
    box.faults = ["slow:0.1,path=candles"]
    words = "record --provider okx --codes btcusdt --timerange 20240110-20240113 --concurrency 1"
    assert "not finished" in interrupted(exchange, box, *words.split())
    stored = len(exchange.json("query", "--level", "1m", "--columns", "close"))
    assert stored >= 300
    report = json.loads(interrupted(exchange, box, *words.split(), "--json"))
    assert [outcome["state"] for outcome in report["outcomes"]] == ["not finished"]
    box.faults = []
    report = exchange.json(*words.split())
    assert 0 < report["rows"] < 3 * 1440 - stored
    assert len(exchange.json("query", "--level", "1m", "--columns", "close")) == 3 * 1440


def wait_until(condition, seconds: float = 20.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)
