"""What waits for a slow client: bounded, in order, and nothing is left out without a word."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.stream.broadcast.backlog import Backlog, Overflow
from zvt_crypto.stream.broadcast.channels import Channel
from zvt_crypto.stream.broadcast.outflow import Flow, Outflow
from zvt_crypto.stream.broadcast.wiremessages import Message

TRADES = Channel("crypto.trades", "binance", "btcusdt")
BOOK = Channel("crypto.orderbook", "binance", "btcusdt", depth=5)


class Lane:
    def __init__(self, channel: Channel, name: bytes | None = None) -> None:
        self.channel = channel
        self.name = name


def trade(number: int, channel: Channel = TRADES) -> Message:
    return Message(channel, "update", number, b'{"n":%d}' % number)


def state(number: int, merge: Any = "book", channel: Channel = BOOK) -> Message:
    return Message(channel, "update", number, b'{"n":%d}' % number, merge)


def drained(backlog: Backlog) -> list[dict[str, Any]]:
    found = []
    while (taken := backlog.take()) is not None:
        found.append(json.loads(taken[1].payload))
    assert not backlog
    assert len(backlog) == 0
    return found


def put_all(backlog: Backlog, lane: Lane, messages: list[Message]) -> None:
    for message in messages:
        backlog.put(lane, message)


def test_the_oldest_make_room_and_are_told_where_they_stood() -> None:
    dropped: Counter[str] = Counter()
    backlog, lane = Backlog(3, "oldest", dropped), Lane(TRADES)
    put_all(backlog, lane, [trade(n) for n in range(1, 8)])
    assert len(backlog) == 3
    gap, *rest = drained(backlog)
    assert gap == {
        "stream": "crypto.trades",
        "provider": "binance",
        "symbol": "btcusdt",
        "sequence": 4,
        "event": "gap",
        "first_sequence": 1,
        "last_sequence": 4,
        "dropped": 4,
        "reason": "the buffer was full, drop_policy oldest",
    }
    assert [one["sequence"] for one in rest] == [5, 6, 7]
    assert dropped == {"oldest": 4}


def test_the_newest_are_not_taken_and_are_told_behind_what_waits() -> None:
    dropped: Counter[str] = Counter()
    backlog, lane = Backlog(2, "newest", dropped), Lane(TRADES)
    put_all(backlog, lane, [trade(n) for n in range(1, 6)])
    first = backlog.take()
    assert first is not None and first[1].sequence == 1
    put_all(backlog, lane, [trade(6), trade(7)])
    found = drained(backlog)
    assert [(one["sequence"], one.get("dropped")) for one in found] == [(2, None), (5, 3), (6, None), (7, 1)]
    assert found[1]["first_sequence"] == 3
    assert dropped == {"newest": 4}


def test_a_full_backlog_of_a_client_that_wants_all_is_the_end() -> None:
    backlog, lane = Backlog(2, "disconnect", Counter()), Lane(TRADES)
    put_all(backlog, lane, [trade(1), trade(2)])
    with pytest.raises(Overflow):
        backlog.put(lane, trade(3))


def test_states_give_way_to_newer_ones_of_the_same_kind_only() -> None:
    dropped: Counter[str] = Counter()
    backlog, book, tape = Backlog(10, "disconnect", dropped), Lane(BOOK), Lane(TRADES)
    put_all(backlog, book, [state(1), state(2)])
    backlog.put(tape, trade(1))
    put_all(
        backlog, book, [state(3), state(4, merge=60_000), state(5, merge=60_000), state(6, merge=120_000)]
    )
    found = drained(backlog)
    assert [(one["stream"], one["sequence"]) for one in found] == [
        ("crypto.orderbook", 3),
        ("crypto.trades", 1),
        ("crypto.orderbook", 5),
        ("crypto.orderbook", 6),
    ]
    assert dropped == {"conflated": 3}


def test_a_snapshot_that_gives_way_leaves_a_snapshot() -> None:
    backlog, lane = Backlog(10, "disconnect", Counter()), Lane(BOOK)
    backlog.put(lane, state(1).as_snapshot())
    backlog.put(lane, state(2))
    [found] = drained(backlog)
    assert (found["type"], found["sequence"], found["data"]) == ("snapshot", 2, {"n": 2})


def test_what_a_client_has_unsubscribed_from_does_not_wait_any_more() -> None:
    backlog, book, tape = Backlog(2, "oldest", Counter()), Lane(BOOK), Lane(TRADES)
    put_all(backlog, tape, [trade(1), trade(2), trade(3)])
    backlog.put(book, state(1))
    backlog.forget(tape)
    assert [one["stream"] for one in drained(backlog)] == ["crypto.orderbook"]


LANES = [Lane(TRADES), Lane(BOOK), Lane(TRADES, b'"again"')]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 2), st.sampled_from([None, None, "a", "b"])),
        st.tuples(st.just("take"), st.just(0), st.none()),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 6), st.sampled_from(["oldest", "newest"]))
def test_every_number_is_sent_or_told_in_order(steps: Any, size: int, policy: Any) -> None:
    dropped: Counter[str] = Counter()
    backlog = Backlog(size, policy, dropped)
    counts: Counter[int] = Counter()
    merges: dict[tuple[int, int], Any] = {}
    sent: dict[int, list[tuple[int, int]]] = {0: [], 1: [], 2: []}

    def take() -> bool:
        taken = backlog.take()
        if taken is None:
            return False
        body = json.loads(taken[1].payload)
        first = body.get("first_sequence", body["sequence"])
        sent[LANES.index(taken[0])].append((first, body["sequence"]))  # type: ignore[arg-type]
        return True

    for what, lane, merge in steps:
        if what == "take":
            take()
            continue
        counts[lane] += 1
        merges[lane, counts[lane]] = merge
        backlog.put(LANES[lane], Message(TRADES, "update", counts[lane], b"{}", merge))
        assert len(backlog) <= size
    while take():
        pass
    for lane, told in sent.items():
        at = 0
        for first, last in told:
            assert at < first <= last
            # A number that is not told gave way to the next one that is.
            for missing in range(at + 1, first):
                assert merges[lane, missing] is not None
                assert merges[lane, missing] == merges[lane, missing + 1]
            at = last
        assert at == counts[lane]


class Written:
    """An outflow with a clock of its own, and what it has written."""

    def __init__(self, flow: Flow | None = None) -> None:
        self.now = 1000.0
        self.data = b""
        self.dropped: Counter[str] = Counter()
        self.out = Outflow(self._write, lambda: self.now, self.dropped)
        if flow is not None:
            self.out.configure(flow)

    def _write(self, data: bytes) -> None:
        self.data += data

    def send(self, lane: Lane, *messages: Message) -> float | None:
        self.out.take([(lane, messages, b"".join(one.frame for one in messages))])
        return self.out.flush()

    def read(self) -> list[dict[str, Any]]:
        found = []
        while self.data:
            assert self.data[0] == 0x81
            size, start = self.data[1], 2
            if size == 126:
                size, start = int.from_bytes(self.data[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(self.data[2:10], "big"), 10
            found.append(json.loads(self.data[start : start + size]))
            self.data = self.data[start + size :]
        return found


def test_a_client_that_reads_gets_frames_as_they_are() -> None:
    written = Written()
    assert written.send(Lane(TRADES), trade(1), trade(2)) is None
    assert [one["sequence"] for one in written.read()] == [1, 2]
    assert written.out.sent == 2


@pytest.mark.parametrize("size", [10, 200, 70_000])
def test_frames_of_any_length_are_whole(size: int) -> None:
    written = Written()
    written.send(Lane(TRADES), Message(TRADES, "update", 1, b'{"text":"%b"}' % (b"a" * size)))
    [found] = written.read()
    assert found["data"]["text"] == "a" * size


def test_a_name_stands_in_each_message() -> None:
    written = Written()
    written.send(Lane(TRADES, b'"mine"'), trade(1))
    written.out.pause()
    written.send(Lane(TRADES, b'"mine"'), trade(2))
    written.out.resume()
    written.out.flush()
    assert [(one["channel"], one["sequence"]) for one in written.read()] == [("mine", 1), ("mine", 2)]


def test_what_comes_while_a_client_does_not_read_waits_in_order() -> None:
    written, lane = Written(), Lane(TRADES)
    written.out.pause()
    assert written.send(lane, trade(1)) is None
    written.out.say(b'{"event":"pong"}')
    assert written.out.flush() is None
    # Answers do not wait for channels.
    assert written.read() == [{"event": "pong"}]
    written.out.resume()
    assert written.send(lane, trade(2)) is None
    assert [one["sequence"] for one in written.read()] == [1, 2]
    assert written.out.waiting == 0


def test_a_rate_is_kept_and_the_time_until_the_next_message_is_told() -> None:
    written, lane = Written(Flow(rate=2.0, size=10, policy="oldest")), Lane(TRADES)
    wait = written.send(lane, *(trade(n) for n in range(1, 6)))
    assert [one["sequence"] for one in written.read()] == [1, 2]
    assert wait == pytest.approx(0.5)
    written.now += 0.5
    assert written.out.flush() == pytest.approx(0.5)
    assert [one["sequence"] for one in written.read()] == [3]
    written.now += 10
    written.out.flush()
    assert [one["sequence"] for one in written.read()] == [4, 5]


def test_a_slow_client_that_wants_all_overflows_at_its_buffer_size() -> None:
    written, lane = Written(Flow(size=3)), Lane(TRADES)
    written.out.pause()
    written.send(lane, *(trade(n) for n in range(1, 4)))
    assert not written.out.is_overflown
    written.send(lane, trade(4))
    assert written.out.is_overflown
    assert written.out.waiting == 3
