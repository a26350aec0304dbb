"""prices, over candles that are there already."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import level_ms, parse_time
from zvt_crypto.domain import load_tables
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity, SeriesWriter

FIRST = parse_time("2024-01-01")
#: The end of the last of ten one-minute candles.
LAST = "2024-01-01T00:10:00Z"


@pytest.fixture
def quote(inside):
    """Stores candles of one close, from 2024-01-01 on."""
    tables = load_tables()
    store = Store(Settings(data_path=inside.data_path))

    def stored(provider, close, count=10, *, name="CryptoPair1mKdata", code="btcusdt", volume=1.0):
        spec = tables.find(name)
        ones = np.ones(count)
        prices = {column: close * ones for column in ("open", "high", "low", "close")}
        amounts = {"volume": volume * ones, "turnover": volume * close * ones, "trade_count": ones}
        ts = FIRST + np.arange(count) * level_ms(spec.level)
        with store.connect(provider, spec) as connection:
            writer = SeriesWriter(connection, spec)
            key = writer.entity_key(Entity(f"{spec.entity_type}_{provider}_{code}", code, None))
            writer.write_page(key, pa.table({"ts": ts, **prices, **amounts}).cast(spec.schema), answered=[])

    return stored


@pytest.fixture
def recorded(inside, quote):
    quote("binance", 45250.50)
    quote("okx", 45251.00)
    quote("bybit", 45249.75)
    return inside


class TestOneTime:
    def test_json_is_the_api_s_answer_and_what_it_is_of(self, recorded):
        answer = recorded.json("prices", "--codes", "BTC/USDT", "--at", "2024-01-01T00:05:30Z")
        assert list(answer) == ["symbol", "timestamp", "validation_result", "prices", "left_out"]
        assert (answer["symbol"], answer["timestamp"]) == ("btcusdt", "2024-01-01T00:05:30Z")
        result = answer["validation_result"]
        assert (result["is_valid"], result["outliers"]) == (True, [])
        assert round(result["max_deviation_pct"], 3) == 0.003
        assert round(result["recommended_price"], 2) == 45250.42
        assert 0.9 < result["confidence_score"] < 1
        assert list(answer["prices"]) == ["binance", "bybit", "okx"]
        okx = answer["prices"]["okx"]
        assert round(okx.pop("deviation_pct"), 4) == 0.0011
        assert okx == {"price": 45251.0, "volume": 1.0, "level": "1m", "as_of": "2024-01-01T00:05:00Z"}
        assert answer["left_out"] == {}

    def test_by_default_the_last_time_that_all_reach(self, recorded, quote):
        assert recorded.json("prices", "--codes", "btcusdt")["timestamp"] == LAST
        quote("kraken", 45250.0, 8)
        assert recorded.json("prices", "--codes", "btcusdt")["timestamp"] == "2024-01-01T00:08:00Z"

    def test_for_people(self, recorded, quote):
        quote("kraken", 46000.0, volume=1000.0)
        done = recorded("prices", "--codes", "btcusdt")
        lines = [line.split() for line in done.stdout.splitlines()]
        assert lines[0] == ["btcusdt", "at", LAST]
        assert lines[2] == ["binance", "45250.5", "-0.0006", "%", "1", "1m", LAST]
        assert [line for line in lines if "outlier" in line] == [
            ["kraken", "46000", "+1.6558", "%", "1000", "1m", LAST, "outlier"]
        ]
        assert "recommended price 45250.41667, confidence 0.7" in done.stdout
        assert "differ by 1.6580 % at most: not valid" in done.stdout
        assert done.stderr == ""

    def test_as_a_process(self, recorded, cli):
        done = cli("prices", "--codes", "btcusdt", "--providers", "okx,binance")
        assert ": valid" in done.stdout
        assert "bybit" not in done.stdout

    def test_a_provider_asked_for_that_has_nothing(self, recorded):
        done = recorded("prices", "--codes", "btcusdt", "--providers", "binance,okx,kraken", code=3)
        assert "recommended price 45250.75" in done.stdout
        assert done.stderr.count("\n") == 1
        assert "zvt-crypto record --provider kraken --codes cryptopair_kraken_btcusdt" in done.stderr

    def test_a_provider_whose_price_is_old(self, recorded, quote):
        quote("kraken", 45250.0, 2)
        asked = ("prices", "--codes", "btcusdt", "--at", LAST)
        # Nobody asked for it by name.
        assert "480 seconds old" in recorded(*asked).stderr
        answer = recorded.json(*asked, "--providers", "binance,kraken", code=3)
        assert list(answer["prices"]) == ["binance"]
        assert answer["left_out"]["kraken"]["code"] == "CRYPTO_DATA_QUALITY_FAILURE"
        assert answer["validation_result"]["confidence_score"] == 0
        answer = recorded.json(*asked, "--providers", "binance,kraken", "--max-age", "480")
        assert list(answer["prices"]) == ["binance", "kraken"]

    def test_one_provider(self, inside, quote):
        quote("binance", 100.0)
        done = inside("prices", "--codes", "btcusdt")
        assert "nothing confirms it" in done.stdout
        assert "confidence 0.000" in done.stdout

    def test_perpetuals_are_other_markets(self, recorded, quote):
        for number, provider in enumerate(("binance", "okx")):
            quote(provider, 200.0 + number, name="CryptoPerp1hKdata")
        for asked in (("btcusdt-perp",), ("btcusdt", "--perps")):
            answer = recorded.json("prices", "--codes", *asked)
            assert answer["symbol"] == "btcusdt-perp"
            assert {name: price["price"] for name, price in answer["prices"].items()} == {
                "binance": 200.0,
                "okx": 201.0,
            }
            assert answer["validation_result"]["is_valid"]
        assert not recorded.json("prices", "--codes", "btcusdt", "--perps", "--tolerance", "0.4")[
            "validation_result"
        ]["is_valid"]


class TestRange:
    def test_json_is_a_row_a_time(self, recorded):
        rows = recorded.json(
            "prices", "--codes", "btcusdt", "--start", "2024-01-01T00:03", "--end", "2024-01-01T00:05"
        )
        assert [row["timestamp"] for row in rows] == [f"2024-01-01T00:0{n}:00Z" for n in (3, 4, 5)]
        assert (rows[0]["close_okx"], rows[0]["median"], rows[0]["is_outlier_okx"]) == (
            45251.0,
            45250.5,
            False,
        )

    def test_for_people(self, recorded, quote):
        quote("kraken", 46000.0, 4)
        done = recorded("prices", "--codes", "btcusdt", "--start", "2024-01-01")
        lines = [line.split() for line in done.stdout.splitlines()]
        assert done.stdout.startswith("btcusdt, closes of 10 1m candles")
        assert ["kraken", "4", "1.6558", "%", "4"] in lines
        assert ["okx", "10", "0.0011", "%", "0"] in lines
        assert "at 10 times; they differ by more than 0.5 % at 4" in done.stdout
        assert [line[1] for line in lines[-10:]] == [f"00:0{n}:00" for n in range(10)]

    def test_the_finest_level_that_all_have(self, recorded, quote):
        quote("kraken", 45250.0, 2, name="CryptoPair1hKdata")
        asked = ("prices", "--codes", "btcusdt", "--start", "2024-01-01")
        done = recorded(*asked, code=2)
        assert "kraken: 1h" in done.stderr
        quote("binance", 45250.0, 3, name="CryptoPair1hKdata")
        assert len(recorded.json(*asked, "--providers", "binance,kraken")) == 3
        assert len(recorded.json(*asked, "--level", "1m")) == 10

    def test_providers_asked_for_that_have_nothing(self, recorded, quote):
        quote("kraken", 45250.0, 2)
        asked = ("prices", "--codes", "btcusdt", "--providers", "binance,okx,kraken,gemini")
        done = recorded(*asked, "--start", "2024-01-01T00:05", code=3)
        assert ["kraken", "0"] in [line.split() for line in done.stdout.splitlines()]
        assert "no 1m candles of btcusdt are recorded from gemini." in done.stderr
        assert "no 1m candles of btcusdt are recorded from kraken in that time" in done.stderr

    def test_nothing_to_compare_with(self, inside, quote):
        quote("binance", 100.0)
        done = inside("prices", "--codes", "btcusdt", "--start", "2024-01-01")
        assert "nothing can be compared" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--codes", "ethusdt"), "zvt-crypto record --provider binance --codes ethusdt --levels 1m"),
        (("--codes", "ethusdt", "--perps"), "--codes ethusdt-perp"),
        (("--codes", "btcusdt", "--providers", "kraken"), "recorded from kraken"),
        (("--codes", "btcusdt", "--level", "1h"), "no 1h candles"),
        (("--codes", "btcusdt", "--level", "2h"), "unknown level '2h'"),
        (("--codes", "btcusdt,ethusdt"), "one market"),
        (("--codes", "btcusdt", "--at", "noon"), "--at 'noon' is not a time"),
        (("--codes", "btcusdt", "--at", LAST, "--end", LAST), "--at excludes --start and --end"),
        (("--codes", "btcusdt", "--max-age", "5", "--end", LAST), "--max-age excludes"),
        (("--codes", "btcusdt", "--max-age", "0"), "--max-age"),
        (("--codes", "btcusdt", "--tolerance", "0"), "tolerance_pct 0.0 is not positive"),
        (("--codes", "btcusdt", "--start", "2025-01-01"), "zvt-crypto report"),
        (("--providers", "okx"), "--codes"),
    ],
)
def test_misuse(recorded, arguments, says):
    done = recorded("prices", *arguments, code=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_no_price_of_that_time_fails(recorded):
    done = recorded("prices", "--codes", "btcusdt", "--at", "2024-02-01", code=1)
    assert "no provider has a price of btcusdt at 2024-02-01T00:00:00Z" in done.stderr
    assert recorded.json("prices", "--codes", "btcusdt", "--at", "2024-02-01", code=1)["error"]["code"] == (
        "CRYPTO_DATA_QUALITY_FAILURE"
    )


def test_nothing_recorded(inside):
    assert "zvt-crypto record" in inside("prices", "--codes", "btcusdt", code=2).stderr


def test_help_loads_no_arrow(cli):
    program = (
        "import sys\nfrom zvt_crypto.cli import main\n"
        "try:\n    main(['prices', '--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "sys.exit(', '.join({'numpy', 'pyarrow', 'pydantic', 'rich', 'zvt'} & set(sys.modules)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=cli.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
