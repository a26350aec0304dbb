"""Metrics and health over real files, measured by real requests."""

import time

import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.budget import Pause
from zvt_crypto.exchanges.health import HealthLog, health_path
from zvt_crypto.scheduling.history import PARTIAL, ErrorLine, History, RunRecord
from zvt_crypto.scheduling.places import history_path
from zvt_crypto.server import tablefacts
from zvt_crypto.server.app import create_app
from zvt_crypto.server.tablefacts import TableReader
from zvt_crypto.store.engine import Store

CHECKS = {
    "database_connectivity",
    "exchange_connectivity",
    "websocket_streams",
    "data_freshness",
    "memory_usage",
}


@pytest.fixture
def samples(client):
    """The samples of ``/metrics``: ``samples("zvt_crypto_table_rows", table="cryptopair")``."""

    def found(name, **labels):
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert answer.content_type.startswith("text/plain; version=")
        return [
            sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    return found


def asked(settings, exchange="binance", *, answers=1, failures=0):
    log = HealthLog(exchange, health_path(settings.data_path.parent / "state", exchange))
    for _ in range(answers):
        with log.request(600.0):
            pass
    for _ in range(failures):
        with pytest.raises(ProviderUnavailable), log.request(600.0):
            raise ProviderUnavailable("down")


def health_of(client, status=200, path="/api/crypto/health"):
    answer = client.get(path)
    assert answer.status_code == status
    assert set(answer.json["checks"]) == CHECKS
    return answer.json


def database(settings, name, provider="binance"):
    return Store(settings).path(provider, load_tables().find(name))


def test_health_where_all_is_well(client, market):
    asked(market)
    found = health_of(client)
    assert found["status"] == "healthy"
    assert found["checks"] == {
        "database_connectivity": "pass",
        "exchange_connectivity": "pass",
        "websocket_streams": "not_used",
        "data_freshness": "unknown",
        "memory_usage": "pass",
    }
    assert found["uptime_seconds"] >= 0
    assert health_of(client, path="/health")["status"] == "healthy"


def test_nothing_recorded_and_nobody_asked_is_no_fault(empty_client):
    found = health_of(empty_client)
    assert found["status"] == "healthy"
    assert found["checks"]["exchange_connectivity"] == "unknown"


def test_one_table_of_many_that_is_damaged_degrades(client, market):
    database(market, "CryptoPair1dKdata").write_bytes(b"no database" * 1000)
    found = health_of(client)
    assert found["status"] == "degraded"
    assert found["checks"]["database_connectivity"] == "warn"
    assert "binance cryptopair_1d_kdata" in found["reasons"]["database_connectivity"]


def test_tables_that_were_sound_are_looked_at_again_once_they_change(client, market):
    assert health_of(client)["checks"]["database_connectivity"] == "pass"
    database(market, "CryptoPair1dKdata").write_bytes(b"no database" * 1000)
    assert health_of(client)["checks"]["database_connectivity"] == "warn"


def test_no_table_that_can_be_read_is_unhealthy(settings):
    path = database(settings, "CryptoPair1dKdata")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 1000)
    found = health_of(create_app(settings).test_client(), status=503)
    assert found["status"] == "unhealthy"
    assert found["checks"]["database_connectivity"] == "fail"


@pytest.mark.parametrize(("failing", "verdict"), [(("binance",), "warn"), (("binance", "okx"), "fail")])
def test_exchanges_that_do_not_answer_degrade(client, market, failing, verdict):
    for exchange in ("binance", "okx"):
        is_failing = exchange in failing
        asked(market, exchange, answers=0 if is_failing else 1, failures=int(is_failing))
    found = health_of(client)
    assert found["status"] == "degraded"
    assert found["checks"]["exchange_connectivity"] == verdict
    assert "binance is down" in found["reasons"]["exchange_connectivity"]


@pytest.mark.parametrize(
    ("provider", "verdict", "words"),
    [("binance", "warn", "ends 2024-"), ("kraken", "warn", "has no rows")],
)
def test_scheduled_candles_that_are_late_degrade(market, provider, verdict, words):
    entry = {"name": "candles", "provider": provider, "codes": ["btcusdt"], "levels": ["1m"]}
    settings = Settings(data_path=market.data_path, schedule=[entry])
    found = health_of(create_app(settings).test_client())
    assert found["status"] == "degraded"
    assert found["checks"]["data_freshness"] == verdict
    assert words in found["reasons"]["data_freshness"]


def test_scheduled_candles_on_time_pass(market, recorder):
    minute = int(time.time()) // 60 * 60_000 - 60_000
    prices = {name: [10.0] for name in ("open", "high", "low", "close")}
    row = pa.table({"ts": [minute], **prices, "volume": [1.0], "turnover": [10.0], "trade_count": [1]})
    recorder.series("binance", "CryptoPair1mKdata", "btcusdt", row)
    entry = {"name": "candles", "provider": "binance", "codes": ["btcusdt"], "levels": ["1m"]}
    settings = Settings(data_path=market.data_path, schedule=[entry])
    assert health_of(create_app(settings).test_client())["checks"]["data_freshness"] == "pass"


def test_rows_are_those_of_the_tables_and_follow_them(samples, client, market, ask):
    of_table = {"provider": "binance", "table": "cryptopair_1d_kdata"}
    total = ask("CryptoPair1dKdata")["total"]
    assert samples("zvt_crypto_table_rows", **of_table) == [total]
    spec = load_tables().find("CryptoPair1dKdata")
    with Store(market).connect("binance", spec) as connection, connection.transaction():
        connection.run("DELETE FROM rows WHERE ts = (SELECT max(ts) FROM rows)")
    assert samples("zvt_crypto_table_rows", **of_table) == [total - 1]
    assert samples("zvt_crypto_table_rows", provider="okx", table="cryptopair") == [4]
    assert samples("zvt_crypto_last_row_timestamp_seconds", **of_table) == [1_709_078_400]


def test_rows_written_are_counted_whoever_wrote_them(samples, market, recorder):
    of_table = {"provider": "binance", "table": "cryptopair_1m_kdata"}
    [before] = samples("zvt_crypto_rows_written_total", **of_table)
    prices = {name: [10.0, 11.0] for name in ("open", "high", "low", "close")}
    more = {"volume": [1.0] * 2, "turnover": [10.0] * 2, "trade_count": [1] * 2}
    rows = pa.table({"ts": [1_800_000_000_000, 1_800_000_060_000], **prices, **more})
    for _ in range(2):
        recorder.series("binance", "CryptoPair1mKdata", "btcusdt", rows)
    assert samples("zvt_crypto_rows_written_total", **of_table) == [before + 4]
    assert samples("zvt_crypto_rows_written_total", table="cryptopair") == []


def test_rows_that_take_too_long_to_count_are_counted_by_and_by(market, monkeypatch):
    reader = TableReader()
    monkeypatch.setattr(tablefacts, "COUNTING_SECONDS", -1.0)
    first = {(t.provider, t.spec.name): t.rows for t in reader.look(market, count_rows=True)}
    assert first["binance", "cryptopair_1m_kdata"] is None
    monkeypatch.setattr(tablefacts, "COUNTING_SECONDS", 60.0)
    second = {(t.provider, t.spec.name): t.rows for t in reader.look(market, count_rows=True)}
    assert second["binance", "cryptopair_1m_kdata"] == 3_000 - 11 + 500


def test_a_table_that_cannot_be_read_has_no_rows_to_tell(samples, market):
    database(market, "CryptoPair1dKdata").write_bytes(b"no database" * 1000)
    of_table = {"provider": "binance", "table": "cryptopair_1d_kdata"}
    assert samples("zvt_crypto_table_readable", **of_table) == [0]
    assert samples("zvt_crypto_table_rows", **of_table) == []
    assert samples("zvt_crypto_table_readable", table="cryptopair") == [1, 1]


def test_requests_of_clients_are_counted_by_path_and_not_by_what_they_make_up(samples, client, ask):
    ask("CryptoPair")
    ask("CryptoPair", status=400, colour="red")
    for name in ("a", "b"):
        client.get(f"/nowhere/{name}")
    counted = {"path": "/api/data/CryptoPair", "method": "GET"}
    assert samples("zvt_crypto_http_requests_total", **counted, status="200") == [1]
    assert samples("zvt_crypto_http_requests_total", **counted, status="400") == [1]
    assert samples("zvt_crypto_http_requests_total", path="none", status="404") == [2]
    assert samples("zvt_crypto_http_request_duration_seconds_count", path="/api/data/CryptoPair") == [2]


def test_made_up_methods_do_not_grow_the_metrics(samples, client):
    for number in range(5):
        client.open("/health", method=f"METHOD{number}")
    assert samples("zvt_crypto_http_requests_total", method="other") == [5]


def test_exchanges_are_told_by_their_measurements(samples, market):
    assert samples("zvt_crypto_exchange_requests_total") == []
    asked(market, answers=3, failures=2)
    Pause("okx", market.data_path.parent / "state" / "okx.json").hold(60)
    assert samples("zvt_crypto_exchange_requests_total", exchange="binance") == [5]
    assert samples("zvt_crypto_exchange_failures_total", exchange="binance") == [2]
    assert samples("zvt_crypto_exchange_latency_seconds_count", exchange="binance") == [3]
    assert samples("zvt_crypto_exchange_paused_until_seconds", exchange="okx")[0] > time.time()
    assert samples("zvt_crypto_exchange_paused_until_seconds", exchange="binance") == [0]
    assert len(samples("zvt_crypto_rate_limit_used_ratio", exchange="binance")) == 1


def test_two_applications_of_a_process_count_for_themselves(client, market, samples):
    other = create_app(market).test_client()
    for _ in range(3):
        other.get("/health")
    assert samples("zvt_crypto_http_requests_total", path="/health") == []


def test_the_specifications_metrics(client, market, ask):
    ask("CryptoPair")
    asked(market, answers=2, failures=1)
    found = client.get("/api/crypto/metrics").json
    assert found["websocket_metrics"] == {
        "total_reconnects_24h": 0,
        "average_message_lag_ms": None,
        "messages_dropped_24h": 0,
    }
    assert found["performance_metrics"]["average_query_response_ms"] > 0
    assert 0 < found["performance_metrics"]["current_memory_usage_gb"] < 64
    assert found["performance_metrics"]["active_websocket_connections"] == 0
    assert found["exchange_metrics"]["binance"]["requests_24h"] == 3
    assert found["exchange_metrics"]["binance"]["failures_24h"] == 1


def test_scheduled_runs_of_a_day_tell_failures_and_gaps(client, market):
    path = history_path(market)
    now = int(time.time() * 1000)
    history = History(path, busy_timeout=1.0)
    for started in (now - 2 * 86_400_000, now - 1000):
        begun = history.begin("candles", started)
        history.finish(
            RunRecord(
                begun.id,
                "candles",
                started,
                finished=started + 1,
                state=PARTIAL,
                exit_code=3,
                errors=(ErrorLine("CRYPTO_DATA_QUALITY_FAILURE", "the high is below the low"),),
                missing=("cryptopair_1m_kdata binance btcusdt", "cryptopair_1m_kdata binance ethusdt"),
            )
        )
    history.close()
    found = client.get("/api/crypto/metrics").json["data_quality_metrics"]
    assert found["validation_failures_24h"] == 1
    assert found["data_gaps_detected_24h"] == 2


def test_monitoring_makes_no_file(empty_client, settings):
    for path in ("/health", "/metrics", "/api/crypto/metrics", "/api/crypto/config"):
        assert empty_client.get(path).status_code == 200
    assert not settings.data_path.exists()
    assert not (settings.data_path.parent / "state").exists()
