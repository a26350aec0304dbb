"""schedule, as a process of its own against the sandbox, whose clock is this machine's."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docs_blocks import blocks, commands

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import parse_time
from zvt_crypto.domain import load_tables
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.store.engine import Store
from zvt_crypto.store.sqlite import Connection

BTC_1M = {"name": "btc", "provider": "okx", "codes": ["btcusdt"], "levels": ["1m"]}
ETH_1M = {**BTC_1M, "name": "eth", "codes": ["ethusdt"]}
MEND = {"name": "mend", "provider": "okx", "repair": True}
EVERY_SECOND = {"every": "1s", "delay_seconds": 0}
SLOW = "slow:0.2,path=candles"


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(seed=5) as box:
        yield box


@pytest.fixture
def live(running) -> Iterator[Sandbox]:
    running.faults = []
    running.forget_requests()
    yield running
    running.faults = []


@pytest.fixture
def scheduled(new_cli, live, tmp_path) -> Callable:
    """Makes a command line whose settings file has these entries."""

    def make(*entries: dict):
        path = tmp_path / "config.toml"
        path.write_text("".join(f"[[schedule]]\n{_toml(entry)}" for entry in entries))
        cli = new_cli(gateway=live.url, rate_limit="false", retry_wait_seconds="0.01", max_attempts="1")
        cli.environment["ZVT_CRYPTO_CONFIG"] = str(path)
        return cli

    return make


def _toml(entry: dict) -> str:
    # JSON's texts, numbers, lists and booleans are TOML's.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items())


@contextlib.contextmanager
def service(cli, *options: str):
    """A schedule that runs; killed in the end if the test has not ended it."""
    process = cli.start("schedule", "run", *options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process, number: int, code: int) -> tuple[str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def history(cli, *options: str) -> list[dict]:
    return cli.json("schedule", "history", "--limit", "1000", *options)


def states(cli, entry: str) -> list[str]:
    return [run["state"] for run in history(cli) if run["entry"] == entry]


def wait_until(condition, seconds: float = 40.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def stored(cli, level: str = "1m") -> int:
    return len(cli.json("query", "--level", level, "--columns", "close"))


def asked(live) -> int:
    return sum("candles" in request.path for request in live.requests)


def _rows(cli) -> Connection:
    store = Store(Settings(data_path=cli.data_path))
    return store.connect("okx", load_tables().find("cryptopair_1m_kdata"))


def test_once_runs_every_entry_and_keeps_what_became_of_it(scheduled):
    cli = scheduled({"name": "list", "provider": "okx", "entities": True}, BTC_1M)
    done = cli("schedule", "run", "--once")
    assert re.search(r"^\d{4}-\S+Z btc: done, [\d,]+ rows in \d+ requests and [\d.]+ s$", done.stdout, re.M)
    assert "list: done" in done.stdout
    runs = {run["entry"]: run for run in history(cli)}
    assert runs["btc"]["rows"] == stored(cli) > 2 * 1440
    assert {(run["state"], run["exit_code"]) for run in runs.values()} == {("done", 0)}
    assert all(parse_time(run["started"]) <= parse_time(run["finished"]) for run in runs.values())
    assert [run["entry"] for run in history(cli, "--entry", "list")] == ["list"]
    assert "btc" in cli("schedule", "history").stdout
    (again,) = cli("schedule", "run", "--once", "--json").stdout.splitlines()[-1:]
    assert '"state":"done"' in again


def test_list_tells_what_comes_next_and_touches_nothing(scheduled, tmp_path):
    cli = scheduled({"name": "list", "provider": "okx", "entities": True}, {**BTC_1M, "funding": False})
    listed = cli.json("schedule", "list")
    assert [entry["every"] for entry in listed] == ["daily 00:10", "close"]
    assert listed[0]["next"].endswith("T00:10:00Z")
    assert listed[1]["next"].endswith(":05Z")
    assert [entry["last"] for entry in listed] == [None, None]
    assert "1m of btcusdt" in cli("schedule", "list").stdout
    assert "nothing has run yet" in cli("schedule", "history").stderr
    assert not (tmp_path / "state").exists()


def test_the_worst_exit_code_and_what_is_missing(scheduled):
    cli = scheduled(BTC_1M, {**BTC_1M, "name": "typo", "codes": ["btcusdx"]})
    done = cli("schedule", "run", "--once", code=2)
    assert "[CRYPTO_PAIR_NOT_FOUND]" in done.stderr
    typo, btc = sorted(history(cli), key=lambda run: run["entry"], reverse=True)
    assert (btc["state"], btc["missing"]) == ("done", [])
    assert (typo["state"], typo["errors"][0]["code"]) == ("failed", "CRYPTO_PAIR_NOT_FOUND")
    assert typo["missing"] == ["cryptopair_1m_kdata btcusdx"]


def test_a_failing_entry_leaves_the_others_going(scheduled, live):
    live.faults = ["status:503,path=candles,symbol=ETH-USDT"]
    cli = scheduled({**ETH_1M, **EVERY_SECOND}, {**BTC_1M, "levels": ["1h"], **EVERY_SECOND})
    with service(cli) as process:
        wait_until(lambda: states(cli, "eth").count("failed") >= 2 and states(cli, "btc").count("done") >= 2)
        out, err = ended(process, signal.SIGTERM, 0)
    assert "[CRYPTO_PROVIDER_UNAVAILABLE]" in err
    failed = next(run for run in history(cli) if run["state"] == "failed")
    assert (failed["entry"], failed["exit_code"]) == ("eth", 1)
    assert failed["errors"][0]["code"] == "CRYPTO_PROVIDER_UNAVAILABLE"
    assert failed["missing"] == ["cryptopair_1m_kdata cryptopair_okx_ethusdt"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_keeps_what_is_stored(scheduled, live, number, code):
    live.faults = [SLOW]
    cli = scheduled({**BTC_1M, "days": 20})
    cli.environment["ZVT_CRYPTO_CONCURRENCY"] = "1"
    with service(cli) as process:
        wait_until(lambda: asked(live) > 6)
        out, _ = ended(process, number, code)
    assert "btc: cancelled" in out
    (run,) = history(cli)
    assert (run["state"], run["exit_code"]) == ("cancelled", None)
    assert 0 < run["rows"] <= stored(cli) < 20 * 1440
    live.faults = []
    assert cli("schedule", "run", "--once").returncode == 0
    assert stored(cli) > 20 * 1440


@pytest.mark.parametrize("entry", [{**BTC_1M, **EVERY_SECOND}, {**MEND, **EVERY_SECOND}])
def test_a_signal_does_not_wait_for_an_exchange_that_hangs(scheduled, live, entry):
    cli = scheduled(BTC_1M)
    cli("schedule", "run", "--once")
    with _rows(cli) as connection:
        connection.run("DELETE FROM rows WHERE ts % 3600000 < 300000")
    cli = scheduled(entry)
    cli.environment["ZVT_CRYPTO_TIMEOUT_SECONDS"] = "90"
    live.faults = ["timeout,path=candles"]
    before = asked(live)
    with service(cli) as process:
        wait_until(lambda: asked(live) > before)
        ended(process, signal.SIGTERM, 0)
    assert history(cli)[0]["state"] == "cancelled"


def test_sigkill_is_shown_as_interrupted_and_the_next_start_goes_on(scheduled, live):
    live.faults = [SLOW]
    cli = scheduled({**BTC_1M, "days": 20})
    cli.environment["ZVT_CRYPTO_CONCURRENCY"] = "1"
    with service(cli) as process:
        wait_until(lambda: asked(live) > 3)
        assert states(cli, "btc") == ["running"]
        process.send_signal(signal.SIGKILL)
        process.wait()
    # Nobody holds the lock, so the run cannot be under way.
    assert states(cli, "btc") == ["interrupted"]
    live.faults = []
    done = cli("schedule", "run", "--once")
    assert re.search(r"^btc: the run of \S+Z was interrupted", done.stderr, re.M)
    assert states(cli, "btc") == ["done", "interrupted"]
    assert stored(cli) > 20 * 1440


def test_a_second_process_on_the_same_data_folder_is_refused(scheduled, live, tmp_path):
    cli = scheduled(BTC_1M)
    with service(cli) as process:
        wait_until(lambda: states(cli, "btc") == ["done"])
        refused = cli("schedule", "run", code=1)
        assert f"process {process.pid} runs the schedule of {cli.data_path} already" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert cli("schedule", "run", "--once", "--data-path", str(tmp_path / "other")).returncode == 0
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert cli("schedule", "run", "--once").returncode == 0


def test_entries_of_one_table_wait_for_each_other_and_the_others_do_not(scheduled, live):
    live.faults = [SLOW]
    hours = {**BTC_1M, "name": "hours", "levels": ["1h"], "days": 150}
    cli = scheduled({**BTC_1M, "days": 3}, {**ETH_1M, "days": 3}, hours)
    cli.environment["ZVT_CRYPTO_CONCURRENCY"] = "1"
    cli("schedule", "run", "--once")
    spans = {run["entry"]: (parse_time(run["started"]), parse_time(run["finished"])) for run in history(cli)}
    first, second = sorted((spans["btc"], spans["eth"]))
    assert first[1] <= second[0]
    assert spans["hours"][0] < first[1], "another table's run waited"


def test_late_runs_become_one(scheduled):
    cli = scheduled({**BTC_1M, "every": "3s", "delay_seconds": 0})
    with service(cli) as process:
        wait_until(lambda: len(states(cli, "btc")) >= 2)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(8)
        resumed = time.time()
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: sum(_seconds(run) >= resumed for run in history(cli)) >= 2)
        ended(process, signal.SIGTERM, 0)
    after = sorted(start for start in map(_seconds, history(cli)) if start >= resumed)
    # However late a busy machine begins them, each run but one is of a moment of the grid since then.
    assert len(after) <= 1 + after[-1] // 3 - resumed // 3, "more than one run made up for the missed ones"


def _seconds(run: dict) -> float:
    return parse_time(run["started"]) / 1000


def test_repair_heals_what_was_removed(scheduled):
    cli = scheduled(BTC_1M, MEND)
    cli("schedule", "run", "--once", "--json")
    before = stored(cli)
    with _rows(cli) as connection:
        connection.run("DELETE FROM rows WHERE ts % 3600000 < 300000")
    assert stored(cli) < before
    scheduled(MEND)
    cli("schedule", "run", "--once")
    assert stored(cli) == before
    newest = history(cli)[0]
    assert (newest["entry"], newest["state"]) == ("mend", "done")
    assert newest["rows"] > 200


def test_a_repair_that_waits_for_its_first_answer_ends_at_once(scheduled, live):
    cli = scheduled(BTC_1M)
    cli("schedule", "run", "--once")
    with _rows(cli) as connection:
        connection.run("DELETE FROM rows WHERE ts % 3600000 < 300000")
    scheduled(MEND)
    # The exchange's clock is asked first. Nothing but the signal ends the wait within the test's time.
    cli.environment["ZVT_CRYPTO_TIMEOUT_SECONDS"] = "300"
    live.faults = ["slow:200,path=public/time"]
    live.forget_requests()
    with service(cli, "--once") as process:
        wait_until(lambda: any("public/time" in request.path for request in live.requests))
        ended(process, signal.SIGTERM, 130)
    newest = history(cli)[0]
    assert (newest["entry"], newest["state"], newest["exit_code"]) == ("mend", "cancelled", None)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({**BTC_1M, "provider": "okxx"}, ("'btc'", "provider 'okxx'", "did you mean okx")),
        ({**BTC_1M, "codes": ["btc//usdt"]}, ("'btc'", "btc//usdt")),
        ({**BTC_1M, "every": "sometimes"}, ("'btc'", "'sometimes'", '"close"')),
        ({"name": "mend", "provider": "okxx", "repair": True}, ("'mend'", "did you mean okx")),
    ],
)
@pytest.mark.parametrize("verb", ["run", "list"])
def test_a_wrong_entry_is_one_line_and_nothing_runs(scheduled, live, entry, words, verb):
    done = scheduled(entry)("schedule", verb, code=2)
    assert done.stderr.count("\n") == 1
    assert [word for word in (*words, "[CRYPTO_CONFIG_INVALID]") if word not in done.stderr] == []
    assert live.requests == []


def test_nothing_scheduled_and_an_entry_that_there_is_not(scheduled, cli):
    assert "[[schedule]]" in cli("schedule", "run", code=2).stderr
    done = scheduled(BTC_1M)("schedule", "history", "--entry", "btcc", code=2)
    assert "did you mean btc" in done.stderr
    assert "see `zvt-crypto schedule --help`" in cli("schedule", "histroy", code=2).stderr


def test_the_entries_and_commands_of_the_document_work(scheduled, tmp_path):
    cli = scheduled()
    (text,) = blocks("docs/schedule.md", "toml")
    Path(cli.environment["ZVT_CRYPTO_CONFIG"]).write_text(text)
    # The document's repair has nothing to look after before the first candles are there.
    cli("record", "--provider", "okx", "--codes", "btcusdt", "--levels", "1h", "--days", "1")
    for words in commands("docs/schedule.md"):
        assert words[0] == "zvt-crypto"
        cli(*words[1:])
    assert {run["entry"]: run["state"] for run in history(cli)} == dict.fromkeys(
        ("instruments", "candles", "funding", "books", "nightly repair"), "done"
    )
