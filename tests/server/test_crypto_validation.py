"""``/api/crypto/validation``: prices given and recorded, and gaps with their evidence."""

import pytest

from zvt_crypto.core.levels import MINUTE_MS, iso, parse_time

#: What is recorded of btcusdt, candles of a minute, and which of them are missing; see conftest.py.
FIRST = parse_time("2024-01-01")
CANDLES = 3_000
HOLES = (*range(100, 110), 777)

PRICES = {"binance": 45250.50, "okx": 45251.00, "bybit": 45249.75}


@pytest.fixture
def compare(client):
    def asked(status=200, **question):
        answer = client.post("/api/crypto/validation/price", json={"symbol": "btcusdt", **question})
        assert answer.status_code == status, answer.text
        return answer.json if status == 200 else answer.json["error"]

    return asked


@pytest.fixture
def gaps(client):
    def asked(status=200, **question):
        given = {"provider": "binance", "symbol": "btcusdt", **question}
        answer = client.get("/api/crypto/validation/gaps", query_string=given)
        assert answer.status_code == status, answer.text
        return answer.json if status == 200 else answer.json["error"]

    return asked


def test_the_question_of_the_specification(compare):
    found = compare(providers=list(PRICES), timestamp="2024-08-18T12:34:56.789Z", prices=PRICES)
    result = found["validation_result"]
    assert len(result) == 5
    assert result["is_valid"] is True
    assert result["max_deviation_pct"] == pytest.approx(0.003, abs=0.001)
    assert result["outliers"] == []
    assert result["confidence_score"] == pytest.approx(0.998, abs=0.001)
    assert result["recommended_price"] == pytest.approx(45250.42, abs=0.01)
    assert found["timestamp"] == "2024-08-18T12:34:56.789Z"


def test_an_outlier_is_named_and_counted(compare, client):
    found = compare(prices={**PRICES, "kraken": 60_000.0})
    assert found["validation_result"]["outliers"] == ["kraken"]
    assert not found["validation_result"]["is_valid"]
    counted = client.get("/api/crypto/metrics").json["data_quality_metrics"]
    assert counted["cross_exchange_deviations"] == 1


def test_the_tolerance_is_the_askers(compare):
    assert not compare(prices=PRICES, tolerance_pct=0.001)["validation_result"]["is_valid"]


def test_recorded_prices_are_looked_up(compare, ask):
    at = FIRST + 60 * MINUTE_MS
    found = compare(providers=["binance", "okx"], timestamp=iso(at))
    opened = iso(at - MINUTE_MS)
    rows = ask("CryptoPair1mKdata", codes="btcusdt", start_timestamp=opened, end_timestamp=opened)["data"]
    close = rows[0]["close"]
    assert found["validation_result"]["recommended_price"] == close
    assert found["prices"]["okx"] == {
        "price": close,
        "deviation_pct": 0.0,
        "timestamp": iso(at),
        "level": "1m",
    }
    assert found["validation_result"]["is_valid"]
    assert found == compare(providers=["binance", "okx"], timestamp=at)


def test_without_a_time_it_is_the_last_one_that_all_recorded(compare):
    found = compare(symbol="BTC/USDT")
    assert found["timestamp"] == "2024-03-01T00:00:00Z"
    assert set(found["prices"]) == {"binance", "okx"}


def test_a_provider_without_a_price_is_left_out_and_said(compare):
    found = compare(providers=["binance", "okx", "kraken"], timestamp=iso(FIRST + 60 * MINUTE_MS))
    assert set(found["prices"]) == {"binance", "okx"}
    error = found["left_out"]["kraken"]
    assert error["code"] == "CRYPTO_PAIR_NOT_FOUND"
    assert "zvt-crypto record --provider kraken" in error["recovery_suggestions"][0]


def test_an_old_price_is_none(compare):
    old = iso(FIRST + (CANDLES + 30) * MINUTE_MS)
    error = compare(status=422, timestamp=old, providers=["binance"])
    assert error["code"] == "CRYPTO_DATA_QUALITY_FAILURE"
    assert compare(timestamp=old, providers=["binance"], max_age_seconds=3600)["prices"]["binance"]


@pytest.mark.parametrize(
    ("question", "status", "words"),
    [
        ({"symbol": "nosuch"}, 404, "nosuch"),
        ({"symbol": " "}, 400, "empty"),
        ({"symbol": "x" * 300}, 400, "symbol"),
        ({"symbol": None}, 400, "symbol"),
        ({"providers": ["binanse"]}, 400, "binance"),
        ({"providers": ["../etc"]}, 400, "unknown provider"),
        ({"providers": []}, 400, "providers"),
        ({"timestamp": "soon"}, 400, "soon"),
        ({"timestamp": -5}, 400, "-5"),
        ({"prices": {}}, 400, "no prices"),
        ({"prices": {"okx": 0}}, 400, "okx"),
        ({"prices": {"okx": -1.0}}, 400, "okx"),
        ({"prices": {"okx": 1e300}}, 400, "okx"),
        ({"prices": {"okx": "many"}}, 400, "prices"),
        ({"prices": {"okx": 1.0}, "providers": ["okx", "kraken"]}, 400, "kraken"),
        ({"prices": {"okx": 1.0, "kraken": 1.0}, "providers": ["okx"]}, 400, "kraken"),
        ({"tolerance_pct": 0}, 400, "tolerance_pct"),
        ({"max_age_seconds": 1e12}, 400, "max_age_seconds"),
        ({"colour": "red"}, 400, "colour"),
    ],
)
def test_a_wrong_question_is_told_what_is_wrong(compare, question, status, words):
    error = compare(status=status, **question)
    assert words in error["message"] + str(error["recovery_suggestions"])
    assert error["trace_id"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"symbol": NaN}'])
def test_a_body_that_is_no_question_is_refused(client, body):
    answer = client.post("/api/crypto/validation/price", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json["error"]["code"] == "CRYPTO_INVALID_ARGUMENT"


def test_nothing_recorded_says_how_to_record(empty_client):
    answer = empty_client.post("/api/crypto/validation/price", json={"symbol": "btcusdt"})
    assert answer.status_code == 404
    assert "zvt-crypto record" in answer.json["error"]["recovery_suggestions"][0]


def test_gaps_come_with_kind_evidence_and_command(gaps):
    found = gaps()
    assert (found["rows"], found["total_gaps"], found["total_missing"]) == (
        CANDLES - len(HOLES),
        2,
        len(HOLES),
    )
    first, second = found["gaps"]
    assert (first["start"], first["end"]) == (iso(FIRST + 100 * MINUTE_MS), iso(FIRST + 110 * MINUTE_MS))
    assert (first["missing"], second["missing"]) == (10, 1)
    assert first["kind"] == "absent"
    assert {"answered": True, "source": "rest"} in first["evidence"]
    assert first["command"].startswith("zvt-crypto repair --provider binance")
    assert sum(total["missing"] for total in found["totals"].values()) == found["total_missing"]
    assert found["coverage"] == 1.0


def test_gaps_of_a_range_are_inclusive_of_its_end(gaps):
    until = {"start_timestamp": iso(FIRST)}
    assert gaps(**until, end_timestamp=iso(FIRST + 99 * MINUTE_MS))["total_gaps"] == 0
    assert gaps(**until, end_timestamp=iso(FIRST + 100 * MINUTE_MS))["total_missing"] == 1


def test_what_is_yet_to_come_is_not_missing(gaps):
    found = gaps(start_timestamp=iso(FIRST), end_timestamp="2099-01-01", interval="1d", limit=1)
    assert found["gaps"][0]["kind"] == "unrecorded"
    assert found["end_timestamp"] < "2099"
    future = gaps(start_timestamp="2098-01-01", end_timestamp="2099-01-01")
    assert (future["rows"], future["total_gaps"]) == (0, 0)


def test_the_list_is_cut_and_the_totals_are_not(gaps):
    found = gaps(limit=1)
    assert (len(found["gaps"]), found["total_gaps"], found["total_missing"]) == (1, 2, len(HOLES))


def test_perpetuals_are_named_as_such(gaps):
    found = gaps(symbol="BTC/USDT:USDT", interval="1h")
    assert found["entity_id"] == "cryptoperp_binance_btcusdt"
    assert found["total_missing"] == 1


@pytest.mark.parametrize(
    ("question", "status", "words"),
    [
        ({"symbol": "btcusd"}, 404, "btcusdt"),
        ({"symbol": "ethusdt", "interval": "4h"}, 404, "--levels 4h"),
        ({"interval": "2m"}, 400, "1m"),
        ({"provider": "binanse"}, 400, "binance"),
        ({"provider": ".."}, 400, "unknown provider"),
        ({"start_timestamp": "2024-02-01", "end_timestamp": "2024-01-01"}, 400, "after"),
        ({"start_timestamp": "yesterday"}, 400, "yesterday"),
        ({"limit": 0}, 400, "limit"),
        ({"limit": "ten"}, 400, "limit"),
        ({"level": "1m"}, 400, "level"),
        ({"symbol": "'; DROP TABLE rows; --"}, 404, "zvt-crypto record"),
    ],
)
def test_a_wrong_question_about_gaps_is_told_what_is_wrong(gaps, question, status, words):
    error = gaps(status=status, **question)
    assert words in error["message"] + str(error["recovery_suggestions"])
