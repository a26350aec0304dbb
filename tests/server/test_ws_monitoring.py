"""What the API tells of the streams that are served beside it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from live_publisher import LiveServer, serving
from prometheus_client.parser import text_string_to_metric_families

from zvt_crypto.core.config import Settings
from zvt_crypto.server.liveservice import _OfADay
from zvt_crypto.stream.status import ChannelStatus, Status, TableStatus, publish


@pytest.fixture
def server(settings: Settings) -> Iterator[LiveServer]:
    with serving(settings) as running:
        yield running


def read(server: LiveServer, path: str) -> Any:
    with urllib.request.urlopen(server.url + path, timeout=30) as answer:
        text = answer.read().decode()
    return json.loads(text) if answer.headers["Content-Type"].startswith("application/json") else text


def samples(server: LiveServer) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(read(server, "/metrics"))
        for sample in family.samples
        if any(part in sample.name for part in ("_ws_", "_book_", "_stream_", "last_message"))
    }


def connected(server: LiveServer) -> bool:
    found = read(server, "/api/crypto/providers/status")["providers"]
    return bool(next(one for one in found if one["name"] == "binance")["websocket_connected"])


def test_nothing_is_streamed_at_first(server: LiveServer) -> None:
    assert read(server, "/health")["checks"]["websocket_streams"] == "not_used"
    assert not connected(server)
    assert samples(server) == {
        ("zvt_crypto_ws_clients",): 0,
        ("zvt_crypto_ws_subscriptions",): 0,
        ("zvt_crypto_ws_messages_sent_total",): 0,
        **{
            ("zvt_crypto_ws_messages_dropped_total", reason): 0
            for reason in ("oldest", "newest", "disconnected", "conflated")
        },
    }


def test_clients_messages_and_what_is_subscribed_to_are_counted(server: LiveServer) -> None:
    with server.connect() as client:
        client.trades("btcusdt", "ethusdt")
        publisher = server.publisher
        server.do(lambda: [publisher.live(publisher.topic("trades")), publisher.trade(1.0, 2.0)])
        client.many(3)
        found = samples(server)
        assert found[("zvt_crypto_ws_clients",)] == 1
        assert found[("zvt_crypto_ws_subscriptions",)] == 2
        assert found[("zvt_crypto_ws_messages_sent_total",)] == 3
        assert found[("zvt_crypto_ws_reconnects_total", "binance")] == 3
        place = ("binance", "crypto.trades", "btcusdt")
        assert found[("zvt_crypto_ws_live", *place)] == 1
        assert found[("zvt_crypto_ws_live", "binance", "crypto.trades", "ethusdt")] == 0
        assert abs(found[("zvt_crypto_last_message_timestamp_seconds", *place)] - time.time()) < 60
        assert not any(name.startswith("zvt_crypto_book") for name, *_ in found)
        operational = read(server, "/api/crypto/metrics")
        assert operational["websocket_metrics"] == {
            "total_reconnects_24h": 3,
            "average_message_lag_ms": 12.0,
            "messages_dropped_24h": 0,
        }
        assert operational["performance_metrics"]["active_websocket_connections"] == 1
        assert connected(server)


def test_health_tells_which_streams_are_interrupted(server: LiveServer) -> None:
    with server.connect() as client:
        client.trades()
        publisher = server.publisher
        assert read(server, "/health")["checks"]["websocket_streams"] == "pass"
        server.do(lambda: publisher.live(publisher.topic("trades")))
        assert read(server, "/health")["checks"]["websocket_streams"] == "pass"
        client.ask("subscribe", stream="crypto.klines", provider="binance", symbols=["btcusdt"])
        server.do(lambda: publisher.lose(publisher.topic("trades")))
        found = read(server, "/health")
        assert (found["status"], found["checks"]["websocket_streams"]) == ("degraded", "warn")
        reason = "1 of 2 streams are interrupted: binance crypto.trades of btcusdt is lost"
        assert found["reasons"]["websocket_streams"] == reason


def test_live_recorders_of_the_machine_count_too(server: LiveServer, settings: Settings) -> None:
    channel = ChannelStatus(
        "binance", "cryptotrade", "cryptopair_binance_btcusdt", "trades", "live", 5, 5, 1.0, 8.0, 0, 0, 0
    )
    table = TableStatus("binance", "cryptotrade", 7, 70, 1, 0, 0, 0, 0, 0, None)
    status = Status(1, time.time(), time.time(), 1, 4, 0, [channel], [table])
    publish(settings, status)
    try:
        assert connected(server)
        assert read(server, "/health")["checks"]["websocket_streams"] == "pass"
        found = read(server, "/api/crypto/metrics")["websocket_metrics"]
        assert found["average_message_lag_ms"] == 8.0
        place = ("binance", "crypto.trades", "btcusdt")
        counted = samples(server)
        assert counted[("zvt_crypto_ws_live", *place)] == 1
        assert counted[("zvt_crypto_last_message_timestamp_seconds", *place)] == 1.0
        assert counted[("zvt_crypto_ws_reconnects_total", "binance")] == 4
        assert counted[("zvt_crypto_stream_spilled_rows", "binance", "cryptotrade")] == 70
    finally:
        publish(settings, None)


def test_totals_of_a_day_forget_the_day_before() -> None:
    total = _OfADay()
    assert total.value == 0
    total.note(5, 0.0)
    assert total.value == 5
    total.note(7, 1.0)
    assert total.value == 7
    for hour in range(1, 25):
        total.note(7 + hour, hour * 3600.0)
    assert total.value == 31
    total.note(40, 86_400 + 7_200.0)
    assert total.value == 40 - 8
