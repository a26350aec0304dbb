"""What is measured of exchanges: the file, real processes, and the real client against the sandbox."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.errors import ConfigError, PairNotFound, ProviderUnavailable, RateLimitExceeded
from zvt_crypto.exchanges import health
from zvt_crypto.exchanges.base import Instrument, venues
from zvt_crypto.exchanges.client import unopened
from zvt_crypto.exchanges.health import MINUTES, Counts, HealthLog, health_path, read_health

ENDPOINTS = {i: endpoint for venue in venues().values() for i, endpoint in venue.endpoints.items()}
BTC = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
START = 1_704_067_200_000
MINUTE = 60_000


@pytest.fixture
def minutes(monkeypatch):
    """The minute that it is; ``minutes(7)`` sets it."""
    now = [29_000_000]
    monkeypatch.setattr(health, "_minute", lambda: now[0])

    def at(number):
        now[0] = 29_000_000 + number

    return at


def ask(log, *, failures=0, answers=0, cost_ms=0.0):
    for _ in range(failures):
        with pytest.raises(ProviderUnavailable), log.request(cost_ms):
            raise ProviderUnavailable("down")
    for _ in range(answers):
        with log.request(cost_ms):
            pass


def page(venue):
    return venue.fetch_candle_page(BTC, "1m", START, START + 5 * MINUTE)


def read(folder, *names):
    return read_health([health_path(folder / "state", name) for name in names or ("binance",)])


def test_requests_add_up_by_minute_and_in_all(tmp_path, minutes):
    log = HealthLog("x", tmp_path / "new" / "x.health")
    ask(log, answers=3, failures=1, cost_ms=150.0)
    minutes(1)
    ask(log, answers=2)
    found = read_health([log.path])
    assert found.records["minute"].tolist() == [29_000_000, 29_000_001]
    assert found.records["requests"].tolist() == [4, 2]
    assert found.hour[:2] == found.totals[:2] == (6, 1)
    assert found.last(1).requests == 2
    assert found.used_ratio == pytest.approx(4 * 150 / 60_000)


def test_a_day_later_the_places_are_taken_again_and_totals_go_on(tmp_path, minutes):
    log = HealthLog("x", tmp_path / "x.health")
    ask(log, answers=3)
    size = []
    for number in (MINUTES, 2 * MINUTES):
        minutes(number)
        ask(log, answers=1)
        found = read_health([log.path])
        assert found.records["requests"].tolist() == [1]
        size.append(log.path.stat().st_size)
    assert found.totals.requests == 5
    assert size[0] == size[1]


def test_what_is_older_than_a_day_or_ahead_of_the_clock_counts_in_totals_only(tmp_path, minutes):
    log = HealthLog("x", tmp_path / "x.health")
    ask(log, answers=2)
    minutes(MINUTES)
    assert len(read_health([log.path]).records) == 0
    minutes(-1)
    assert len(read_health([log.path]).records) == 0
    minutes(MINUTES - 1)
    assert read_health([log.path]).last(MINUTES).requests == 2


@pytest.mark.parametrize(
    ("asked", "state"),
    [
        ([], "unknown"),
        ([(0, 5, 0)], "operational"),
        ([(0, 0, 1)], "down"),
        ([(0, 9, 0), (10, 0, 3)], "down"),
        ([(0, 0, 9), (10, 3, 0)], "operational"),
        ([(0, 9, 1)], "degraded"),
        ([(0, 20, 1)], "operational"),
        ([(-60, 9, 0)], "unknown"),
    ],
)
def test_the_newest_minutes_tell_the_state(tmp_path, minutes, asked, state):
    log = HealthLog("x", tmp_path / "x.health")
    for minute, answers, failures in asked:
        minutes(minute)
        ask(log, answers=answers, failures=failures)
    minutes(max([0, *(minute for minute, *_ in asked)]))
    assert read_health([log.path]).state == state


def test_uptime_is_the_share_of_minutes_with_an_answer(tmp_path, minutes):
    first, second = (HealthLog(name, tmp_path / f"{name}.health") for name in "ab")
    for number, (answers, failures) in enumerate([(1, 0), (0, 2), (1, 3), (0, 1)]):
        minutes(number)
        ask(first, answers=answers, failures=failures)
    assert read_health([first.path]).uptime_pct == 50.0
    minutes(1)
    ask(second, answers=1)
    minutes(3)
    assert read_health([first.path, second.path]).uptime_pct == 75.0
    assert read_health([]).uptime_pct is None


@given(st.integers(0, 1_000), st.integers(1, 255))
def test_damage_costs_what_is_damaged_and_no_more(tmp_path_factory, number, flipped):
    """Whatever byte is wrong: no number is invented, and the next request is entered."""
    path = tmp_path_factory.mktemp("health") / "x.health"
    log = HealthLog("x", path)
    ask(log, answers=3, failures=2)
    content = bytearray(path.read_bytes())
    used = [place for place in range(len(content)) if content[place]]
    content[used[number % len(used)]] ^= flipped
    path.write_bytes(content)
    assert read_health([path]).hour.requests in (0, 5)
    ask(log, answers=1)
    found = read_health([path])
    assert found.hour.requests in (1, 6)
    assert found.totals.requests in (1, 6)


@given(st.binary(max_size=200))
def test_a_file_of_another_kind_is_replaced(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("health") / "x.health"
    path.write_bytes(content)
    assert read_health([path]).totals == Counts()
    ask(HealthLog("x", path), answers=1)
    assert read_health([path]).totals.requests == 1


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    log = HealthLog("x", tmp_path / "file" / "x.health")
    ask(log, answers=3, failures=1)
    log.close()
    assert len(caplog.records) == 1
    assert "requests are not measured" in caplog.text


def test_requests_wait_while_another_process_holds_the_file(tmp_path):
    log = HealthLog("x", tmp_path / "x.health")
    ask(log, answers=1)
    with log.path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ask(log, answers=2)
        assert read_health([log.path]).totals.requests == 1
    log.close()
    assert read_health([log.path]).totals.requests == 3


PROCESS = """
import sys
from pathlib import Path
from zvt_crypto.exchanges.health import HealthLog

log = HealthLog("x", Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    with log.request(1.0):
        pass
log.close()
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def process(tmp_path):
    """Starts a process that makes so many requests when told to."""
    started = []

    def start(requests):
        arguments = [sys.executable, "-c", PROCESS, str(tmp_path / "x.health"), str(requests)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        new = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        started.append(new)
        assert new.stdout.readline() == "ready\n"
        return new

    yield start
    for one in started:
        one.kill()
        one.communicate()


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_no_request_of_several_processes_is_lost(tmp_path, process):
    several = [process(500) for _ in range(3)]
    for one in several:
        go(one)
    assert [one.stdout.readline() for one in several] == ["done\n"] * 3
    assert read_health([tmp_path / "x.health"]).totals.requests == 1500


def test_a_killed_process_leaves_its_requests(tmp_path, process):
    victim = process(10_000_000)
    go(victim)
    path = tmp_path / "x.health"
    give_up = time.monotonic() + 30
    while read_health([path]).totals.requests < 100:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait(20) == -signal.SIGKILL
    before = read_health([path])
    ask(HealthLog("x", path), answers=1)
    after = read_health([path])
    assert after.totals.requests == before.totals.requests + 1
    assert abs(after.last(MINUTES).requests - after.totals.requests) <= 1, "killed between two writes"


def test_the_client_measures_each_request(opened, box, tmp_path):
    box.faults = ["status:500,times=2"]

    async def asked():
        async with opened() as venue:
            await page(venue)

    asyncio.run(asked())
    found = read(tmp_path)
    assert (found.hour.requests, found.hour.failures) == (len(box.requests), 2)
    assert found.hour.mean_latency_ms > 0
    assert read(tmp_path, "binanceusdm").totals.requests == 0


def test_an_exchange_that_does_not_answer_is_down(opened, box, tmp_path):
    box.faults = ["timeout"]

    async def asked():
        async with opened(timeout_seconds=0.1) as venue:
            await page(venue)

    with pytest.raises(ProviderUnavailable):
        asyncio.run(asked())
    found = read(tmp_path)
    assert found.state == "down"
    assert found.hour.error_rate == 1
    assert found.hour.mean_latency_ms is None
    assert found.uptime_pct == 0


def test_a_ban_counts_once_and_what_it_holds_back_does_not(opened, box, tmp_path):
    box.faults = ["status:418,times=1,retry_after=300"]

    async def asked():
        async with opened() as venue:
            await page(venue)

    for _ in range(2):
        with pytest.raises(RateLimitExceeded):
            asyncio.run(asked())
    assert read(tmp_path).totals[:2] == (1, 1)


def test_an_answer_that_names_our_mistake_is_an_answer(opened, tmp_path):
    wrong = Instrument("cryptopair", "nosuch", "NO/SUCH", "NOSUCH")

    async def asked():
        async with opened() as venue:
            await venue.fetch_candle_page(wrong, "1m", START, START + MINUTE)

    with pytest.raises(PairNotFound):
        asyncio.run(asked())
    assert read(tmp_path).totals[:2] == (1, 0)


def test_the_share_of_the_budget_is_what_ccxt_says_of_the_requests(opened, tmp_path):
    async def asked():
        async with opened(rate_limit=True) as venue:
            await page(venue)

    asyncio.run(asked())
    assert read(tmp_path).totals.cost_ms == pytest.approx(20), "two of 6,000 weights a minute"


def test_what_is_set_for_an_exchange_goes_before_the_rest(opened):
    async def slots(**changed):
        async with opened(concurrency=8, **changed) as venue:
            return venue.client.settings.concurrency, venue.client.settings.timeout_seconds

    assert asyncio.run(slots()) == (8, 2)
    assert asyncio.run(slots(exchange={"okx": {"concurrency": 2}})) == (8, 2)
    assert asyncio.run(slots(exchange={"binance": {"concurrency": 2, "timeout_seconds": 7.5}})) == (2, 7.5)


def test_requests_under_way_keep_to_what_is_set_for_the_exchange(scripted, script):
    answers = script((200, "[]"))
    answers.seconds = 0.05

    async def asked():
        async with scripted(answers, exchange={"binance": {"concurrency": 2}}) as venue:
            calls = [venue.client.call("cryptopair", "publicGetTime", {}) for _ in range(6)]
            await asyncio.gather(*calls)

    asyncio.run(asked())
    assert answers.most_under_way == 2


def test_an_exchange_that_is_switched_off_is_not_asked(opened, box):
    async def asked():
        async with opened(exchange={"binance": {"enabled": False}}) as venue:
            await page(venue)

    with pytest.raises(ConfigError, match="binance is switched off") as caught:
        asyncio.run(asked())
    assert "[exchange.binance]" in caught.value.one_line()
    assert box.requests == []


@pytest.mark.parametrize("ccxt_id", sorted({i for v in venues().values() for i in v.ccxt_ids.values()}))
def test_endpoints_are_those_of_ccxt(ccxt_id):
    described = unopened(ccxt_id)
    known = str(described.urls["api"]).replace("{hostname}", described.hostname or "")
    assert ENDPOINTS[ccxt_id].url in known
    assert ENDPOINTS[ccxt_id].pace_ms == pytest.approx(described.rateLimit)
