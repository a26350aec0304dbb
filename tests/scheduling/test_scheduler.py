"""The scheduler with work of its own kinds: late runs, failures, the end."""

import datetime as dt
import threading
import time

import pytest
from apscheduler.events import EVENT_JOB_MAX_INSTANCES

from zvt_crypto.core.errors import ProviderUnavailable, StoreBusy
from zvt_crypto.core.schedules import ScheduleEntry
from zvt_crypto.recorders.report import Outcome
from zvt_crypto.scheduling.queueing import Cancelled
from zvt_crypto.scheduling.scheduler import Planned, Scheduler


class Waits:
    """Work that waits for its test before it ends."""

    def __init__(self, *tables, error=None, rows=0):
        self.tables = frozenset(("okx", table) for table in tables or ("a",))
        self.begun = 0
        self.go_on = threading.Semaphore(0)
        self.error, self.rows = error, rows
        self._is_cancelled = False

    def run(self, report):
        self.begun += 1
        report.outcomes.append(Outcome("cryptopair_1m_kdata", "cryptopair_okx_btcusdt", rows=self.rows))
        assert self.go_on.acquire(timeout=30)
        if self._is_cancelled:
            raise Cancelled
        if self.error is not None:
            raise self.error

    def cancel(self):
        self._is_cancelled = True
        self.go_on.release()


def planned(name, work, **values):
    values = {"every": "1s", "delay_seconds": 0, **values}
    return Planned(ScheduleEntry(name=name, provider="okx", all_markets=True, **values), work)


def now():
    return dt.datetime.now(dt.timezone.utc)


def wait_until(condition):
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_what_falls_due_during_a_run_is_made_up_for_once(settings):
    ended, missed = [], []
    work = Waits()
    # Due daily, so that after the start only what the test says falls due.
    with Scheduler(settings, [planned("a", work, every="daily 00:00")], ended.append) as scheduler:
        scheduler._scheduler.add_listener(missed.append, EVENT_JOB_MAX_INSTANCES)
        scheduler.start()
        wait_until(lambda: work.begun == 1)
        for count in range(1, 4):
            scheduler._scheduler.modify_job("a", next_run_time=now())
            wait_until(lambda count=count: len(missed) == count)
        work.go_on.release()
        wait_until(lambda: work.begun == 2)
        work.go_on.release()
        wait_until(lambda: len(ended) == 2)
        time.sleep(0.2)
        assert work.begun == 2
    assert [record.state for record in ended] == ["done", "done"]


def test_a_run_that_dies_of_something_nobody_foresaw_is_kept_and_the_others_go_on(settings):
    ended = []
    broken, good = Waits("a", error=ZeroDivisionError("oh")), Waits("b", rows=5)
    for work in (broken, good):
        for _ in range(2):
            work.go_on.release()
    with Scheduler(settings, [planned("broken", broken), planned("good", good)], ended.append) as scheduler:
        scheduler.start()
        wait_until(lambda: broken.begun >= 2 and len([r for r in ended if r.entry == "good"]) >= 2)
    of = {name: [record for record in ended if record.entry == name] for name in ("broken", "good")}
    assert (of["broken"][0].state, of["broken"][0].exit_code) == ("failed", 1)
    assert of["broken"][0].errors[0].line == "unexpected ZeroDivisionError: oh"
    assert (of["good"][0].state, of["good"][0].rows) == ("done", 5)


def test_an_error_after_some_rows_is_partial_and_its_code_is_kept(settings):
    ended = []
    work = Waits(error=ProviderUnavailable("gone"), rows=7)
    work.go_on.release()
    with Scheduler(settings, [planned("a", work)], ended.append) as scheduler:
        scheduler.start(once=True)
        wait_until(lambda: ended)
    (record,) = ended
    assert (record.state, record.exit_code, record.rows) == ("partial", 3, 7)
    assert record.errors[0].code == "CRYPTO_PROVIDER_UNAVAILABLE"


def test_the_end_cancels_what_is_under_way_and_sends_home_what_waits(settings):
    ended = []
    first, second = Waits(rows=3), Waits()
    with Scheduler(settings, [planned("first", first), planned("second", second)], ended.append) as scheduler:
        scheduler.start(once=True)
        wait_until(lambda: first.begun + second.begun == 1)
    (record,) = ended
    assert (record.state, record.exit_code) == ("cancelled", None)
    assert first.begun + second.begun == 1


def test_a_cancelled_run_is_made_up_for_and_an_ended_one_is_not(settings):
    ended = []
    work = Waits()

    def begin(*, until):
        with Scheduler(settings, [planned("a", work, every="daily 00:00")], ended.append) as scheduler:
            scheduler.start()
            until()

    begin(until=lambda: wait_until(lambda: work.begun == 1))
    assert [record.state for record in ended] == ["cancelled"]
    work = Waits()
    work.go_on.release()
    begin(until=lambda: wait_until(lambda: len(ended) == 2))
    assert ended[-1].state == "done"
    work = Waits()
    begin(until=lambda: time.sleep(0.5))
    assert work.begun == 0


def test_a_repair_that_never_ran_waits_for_its_time(settings):
    work = Waits()
    entry = planned("r", work, repair=True, every="daily 03:30")
    with Scheduler(settings, [entry], lambda record: None) as scheduler:
        scheduler.start()
        time.sleep(0.3)
    assert work.begun == 0


def test_one_scheduler_per_data_folder(settings, tmp_path):
    other = settings.model_copy(update={"data_path": tmp_path / "other"})
    with Scheduler(settings, [], lambda record: None):
        with pytest.raises(StoreBusy), Scheduler(settings, [], lambda record: None):
            pass
        with Scheduler(other, [], lambda record: None):
            pass
    with Scheduler(settings, [], lambda record: None):
        pass
