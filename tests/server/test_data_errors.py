"""Whatever goes wrong with ``/api/data`` is told in the specification's form, and names what was wrong."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import textwrap

import pytest
from recorded_market import candles

from zvt_crypto.core import errors as core_errors
from zvt_crypto.core.errors import StoreCorrupt, ZvtCryptoError
from zvt_crypto.domain import load_tables
from zvt_crypto.store.engine import Store

CANDLES = "/api/data/CryptoPair1mKdata"


def failure(answer, status, code):
    """The error of an answer, its form checked."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/json"
    assert set(answer.json) == {"error"}
    error = answer.json["error"]
    assert set(error) == {"code", "message", "details", "recovery_suggestions", "timestamp", "trace_id"}
    assert error["code"] == code
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", error["timestamp"])
    assert answer.headers["X-Trace-Id"] == error["trace_id"]
    assert "Traceback" not in answer.text
    return error


def said(error):
    return " ".join([error["message"], *error["recovery_suggestions"]])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"limit": "0"}, ["limit", "'0'", "1"]),
        ({"limit": "-1"}, ["limit", "'-1'"]),
        ({"limit": 10**9}, ["limit", "1000000000", "10000"]),
        ({"limit": "ten"}, ["limit", "'ten'", "whole number"]),
        ({"limit": "9" * 5_000}, ["limit"]),
        ({"limit": ""}, ["limit"]),
        ({"order": "newest"}, ["order", "'newest'", "timestamp_asc", "timestamp_desc"]),
        ({"columns": "close,shut"}, ["'shut'", "close", "vwap", "timestamp"]),
        ({"columns": ","}, ["columns", "nothing"]),
        ({"codes": " , "}, ["codes", "nothing"]),
        ({"codes": ""}, ["codes"]),
        ({"start_timestamp": "yesterday"}, ["start_timestamp", "'yesterday'", "epoch milliseconds"]),
        ({"end_timestamp": "2024-13-01"}, ["end_timestamp", "2024-13-01"]),
        ({"start_timestamp": "2024-02-01", "end_timestamp": "2024-01-01"}, ["start_timestamp", "end_timestamp"]),
        ({"format": "xml"}, ["format", "'xml'", "json", "arrow", "parquet"]),
        ({"resample": "7m"}, ["resample", "'7m'", "15m"]),
        ({"fill": "zero"}, ["fill", "'zero'", "ffill"]),
        ({"cursor": "abc"}, ["cursor", "'abc'"]),
        ({"cursor": "\u00fc"}, ["cursor"]),
        ({"color": "red"}, ["'color'", "allowed", "codes", "start_timestamp"]),
        ({"start": "2024-01-01", "codez": "x"}, ["'start'", "'codez'", "start_timestamp", "codes"]),
        ({"x\x00y": "1"}, ["x\\x00y"]),
        ({"side": "buy"}, ["'side'"]),
        ({"provider": "bynance"}, ["'bynance'", "binance", "okx"]),
        ({"provider": "../x"}, ["provider", "'../x'"]),
        ({"provider": ".."}, ["provider"]),
        ({"provider": "binance\x00"}, ["provider"]),
        ({"provider": "binance/../okx"}, ["provider"]),
        ({"provider": "x" * 5_000}, ["provider"]),
        ({"provider": ""}, ["provider"]),
        ({"provider": "Binance"}, ["'Binance'", "binance"]),
        ({"provider": "binance\r\nSet-Cookie: a=b"}, ["provider"]),
    ],
)  # fmt: skip
def test_a_value_that_is_not_allowed_is_named(client, given, words):
    answer = client.get(CANDLES, query_string={"provider": "binance", **given})
    error = failure(answer, 400, "CRYPTO_INVALID_ARGUMENT")
    for word in words:
        assert word in said(error)
    assert "Set-Cookie" not in answer.headers
    assert len(answer.data) < 4_000


def test_provider_must_be_given(client):
    error = failure(client.get(CANDLES), 400, "CRYPTO_INVALID_ARGUMENT")
    assert "'provider' is missing" in error["message"]


@pytest.mark.parametrize(
    ("table", "given", "words"),
    [
        ("CryptoPair", {"is_active": "maybe"}, ["is_active", "'maybe'", "true", "false"]),
        ("CryptoPerp", {"max_leverage": "high"}, ["max_leverage", "'high'", "number"]),
        ("CryptoPerp", {"max_leverage": "nan"}, ["max_leverage"]),
        ("CryptoTrade", {"side": "long"}, ["side", "buy", "sell"]),
        ("CryptoTrade", {"min_volume": "inf"}, ["min_volume"]),
        ("CryptoTrade", {"min_volume": "-1"}, ["min_volume", "0"]),
        ("CryptoTrade", {"limit": 100_001}, ["limit", "100000"]),
        ("CryptoPair", {"start_timestamp": "2024-01-01"}, ["'start_timestamp'", "is_active"]),
        ("schemas", {"provider": "nosuch"}, ["'nosuch'"]),
        ("schemas", {"schema": "x"}, ["'schema'", "provider"]),
        ("providers", {}, ["'provider'"]),
    ],
)
def test_each_table_knows_its_own_parameters(client, table, given, words):
    answer = client.get(f"/api/data/{table}", query_string={"provider": "binance", **given})
    error = failure(answer, 400, "CRYPTO_INVALID_ARGUMENT")
    for word in words:
        assert word in said(error)


def test_repeated_parameters_are_refused(client):
    error = failure(client.get(f"{CANDLES}?provider=binance&codes=a&codes=b"), 400, "CRYPTO_INVALID_ARGUMENT")
    assert "'codes'" in error["message"]
    assert "commas" in said(error)


def test_trades_have_more_rows_on_a_page(client):
    assert client.get("/api/data/CryptoTrade?provider=binance&limit=100000").status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        {"codes": "nosuch"},
        {"codes": "btcusdt'; DROP TABLE rows; --"},
        {"codes": "btcusdt\x00"},
        {"entity_ids": "cryptopair_binance_nosuch"},
        {"entity_ids": "' OR 1=1 --"},
        {"codes": "btcusd"},
    ],
)
def test_markets_that_nobody_knows_are_not_found(client, given, market):
    error = failure(
        client.get(CANDLES, query_string={"provider": "binance", **given}), 404, "CRYPTO_PAIR_NOT_FOUND"
    )
    assert next(iter(given)) in error["message"]
    assert client.get(f"{CANDLES}?provider=binance&codes=btcusdt").json["total"] > 0


def test_a_misspelt_code_is_told_the_nearest(client):
    error = failure(client.get(f"{CANDLES}?provider=binance&codes=btcusdd"), 404, "CRYPTO_PAIR_NOT_FOUND")
    assert "btcusdt" in said(error)


def test_a_code_that_is_no_notation(client):
    failure(client.get(f"{CANDLES}?provider=binance&codes=a/b/c"), 400, "CRYPTO_SYMBOL_MAPPING_ERROR")


@pytest.mark.parametrize(
    ("table", "near"),
    [
        ("CryptoPair1mKData", "CryptoPair1mKdata"),
        ("cryptopair_1m_kdata", "CryptoPair1mKdata"),
        ("CryptoTrades", "CryptoTrade"),
    ],
)
def test_unknown_tables_are_told_the_nearest(client, table, near):
    error = failure(client.get(f"/api/data/{table}?provider=binance"), 404, "CRYPTO_NOT_FOUND")
    assert f"did you mean {near}" in said(error)
    assert "CryptoFunding" in said(error)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "CRYPTO_NOT_FOUND"),
        ("GET", "/api/data/a/b", 404, "CRYPTO_NOT_FOUND"),
        ("GET", "/api/data/%2e%2e%2fetc%2fpasswd", 404, "CRYPTO_NOT_FOUND"),
        ("GET", "/api/data/x%0d%0aSet-Cookie:%20a=b", 404, "CRYPTO_NOT_FOUND"),
        ("POST", CANDLES, 405, "CRYPTO_METHOD_NOT_ALLOWED"),
        ("DELETE", CANDLES, 405, "CRYPTO_METHOD_NOT_ALLOWED"),
    ],
)
def test_failures_of_http_have_the_same_form(client, method, path, status, code):
    answer = client.open(path, method=method)
    failure(answer, status, code)
    assert "Set-Cookie" not in answer.headers
    if status == 405:
        assert "GET" in answer.headers["Allow"]


def test_forms_that_do_not_exist_are_not_acceptable(client):
    answer = client.get(f"{CANDLES}?provider=binance", headers={"Accept": "image/png"})
    error = failure(answer, 406, "CRYPTO_NOT_ACCEPTABLE")
    assert "text/csv" in error["message"]


def error_classes(base=ZvtCryptoError):
    for cls in base.__subclasses__():
        yield cls
        yield from error_classes(cls)


#: ``crypto-api.md`` ("Crypto-Specific Error Codes", "Enhanced Error Codes"), and the codes of our own.
STATUSES = {
    "CRYPTO_PAIR_NOT_FOUND": 404,
    "CRYPTO_PROVIDER_UNAVAILABLE": 503,
    "CRYPTO_INSUFFICIENT_BALANCE": 400,
    "CRYPTO_MIN_NOTIONAL_NOT_MET": 400,
    "CRYPTO_PRECISION_ERROR": 400,
    "CRYPTO_FUNDING_SETTLEMENT": 423,
    "CRYPTO_WEBSOCKET_DISCONNECTED": 503,
    "CRYPTO_DATA_QUALITY_FAILURE": 422,
    "CRYPTO_ORDERBOOK_DESYNC": 503,
    "CRYPTO_FUNDING_RATE_MISSING": 404,
    "CRYPTO_EXCHANGE_MAINTENANCE": 503,
    "CRYPTO_SYMBOL_MAPPING_ERROR": 400,
    "CRYPTO_RATE_LIMIT_EXCEEDED": 429,
}
CLASSES = [
    cls
    for cls in error_classes()
    if cls.__module__ == core_errors.__name__
    and cls.__name__ not in ("RetriableError", "SkippableError", "FatalError")
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_every_error_of_ours_has_its_status(app, cls, caplog):
    @app.get("/fails")
    def fails():
        raise cls("it failed", provider="binance")

    caplog.set_level(logging.INFO)
    error = failure(app.test_client().get("/fails"), cls.http_status, cls.code)
    assert cls.http_status == STATUSES.get(cls.code, cls.http_status)
    assert error["details"]["provider"] == "binance"
    assert error["recovery_suggestions"] == list(cls("it failed").suggestions)
    assert any(error["trace_id"] in record.getMessage() for record in caplog.records)


def test_a_crash_tells_its_trace_id_and_nothing_else(app, caplog):
    @app.get("/crashes")
    def crashes():
        raise RuntimeError("the secret is 42")

    answer = app.test_client().get("/crashes")
    error = failure(answer, 500, "CRYPTO_INTERNAL_ERROR")
    assert "secret" not in answer.text
    (record,) = [record for record in caplog.records if error["trace_id"] in record.getMessage()]
    assert "the secret is 42" in str(record.exc_info)


def test_a_wait_is_told_in_retry_after(app):
    @app.get("/waits")
    def waits():
        raise core_errors.RateLimitExceeded("too many", retry_after=7.2)

    answer = app.test_client().get("/waits")
    failure(answer, 429, "CRYPTO_RATE_LIMIT_EXCEEDED")
    assert int(answer.headers["Retry-After"]) >= 8


@pytest.mark.parametrize("form", ["json", "csv", "arrow", "parquet", "ndjson"])
def test_a_corrupt_database_is_told(client, market, form):
    spec = load_tables().find("CryptoPair1mKdata")
    path = Store(market).path("binance", spec)
    path.write_bytes(b"this is no database" * 1_000)
    answer = client.get(f"{CANDLES}?provider=binance&format={form}")
    error = failure(answer, 500, StoreCorrupt.code)
    assert path.name in error["message"]
    assert str(market.data_path) not in answer.text


def test_a_database_that_is_broken_in_the_middle_is_told(client, market):
    """The head of the file is sound: it is the first batch that cannot be read."""
    spec = load_tables().find("CryptoPair1mKdata")
    path = Store(market).path("binance", spec)
    content = bytearray(path.read_bytes())
    # Leaf pages of the rows; what is before them tells the layout and the entities.
    content[60_000:] = b"\xff" * (len(content) - 60_000)
    path.write_bytes(content)
    for form in ("json", "csv", "arrow"):
        answer = client.get(f"{CANDLES}?provider=binance&format={form}&codes=btcusdt&limit=10000")
        failure(answer, 500, StoreCorrupt.code)


def test_a_writer_keeps_nobody_from_reading(client, market):
    """The lock is another process's, as a recorder's would be."""
    spec = load_tables().find("CryptoPair1mKdata")
    path = Store(market).path("binance", spec)
    code = textwrap.dedent(
        f"""
        import pathlib, sys
        from zvt_crypto.store.sqlite import Connection
        with Connection(pathlib.Path({str(path)!r}), busy_timeout=1) as connection, connection.transaction():
            connection.run("DELETE FROM rows WHERE ts % 120000 = 0")
            print("locked", flush=True)
            sys.stdin.read()
            raise SystemExit(0)
        """
    )
    before = client.get(f"{CANDLES}?provider=binance").json["total"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout.readline() == "locked\n"
        answer = client.get(f"{CANDLES}?provider=binance&limit=10000")
        process.stdin.close()
        process.wait(timeout=30)
    assert (answer.status_code, answer.json["total"], len(answer.json["data"])) == (200, before, before)


def test_a_database_that_is_deleted_and_made_anew(client, market, recorder):
    assert client.get(f"{CANDLES}?provider=binance").json["total"] > 20
    path = Store(market).path("binance", load_tables().find("CryptoPair1mKdata"))
    path.unlink()
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    assert client.get(f"{CANDLES}?provider=binance").json["total"] == 0
    recorder.series("binance", "CryptoPair1mKdata", "btcusdt", candles("1m", 20))
    assert client.get(f"{CANDLES}?provider=binance").json["total"] == 20
