"""Budget and bans that processes share: the arithmetic, the files, and real processes on one sandbox."""

import asyncio
import contextlib
import fcntl
import json
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.exchanges import throttle
from zvt_crypto.exchanges.base import venue_class
from zvt_crypto.exchanges.budget import Pause
from zvt_crypto.exchanges.client import Client
from zvt_crypto.exchanges.headers import UsedWeight
from zvt_crypto.exchanges.throttle import RECENT_MS, Bucket, Budget, Priority, Request, admit, decode, encode

NOW = 1_750_000_000_000.0
KLINES_MS = 20  # Binance spot: 6,000 weight a minute, 2 a request

costs = st.floats(0.5, 3000).map(lambda cost: round(cost, 1))
delays = st.floats(0, 500).map(lambda delay: round(delay, 1))


def simulated(processes, credit=50.0, late=lambda: 0.0, until=float("inf")):
    """What goes out, as (ms, cost, process), if each process has (priority, [(rest before it, cost), ...])."""
    bucket, sent, dues = Bucket(due=NOW), [], []
    left = {number: list(requests) for number, (_, requests) in enumerate(processes)}
    agenda = {number: (NOW + requests[0][0],) * 2 for number, requests in left.items() if requests}
    while agenda:
        number = min(agenda, key=lambda number: agenda[number])
        now, asked = agenda.pop(number)
        if now > NOW + until:
            break
        _, cost = left[number][0]
        bucket, wait = admit(bucket, Request(cost, asked, credit, processes[number][0]), now)
        dues.append(bucket.due)
        if wait:
            # Floats of today's epoch ms are 0.0002 apart.
            agenda[number] = (now + max(wait, 0.001) + late(), asked)
            continue
        sent.append((now, cost, number))
        left[number].pop(0)
        if left[number]:
            agenda[number] = (now + left[number][0][0],) * 2
    assert dues == sorted(dues)
    return sent


requests_of_a_process = st.tuples(
    st.sampled_from(Priority), st.lists(st.tuples(delays, costs), min_size=1, max_size=12)
)


@given(
    st.lists(requests_of_a_process, min_size=1, max_size=4),
    st.floats(0, 200),
    st.data(),
)
def test_no_window_holds_more_than_the_budget(processes, credit, data):
    sent = simulated(processes, credit, lambda: data.draw(delays))
    assert len(sent) == sum(len(requests) for _, requests in processes)
    for first in range(len(sent)):
        spent = 0.0
        for now, cost, _ in sent[first:]:
            assert spent <= now - sent[first][0] + credit + 0.01
            spent += cost


@given(st.lists(costs, min_size=2, max_size=40), st.data())
def test_a_lone_process_gets_the_whole_budget_in_spite_of_late_wake_ups(needs, data):
    """As from ccxt's own leaky bucket: the n-th goes out once what went before is paid for."""
    last_delay = 0.0

    def late():
        nonlocal last_delay
        last_delay = data.draw(st.floats(0, 20))
        return last_delay

    # All are asked for at the start, as by coroutines that wait their turn.
    bucket, now = Bucket(due=NOW), NOW
    for number, cost in enumerate(needs):
        while True:
            bucket, wait = admit(bucket, Request(cost, NOW, 50.0), now)
            if not wait:
                break
            now += max(wait, 0.001) + late()
        assert now - NOW <= sum(needs[:number]) + last_delay + 0.01 * len(needs)


def test_a_rest_is_not_followed_by_a_burst():
    sent = simulated([(Priority.BACKFILL, [(0, 20), (10_000, 20), (0, 20), (0, 20)])])
    assert [round(now - NOW) for now, _, _ in sent] == [0, 10_000, 10_020, 10_040]


def test_two_processes_share_evenly():
    sent = simulated([(Priority.BACKFILL, [(0, 20)] * 200)] * 2, until=2000)
    counts = [sum(number == process for _, _, number in sent) for process in (0, 1)]
    assert sum(counts) == pytest.approx(100, abs=2)
    assert min(counts) >= 40


@pytest.mark.parametrize("busy", [Priority.ORDERS, Priority.LIVE])
def test_a_lower_priority_keeps_to_half_while_a_higher_one_is_about(busy):
    quiet = simulated([(Priority.BACKFILL, [(0, 20)] * 400)], until=4000)
    seldom = [(busy, [(0, 20), (2000, 20), (1900, 20)])]
    shared = simulated([*seldom, (Priority.BACKFILL, [(0, 20)] * 400)], until=4000)
    lower = [now for now, _, number in shared if number == 1]
    assert len(quiet) == pytest.approx(200, abs=2)
    assert len(lower) == pytest.approx(100, abs=5)


def test_the_highest_priority_that_waits_is_next():
    crowd = [(Priority.BACKFILL, [(0, 100)] * 50)] * 3
    sent = simulated([*crowd, (Priority.LIVE, [(1030, 100)] * 3), (Priority.ORDERS, [(1045, 100)] * 3)])
    # What is on its way already, and before live data one of the orders and the room that is left for them.
    for process, rest, longest in ((3, 1030, 300), (4, 1045, 100)):
        went = [now for now, _, number in sent if number == process]
        asked = [NOW + rest, *(now + rest for now in went[:-1])]
        assert len(went) == 3
        assert max(now - start for now, start in zip(went, asked, strict=True)) <= longest + 0.01


def test_a_higher_priority_that_is_gone_is_forgotten():
    bucket = Bucket(due=NOW, cost=1000, live_asked=NOW - RECENT_MS)
    assert admit(bucket, Request(20, NOW, 50), NOW)[1] == 0
    bucket = Bucket(due=NOW, cost=1000, live_asked=NOW - RECENT_MS + 1)
    assert admit(bucket, Request(20, NOW, 50), NOW)[1] == 1000
    assert admit(bucket, Request(20, NOW, 50, Priority.LIVE), NOW)[1] == 0


@given(costs, costs, st.floats(-1e12, 1e12), st.sampled_from(Priority))
def test_a_clock_that_jumps_does_not_hold_requests_up(last, cost, jump, priority):
    bucket, _ = admit(Bucket(due=NOW), Request(last, NOW, 50), NOW)
    bucket, wait = admit(bucket, Request(cost, NOW, 50, priority), NOW + jump)
    assert wait <= last + 0.001
    if wait:
        bucket, wait = admit(bucket, Request(cost, NOW, 50, priority), NOW + jump + wait + 0.001)
        assert wait == 0
    assert bucket.due <= NOW + jump + last + cost + 0.01


@given(st.tuples(*[st.floats(0, 1e13)] * 4))
def test_the_record_survives_and_damage_is_seen(values):
    content = encode(Bucket(*values))
    assert decode(content) == Bucket(*values)
    for damaged in (content[:-1], content[::-1], bytes([content[0]]) + b"\x01" + content[2:], b"\0" * 40):
        with pytest.raises(ValueError, match="no record of a request budget"):
            decode(damaged)


def taken(budget, cost, times):
    async def take():
        for _ in range(times):
            await asyncio.wait_for(budget.take(cost), 20)

    began = time.monotonic()
    asyncio.run(take())
    return time.monotonic() - began


@pytest.mark.parametrize("content", [b"{", b"\xff" * 40, encode(Bucket(NOW * 2))[:-2]])
def test_a_damaged_file_is_made_anew_with_a_warning(tmp_path, caplog, content):
    path = tmp_path / "binance.budget"
    path.write_bytes(content)
    assert taken(Budget("binance", path, 50), 50, 3) >= 0.1
    assert [record.message for record in caplog.records] == [
        f"{path} is not readable and is made anew: {len(content)} bytes that are no record of a request budget"
    ]
    assert abs(decode(path.read_bytes()).due / 1000 - time.time()) < 60


def test_a_folder_that_cannot_be_written_leaves_each_process_to_itself(tmp_path, caplog):
    (tmp_path / "state").write_text("not a folder")
    assert taken(Budget("binance", tmp_path / "state" / "binance.budget", 50), 50, 4) >= 0.15
    assert len(caplog.records) == 1
    assert "not shared" in caplog.text


def test_a_pause_that_cannot_be_written_still_holds(tmp_path, caplog):
    (tmp_path / "state").write_text("not a folder")
    pause = Pause("binance", tmp_path / "state" / "binance.json")
    pause.hold(60)
    assert 59 < pause.remaining() <= 60
    assert sum("not shared" in record.message for record in caplog.records) == 1


def test_a_pause_longer_than_any_ban_is_damage(tmp_path, caplog):
    path = tmp_path / "binance.json"
    path.write_text('{"until_ms":9e15}')
    pause = Pause("binance", path)
    assert [pause.remaining(), pause.remaining()] == [0, 0]
    assert len(caplog.records) == 1


HOLD_LOCK = """
import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def lock_holder(path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def test_a_holder_of_the_lock_that_is_killed_lets_go(tmp_path, caplog):
    path = tmp_path / "binance.budget"
    budget = Budget("binance", path, 50)

    async def take(holder):
        waiting = asyncio.create_task(budget.take(20))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        holder.send_signal(signal.SIGKILL)
        await asyncio.wait_for(waiting, 20)

    with lock_holder(path) as holder:
        asyncio.run(take(holder))
    assert caplog.records == []


def test_a_holder_of_the_lock_that_is_stopped_does_not_stop_the_others(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(throttle, "_LOCK_ATTEMPTS", 30)
    path = tmp_path / "binance.budget"
    with lock_holder(path):
        assert taken(Budget("binance", path, 50), 20, 3) >= 0.04
    assert "another process keeps it locked" in caplog.text


CLIENT = """
import asyncio, json, sys
from pathlib import Path
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.exchanges.base import venue_class
from zvt_crypto.exchanges.client import Client

async def ask(url, data, requests, patience):
    settings = Settings(data_path=Path(data), gateway=url, max_attempts=1, timeout_seconds=20, concurrency=4)
    async with Client(venue_class("binance"), settings, patience=float(patience)) as client:
        await client.call("cryptopair", "publicGetTime", {})
        print("ready", flush=True)
        sys.stdin.readline()
        params = {"symbol": "BTCUSDT", "interval": "1m", "limit": 1}
        calls = [client.call("cryptopair", "publicGetKlines", params) for _ in range(int(requests))]
        try:
            return {"answers": len(await asyncio.gather(*calls))}
        except ZvtCryptoError as error:
            return {"error": type(error).__name__, "message": error.message, **error.details}

print(json.dumps(asyncio.run(ask(*sys.argv[1:]))))
"""


class Process:
    """A recorder's client in a process of its own, which waits for ``go``."""

    def __init__(self, url, folder, requests, patience):
        self.popen = subprocess.Popen(
            [sys.executable, "-c", CLIENT, url, str(folder / "data"), str(requests), str(patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self):
        assert self.popen.stdout.readline() == "ready\n"

    def go(self):
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def outcome(self):
        return json.loads(self.popen.communicate(timeout=60)[0])


@pytest.fixture
def processes(box, tmp_path):
    """Starts processes with one data folder on the sandbox, ready to ask."""
    started = []

    def start(count, requests, patience=120.0):
        new = [Process(box.url, tmp_path, requests, patience) for _ in range(count)]
        started.extend(new)
        for process in new:
            process.ready()
        return new

    yield start
    for process in started:
        process.popen.kill()
        process.popen.communicate()


def arrivals(box):
    return sorted(request.time for request in box.requests if request.path.endswith("klines"))


def assert_one_budget(times):
    """Three budgets would let three times as many through; a busy machine shifts what arrives."""
    allowed = (times[-1] - times[0]) * 1000 / KLINES_MS
    assert len(times) <= 1.5 * allowed + 5


def test_three_processes_share_one_budget(box, processes):
    three = processes(3, requests=40)
    for process in three:
        process.go()
    assert [process.outcome() for process in three] == [{"answers": 40}] * 3
    times = arrivals(box)
    assert len(times) == 120
    assert_one_budget(times)


def test_a_killed_process_takes_nothing_with_it(box, processes, tmp_path):
    killed, *others = processes(3, requests=50)
    for process in (killed, *others):
        process.go()
    while len(arrivals(box)) < 30:
        time.sleep(0.01)
    killed.popen.send_signal(signal.SIGKILL)
    assert killed.popen.wait(20) == -signal.SIGKILL
    with (tmp_path / "state" / "binance.budget").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        due = decode(file.read()).due
    assert due - time.time() * 1000 <= KLINES_MS, "requests that wait are not entered yet"
    assert [process.outcome() for process in others] == [{"answers": 50}] * 2
    assert_one_budget(arrivals(box))


def test_a_long_ban_makes_another_process_fail_at_once(box, processes):
    first, second = processes(2, requests=1)
    box.faults = ["status:418,times=1,retry_after=300"]
    first.go()
    assert first.outcome()["error"] == "RateLimitExceeded"
    second.go()
    refused = second.outcome()
    assert refused["error"] == "RateLimitExceeded"
    assert "binance lets no request through before 20" in refused["message"]
    assert 200 < refused["retry_after_seconds"] <= 300
    assert len(arrivals(box)) == 1


def test_a_short_ban_is_sat_out_by_another_process(box, processes):
    first, second = processes(2, requests=1)
    box.faults = ["status:429,times=1,retry_after=2"]
    first.go()
    assert first.outcome()["error"] == "RateLimitExceeded"
    second.go()
    assert second.outcome() == {"answers": 1}
    refused, answered = arrivals(box)
    assert answered - refused >= 1.95


def test_the_end_of_a_ban_is_no_burst(box, processes, tmp_path):
    (process,) = processes(1, requests=12)
    Pause("binance", tmp_path / "state" / "binance.json").hold(1)
    process.go()
    assert process.outcome() == {"answers": 12}
    times = arrivals(box)
    assert times[-1] - times[0] >= 0.1


@pytest.mark.parametrize("rate_limit", [True, False])
def test_only_a_client_that_keeps_to_budgets_has_one(opened, box, tmp_path, rate_limit):
    async def ask():
        async with opened(rate_limit=rate_limit) as venue:
            await venue.client.call("cryptopair", "publicGetTime", {})

    asyncio.run(ask())
    assert (tmp_path / "state" / "binance.budget").exists() is rate_limit


def test_a_client_has_the_priority_that_it_is_given(quick, box, tmp_path):
    async def ask():
        settings = quick(box.url, rate_limit=True)
        async with Client(venue_class("binance"), settings, priority=Priority.LIVE) as client:
            await client.call("cryptopair", "publicGetTime", {})

    asyncio.run(ask())
    bucket = decode((tmp_path / "state" / "binance.budget").read_bytes())
    assert bucket.live_asked > bucket.orders_asked == 0


def at_second(second, used):
    """Headers of an answer of that second of a minute."""
    return {"Date": f"Sat, 15 Nov 2025 10:00:{second:02} GMT", "x-mbx-used-weight-1m": str(used)}


@pytest.mark.parametrize(
    ("second", "used", "seconds"),
    [
        (10, 5401, 50),
        (10, 5400, 0),
        (10, 7000, 50),
        (52, 5401, 8),
        (59, 6001, 1),
        # What our own requests use, 100 a second, is no reason to stop them.
        (54, 5500, 0),
        (54, 5501, 6),
        (59, 6000, 0),
    ],
)
def test_the_minute_ends_early_where_others_use_the_address(second, used, seconds):
    assert UsedWeight("X-MBX-USED-WEIGHT-1M", 6000).pause(at_second(second, used)) == seconds


@pytest.mark.parametrize("headers", [{}, {"X-MBX-USED-WEIGHT-1M": ""}, {"X-MBX-USED-WEIGHT-1M": "many"}])
def test_without_a_used_weight_there_is_no_pause(headers):
    assert UsedWeight("X-MBX-USED-WEIGHT-1M", 6000).pause(headers) == 0


def test_an_answer_without_a_date_is_of_this_machines_minute():
    seconds = UsedWeight("X-MBX-USED-WEIGHT-1M", 6000).pause({"X-MBX-USED-WEIGHT-1M": "99999"})
    ahead = (time.time() + seconds) % 60
    assert min(ahead, 60 - ahead) < 5


@pytest.mark.parametrize(
    ("kind", "method", "used", "changed", "is_held"),
    [
        ("cryptopair", "publicGetTime", 5900, {}, True),
        ("cryptopair", "publicGetTime", 2300, {}, False),
        ("cryptoperp", "fapiPublicGetTime", 2300, {}, True),
        ("cryptopair", "publicGetTime", 5900, {"rate_limit": False}, False),
    ],
)
def test_a_client_pauses_until_the_minute_ends(
    scripted, script, tmp_path, caplog, kind, method, used, changed, is_held
):
    answers = script((200, "{}", at_second(2, used)))

    async def ask():
        async with scripted(answers, **{"rate_limit": True, **changed}) as venue:
            first = venue.client.call(kind, method, {})
            # Both are under way when the first answer comes.
            await asyncio.gather(first, venue.client.call(kind, method, {}))
            return Pause(name, tmp_path / "state" / f"{name}.json").remaining()

    name = "binance" if kind == "cryptopair" else "binanceusdm"
    answers.seconds = 0.2
    remaining = asyncio.run(ask())
    assert (30 < remaining <= 58) if is_held else remaining == 0
    assert sum("used up the minute's request weight" in r.message for r in caplog.records) == is_held
