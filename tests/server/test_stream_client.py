"""``Client.stream`` against a server on a real socket, which may vanish and come back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from live_publisher import LiveServer, Publisher, serving, wait_for

from zvt_crypto.api import livestream
from zvt_crypto.api.livestream import LiveStream
from zvt_crypto.client import Client
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import (
    InvalidArgument,
    NotSupported,
    PairNotFound,
    ProviderUnavailable,
    RateLimitExceeded,
    StreamDisconnected,
    ZvtCryptoError,
)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livestream, "FIRST_WAIT", 0.05)


@pytest.fixture
def server(settings: Settings) -> Iterator[LiveServer]:
    with serving(settings) as running:
        yield running


class Reading:
    """A stream that is read in a thread."""

    def __init__(self, stream: LiveStream) -> None:
        self.stream = stream
        self.found: list[Any] = []
        self.error: ZvtCryptoError | None = None
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            for one in self.stream:
                self.found.append(one)
        except ZvtCryptoError as error:
            self.error = error

    def wait(self, count: int) -> list[Any]:
        wait_for(lambda: len(self.found) >= count or self.error)
        return self.found

    def stop(self) -> None:
        self.stream.close()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def read(server: LiveServer) -> Iterator[Any]:
    """Reads a stream of the server: ``read("trades", "btcusdt")``."""
    readings: list[Reading] = []

    def begin(*given: Any, **more: Any) -> Reading:
        stream = Client(server.url, timeout=10).stream(*given, **({"provider": "binance"} | more))
        readings.append(Reading(stream))
        wait_for(lambda: server.service.hub.subscriptions or readings[-1].error)
        return readings[-1]

    yield begin
    for one in readings:
        one.stop()


def publish(server: LiveServer, *prices: float, live: bool = False) -> None:
    publisher: Publisher = server.publisher

    def do() -> None:
        if live:
            publisher.live(publisher.topic("trades"))
        publisher.trade(*prices)

    server.do(do)


def prices(found: list[Any]) -> list[float]:
    return [one["data"]["price"] for one in found if "data" in one]


def events(found: list[Any]) -> list[str]:
    return [one["event"] for one in found if "event" in one]


def test_messages_come_as_they_are(server: LiveServer, read: Any) -> None:
    reading = read("trades", "BTC/USDT")
    publish(server, 1.5, 2.5, live=True)
    live, first, second = reading.wait(3)
    assert live["event"] == "live"
    assert first == {
        "stream": "crypto.trades",
        "provider": "binance",
        "symbol": "btcusdt",
        "type": "update",
        "sequence": 2,
        "data": {
            "trade_id": "1",
            "price": 1.5,
            "volume": 0.5,
            "side": "buy",
            "timestamp": "2024-06-01T00:00:00.000Z",
            "is_buyer_maker": False,
        },
    }
    assert second["sequence"] == 3


def test_frames_have_the_data_in_columns_and_naive_times(server: LiveServer, read: Any) -> None:
    told: list[dict[str, Any]] = []
    reading = read("crypto.trades", ["btcusdt"], as_frames=True, on_event=told.append)
    publish(server, 1.5, 2.5, live=True)
    wait_for(lambda: sum(map(len, reading.found)) == 2)
    frame = pd.concat(reading.found)
    assert list(frame.columns) == [
        *("provider", "symbol", "trade_id", "price", "volume", "side", "timestamp", "is_buyer_maker")
    ]
    assert frame["price"].tolist() == [1.5, 2.5]
    assert frame["timestamp"].dtype == "datetime64[ns]"
    assert frame["timestamp"].iloc[0] == pd.Timestamp("2024-06-01")
    assert [one["event"] for one in told] == ["live"]


def test_frames_hold_many_rows_where_many_come(server: LiveServer, read: Any) -> None:
    reading = read("trades", "btcusdt", as_frames=True)
    publish(server, *(float(n + 1) for n in range(5_000)))
    wait_for(lambda: sum(map(len, reading.found)) == 5_000)
    assert len(reading.found) < 500
    assert pd.concat(reading.found)["price"].is_monotonic_increasing


def test_candles_books_and_funding(server: LiveServer, read: Any) -> None:
    book = read("orderbook", "btcusdt", depth=2)
    candles = read("klines", "btcusdt", interval="1h")
    funding = read("funding", "btcusdt", as_frames=True)
    wait_for(lambda: len(server.publisher.started) == 3)
    publisher = server.publisher
    server.do(lambda: [publisher.book(1), publisher.candle(0, 1.0), publisher.funding(rate=0.1, next_ts=5)])
    assert book.wait(1)[0]["data"]["bids"] == [[100.0, 1.0], [99.0, 2.0]]
    assert candles.wait(1)[0]["interval"] == "1h"
    [frame] = funding.wait(1)
    assert frame["next_funding_time"].tolist() == [pd.Timestamp(5, unit="ms")]


@pytest.mark.parametrize(
    ("given", "more", "kind", "text"),
    [
        (("trades", "nothing"), {}, PairNotFound, "unknown binance pair 'nothing'"),
        (("trades", ["btcusdt", "nothing"]), {}, PairNotFound, "nothing"),
        (("trade", "btcusdt"), {}, InvalidArgument, "crypto.trade"),
        (("trades", "btcusdt"), {"provider": "kraken"}, InvalidArgument, "kraken"),
        (("klines", "btcusdt"), {"interval": "7m"}, InvalidArgument, "7m"),
        (("orderbook", "btcusdt"), {"depth": 9_999}, InvalidArgument, "9999"),
        (("account", []), {}, NotSupported, "not served yet"),
    ],
)
def test_refusals_are_our_errors(
    read: Any, given: Any, more: Any, kind: type[ZvtCryptoError], text: str
) -> None:
    reading = read(*given, **more)
    reading.join()
    assert type(reading.error) is kind
    assert text in reading.error.message
    assert reading.error.suggestions


def test_a_channel_that_is_refused_later_is_an_error(server: LiveServer, read: Any) -> None:
    reading = read("trades", "btcusdt")
    publisher = server.publisher
    error = NotSupported("binance does not stream it")
    server.do(lambda: publisher.sink.refused(publisher.topic("trades"), error))
    reading.join()
    assert isinstance(reading.error, NotSupported)


def test_a_lost_connection_goes_on_where_it_was(server: LiveServer, read: Any) -> None:
    reading = read("trades", "btcusdt")
    publish(server, 1.0, 2.0)
    reading.wait(2)
    server.drop_connections()
    publish(server, 3.0, 4.0)
    reading.wait(6)
    publish(server, 5.0)
    found = reading.wait(7)
    assert prices(found) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert events(found) == ["connection_lost", "connection_restored"]


def test_a_server_that_began_anew_is_a_gap(settings: Settings) -> None:
    server = LiveServer(settings)
    with server:
        reading = Reading(Client(server.url, timeout=10).stream("trades", "btcusdt", provider="binance"))
        wait_for(lambda: server.service.hub.subscriptions)
        publish(server, 1.0)
        reading.wait(1)
        port = server.port
    wait_for(lambda: "connection_lost" in events(reading.found))
    with LiveServer(settings, port=port) as again:
        wait_for(lambda: again.service.hub.subscriptions)
        publish(again, 2.0)
        wait_for(lambda: prices(reading.found) == [1.0, 2.0])
        assert events(reading.found) == ["connection_lost", "connection_restored", "gap"]
        reading.stop()


def test_a_silent_server_counts_as_lost(
    server: LiveServer, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(livestream, "SILENCE_SECONDS", 0.3)
    reading = read("trades", "btcusdt")
    wait_for(lambda: events(reading.found)[:2] == ["connection_lost", "connection_restored"])


def test_a_loss_is_an_error_where_wanted(server: LiveServer, read: Any) -> None:
    reading = read("trades", "btcusdt", reconnect=False)
    server.drop_connections()
    reading.join()
    assert isinstance(reading.error, StreamDisconnected)


def test_a_server_that_is_not_there_is_told_at_once(server: LiveServer) -> None:
    server.stop()
    with pytest.raises(ProviderUnavailable, match="zvt-crypto serve|cannot be reached"):
        next(iter(Client(server.url, timeout=5).stream("trades", "btcusdt", provider="binance")))


def test_a_refused_handshake_is_our_error(settings: Settings) -> None:
    with serving(settings, stream_connections_per_client=1) as server, server.connect():
        stream = Client(server.url, timeout=5).stream("trades", "btcusdt", provider="binance")
        with pytest.raises(RateLimitExceeded, match="1 WebSocket connections"):
            next(iter(stream))


def test_leaving_the_loop_closes_the_connection(server: LiveServer) -> None:
    with Client(server.url, timeout=5).stream("trades", "btcusdt", provider="binance") as stream:
        messages = iter(stream)
        threading.Timer(0.5, lambda: publish(server, 1.0)).start()
        assert next(messages)["data"]["price"] == 1.0
    wait_for(lambda: server.service.clients == 0)
    assert list(messages) == []
