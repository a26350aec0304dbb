"""Comparisons of prices out of real files."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from zvt_crypto.core.errors import DataQualityFailure, InvalidArgument, PairNotFound
from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS, level_ms
from zvt_crypto.domain import load_tables
from zvt_crypto.quality.prices import TOLERANCE_PCT
from zvt_crypto.quality.quotes import compare_range, last_common_time, prices_at, tables_with
from zvt_crypto.store.writer import Entity, SeriesWriter

tables = load_tables()
START = 1_704_067_200_000
MINUTES = tables["cryptopair_1m_kdata"]
HOURS = tables["cryptopair_1h_kdata"]
BTC = ("cryptopair", "btcusdt")


@pytest.fixture
def write(store):
    """Stores a candle at each place given, with a close and a volume."""

    def written(provider, closes, spec=MINUTES, code="btcusdt", volume=2.0):
        ts = START + np.array(sorted(closes), np.int64) * level_ms(spec.level)
        close = np.array([closes[number] for number in sorted(closes)], float)
        columns = {column.name: close for column in spec.columns}
        columns |= {"volume": np.full(len(ts), volume), "trade_count": np.ones(len(ts))}
        with store.connect(provider, spec) as connection:
            writer = SeriesWriter(connection, spec)
            key = writer.entity_key(Entity(f"{spec.entity_type}_{provider}_{code}", code, None))
            batch = pa.table({"ts": ts, **columns}).cast(spec.schema)
            writer.write_page(key, batch, answered=[])

    return written


def minute(number):
    return START + number * MINUTE_MS


class TestRecorded:
    def test_the_last_candle_that_was_finished(self, store, write):
        write("binance", {0: 100.0, 1: 101.0, 2: 102.0})
        for at, price in ((minute(1), 100.0), (minute(2) - 1, 100.0), (minute(2), 101.0), (minute(3), 102.0)):
            quote = prices_at(store, *BTC, ["binance"], at).quotes["binance"]
            assert (quote.price, quote.time, quote.level) == (price, at // MINUTE_MS * MINUTE_MS, "1m")

    def test_compared_with_volume_as_weight(self, store, write):
        write("binance", {0: 100.0}, volume=3.0)
        write("okx", {0: 100.2}, volume=1.0)
        write("bybit", {0: 110.0}, volume=9.0)
        found = prices_at(store, *BTC, ["okx", "binance", "bybit"], minute(1))
        assert list(found.quotes) == ["okx", "binance", "bybit"]
        comparison = found.compare()
        assert comparison.outliers == ("bybit",)
        assert comparison.recommended_price == pytest.approx(100.05)
        assert not found.left_out

    def test_age_lowers_confidence(self, store, write):
        write("binance", {0: 100.0})
        write("okx", {0: 100.0})
        fresh, old = (
            prices_at(store, *BTC, ["binance", "okx"], at).compare() for at in (minute(1), minute(4))
        )
        assert fresh.confidence_score == pytest.approx(0.96)
        assert old.confidence_score < 0.9

    def test_an_old_price_is_left_out_and_named(self, store, write):
        write("binance", {0: 100.0, 10: 100.0})
        write("okx", {4: 100.0})
        assert list(prices_at(store, *BTC, ["binance", "okx"], minute(10)).quotes) == ["okx"]
        found = prices_at(store, *BTC, ["binance", "okx"], minute(11))
        assert list(found.quotes) == ["binance"]
        error = found.left_out["okx"]
        assert isinstance(error, DataQualityFailure)
        assert "360 seconds old" in error.message
        assert "zvt-crypto record --provider okx --codes cryptopair_okx_btcusdt" in error.one_line()
        found = prices_at(store, *BTC, ["binance", "okx"], minute(11), max_age_ms=6 * MINUTE_MS)
        assert not found.left_out

    def test_a_provider_without_the_market_is_left_out(self, store, write):
        write("binance", {0: 100.0})
        write("okx", {0: 100.0}, code="btcusd")
        found = prices_at(store, *BTC, ["binance", "okx", "bybit"], minute(1))
        assert list(found.quotes) == ["binance"]
        assert {type(error) for error in found.left_out.values()} == {PairNotFound}
        assert list(found.left_out) == ["okx", "bybit"]

    def test_the_finest_level_that_has_a_price_then(self, store, write):
        write("binance", {0: 100.0}, spec=HOURS)
        write("binance", {0: 99.0, 70: 98.0})
        quotes = [
            prices_at(store, *BTC, ["binance"], START + at).quotes["binance"]
            for at in (MINUTE_MS, HOUR_MS, HOUR_MS + 11 * MINUTE_MS)
        ]
        assert [(quote.level, quote.price) for quote in quotes] == [("1m", 99.0), ("1h", 100.0), ("1m", 98.0)]
        by_hour = prices_at(store, *BTC, ["binance"], START + HOUR_MS, level="1h")
        assert by_hour.quotes["binance"].level == "1h"
        with pytest.raises(PairNotFound, match="no 5m candles"):
            prices_at(store, *BTC, ["binance"], START + HOUR_MS, level="5m")

    def test_no_price_at_all(self, store, write):
        with pytest.raises(PairNotFound, match="binance.*okx"):
            prices_at(store, *BTC, ["binance", "okx"], minute(1))
        write("binance", {5: 100.0})
        with pytest.raises(DataQualityFailure, match="no candle of btcusdt that ended by"):
            prices_at(store, *BTC, ["binance", "okx"], minute(1))
        with pytest.raises(InvalidArgument, match="no provider"):
            prices_at(store, *BTC, [], minute(1))

    def test_tables_and_last_common_time(self, store, write):
        assert tables_with(store, *BTC) == {}
        write("binance", {0: 1.0}, spec=HOURS)
        write("binance", {0: 1.0})
        write("okx", {7: 1.0})
        write("okx", {0: 1.0}, spec=tables["cryptoperp_1m_kdata"])
        found = tables_with(store, *BTC)
        assert found == {"binance": [MINUTES, HOURS], "okx": [MINUTES]}
        assert tables_with(store, *BTC, ["okx"]) == {"okx": [MINUTES]}
        assert last_common_time(store, found, "btcusdt") == minute(8)
        assert last_common_time(store, {}, "btcusdt") is None


class TestRange:
    def test_each_time_by_itself(self, store, write):
        write("binance", {0: 100.0, 1: 100.0, 3: 100.0})
        write("okx", {0: 100.1, 1: 100.1, 2: 100.1})
        write("bybit", {0: 100.2, 1: 120.0})
        found = compare_range(store, MINUTES, "btcusdt", ["binance", "okx", "bybit"])
        assert found.column_names == [
            "timestamp",
            "close_binance",
            "close_okx",
            "close_bybit",
            "median",
            "max_deviation_pct",
            "is_outlier_binance",
            "is_outlier_okx",
            "is_outlier_bybit",
        ]
        assert found["timestamp"].to_pylist() == [dt.datetime(2024, 1, 1, 0, number) for number in range(4)]
        assert found["close_binance"].to_pylist() == [100.0, 100.0, None, 100.0]
        assert found["median"].to_pylist() == [100.1, 100.1, 100.1, 100.0]
        widest = found["max_deviation_pct"].to_pylist()
        assert widest[:2] == pytest.approx([0.2 / 1.001, 20 / 1.001])
        assert widest[2:] == [None, None]
        assert found["is_outlier_bybit"].to_pylist() == [False, True, None, None]
        assert found["is_outlier_okx"].to_pylist() == [False, False, False, None]

    def test_within_a_range_and_with_a_tolerance(self, store, write):
        for number, provider in enumerate(("binance", "okx", "bybit")):
            write(provider, dict.fromkeys(range(10), 100.0 + (number == 2) * TOLERANCE_PCT))
        names = ["binance", "okx", "bybit"]
        found = compare_range(store, MINUTES, "btcusdt", names, minute(3), minute(5))
        assert (len(found), any(found["is_outlier_bybit"].to_pylist())) == (2, False)
        found = compare_range(store, MINUTES, "btcusdt", names, minute(3), tolerance_pct=0.1)
        assert found["is_outlier_bybit"].to_pylist() == [True] * 7

    def test_nothing_there(self, store, write):
        found = compare_range(store, MINUTES, "btcusdt", ["binance", "okx"])
        assert found.num_rows == 0
        write("binance", {0: 100.0})
        assert compare_range(store, MINUTES, "btcusdt", ["binance", "okx"])["close_okx"].to_pylist() == [None]
        with pytest.raises(InvalidArgument, match="no provider"):
            compare_range(store, MINUTES, "btcusdt", [])
