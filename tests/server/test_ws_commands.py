"""What clients say on ``/ws`` and what they are answered, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from live_publisher import ETH, Client, LiveServer, serving, wait_for

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import NotSupported, ProviderUnavailable

KEY = "crypto.trades:binance:btcusdt"
TRADES = {"stream": "crypto.trades", "provider": "binance"}


@pytest.fixture
def server(settings: Settings) -> Iterator[LiveServer]:
    with serving(settings, "binance", "okx") as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for what is refused anyway."""
    folder = tmp_path_factory.mktemp("shared")
    with serving(Settings(data_path=folder / "data"), stream_connections_per_client=0) as running:
        yield running


@pytest.fixture
def refused(shared: LiveServer) -> Iterator[Client]:
    with shared.connect() as connected:
        yield connected


@pytest.fixture
def client(server: LiveServer) -> Iterator[Client]:
    with server.connect() as connected:
        yield connected


def error_of(message: dict[str, Any], code: str) -> dict[str, Any]:
    error = message["error"]
    assert set(error) == {"code", "message", "details", "recovery_suggestions", "timestamp", "trace_id"}
    assert error["code"] == code
    assert isinstance(error["recovery_suggestions"], list)
    return dict(error)


def publish(server: LiveServer, *prices: float, live: bool = True) -> None:
    publisher = server.publisher

    def do() -> None:
        if live:
            publisher.live(publisher.topic("trades"))
        publisher.trade(*prices)

    server.do(do)


def test_a_subscription_is_confirmed_and_then_served(server: LiveServer, client: Client) -> None:
    answer = client.ask("subscribe", 7, **TRADES, symbols=["BTC/USDT"])
    [subscription] = answer.pop("subscriptions")
    assert answer == {"event": "subscribed", "id": 7, "errors": []}
    assert len(subscription.pop("epoch")) == 8
    assert subscription == {
        "requested": "BTC/USDT",
        "key": KEY,
        "stream": "crypto.trades",
        "provider": "binance",
        "symbol": "btcusdt",
        "state": "waiting",
        "sequence": 0,
    }
    publish(server, 1.5, 2.5)
    live, first, second = client.many(3)
    assert (live["event"], first["data"]["price"], second["data"]["price"]) == ("live", 1.5, 2.5)
    assert [one["sequence"] for one in (live, first, second)] == [1, 2, 3]


def test_the_newest_state_comes_right_after_the_confirmation(server: LiveServer, client: Client) -> None:
    client.trades()
    publish(server, 1.5)
    client.many(2)
    with server.connect() as late:
        assert late.trades()["subscriptions"][0]["state"] == "live"
        snapshot = late.read()
        assert (snapshot["type"], snapshot["sequence"], snapshot["data"]["price"]) == ("snapshot", 2, 1.5)


def test_one_bad_symbol_of_several_is_told_and_the_others_are_served(
    server: LiveServer, client: Client
) -> None:
    answer = client.trades("btcusdt", "btcusdd", "ethusdt")
    assert [one["symbol"] for one in answer["subscriptions"]] == ["btcusdt", "ethusdt"]
    [error] = answer["errors"]
    assert error["code"] == "CRYPTO_PAIR_NOT_FOUND"
    assert error["details"]["symbol"] == "btcusdd"
    assert "btcusdt" in error["recovery_suggestions"][0]
    publish(server, 1.5)
    assert client.read()["event"] == "live"


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        (TRADES | {"symbols": ["nothing"]}, "CRYPTO_PAIR_NOT_FOUND", "unknown binance pair 'nothing'"),
        (TRADES | {"provider": "binanse", "symbols": ["a"]}, "CRYPTO_INVALID_ARGUMENT", "binanse"),
        (TRADES | {"stream": "crypto.trade", "symbols": ["a"]}, "CRYPTO_INVALID_ARGUMENT", "crypto.trade"),
        (TRADES, "CRYPTO_INVALID_ARGUMENT", "'symbols' is missing"),
        ({"stream": "crypto.trades", "symbols": ["a"]}, "CRYPTO_INVALID_ARGUMENT", "'provider' is missing"),
        ({}, "CRYPTO_INVALID_ARGUMENT", "no stream is named"),
        (TRADES | {"symbols": "btcusdt"}, "CRYPTO_INVALID_ARGUMENT", "'symbols'"),
        (TRADES | {"symbols": [1]}, "CRYPTO_INVALID_ARGUMENT", "'symbols.0'"),
        (TRADES | {"symbols": ["a" * 65]}, "CRYPTO_INVALID_ARGUMENT", "'symbols.0'"),
        (TRADES | {"symbols": ["a"] * 201}, "CRYPTO_INVALID_ARGUMENT", "'symbols'"),
        (TRADES | {"symbols": ["a"], "symbl": 1}, "CRYPTO_INVALID_ARGUMENT", "unknown parameter 'symbl'"),
        (TRADES | {"streams": [], "symbols": ["a"]}, "CRYPTO_INVALID_ARGUMENT", "'streams'"),
        (
            TRADES | {"streams": [TRADES | {"symbols": ["a"]}]},
            "CRYPTO_INVALID_ARGUMENT",
            "streams is given, and so is stream",
        ),
        ({"stream": "crypto.account", "provider": "binance"}, "CRYPTO_NOT_SUPPORTED", "not served yet"),
        ({"stream": "crypto.orders", "provider": "binance"}, "CRYPTO_NOT_SUPPORTED", "not served yet"),
    ],
)
def test_what_cannot_be_subscribed_to_is_refused_with_reasons(
    refused: Client, params: dict[str, Any], code: str, text: str
) -> None:
    answer = refused.ask("subscribe", "mine", **params)
    assert answer["id"] == "mine"
    assert text in error_of(answer, code)["message"]
    assert refused.ask("ping")["event"] == "pong"


def test_who_goes_on_asking_for_what_there_is_not_is_sent_away(refused: Client) -> None:
    for _ in range(11):
        error_of(refused.trades("nothing"), "CRYPTO_PAIR_NOT_FOUND")
    assert refused.closed() == 1008


def test_a_misspelt_parameter_names_the_right_ones(refused: Client) -> None:
    error = error_of(refused.ask("subscribe", **TRADES, symbol=["btcusdt"]), "CRYPTO_INVALID_ARGUMENT")
    assert error["recovery_suggestions"][0] == "did you mean symbols?"


def test_accounts_are_not_served_yet(refused: Client) -> None:
    answer = refused.ask(
        "auth", 1, provider="binance", api_key="k", signature="s", timestamp=1_692_345_600_000
    )
    error = error_of(answer, "CRYPTO_NOT_SUPPORTED")
    assert "crypto.trades" in error["recovery_suggestions"][0]


def test_an_exchange_that_is_out_of_reach_is_told(server: LiveServer, client: Client) -> None:
    server.publishers.failures.append(ProviderUnavailable("binance is down"))
    error_of(client.trades(), "CRYPTO_PROVIDER_UNAVAILABLE")
    assert client.trades()["event"] == "subscribed"


def test_streams_of_several_providers_have_one_name(server: LiveServer, client: Client) -> None:
    streams = [
        {"stream": "crypto.trades", "provider": "binance", "symbols": ["btcusdt"]},
        {"stream": "crypto.trades", "provider": "okx", "symbols": ["btc-usdt"]},
    ]
    answer = client.ask("subscribe", channel="trades_btc", streams=streams)
    assert [(one["provider"], one["channel"]) for one in answer["subscriptions"]] == [
        ("binance", "trades_btc"),
        ("okx", "trades_btc"),
    ]
    for provider in ("binance", "okx"):
        publisher = server.publishers.opened[provider]
        server.do(lambda publisher=publisher: publisher.trade(1.0))
        found = client.read()
        assert (found["channel"], found["provider"]) == ("trades_btc", provider)
    ended = client.ask("unsubscribe", channel="trades_btc")
    assert [one["provider"] for one in ended["subscriptions"]] == ["binance", "okx"]
    assert client.ask("list")["subscriptions"] == []


def test_a_channel_may_be_wanted_under_several_names(server: LiveServer, client: Client) -> None:
    client.trades()
    client.trades(channel='a "name"')
    publish(server, 1.0, live=False)
    assert [one.get("channel") for one in client.many(2)] == [None, 'a "name"']
    # Again under the same name is the same.
    assert len(client.trades()["subscriptions"]) == 1
    assert len(client.ask("list")["subscriptions"]) == 2


@pytest.mark.parametrize(
    ("params", "left"),
    [
        (TRADES | {"symbols": ["BTC/USDT"]}, ["ethusdt"]),
        (TRADES | {"symbols": ["BTC/USDT"], "channel": "other"}, ["btcusdt", "ethusdt"]),
        (TRADES | {"symbols": ["solusdt"]}, ["btcusdt", "ethusdt"]),
        ({}, []),
    ],
)
def test_what_is_unsubscribed_from_is_not_sent_any_more(
    server: LiveServer, client: Client, params: dict[str, Any], left: list[str]
) -> None:
    client.trades("btcusdt", "ethusdt")
    answer = client.ask("unsubscribe", **params)
    assert answer["event"] == "unsubscribed"
    assert [one["symbol"] for one in client.ask("list")["subscriptions"]] == left
    server.do(lambda: [server.publisher.trade(1.0), server.publisher.trade(1.0, instrument=ETH)])
    client.say("ping")
    seen = []
    while "event" not in (found := client.read()) or found["event"] != "pong":
        seen.append(found["symbol"])
    assert sorted(seen) in (left, [])


def test_list_tells_subscriptions_limits_and_streams(client: Client) -> None:
    client.trades()
    found = client.ask("list", 3)
    assert [one["key"] for one in found["subscriptions"]] == [KEY]
    assert found["flow"] == {
        "max_messages_per_second": None,
        "buffer_size": 10_000,
        "drop_policy": "disconnect",
    }
    assert found["streams"] == ["crypto.trades", "crypto.klines", "crypto.orderbook", "crypto.funding"]


def test_flow_is_configured_and_what_it_drops_is_told(server: LiveServer, client: Client) -> None:
    answer = client.ask("configure_flow", 1, max_messages_per_second=5, buffer_size=10, drop_policy="oldest")
    assert answer == {
        "event": "flow",
        "id": 1,
        "max_messages_per_second": 5.0,
        "buffer_size": 10,
        "drop_policy": "oldest",
    }
    client.trades()
    publish(server, *(float(n + 1) for n in range(30)), live=False)
    seen = []
    while not seen or seen[-1][0] < 30:
        found = client.read()
        seen.append((found["sequence"], found.get("dropped")))
    # A second's worth goes out at once; of the rest, the ten that may wait are the last.
    numbers = [sequence for sequence, _ in seen]
    assert numbers == sorted(set(numbers))
    assert seen[-10:] == [(number, None) for number in range(21, 31)]
    missing = 30 - sum(dropped is None for _, dropped in seen)
    assert sum(dropped or 0 for _, dropped in seen) == missing > 0
    assert server.service.report().dropped["oldest"] == missing


@pytest.mark.parametrize(
    "params",
    [
        {"drop_policy": "random"},
        {"buffer_size": 0},
        {"buffer_size": 100_000},
        {"max_messages_per_second": 0},
        {"max_messages_per_second": "fast"},
        {"rate": 1},
    ],
)
def test_flow_that_is_not_possible_is_refused(refused: Client, params: dict[str, Any]) -> None:
    error_of(refused.ask("configure_flow", **params), "CRYPTO_INVALID_ARGUMENT")


def test_who_comes_back_gets_what_it_missed(server: LiveServer, client: Client) -> None:
    [subscription] = client.trades()["subscriptions"]
    publish(server, 1.0, 2.0)
    assert [one["sequence"] for one in client.many(3)] == [1, 2, 3]
    client.socket.close()
    wait_for(lambda: server.service.clients == 0)
    publish(server, 3.0, 4.0, live=False)
    with server.connect() as back:
        answer = back.trades(resume={KEY: {"epoch": subscription["epoch"], "sequence": 3}})
        assert answer["subscriptions"][0]["epoch"] == subscription["epoch"]
        assert [(one["sequence"], one["type"]) for one in back.many(2)] == [(4, "update"), (5, "update")]
    with server.connect() as back:
        back.trades(resume={KEY: {"epoch": "another", "sequence": 3}})
        gap, snapshot = back.many(2)
        assert (gap["event"], gap["reason"]) == ("gap", "the channel began anew")
        assert (snapshot["type"], snapshot["sequence"]) == ("snapshot", 5)


def test_a_lost_stream_is_told_and_so_is_what_is_missing(server: LiveServer, client: Client) -> None:
    client.trades()
    publish(server, 1.0)
    client.many(2)
    publisher = server.publisher
    server.do(lambda: publisher.lose(publisher.topic("trades"), "the exchange has gone"))
    lost = client.read()
    assert (lost["event"], lost["symbol"], lost["reason"]) == (
        "disconnected",
        "btcusdt",
        "the exchange has gone",
    )
    server.do(lambda: publisher.live(publisher.topic("trades")))
    assert [one["event"] for one in client.many(2)] == ["gap", "live"]


def test_a_channel_that_the_exchange_refuses_later_ends_with_an_error(
    server: LiveServer, client: Client
) -> None:
    client.trades(channel="mine")
    publisher = server.publisher
    refusal = NotSupported("binance does not stream it")
    server.do(lambda: publisher.sink.refused(publisher.topic("trades"), refusal))
    told = client.read()
    error_of(told, "CRYPTO_NOT_SUPPORTED")
    assert (told["channel"], told["symbol"]) == ("mine", "btcusdt")
    assert client.ask("list")["subscriptions"] == []


def test_a_connection_has_as_many_subscriptions_as_it_may(settings: Settings) -> None:
    with serving(settings, stream_subscriptions=2) as server, server.connect() as client:
        answer = client.trades("btcusdt", "ethusdt", "solusdt")
        assert len(answer["subscriptions"]) == 2
        assert answer["errors"][0]["code"] == "CRYPTO_TOO_MANY_SUBSCRIPTIONS"
        client.ask("unsubscribe", **TRADES, symbols=["btcusdt"])
        assert client.trades("solusdt")["event"] == "subscribed"


def test_commands_are_answered_in_their_order(client: Client) -> None:
    for number in range(20):
        if number % 2:
            client.say("ping", number)
        else:
            client.say("subscribe", number, **TRADES, symbols=["btcusdt", f"nothing{number}"])
    assert [one["id"] for one in client.many(20)] == list(range(20))
