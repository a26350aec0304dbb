"""One connection that is kept: what it subscribes to, what it tells, and how it comes back."""

import asyncio
import contextlib
import logging
from dataclasses import replace

import pytest
from live_helpers import QUICK, Heard, until
from tiny_venue import URL, TinyServer, TinyStreams, topic

from zvt_crypto.core.errors import ConfigError, NotSupported, StreamDisconnected
from zvt_crypto.stream.topics import State, Subscription, Timing
from zvt_crypto.stream.upstream import Upstream

NOW = 1_700_000_000_000


class Kept:
    """An upstream that runs, with a listener for all of its topics."""

    def __init__(self, server, wire, timing=QUICK, connect=None):
        async def usual(on_frame):
            return await wire.connect(URL, on_frame)

        self.server, self.heard, self.by_code = server, Heard(), {}
        self.upstream = Upstream("tiny stream 1", TinyStreams(), connect or usual, lambda: NOW, timing)

    def add(self, *topics):
        new = [Subscription(one, [self.heard], QUICK.patience) for one in topics]
        self.by_code.update((one.topic.instrument.code, one) for one in new)
        self.upstream.add(new)

    def add_codes(self, *codes):
        self.add(*map(topic, codes))

    def state(self, code):
        return self.by_code[code].health.state

    def are(self, state, *codes):
        return all(self.state(code) is state for code in codes or self.by_code)

    async def watch(self):
        while True:
            await asyncio.sleep(0.02)
            self.upstream.check(asyncio.get_running_loop().time())


@pytest.fixture
def keeping():
    """Runs ``await use(kept, server)``."""

    def run(use, server=None, **options):
        async def main():
            async with server or TinyServer() as venue, venue.wire() as wire:
                kept = Kept(venue, wire, **options)
                tasks = [asyncio.create_task(kept.upstream.run()), asyncio.create_task(kept.watch())]
                try:
                    return await use(kept, venue)
                finally:
                    for task in tasks:
                        task.cancel()
                    ends = await asyncio.gather(*tasks, return_exceptions=True)
                    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends

        return asyncio.run(asyncio.wait_for(main(), 30))

    return run


@pytest.fixture
def longest_pauses(monkeypatch):
    """Pauses are as long as they may be; what they were is in the log."""
    monkeypatch.setattr("zvt_crypto.stream.upstream.random.uniform", lambda low, high: high)

    def pauses(caplog):
        return [record.args[2] for record in caplog.records if "connecting anew" in record.message]

    return pauses


class TestSubscribing:
    def test_many_topics_take_few_frames(self, keeping):
        async def use(kept, server):
            kept.add_codes(*"abcdefg")
            await until(lambda: kept.are(State.LIVE))
            assert server.names() == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
            assert kept.heard.said == [("live", topic(code), NOW) for code in "abcdefg"]

        keeping(use)

    def test_more_and_less_on_the_same_connection(self, keeping):
        async def use(kept, server):
            kept.add_codes("a")
            await until(lambda: kept.are(State.LIVE))
            kept.add_codes("b")
            await until(lambda: kept.are(State.LIVE))
            kept.upstream.remove(kept.by_code["a"])
            await until(lambda: server.names("unsub"))
            assert server.asked == [(1, "sub", ["a"]), (1, "sub", ["b"]), (1, "unsub", ["a"])]
            await server.say(name="a", rows=[1])
            await server.say(name="b", rows=[2])
            await until(lambda: kept.heard.messages)
            assert kept.heard.rows() == [2]

        keeping(use)

    def test_without_topics_there_is_no_connection(self, keeping):
        async def use(kept, server):
            await asyncio.sleep(0.1)
            assert not server.sockets
            kept.add_codes("a")
            await until(lambda: kept.are(State.LIVE))
            kept.upstream.remove(kept.by_code["a"])
            await until(lambda: not server.open)
            await asyncio.sleep(0.3)
            assert (len(server.sockets), kept.upstream.reconnects) == (1, 0)
            kept.add_codes("b")
            await until(lambda: kept.are(State.LIVE, "b"))

        keeping(use)

    def test_frames_are_not_sent_faster_than_allowed(self, keeping):
        async def use(kept, server):
            kept.add_codes(*"abcdefghi")
            await until(lambda: kept.are(State.LIVE))
            gaps = [
                later - earlier for earlier, later in zip(server.asked_at, server.asked_at[1:], strict=False)
            ]
            # Timers never fire early; what was written may be read together, so only the whole counts.
            assert sum(gaps) >= 2 * 0.05 * 0.8

        streams = TinyStreams.limits
        TinyStreams.limits = type(streams)(topics_per_frame=3, frames_per_second=20.0)
        try:
            keeping(use)
        finally:
            TinyStreams.limits = streams

    def test_messages_say_that_it_is_subscribed_where_no_answer_does(self, keeping):
        async def use(kept, server):
            server.is_deaf = True
            kept.add_codes("a")
            await until(lambda: server.asked)
            await server.say(name="a", rows=[7])
            await until(lambda: kept.are(State.LIVE))
            assert kept.heard.rows() == [7]

        keeping(use)


class TestComingBack:
    def test_all_are_lost_and_live_again(self, keeping):
        async def use(kept, server):
            kept.add_codes("a", "b", "c", "d")
            await until(lambda: kept.are(State.LIVE))
            server.cut()
            await until(lambda: kept.heard.words().count("live") == 8)
            assert kept.heard.words(topic("a")) == ["live", "lost", "live"]
            assert server.names(connection=2) == [["a", "b", "c"], ["d"]]
            assert kept.upstream.reconnects == 1
            assert kept.by_code["a"].health.losses == 1

        keeping(use)

    def test_refused_handshakes_and_their_pauses(self, keeping, caplog):
        server = TinyServer()
        server.refused_handshakes = 12

        async def use(kept, server):
            kept.add_codes("a")
            await until(lambda: kept.are(State.LIVE))
            assert kept.upstream.reconnects == 12
            assert kept.heard.words() == ["lost", "live"], "told once, however many attempts there were"

        with caplog.at_level(logging.WARNING, "zvt_crypto"):
            keeping(use, server)
        pauses = [record.args[2] for record in caplog.records if "connecting anew" in record.message]
        assert len(pauses) == 12 and "503" in caplog.text
        assert all(0 <= pause <= QUICK.longest_wait for pause in pauses)
        assert len(set(pauses)) == 12, "with jitter, so that clients do not come back together"

    def test_pauses_begin_anew_after_a_connection_that_held(self, keeping, caplog, longest_pauses):
        server = TinyServer()
        server.refused_handshakes = 4

        async def use(kept, server):
            kept.add_codes("a")
            for losses in (0, 1):
                await until(lambda losses=losses: kept.heard.words().count("live") == losses + 1)
                await asyncio.sleep(0.3)
                server.cut()
            await until(lambda: kept.heard.words().count("live") == 3)

        with caplog.at_level(logging.WARNING, "zvt_crypto"):
            keeping(use, server, timing=replace(QUICK, first_wait=0.01, longest_wait=0.1, held=0.25))
        assert longest_pauses(caplog) == [0.02, 0.04, 0.08, 0.1, 0.01, 0.01]

    def test_a_wait_until_the_venue_allows_a_connection_is_no_connection_that_held(
        self, keeping, caplog, longest_pauses
    ):
        async def allowed_late(on_frame):
            await asyncio.sleep(0.05)
            raise StreamDisconnected("not today")

        async def use(kept, server):
            kept.add_codes("a")
            await until(lambda: kept.upstream.reconnects == 4)

        with caplog.at_level(logging.WARNING, "zvt_crypto"):
            timing = replace(QUICK, first_wait=0.01, longest_wait=0.1, held=0.02)
            keeping(use, timing=timing, connect=allowed_late)
        assert longest_pauses(caplog)[:4] == [0.02, 0.04, 0.08, 0.1]

    def test_pauses_grow_to_the_longest(self):
        upstream = Upstream("x", TinyStreams(), None, lambda: NOW, Timing(first_wait=1.0, longest_wait=8.0))
        longest = [max(upstream._pause(attempt) for _ in range(2000)) for attempt in (0, 1, 2, 3, 4, 500)]
        assert [round(value) for value in longest] == [1, 2, 4, 8, 8, 8]

    def test_rows_are_told_while_it_is_not_live(self, keeping):
        async def use(kept, server):
            kept.add_codes("a")
            await until(lambda: kept.are(State.LIVE))
            await server.say(missed=True)
            await server.say(name="a", rows=[1])
            await until(lambda: kept.heard.messages)
            assert kept.heard.words() == ["live", "lost"]

        keeping(use)

    def test_ended_while_it_is_kept_nothing_stays_connected(self, keeping):
        server = TinyServer()

        async def use(kept, server):
            kept.add_codes("a")
            await until(lambda: kept.are(State.LIVE))

        async def main():
            async with server, server.wire() as wire:
                kept = Kept(server, wire)
                running = asyncio.create_task(kept.upstream.run())
                await use(kept, server)
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
                await until(lambda: not server.open)

        asyncio.run(asyncio.wait_for(main(), 20))

    def test_frames_of_a_connection_that_was_given_up_are_nobodys(self, keeping):
        ears = []

        def connecting(wire):
            async def connect(on_frame):
                ears.append(on_frame)
                return await wire.connect(URL, on_frame)

            return connect

        async def main():
            async with TinyServer() as server, server.wire() as wire:
                kept = Kept(server, wire, connect=connecting(wire))
                running = asyncio.create_task(kept.upstream.run())
                kept.add_codes("a")
                await until(lambda: kept.are(State.LIVE))
                server.cut()
                await until(lambda: kept.heard.words() == ["live", "lost", "live"])
                assert ears[0]('{"name": "a", "rows": [1]}')
                assert not kept.heard.messages
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

        asyncio.run(asyncio.wait_for(main(), 20))


class TestRenewing:
    def test_one_topic_is_taken_back_and_asked_for_again(self, keeping):
        async def use(kept, server):
            kept.add_codes("a", "b")
            await until(lambda: kept.are(State.LIVE))
            kept.upstream.renew(kept.by_code["a"], "why not")
            assert kept.heard.said[-1] == ("lost", topic("a"), "why not")
            await until(lambda: kept.are(State.LIVE))
            assert server.asked[1:] == [(1, "unsub", ["a"]), (1, "sub", ["a"])]
            assert kept.heard.words(topic("b")) == ["live"]
            assert kept.by_code["a"].health.renewals == 1

        keeping(use)

    def test_what_still_comes_of_the_old_subscription_does_not_count(self, keeping):
        async def use(kept, server):
            kept.add_codes("a")
            await until(lambda: kept.are(State.LIVE))
            async with kept.upstream._sending:  # as if other frames were to be sent first
                kept.upstream.renew(kept.by_code["a"], "silent")
                await server.say(name="a", rows=[1])
                await until(lambda: kept.heard.messages)
                assert kept.state("a") is State.LOST
            await until(lambda: kept.are(State.LIVE))
            assert kept.heard.words() == ["live", "lost", "live"]

        keeping(use)

    def test_what_is_under_way_is_not_begun_again(self, keeping):
        async def use(kept, server):
            kept.add_codes("a")
            await until(lambda: kept.are(State.LIVE))
            for _ in range(5):
                kept.upstream.renew(kept.by_code["a"], "again")
            await until(lambda: kept.are(State.LIVE))
            await asyncio.sleep(0.1)
            assert server.names("unsub") == [["a"]]

        keeping(use)


class TestNoAnswer:
    def test_a_subscription_that_is_not_confirmed_is_made_anew(self, keeping):
        server = TinyServer(["b"], refuses="silently")

        async def use(kept, server):
            kept.add_codes("a", "b")
            await until(lambda: kept.by_code["b"].health.renewals == 1)
            server.unknown.clear()
            # The others are live, so the connection is not at fault.
            await server.say(name="a", rows=[1])
            await until(lambda: kept.are(State.LIVE))
            assert len(server.sockets) == 1
            assert kept.heard.words(topic("a")) == ["live"]

        keeping(use, server)

    def test_a_connection_on_which_nothing_is_answered_is_given_up(self, keeping, caplog):
        async def use(kept, server):
            server.is_deaf = True
            kept.add_codes("a", "b")
            await until(lambda: server.sockets)
            # Answers to pings are no answers.
            await server.say_text("pong")
            await until(lambda: len(server.sockets) == 2)
            server.is_deaf = False
            await until(lambda: kept.are(State.LIVE))

        with caplog.at_level(logging.WARNING, "zvt_crypto"):
            keeping(use)
        assert "the venue answers nothing; connecting anew" in caplog.text


class TestRefusals:
    @pytest.mark.parametrize("refuses", ["by name", "as a whole"])
    def test_a_faulty_topic_is_told_and_the_others_live(self, keeping, refuses):
        server = TinyServer(["bad", "worse"], refuses)

        async def use(kept, server):
            kept.add_codes("a", "bad", "b", "c", "worse", "d", "e")
            await until(lambda: kept.are(State.LIVE, *"abcde"))
            await until(lambda: kept.are(State.REFUSED, "bad", "worse"))
            refused = {of.instrument.code: error for word, of, error in kept.heard.said if word == "refused"}
            assert set(refused) == {"bad", "worse"}
            assert all(isinstance(error, NotSupported) for error in refused.values())
            assert "does not stream trades of BAD: no " in refused["bad"].message
            assert (len(server.sockets), len(kept.upstream)) == (1, 5)
            server.cut()
            back = ["live", "lost", "live"]
            await until(lambda: all(kept.heard.words(topic(code)) == back for code in "abcde"))
            names = [name for names in server.names(connection=2) for name in names]
            assert sorted(names) == list("abcde"), "they are not tried again"

        keeping(use, server)

    def test_a_refusal_of_nothing_that_waits_changes_nothing(self, keeping, caplog):
        async def use(kept, server):
            kept.add_codes("a", "b")
            await until(lambda: kept.are(State.LIVE))
            await server.say(no="")
            await server.say(no="a")
            await server.say(name="a", rows=[1])
            await until(lambda: kept.heard.messages)
            assert kept.are(State.LIVE)

        with caplog.at_level(logging.WARNING, "zvt_crypto"):
            keeping(use)
        assert caplog.text.count("the venue refuses something") == 2

    def test_the_connection_is_lost_while_they_are_asked_for_one_by_one(self, keeping):
        server = TinyServer(["bad"], "as a whole")

        async def use(kept, server):
            kept.add_codes("a", "bad", "b")
            await until(lambda: ["a"] in server.names())
            server.cut()
            await until(lambda: kept.are(State.LIVE, "a", "b"))
            await until(lambda: kept.are(State.REFUSED, "bad"))

        keeping(use, server)

    def test_all_refused_ends_the_connection(self, keeping):
        async def use(kept, server):
            kept.add_codes("bad")
            await until(lambda: kept.are(State.REFUSED))
            await until(lambda: not server.open)
            await asyncio.sleep(0.2)
            assert len(server.sockets) == 1

        keeping(use, TinyServer(["bad"]))

    def test_what_keeps_us_from_connecting_for_good(self, keeping):
        async def connect(on_frame):
            raise ConfigError("no such gateway")

        async def use(kept, server):
            kept.add_codes("a", "b")
            await until(lambda: kept.are(State.REFUSED))
            assert "no such gateway" in kept.heard.said[0][2].message

        keeping(use, connect=connect)

    def test_what_keeps_us_from_connecting_now(self, keeping):
        tried = []

        async def connect(on_frame):
            tried.append(on_frame)
            raise StreamDisconnected("no")

        async def use(kept, server):
            kept.add_codes("a")
            await until(lambda: len(tried) > 5)
            assert kept.state("a") is State.LOST

        keeping(use, connect=connect)


class TestUnreadable:
    def test_one_line_a_count_and_the_rest_goes_on(self, keeping, caplog):
        async def use(kept, server):
            kept.add_codes("a", "b")
            await until(lambda: kept.are(State.LIVE))
            for number in range(50):
                await server.say(name="a", rows=["not a number"])
                await server.say(name="b", rows=[number])
            await until(lambda: len(kept.heard.messages) == 50)
            assert kept.upstream.unreadable == 50
            assert kept.are(State.LOST), "which topic it was of cannot be read"
            await until(lambda: kept.are(State.LIVE))
            assert kept.heard.rows() == list(range(50))
            assert kept.heard.words(topic("a")) == ["live", "lost", "live"]
            assert len(server.sockets) == 1

        with caplog.at_level(logging.ERROR, "zvt_crypto"):
            keeping(use)
        (record,) = caplog.records
        assert "a message cannot be read: Expected `int`, got `str`" in record.message
        assert '{"name": "a"' in record.message

    def test_however_many_kinds_there_are_the_log_stays_readable(self, keeping, caplog):
        async def use(kept, server):
            kept.add_codes("a")
            await until(lambda: kept.are(State.LIVE))
            for number in range(100):
                await server.say_text(" " * number + "garbage" * 100)
            await until(lambda: kept.upstream.unreadable == 100)

        with caplog.at_level(logging.ERROR, "zvt_crypto"):
            keeping(use)
        assert 1 <= len(caplog.records) <= 20
        assert max(len(record.message) for record in caplog.records) < 400

    def test_a_hole_in_the_count_loses_all_topics_for_a_while(self, keeping):
        async def use(kept, server):
            kept.add_codes("a", "b")
            await until(lambda: kept.are(State.LIVE))
            await server.say(missed=True)
            await until(lambda: kept.are(State.LOST))
            await until(lambda: kept.are(State.LIVE))
            assert server.names("unsub") == []

        keeping(use)

    def test_books_begin_anew_after_a_hole(self, keeping):
        async def use(kept, server):
            kept.add(topic("a"), topic("b", "order_book"))
            await until(lambda: kept.are(State.LIVE))
            await server.say(missed=True)
            await until(lambda: kept.are(State.LOST))
            await until(lambda: kept.are(State.LIVE))
            assert server.names("unsub") == [["b-book"]]
            assert server.names()[-1] == ["b-book"]

        keeping(use)

    def test_what_was_never_confirmed_is_not_live_when_it_is_clear_again(self, keeping):
        server = TinyServer(["b"], refuses="silently")

        async def use(kept, server):
            kept.add_codes("a", "b")
            await until(lambda: kept.are(State.LIVE, "a"))
            await server.say(missed=True)
            await until(lambda: kept.are(State.LOST))
            await until(lambda: kept.are(State.LIVE, "a"))
            assert kept.state("b") is State.LOST

        keeping(use, server)
