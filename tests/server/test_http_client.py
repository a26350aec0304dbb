"""The client against the application over a real socket, compared with the local call."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import requests
from flask import Flask
from werkzeug.serving import make_server

import zvt_crypto
from zvt_crypto.client import Client
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import (
    InvalidArgument,
    NotSupported,
    ProviderUnavailable,
    RateLimitExceeded,
    StoreCorrupt,
    ZvtCryptoError,
)
from zvt_crypto.domain import load_tables
from zvt_crypto.server.app import create_app

#: What the recorded market has rows of.
RECORDED = (
    *("CryptoAsset", "CryptoPair", "CryptoPerp", "CryptoTrade", "CryptoFunding", "CryptoOrderbook"),
    *("CryptoPair1mKdata", "CryptoPair1dKdata", "CryptoPerp1hKdata"),
)
TABLES = [spec.class_name for spec in load_tables().values()]


@pytest.fixture
def local(market: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the local call read the recorded market."""
    monkeypatch.setenv("ZVT_CRYPTO_DATA_PATH", str(market.data_path))
    return lambda table, **arguments: getattr(zvt_crypto, table).query_data(**arguments)


def serving(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    yield from serving(app)


@pytest.fixture
def remote(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.mark.parametrize("provider", ["binance", "kraken"])
@pytest.mark.parametrize("table", TABLES)
def test_frames_are_those_of_the_local_call(local: Any, remote: Client, table: str, provider: str) -> None:
    expected = local(table, provider=provider)
    pd.testing.assert_frame_equal(remote.query_data(table, provider=provider), expected)
    assert expected.empty == (provider == "kraken" or table not in RECORDED)


ARGUMENTS: list[dict[str, Any]] = [
    {"codes": ["BTC/USDT", "ethusdt"]},
    {"code": "ethusdt"},
    {"codes": "btcusdt"},
    {"codes": ["nothing"]},
    {"entity_ids": ["cryptopair_binance_ethusdt"]},
    {"start_timestamp": "2024-01-01 01:00", "end_timestamp": pd.Timestamp("2024-01-01 02:00")},
    {"start_timestamp": "2030-01-01"},
    {"columns": ["close", "code"]},
    {"columns": "volume", "order": "timestamp_desc"},
    {"codes": ["btcusdt"], "limit": 7},
    {"codes": ["btcusdt"], "limit": 7, "order": "timestamp_desc"},
    {"limit": 20_000},
    {"codes": ["btcusdt"], "resample": "1h"},
    {"codes": ["btcusdt"], "resample": "1h", "unfinished": "mark", "fill": "ffill"},
    {"codes": ["btcusdt"], "fill": "ffill", "limit": 300},
    {"index": "timestamp"},
    {"index": ["entity_id", "timestamp"], "drop_index_col": True},
    {"columns": ["close"], "col_label": {"close": "price"}},
    {"provider": None, "level": "1m"},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_arguments_mean_what_they_mean_locally(local: Any, remote: Client, arguments: dict[str, Any]) -> None:
    given = {"provider": "binance", **arguments}
    table = zvt_crypto.CryptoPair1mKdata
    pd.testing.assert_frame_equal(remote.query_data(table, **given), local("CryptoPair1mKdata", **given))


def test_arrow_is_the_local_table(local: Any, remote: Client) -> None:
    given = {"provider": "okx", "return_type": "arrow"}
    assert remote.query_data("CryptoTrade", **given).equals(local("CryptoTrade", **given))


def test_filters_of_the_server(local: Any, remote: Client) -> None:
    trades = remote.query_data("CryptoTrade", provider="binance", side="buy", min_volume=0.03)
    every = local("CryptoTrade", provider="binance")
    expected = every[(every["side"] == "buy") & (every["volume"] >= 0.03)].reset_index(drop=True)
    pd.testing.assert_frame_equal(trades, expected)
    pairs = remote.query_data("CryptoPair", provider="binance", base_symbols=["btc", "xrp"], is_active=True)
    assert list(pairs["code"]) == ["btcusdt"]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"columns": ["nothing"]}, InvalidArgument, "nothing"),
        ({"limit": 0}, InvalidArgument, "limit"),
        ({"order": "sideways"}, InvalidArgument, "sideways"),
        ({"whatever": 1}, InvalidArgument, "whatever"),
        ({"start_timestamp": "2024-02-01", "end_timestamp": "2024-01-01"}, InvalidArgument, "after"),
        ({"resample": "7m"}, InvalidArgument, "7m"),
        ({"side": "up"}, InvalidArgument, "side"),
        ({"ids": ["a"]}, NotSupported, "server"),
        ({"return_type": "domain"}, NotSupported, "server"),
    ],
)
def test_wrong_arguments_raise_our_errors(
    remote: Client, arguments: dict[str, Any], error: type[ZvtCryptoError], text: str
) -> None:
    with pytest.raises(error, match=text):
        remote.query_data("CryptoPair1mKdata", provider="binance", **arguments)


def test_a_table_or_provider_must_be_known(remote: Client) -> None:
    with pytest.raises(InvalidArgument, match="CryptoNothing"):
        remote.query_data("CryptoNothing", provider="binance")
    with pytest.raises(InvalidArgument, match="provider"):
        remote.query_data("CryptoPair1mKdata")
    with pytest.raises(InvalidArgument, match="nobody"):
        remote.query_data("CryptoPair1mKdata", provider="nobody")


def test_what_fails_at_the_server_is_the_error_of_the_local_call(
    market: Settings, local: Any, remote: Client
) -> None:
    path = market.data_path / "binance" / "binance_cryptopair_1m_kdata.db"
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(StoreCorrupt) as here:
        local("CryptoPair1mKdata", provider="binance")
    with pytest.raises(StoreCorrupt) as there:
        remote.query_data("CryptoPair1mKdata", provider="binance")
    assert there.value.suggestions == here.value.suggestions
    assert there.value.details["http_status"] == 500
    assert there.value.details["trace_id"]


def test_a_limit_tells_when_to_ask_again(market: Settings) -> None:
    for url in serving(create_app(market.model_copy(update={"public_requests_per_minute": 1}))):
        with Client(url) as client:
            client.query_data("CryptoPair", provider="binance")
            with pytest.raises(RateLimitExceeded) as refused:
                client.query_data("CryptoPair", provider="binance")
    assert refused.value.retry_after is not None
    assert 0 <= refused.value.retry_after <= 61
    assert "wait" in refused.value.suggestions[0]


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", ""])
def test_a_url_must_be_one(url: str) -> None:
    with pytest.raises(InvalidArgument, match="URL"):
        Client(url)


def test_no_server_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ProviderUnavailable, match="127.0.0.1"):
        Client(f"http://127.0.0.1:{port}").query_data("CryptoPair", provider="binance")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "no rows"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nhi", "502"),
        (b'HTTP/1.1 500 X\r\nContent-Length: 14\r\n\r\n{"error": null}'[:-1], "500"),
        (b"no HTTP\r\n\r\n", "whole answer"),
        (b"", "whole answer"),
    ],
)
def test_other_servers_are_told_from_ours(answer: bytes, text: str) -> None:
    with _answering(answer) as port, pytest.raises(ProviderUnavailable, match=text):
        Client(f"http://127.0.0.1:{port}", timeout=20).query_data("CryptoPair", provider="binance")


def test_an_answer_that_breaks_off_is_no_shorter_frame(url: str) -> None:
    """Wherever it is cut, also between two batches."""
    whole = requests.get(
        f"{url}/api/data/CryptoPair1mKdata", {"provider": "binance", "format": "arrow"}, timeout=20
    ).content
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apache.arrow.stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    for cut in (0, 10, len(whole) // 2, len(whole) - 8, len(whole)):
        part = whole[:cut]
        body = b"%x\r\n%s\r\n" % (cut, part) if part else b""
        with _answering(head + body) as port, pytest.raises(ProviderUnavailable, match="whole answer"):
            Client(f"http://127.0.0.1:{port}", timeout=20).query_data("CryptoPair1mKdata", provider="binance")


class _answering:  # noqa: N801 - used as a function
    """A server that sends some bytes to its one client and leaves."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def __enter__(self) -> int:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return int(self._listener.getsockname()[1])

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(self._answer)

    def __exit__(self, *error: object) -> None:
        self._thread.join()
        self._listener.close()


def test_compressed_answers_are_the_same(local: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(url)
    answers: list[str | None] = []

    def note(response: requests.Response, *_: Any, **__: Any) -> None:
        answers.append(response.headers.get("Content-Encoding"))

    session = requests.Session()
    session.hooks["response"].append(note)
    elsewhere = Client(url.replace("127.0.0.1", "127.0.0.1.nip.invalid"), session=session)
    # The name leads nowhere; what matters is that it is not this machine's.
    monkeypatch.setattr(elsewhere, "url", url)
    given = {"provider": "binance", "codes": ["btcusdt"]}
    expected = local("CryptoPair1mKdata", **given)
    pd.testing.assert_frame_equal(elsewhere.query_data("CryptoPair1mKdata", **given), expected)
    pd.testing.assert_frame_equal(client.query_data("CryptoPair1mKdata", **given), expected)
    assert answers[0] in ("gzip", "zstd")
