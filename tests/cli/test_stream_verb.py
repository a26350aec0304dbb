"""stream, as a process of its own or in this one, against the sandbox, whose clock is this machine's."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator

import pytest

from zvt_crypto.cli.naming import label
from zvt_crypto.core.config import Settings
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import load_tables
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.store.engine import Store
from zvt_crypto.stream.status import Status

load_tables()
BTC = ("--provider", "binance", "--codes", "btcusdt")
TRADES = ("stream", *BTC, "--trades")


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(seed=61) as box:
        yield box


@pytest.fixture
def cli(new_cli, box):
    """A command line whose calls and streams go to the sandbox."""
    return new_cli(gateway=box.url, rate_limit="false", retry_wait_seconds="0.01", max_attempts="2")


def stored(cli, provider: str = "binance", table: str = "cryptotrade") -> int:
    """How many rows a table has."""
    store = Store(Settings(data_path=cli.data_path))
    if not store.exists(provider, tables[table]):
        return 0
    with store.connect(provider, tables[table]) as connection:
        return int(connection.value("SELECT count(*) FROM rows"))


@contextlib.contextmanager
def started(cli, *arguments: str, **options):
    """A run; killed in the end if the test has not ended it."""
    process = cli.start(*arguments, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(holds, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.02)


def told(process, holds, most: int = 15):
    """Lines of JSON up to the first that is as wanted."""
    lines = []
    while not lines or not holds(lines[-1]):
        assert len(lines) < most, lines
        lines.append(json.loads(process.stdout.readline()))
    return lines


def all_live(line) -> bool:
    return bool(line["channels"]) and {one["state"] for one in line["channels"]} == {"live"}


def ended(process, number: int = signal.SIGTERM, code: int = 0) -> tuple[str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


class TestOutput:
    def test_lines_of_json(self, cli):
        with started(cli, *TRADES, "--levels", "1m", "--json") as process:
            lines = told(process, lambda line: all_live(line) and line["channels"][1]["messages"] > 0)
            out, err = ended(process)
        for line in (*lines, *map(json.loads, out.splitlines())):
            assert set(line) == set(Status.__dataclass_fields__)
            assert [(one["table"], one["entity_id"]) for one in line["channels"]] == [
                ("cryptopair_1m_kdata", "cryptopair_binance_btcusdt"),
                ("cryptotrade", "cryptopair_binance_btcusdt"),
            ]
        assert [one["state"] for one in lines[0]["channels"]] == ["waiting", "waiting"]
        assert err == ""
        assert stored(cli) > 0

    def test_a_line_for_each_change_where_there_is_no_terminal(self, cli):
        with started(cli, *TRADES) as process:
            assert process.stderr.readline() == "binance btcusdt trades: waiting\n"
            assert process.stderr.readline() == "binance btcusdt trades: live\n"
            out, last = ended(process)
        assert re.fullmatch(r"\d+ rows in \d+ s; the same command goes on from there\n", last)
        assert int(last.split()[0]) >= stored(cli) > 0
        assert out == ""

    def test_it_ends_by_itself_after_a_time(self, inside):
        began = time.monotonic()
        done = inside(*TRADES, "--for", "1.5")
        assert time.monotonic() - began >= 1.5
        assert "the same command goes on from there" in done.stderr

    def test_nothing_but_the_end_without_progress(self, inside):
        done = inside(*TRADES, "--for", "0.3", "--no-progress")
        (line,) = done.stderr.splitlines()
        assert " rows in 0 s" in line

    def test_a_table_that_is_drawn_anew_in_a_terminal(self, cli):
        leader, follower = pty.openpty()
        with started(cli, *TRADES, stderr=follower) as process:
            os.close(follower)
            shown = ""
            while not (" ms " in shown and "1 connections" in shown):
                assert select.select([leader], [], [], 20)[0], shown
                shown += os.read(leader, 65_536).decode()
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(OSError):  # how a terminal ends
                while part := os.read(leader, 65_536):
                    shown += part.decode()
            assert process.wait(timeout=20) == 0
        os.close(leader)
        for words in (
            "channel",
            "messages/s",
            "last message",
            "binance btcusdt trades",
            "live",
            "rows stored",
        ):
            assert words in shown
        assert "the same command goes on from there" in shown

    def test_messages_of_the_log_with_v(self, cli, box):
        box.faults = ["ws_disconnect,after=10,times=1"]
        with started(cli, *TRADES, "-v", "--no-progress") as process:
            while "connecting anew in" not in process.stderr.readline():
                assert process.poll() is None
            _, err = ended(process)
        assert "Task exception was never retrieved" not in err

    def test_an_unreadable_message_is_told_once_and_without_v(self, cli, box):
        box.faults = ["ws_rename:p"]
        words = "binance stream 1: a message cannot be read: Object missing required field `p`"
        with started(cli, *TRADES, "--json") as process:
            told(process, lambda line: line["unreadable"] > 10)
            _, err = ended(process)
        assert words in err and err.count("cannot be read") == 1

    def test_the_reader_goes_away(self, cli):
        """As with ``| head -1``."""
        with started(cli, *TRADES, "--json") as process:
            assert json.loads(process.stdout.readline())
            process.stdout.close()
            assert process.wait(timeout=20) == 1
            assert "Traceback" not in process.stderr.read()
        assert stored(cli) > 0, "what has come by then is stored"


class TestEnds:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
    def test_what_has_come_by_then_is_stored(self, cli, number, code):
        with started(cli, *TRADES) as process:
            while "live" not in process.stderr.readline():
                assert process.poll() is None
            until(lambda: stored(cli))
            _, err = ended(process, number, code)
            assert int(err.split()[0]) >= stored(cli) > 0
        assert not list((cli.folder / "state" / "streams").glob("*.json"))

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
    def test_before_anything_is_live(self, cli, box, number, code):
        box.faults = ["slow:30,path=exchangeInfo"]
        with started(cli, *TRADES) as process:
            until(lambda: any("exchangeInfo" in one.path for one in box.requests))
            ended(process, number, code)

    def test_the_exchange_cannot_be_reached(self, inside):
        arguments = (*TRADES, "--gateway", "http://127.0.0.1:9", "--max-attempts", "1")
        done = inside(*arguments, code=1)
        assert "CRYPTO_PROVIDER_UNAVAILABLE" in done.stderr
        (line,) = inside(*arguments, "--json", code=1).stdout.splitlines()
        assert json.loads(line)["error"]["code"] == "CRYPTO_PROVIDER_UNAVAILABLE"

    def test_a_market_that_does_not_exist_among_others(self, inside):
        done = inside("stream", "--provider", "binance", "--codes", "btcusdt,foobar", "--for", "0.5", code=3)
        assert "foobar" in done.stderr and "CRYPTO_PAIR_NOT_FOUND" in done.stderr

    def test_a_market_that_does_not_exist_alone(self, inside):
        done = inside("stream", "--provider", "binance", "--codes", "foobar", code=2)
        assert "CRYPTO_PAIR_NOT_FOUND" in done.stderr


class TestTables:
    def test_feeds_of_pairs_and_perpetuals(self, cli):
        arguments = ("--provider", "okx", "--codes", "btcusdt,btcusdt-perp", "--trades", "--orderbooks")
        with started(cli, "stream", *arguments, "--depth", "3", "--book-every", "0.5", "--json") as process:
            told(process, lambda line: all_live(line) and all(one["rows"] for one in line["channels"]))
            ended(process)
        rows = cli.json("query", "CryptoOrderbook", "--provider", "okx")
        assert {row["entity_id"].partition("_")[0] for row in rows} == {"cryptopair", "cryptoperp"}
        assert {row["depth"] for row in rows} == {3}
        assert stored(cli, "okx") > 0

    def test_all_markets(self, cli):
        with started(cli, "stream", "--provider", "coinbase", "--all", "--trades", "--json") as process:
            *_, last = told(process, all_live)
            ended(process)
        assert len(last["channels"]) > 3


CASES = {
    "no provider": (("stream", "--codes", "btcusdt"), "--provider"),
    "unknown provider": (("stream", "--provider", "binanse", "--codes", "x"), "did you mean binance"),
    "no markets": (("stream", "--provider", "binance"), "--all"),
    "markets and all": (("stream", *BTC, "--all"), "exclude each other"),
    "unknown level": (("stream", *BTC, "--levels", "2m"), "allowed: 15m, 1d, 1h, 1m, 30m, 4h, 5m"),
    "start in the future": (("stream", *BTC, "--start", "2099-01-01"), "future"),
    "days and start": (("stream", *BTC, "--days", "1", "--start", "2024-01-01"), "exclude each other"),
    "no days": (("stream", *BTC, "--days", "0"), "--days"),
    "no time": (("stream", *BTC, "--for", "-1"), "--for"),
    "for ever": (("stream", *BTC, "--for", "ever"), "--for"),
    "no pace": (("stream", *BTC, "--orderbooks", "--book-every", "0"), "--book-every"),
    "no depth": (("stream", *BTC, "--orderbooks", "--depth", "0"), "--depth"),
    "too deep": (("stream", *BTC, "--orderbooks", "--depth", "5001"), "allowed: at most 5000"),
    "funding of pairs": (("stream", *BTC, "--trades", "--funding"), "has no funding of pairs"),
    "unknown option": (("stream", *BTC, "--end", "2024-01-01"), "--end"),
    "wrong gateway": (("stream", *BTC, "--gateway", "localhost:80"), "http://"),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_use(inside, name):
    arguments, words = CASES[name]
    done = inside(*arguments, code=2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert words in line
    answer = inside(*arguments, "--json", code=2).stdout
    assert words in answer and "error" in json.loads(answer)


def test_a_provider_that_streams_nothing(inside):
    done = inside("stream", "--provider", "ccxt", "--codes", "btcusdt", code=2)
    assert "error: ccxt is not streamed. record it without streaming" in done.stderr
    answer = json.loads(inside("stream", "--provider", "ccxt", "--all", "--json", code=2).stdout)
    assert answer["error"]["code"] == "CRYPTO_NOT_SUPPORTED"


def test_labels_are_those_of_other_verbs():
    class Channel:
        table, entity_id = "cryptoorderbook", "cryptoperp_okx_btcusdt_usdt"

    assert label(Channel()) == "okx btcusdt usdt-perp orderbooks"
