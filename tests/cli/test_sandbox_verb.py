from __future__ import annotations

import re
import signal

import pytest


@pytest.fixture
def started(cli):
    """Starts a sandbox verb and answers its URL; ends it with Ctrl-C."""
    processes = []

    def start(*arguments: str) -> str:
        process = cli.start("sandbox", *arguments)
        processes.append(process)
        line = process.stdout.readline()
        match = re.fullmatch(r"export ZVT_CRYPTO_GATEWAY=(http://127\.0\.0\.1:\d+)\n", line)
        assert match, line + process.stderr.read()
        return match[1]

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
        assert process.returncode in (0, 130)


def test_its_first_line_sends_every_verb_there(started, new_cli):
    cli = new_cli(gateway=started("--seed", "3", "--now", "2024-03-01"), rate_limit="false")
    words = "record --provider okx --codes ethusdt --levels 4h --timerange 20240201-20240229"
    cli(*words.split())
    assert len(cli.json("query", "--level", "4h")) == 28 * 6


def test_a_replayed_file_comes_back_as_it_is(started, new_cli, tmp_path):
    replayed = tmp_path / "candles.csv"
    rows = [
        f"{1704067200000 + i * 60000},{100 + i},{102 + i},{99 + i},{101 + i},5.5"
        for i in range(90)
        if i != 40
    ]
    replayed.write_text("timestamp,open,high,low,close,volume\n" + "\n".join(rows) + "\n")
    gateway = started("--replay", str(replayed), "--symbol", "BTC/USDT", "--now", "2024-01-02")
    cli = new_cli(gateway=gateway, rate_limit="false")
    cli("record", "--provider", "binance", "--codes", "btcusdt", "--timerange", "20240101-20240102")
    found = cli.json("query", "--level", "1m", "--columns", "open,high,low,close,volume")
    assert len(found) == 89
    assert [found[0][name] for name in ("open", "high", "low", "close", "volume")] == [100, 102, 99, 101, 5.5]
    [symbol] = cli.json("report", "--gaps")["tables"][-1]["symbols"]
    [gap] = symbol["gap_list"]
    assert (gap["start"], gap["missing"], gap["kind"]) == ("2024-01-01T00:40:00Z", 1, "absent")


def test_a_taken_port_is_one_line(started, cli):
    port = started().rsplit(":", 1)[1]
    done = cli("sandbox", "--port", port, code=2)
    assert done.stderr.count("\n") == 1
    assert port in done.stderr
