"""One venue's live topics over real connections to the sandbox: shared, spread, watched, and made anew."""

import asyncio
import logging
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from live_helpers import QUICK, Heard, live, settings_of, until

from zvt_crypto.core.errors import NotSupported
from zvt_crypto.exchanges.base import Instrument, open_venue
from zvt_crypto.exchanges.binance_streams import BinanceStreams
from zvt_crypto.exchanges.streaming import BookUpdate, Limits, Topic, Trades
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.stream.feed import LiveFeed, State

BTC, ETH, SOL = (
    Instrument("cryptopair", f"{name}usdt", f"{name.upper()}/USDT", f"{name.upper()}USDT")
    for name in ("btc", "eth", "sol")
)
BTC_TRADES, ETH_TRADES, SOL_TRADES = (Topic("trades", one) for one in (BTC, ETH, SOL))
PERP = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTCUSDT", contract_size=1.0)


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(11)


@pytest.fixture
def feeding(box, tmp_path):
    """Runs ``await use(feed, heard)`` with a feed of the sandbox's venue."""

    def run(use, provider="binance", timing=QUICK, prepare=None):
        async def main():
            settings = settings_of(box, tmp_path)
            async with live(settings, provider, timing=timing) as one:
                if prepare is not None:
                    prepare(one.feed)
                return await use(one.feed, Heard())

        return asyncio.run(asyncio.wait_for(main(), 40))

    return run


def channels(box):
    return sorted(channel for connection in box.connections for channel in connection.subscriptions)


def state(feed, topic):
    return feed.health_of(topic).state


class TestSharing:
    def test_the_venue_is_asked_once_however_many_listen(self, box, feeding):
        async def use(feed, first):
            second = Heard()
            feed.add([BTC_TRADES, BTC_TRADES], first)
            await until(lambda: first.words() == ["live"])
            # Another object, but the same topic.
            feed.add([Topic("trades", BTC)], second)
            assert second.words() == ["live"]
            assert second.said[0][2] >= first.said[0][2]
            await until(lambda: first.messages and second.messages)
            assert channels(box) == ["btcusdt@aggTrade"]
            feed.remove([BTC_TRADES], first)
            count, seen = len(first.messages), len(second.messages)
            await until(lambda: len(second.messages) > seen + 2)
            assert len(first.messages) == count
            feed.remove([BTC_TRADES], second)
            await until(lambda: not box.connections)
            assert feed.health() == []

        feeding(use)

    def test_what_is_not_streamed_is_not_added_and_nothing_with_it(self, box, feeding):
        async def use(feed, heard):
            with pytest.raises(NotSupported, match="binance does not stream funding of BTC/USDT"):
                feed.add([BTC_TRADES, Topic("funding", BTC)], heard)
            assert feed.health() == []

        feeding(use)

    def test_a_venue_without_streams(self, box, tmp_path):
        async def main():
            settings = settings_of(box, tmp_path)
            async with open_venue("ccxt", settings, "gate") as venue:
                LiveFeed(venue, settings)

        with pytest.raises(NotSupported, match="gate is not streamed"):
            asyncio.run(main())

    def test_those_who_come_late_are_told_of_a_refusal(self, box, feeding):
        unknown = Topic("trades", Instrument("cryptopair", "foousdt", "FOO/USDT", "FOO-USDT"))
        known = Topic("trades", Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC-USDT"))

        async def use(feed, heard):
            late = Heard()
            feed.add([unknown, known], heard)
            await until(lambda: heard.words(unknown) == ["refused"] and heard.words(known) == ["live"])
            feed.add([unknown, known], late)
            assert sorted(late.words()) == ["live", "refused"]
            assert late.said[0][2] is heard.said[[w for w in heard.words()].index("refused")][2]
            feed.remove([unknown], heard)
            feed.remove([unknown], late)
            assert feed.health_of(unknown) is None
            # Whoever asks when nobody holds on to the refusal has it tried again.
            feed.add([unknown], late)
            await until(lambda: late.words(unknown) == ["refused", "refused"])

        feeding(use, "okx")

    def test_entity_types_and_endpoints_have_connections_of_their_own(self, box, feeding):
        topics = [BTC_TRADES, Topic("trades", PERP), Topic("order_book", PERP, depth=1000)]

        async def use(feed, heard):
            feed.add(topics, heard)
            await until(lambda: feed.connections == 3)
            await until(lambda: len([word for word in heard.words() if word == "live"]) == 3)
            hosts = sorted((one.host, one.path) for one in box.connections)
            assert hosts == [
                ("fstream.binance.com", "/market/ws"),
                ("fstream.binance.com", "/public/ws"),
                ("stream.binance.com", "/ws"),
            ]
            await until(lambda: {type(message) for message in heard.messages} == {Trades, BookUpdate})

        feeding(use)

    def test_more_topics_than_fit_on_one_connection(self, box, feeding):
        topics = [Topic("candles", one, level) for one in (BTC, ETH, SOL) for level in ("1m", "5m", "1h")]

        def prepare(feed):
            feed.streams = _FewTopics()

        async def use(feed, heard):
            feed.add(topics[:5], heard)
            feed.add(topics[5:], heard)
            await until(lambda: len(heard.words()) == 9)
            assert sorted(len(one.subscriptions) for one in box.connections) == [1, 4, 4]
            names = [upstream.name for upstream in feed._keeping]
            assert names == ["binance stream 1", "binance stream 2", "binance stream 3"]

        feeding(use, prepare=prepare)


class _FewTopics(BinanceStreams):
    limits = Limits(topics=4, frames_per_second=50.0, connections_per_minute=6_000)


class TestComingBack:
    def test_every_topic_is_lost_and_live_again(self, box, feeding):
        async def use(feed, heard):
            feed.add([BTC_TRADES, ETH_TRADES], heard)
            await until(lambda: heard.words().count("live") == 2)
            box.drop_connections()
            await until(lambda: heard.words().count("live") == 4)
            for topic in (BTC_TRADES, ETH_TRADES):
                assert heard.words(topic) == ["live", "lost", "live"]
            assert feed.reconnects == 1
            assert [health.losses for health in feed.health()] == [1, 1]

        feeding(use)

    def test_the_exchanges_clock_is_asked_for_each_connection(self, box, feeding):
        async def use(feed, heard):
            feed.add([SOL_TRADES], heard)
            await until(lambda: heard.words() == ["live"])
            before = feed.now("cryptopair")
            assert abs(before - box.market.now()) < 500
            box.faults = ["clock_skew:-7000"]
            box.drop_connections()
            await until(lambda: heard.words() == ["live", "lost", "live"])
            since = heard.said[-1][2]
            assert -7_500 < since - box.market.now() < -6_500

        feeding(use)

    def test_messages_correct_the_clock_but_not_by_much(self, box, feeding):
        async def use(feed, heard):
            feed.add([SOL_TRADES], heard)
            await until(lambda: heard.words() == ["live"])
            now = feed.now("cryptopair")
            feed.heard("cryptopair", now + 3_000)
            feed.heard("cryptopair", now - 3_000)
            assert 3_000 <= feed.now("cryptopair") - now < 4_000
            assert 3_000 <= await feed.venue.client.now("cryptopair") - now < 4_000
            feed.heard("cryptopair", now + 10**10)
            assert feed.now("cryptopair") - now < 5_000

        feeding(use)

    def test_what_was_given_up_by_a_mistake_of_ours_is_told(self, box, feeding, caplog):
        class Broken(BinanceStreams):
            def reader(self):
                raise KeyError("a mistake")

        def prepare(feed):
            feed.streams = Broken()

        async def use(feed, heard):
            feed.add([BTC_TRADES], heard)
            await until(lambda: caplog.records)

        with caplog.at_level(logging.ERROR, "zvt_crypto"):
            feeding(use, prepare=prepare)
        assert "binance stream 1: it has ended" in caplog.text and "a mistake" in caplog.text


IMPATIENT = replace(QUICK, patience=1.2, longest_patience=4.0)


class TestSilence:
    def test_a_channel_that_is_silent_while_the_market_trades_is_subscribed_anew(self, box, feeding, caplog):
        async def use(feed, heard):
            feed.add([BTC_TRADES, ETH_TRADES], heard)
            await until(lambda: heard.words().count("live") == 2)
            box.faults = ["ws_skip,symbol=BTC/USDT"]
            await until(lambda: feed.health_of(BTC_TRADES).renewals == 2)
            box.faults = []
            await until(lambda: heard.words(BTC_TRADES)[-1] == "live")
            count = len(heard.rows(BTC_TRADES))
            await until(lambda: len(heard.rows(BTC_TRADES)) > count)
            assert heard.words(ETH_TRADES) == ["live"]
            assert (len(box.connections), feed.reconnects) == (1, 0)

        with caplog.at_level(logging.WARNING, "zvt_crypto"):
            feeding(use, timing=IMPATIENT)
        assert "trades of BTC/USDT is subscribed anew: silent for 1 s while the market trades" in caplog.text

    def test_a_connection_that_answers_no_subscription_any_more_is_dropped(self, box, feeding, caplog):
        async def use(feed, heard):
            feed.add([BTC_TRADES], heard)
            await until(lambda: heard.messages)
            # Its pongs go on.
            box.faults = ["ws_silence:60,times=1"]
            await until(lambda: feed.reconnects == 1)
            await until(lambda: state(feed, BTC_TRADES) is State.LIVE)
            count = len(heard.messages)
            await until(lambda: len(heard.messages) > count)

        with caplog.at_level(logging.WARNING, "zvt_crypto"):
            feeding(use, timing=IMPATIENT)
        assert "the venue answers nothing; connecting anew" in caplog.text

    @pytest.mark.parametrize("provider", ["binance", "okx"])
    def test_a_dead_connection_is_dropped(self, box, feeding, provider):
        native = "BTCUSDT" if provider == "binance" else "BTC-USDT"
        topic = Topic("trades", Instrument("cryptopair", "btcusdt", "BTC/USDT", native))

        async def use(feed, heard):
            feed.add([topic], heard)
            await until(lambda: heard.messages)
            box.faults = ["ws_silence:60,pongs=0,times=1"]
            await until(lambda: feed.reconnects == 1)
            await until(lambda: state(feed, topic) is State.LIVE)

        feeding(use, provider, timing=replace(QUICK, dead=1.5))

    def test_a_market_that_is_quiet_is_left_alone(self, tmp_path):
        """Its clock stands still, so nothing is traded; only pongs tell that the connection lives."""
        # The newest trades are older than the time that is looked at.
        quiet = SimulatedMarket(3, now=int(time.time() * 1000) - 5_000)
        timing = replace(QUICK, patience=0.3, longest_patience=1.0, dead=1.2)
        looked = []

        async def main(box):
            async with live(settings_of(box, tmp_path), timing=timing) as one:
                heard = Heard()
                one.feed.add([SOL_TRADES], heard)
                await until(lambda: heard.words() == ["live"])
                subscription = next(iter(one.feed._home.values()))[0]
                await until(lambda: subscription.patience == timing.longest_patience)
                await asyncio.sleep(timing.dead)
                looked.extend(one for one in box.requests if one.path.endswith("aggTrades"))
                assert heard.words() == ["live"]
                assert one.feed.reconnects == 0
                # It is watched more closely again once it is not quiet any more.
                for moment in range(40):
                    subscription.heard_from(subscription.heard + 0.01 * moment)
                assert subscription.patience == pytest.approx(0.3)

        with Sandbox(quiet) as box:
            asyncio.run(asyncio.wait_for(main(box), 30))
        assert len(looked) >= 3

    def test_where_it_cannot_be_asked_nothing_is_done(self, box, feeding, caplog):
        async def use(feed, heard):
            feed.add([BTC_TRADES], heard)
            await until(lambda: heard.messages)
            box.faults = ["ws_skip,symbol=BTC/USDT", "status:500,path=aggTrades"]
            await until(lambda: "is quiet cannot be asked" in caplog.text)
            assert feed.health_of(BTC_TRADES).renewals == 0
            assert state(feed, BTC_TRADES) is State.LIVE

        with caplog.at_level(logging.INFO, "zvt_crypto"):
            feeding(use, timing=IMPATIENT)


_OTHER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_feed import *
class Box: url = sys.argv[1]
async def main():
    async with live(settings_of(Box, Path(sys.argv[2]))) as one:
        heard, one.feed.streams = Heard(), BinanceStreams()
        sys.stdin.readline()
        one.feed.add([BTC_TRADES], heard)
        await until(lambda: heard.words() == ["live"])
        print("live", flush=True)
        sys.stdin.readline()
asyncio.run(main())
"""


def test_the_budget_of_connections_is_shared_between_processes(box, tmp_path):
    here = Path(__file__)
    command = [sys.executable, "-c", _OTHER, box.url, str(tmp_path), str(here.parent)]
    box.forget_requests()
    others = [
        subprocess.Popen(
            command,
            cwd=here.parents[2],
            env={"PYTHONPATH": str(here.parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for other in others:
        other.stdin.write("\n")
        other.stdin.flush()
    assert [other.stdout.readline() for other in others] == ["live\n"] * 2
    for other in others:
        other.communicate("\n", timeout=20)
    connected = [one.time for one in box.requests if one.host == "stream.binance.com"]
    assert len(connected) == 2
    least = 60 / BinanceStreams.limits.connections_per_minute
    # A process may wake up late, and then the next one is right on time.
    assert connected[1] - connected[0] > 0.5 * least
    assert (tmp_path / "state" / "binance.connections").stat().st_size
