"""One run at a time per table, in the order of arrival; the others at once."""

import random
import threading
import time

import pytest

from zvt_crypto.scheduling.queueing import Cancelled, TableQueue

A, B, C = (("okx", name) for name in "abc")


def in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def entering(queue, tables, label, order, leave):
    """A thread that waits for its turn, notes it and stays until ``leave``."""

    def run():
        with queue.turn(frozenset(tables)):
            order.append(label)
            leave.wait(20)

    return in_thread(run)


def wait_until(condition):
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_never_two_runs_of_one_table_and_never_stuck():
    queue, inside, clashes = TableQueue(), set(), []
    guard = threading.Lock()
    moments = random.Random(5)
    wants = [frozenset(moments.sample((A, B, C), moments.randint(1, 3))) for _ in range(60)]

    def run(tables):
        with queue.turn(tables):
            with guard:
                clashes.extend(inside & tables)
                inside.update(tables)
            time.sleep(0.002)
            with guard:
                inside.difference_update(tables)

    threads = [in_thread(lambda tables=tables: run(tables)) for tables in wants]
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert clashes == []


def test_in_order_of_arrival_and_others_pass():
    queue, order = TableQueue(), []
    leave = {label: threading.Event() for label in ("first", "second", "third", "other")}
    entering(queue, [A], "first", order, leave["first"])
    wait_until(lambda: order == ["first"])
    entering(queue, [A, B], "second", order, leave["second"])
    wait_until(lambda: len(queue._line) == 2)
    # B is free, but who came before wants it.
    entering(queue, [B], "third", order, leave["third"])
    wait_until(lambda: len(queue._line) == 3)
    entering(queue, [C], "other", order, leave["other"])
    wait_until(lambda: order == ["first", "other"])
    leave["first"].set()
    wait_until(lambda: order == ["first", "other", "second"])
    leave["second"].set()
    wait_until(lambda: order == ["first", "other", "second", "third"])


def test_a_run_that_fails_gives_its_tables_back():
    queue = TableQueue()
    with pytest.raises(ZeroDivisionError), queue.turn(frozenset([A])):
        raise ZeroDivisionError
    with queue.turn(frozenset([A])):
        pass


def test_closing_sends_home_who_waits():
    queue, order, sent_home = TableQueue(), [], []
    leave = threading.Event()
    holder = entering(queue, [A], "holder", order, leave)
    wait_until(lambda: order == ["holder"])

    def run():
        try:
            with queue.turn(frozenset([A])):
                order.append("late")
        except Cancelled:
            sent_home.append(True)

    waiting = in_thread(run)
    wait_until(lambda: len(queue._line) == 2)
    queue.close()
    waiting.join(20)
    assert sent_home == [True]
    leave.set()
    holder.join(20)
    assert order == ["holder"]
    with pytest.raises(Cancelled), queue.turn(frozenset([B])):
        pass
