"""Every wrong use: one line that says what, what is allowed and what to do next; exit code 2."""

from __future__ import annotations

import json

import pytest

RECORD = ("record", "--provider", "binance")
ONE = (*RECORD, "--codes", "btcusdt")

CASES = {
    "unknown verb": (("recrod",), "did you mean record"),
    "unknown option": (("record", "--colour"), "--colour"),
    "no provider": (("record", "--codes", "btcusdt"), "--provider"),
    "unknown provider": (("record", "--provider", "binanse", "--codes", "btcusdt"), "did you mean binance"),
    "no markets": (RECORD, "--all"),
    "markets and all": ((*ONE, "--all"), "exclude each other"),
    "empty code": ((*RECORD, "--codes", "BTC/"), "BTC/USDT"),
    "unknown level": ((*ONE, "--levels", "2m"), "allowed: 15m, 1d, 1h, 1m, 30m, 4h, 5m"),
    "start is no time": ((*ONE, "--start", "yesterday"), "2024-01-31"),
    "end is no time": ((*ONE, "--end", "2024-13-01"), "2024-01-31"),
    "start after end": ((*ONE, "--start", "2024-02-01", "--end", "2024-01-01"), "swap them"),
    "start in the future": ((*ONE, "--start", "2099-01-01"), "future"),
    "days and start": ((*ONE, "--days", "3", "--start", "2024-01-01"), "exclude each other"),
    "timerange and end": ((*ONE, "--timerange", "20240101-", "--end", "2024-02-01"), "exclude each other"),
    "no days": ((*ONE, "--days", "0"), "--days"),
    "timerange is none": ((*ONE, "--timerange", "2024"), "20240101-20240201"),
    "timerange backwards": ((*ONE, "--timerange", "20240201-20240101"), "swap"),
    "wrong gateway": ((*ONE, "--gateway", "localhost:80"), "http://"),
    "wrong concurrency": ((*ONE, "--concurrency", "0"), "concurrency"),
    "wrong timeout": ((*ONE, "--timeout", "-1"), "timeout"),
    "unknown table": (("query", "CryptoPair2mKdata"), "CryptoPair1mKdata"),
    "no table": (("query",), "--level"),
    "table and level": (("query", "CryptoPair1mKdata", "--level", "1m"), "exclude each other"),
    "nothing recorded": (("query", "--level", "1m"), "record it first"),
    "wrong format": (("query", "--level", "1m", "--format", "xml"), "csv"),
    "chart of an unknown level": (("chart", "--level", "7m", "--codes", "btcusdt"), "allowed"),
    "report of an unknown level": (("report", "--levels", "7m"), "allowed"),
    "unknown schema": (("schemas", "CryptoPear"), "CryptoPair"),
    "unknown fault": (("sandbox", "--fault", "earthquake"), "earthquake"),
    "replay without a symbol": (("sandbox", "--replay", "candles.csv"), "--symbol"),
}


@pytest.mark.parametrize(("arguments", "says"), CASES.values(), ids=CASES.keys())
def test_one_line_and_exit_code_2(inside, arguments, says):
    done = inside(*arguments, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


@pytest.mark.parametrize("name", ["unknown option", "unknown provider", "wrong gateway", "unknown table"])
def test_as_json(inside, name):
    done = inside(*CASES[name][0], "--json", code=2)
    error = json.loads(done.stdout)["error"]
    assert error["code"].startswith("CRYPTO_")
    assert error["message"]
    assert error["recovery_suggestions"]
    assert done.stderr == ""


def test_the_process_ends_like_that(cli):
    done = cli(*CASES["unknown provider"][0], code=2)
    assert done.stderr.startswith("error: unknown provider 'binanse'. did you mean binance")


def test_what_nobody_foresaw_is_one_line_and_a_traceback_when_wanted(cli):
    (cli.folder / "rich").mkdir()
    (cli.folder / "rich" / "__init__.py").write_text("raise RuntimeError('broken on purpose')\n")
    cli.environment["PYTHONPATH"] = f"{cli.folder}:{cli.environment['PYTHONPATH']}"
    done = cli("schemas", code=1)
    assert done.stderr.count("\n") == 1
    assert "broken on purpose" in done.stderr
    assert "-v" in done.stderr
