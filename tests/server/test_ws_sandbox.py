"""``zvt-crypto serve`` with exchanges on sockets: from their frames to messages of ``/ws``."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from live_publisher import Client, wait_for
from prometheus_client.parser import text_string_to_metric_families
from test_serving import Served, starting

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import parse_time
from zvt_crypto.exchanges.base import venues
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.sandbox.market import running_clock

MINUTE = 60_000
STREAMING = sorted(name for name, venue in venues().items() if venue.streams is not None)
#: A market of the sandbox that the venue lists: as its pair, and as its perpetual.
SYMBOLS = {"coinbase": "BTC/USD", "kraken": "BTC/USD", "cryptocom": "BTC/USD"}


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(seed=3) as running:
        yield running


@pytest.fixture(scope="module")
def served(box: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = Settings(data_path=tmp_path_factory.mktemp("served") / "data")
    with starting(settings) as start:
        yield start(gateway=box.url, rate_limit="false", stream_connections_per_client=0)


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.address[1]) as connected:
        yield connected


def subscribe(client: Client, stream: str, provider: str, symbol: str, **more: Any) -> dict[str, Any]:
    """What is confirmed of a subscription; channels' messages before it are dropped."""
    client.say("subscribe", stream=stream, provider=provider, symbols=[symbol], **more)
    answer = client.until(lambda found: found.get("event") == "subscribed" or "error" in found)
    assert "error" not in answer, answer
    [found] = answer["subscriptions"]
    return dict(found)


def is_data(stream: str, **data: Any) -> Any:
    def holds(found: dict[str, Any]) -> bool:
        return (
            found.get("stream") == stream
            and data.items() <= found.get("data", {}).items()
            and "data" in found
        )

    return holds


@pytest.mark.parametrize("provider", STREAMING)
def test_every_stream_of_every_provider(client: Client, provider: str) -> None:
    pair = SYMBOLS.get(provider, "BTC/USDT")
    streams = venues()[provider].streams
    assert streams is not None
    subscribe(client, "crypto.orderbook", provider, pair, depth=5)
    book = client.until(is_data("crypto.orderbook"))
    assert book["type"] == "snapshot"
    bids, asks = book["data"]["bids"], book["data"]["asks"]
    assert len(bids) == len(asks) == 5
    assert bids == sorted(bids, reverse=True) and asks == sorted(asks)
    assert bids[0][0] < asks[0][0]
    assert client.until(is_data("crypto.orderbook"))["type"] == "update"
    subscribe(client, "crypto.trades", provider, pair)
    trade = client.until(is_data("crypto.trades"))["data"]
    assert trade["is_buyer_maker"] is (trade["side"] == "sell")
    subscribe(client, "crypto.klines", provider, pair, interval="1m")
    candle = client.until(is_data("crypto.klines"))
    data = candle["data"]
    assert data["low"] <= min(data["open"], data["close"]) <= max(data["open"], data["close"]) <= data["high"]
    assert parse_time(data["timestamp"]) % MINUTE == 0
    if "funding" in streams.feeds.get("cryptoperp", ()):
        found = subscribe(client, "crypto.funding", provider, f"{pair.replace('/', '')}-perp")
        assert found["symbol"].endswith("-perp")
        funding = client.until(is_data("crypto.funding"))["data"]
        assert set(funding) == {"funding_rate", "mark_price", "next_funding_time", "timestamp"}


@pytest.mark.parametrize("provider", ["binance", "okx", "kraken"])
def test_trades_are_those_of_the_exchange(box: Sandbox, client: Client, provider: str) -> None:
    symbol = SYMBOLS.get(provider, "BTC/USDT")
    subscribe(client, "crypto.trades", provider, symbol)
    client.until(lambda found: found.get("event") == "live" or found.get("type") == "snapshot")
    told = [client.until(is_data("crypto.trades")) for _ in range(30)]
    numbers = [one["sequence"] for one in told]
    assert numbers == list(range(numbers[0], numbers[0] + 30))
    rows = [
        (parse_time(one["data"]["timestamp"]), one["data"]["price"], one["data"]["side"] == "buy")
        for one in told
    ]
    market = box.market.trades(TradeSpan(symbol, rows[0][0] - MINUTE, rows[-1][0] + MINUTE))
    real = set(zip(market.ts.tolist(), market.price.tolist(), market.is_buy.tolist(), strict=True))
    assert set(rows) <= real
    assert len(set(one["data"]["trade_id"] for one in told)) == 30


def test_many_clients_share_one_subscription_at_the_exchange(box: Sandbox, served: Served) -> None:
    clients = [Client(served.address[1]) for _ in range(10)]
    for one in clients:
        subscribe(one, "crypto.trades", "binance", "ETH/USDT")
    for one in clients:
        assert one.until(is_data("crypto.trades"))["symbol"] == "ethusdt"
    wanted = [
        text
        for connection in box.connections
        for text in map(str, connection.subscriptions)
        if "ethusdt" in text.lower()
    ]
    assert len(wanted) == 1
    for one in clients:
        one.socket.close()


def test_a_lost_exchange_is_told_and_comes_back(box: Sandbox, client: Client) -> None:
    subscribe(client, "crypto.trades", "bybit", "SOL/USDT")
    client.until(is_data("crypto.trades"))
    box.drop_connections()
    events = []
    while "live" not in events:
        events.append(client.until(lambda found: "event" in found and found["event"] != "heartbeat")["event"])
    assert events == ["disconnected", "gap", "live"]
    assert client.until(is_data("crypto.trades"))["symbol"] == "solusdt"


def test_trades_that_are_lost_on_the_way_are_a_gap(box: Sandbox, client: Client) -> None:
    subscribe(client, "crypto.trades", "okx", "ETH/USDT")
    first = client.until(is_data("crypto.trades"))
    box.faults = ["ws_skip,symbol=ETH/USDT,path=trades,times=2", "ws_duplicate,symbol=ETH/USDT,times=5"]
    gap = client.until(lambda found: found.get("event") == "gap")
    box.faults = []
    assert gap["symbol"] == "ethusdt"
    assert re.fullmatch(r"\d+ trades before \d+ are missing", gap["reason"])
    assert parse_time(gap["start"]) >= parse_time(first["data"]["timestamp"])
    assert parse_time(gap["end"]) >= parse_time(gap["start"])
    ids = [client.until(is_data("crypto.trades"))["data"]["trade_id"] for _ in range(30)]
    assert len(set(ids)) == 30


def test_a_market_that_the_exchange_does_not_list_is_refused(client: Client) -> None:
    answer = client.ask("subscribe", stream="crypto.trades", provider="binance", symbols=["btcusdd"])
    assert answer["error"]["code"] == "CRYPTO_PAIR_NOT_FOUND"
    assert "btcusdt" in answer["error"]["recovery_suggestions"][0]


def test_a_provider_without_streams_is_refused(client: Client) -> None:
    answer = client.ask("subscribe", stream="crypto.trades", provider="ccxt", symbols=["btcusdt"])
    assert "error" in answer


def test_the_api_tells_of_the_streams(served: Served, client: Client) -> None:
    subscribe(client, "crypto.orderbook", "okx", "BTC/USDT", depth=5)
    client.until(is_data("crypto.orderbook"))

    def read(path: str) -> Any:
        with urllib.request.urlopen(served.url + path, timeout=30) as answer:
            return answer.read().decode()

    statuses = json.loads(read("/api/crypto/providers/status"))["providers"]
    assert next(one for one in statuses if one["name"] == "okx")["websocket_connected"] is True
    health = json.loads(read("/health"))
    assert health["checks"]["websocket_streams"] in ("pass", "warn")
    operational = json.loads(read("/api/crypto/metrics"))
    assert operational["performance_metrics"]["active_websocket_connections"] >= 1
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(read("/metrics"))
        for sample in family.samples
    }
    assert samples["zvt_crypto_ws_clients",] >= 1
    assert samples["zvt_crypto_ws_subscriptions",] >= 1
    assert samples["zvt_crypto_ws_messages_sent_total",] > 0
    place = ("btcusdt", "crypto.orderbook", "okx")
    assert samples[("zvt_crypto_ws_live", *place)] == 1
    assert samples[("zvt_crypto_last_message_timestamp_seconds", *place)] > 0
    assert samples[("zvt_crypto_book_resyncs_total", *place)] >= 0
    assert samples["zvt_crypto_ws_reconnects_total", "okx"] >= 0
    assert samples["zvt_crypto_ws_messages_dropped_total", "oldest"] == 0


def test_candles_made_of_trades_are_those_of_the_exchange(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Coinbase streams none; the exchange's minutes take two seconds here."""
    start = parse_time("2024-06-01T00:00:30Z")
    market = SimulatedMarket(5, now=running_clock(start, speed=30.0))
    settings = Settings(data_path=tmp_path_factory.mktemp("fast") / "data")
    with Sandbox(market) as box, starting(settings) as begin:
        served = begin(gateway=box.url, rate_limit="false")
        with Client(served.address[1]) as client:
            subscribe(client, "crypto.klines", "coinbase", "BTC/USD", interval="1m")
            first = client.until(is_data("crypto.klines"))
            closed = [client.until(is_data("crypto.klines", is_closed=True))["data"] for _ in range(3)]
    assert first["data"]["is_partial"] is True
    times = [parse_time(one["timestamp"]) for one in closed]
    assert times[0] > parse_time(first["data"]["timestamp"])
    assert [time - times[0] for time in times] == [0, MINUTE, 2 * MINUTE]
    real = market.candles("BTC/USD", "1m", times[0], times[-1] + MINUTE, times[-1] + 2 * MINUTE)
    for name in ("open", "high", "low", "close", "volume"):
        assert [one[name] for one in closed] == pytest.approx(getattr(real, name).tolist())


def test_it_ends_while_clients_and_exchanges_are_connected(box: Sandbox, settings: Settings) -> None:
    with starting(settings) as start:
        served = start(gateway=box.url, rate_limit="false")
        with Client(served.address[1]) as client:
            subscribe(client, "crypto.trades", "binance", "BTC/USDT")
            client.until(is_data("crypto.trades"))
            served.process.terminate()
            assert client.closed() == 1001
            out, err = served.process.communicate(timeout=30)
        assert (served.process.returncode, out) == (0, "")
        assert not re.search("Traceback|Error", err), err
        wait_for(lambda: served.process.poll() is not None)
