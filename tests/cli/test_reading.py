"""query, chart and report over candles that are there already."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest


class TestQuery:
    def test_json_has_iso_times_and_all_columns(self, recorded):
        rows = recorded.json("query", "--level", "1m", "--codes", "BTC/USDT", "--limit", "2")
        assert [row["timestamp"] for row in rows] == ["2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"]
        assert rows[1]["id"] == "cryptopair_binance_btcusdt_2024-01-01T00:01:00Z"
        assert rows[1]["close"] == 100.2
        assert rows[1]["trade_count"] is None

    def test_csv_of_some_columns_in_the_order_wanted(self, recorded):
        command = (
            "query CryptoPerp1hKdata --columns close,timestamp --order desc --format csv"
            " --start 2024-01-01T05:00 --end 2024-01-01T06:00"
        )
        text = recorded(*command.split()).stdout
        rows = list(csv.reader(io.StringIO(text)))
        assert rows[0] == ["close", "timestamp"]
        assert [row[1] for row in rows[1:]] == ["2024-01-01T06:00:00Z", "2024-01-01T05:00:00Z"]

    def test_as_a_process(self, recorded, cli):
        done = cli("query", "CryptoPerp1hKdata", "--columns", "timestamp,close", "--limit", "1", "--json")
        assert done.stdout == '[{"timestamp":"2024-01-01T00:00:00Z","close":100.0}]\n'
        assert done.stderr == ""

    def test_notation_tells_the_table(self, recorded):
        rows = recorded.json("query", "--level", "1h", "--codes", "btcusdt-perp", "--limit", "1")
        assert rows[0]["entity_id"] == "cryptoperp_binance_btcusdt"
        assert recorded.json("query", "--level", "1h", "--perps", "--limit", "1") == rows

    def test_table_for_people_shows_both_ends_and_says_how_to_see_all(self, recorded):
        done = recorded("query", "--level", "1m", "--codes", "btcusdt")
        lines = done.stdout.splitlines()
        assert lines[0].split()[:3] == ["timestamp", "code", "open"]
        assert len(lines) == 42
        assert "296 rows" in done.stderr
        assert all(line == line.rstrip() for line in lines)

    def test_many_rows_are_one_document(self, inside, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 45_000)
        assert len(inside.json("query", "CryptoPair1mKdata", "--columns", "close")) == 45_000
        text = inside("query", "CryptoPair1mKdata", "--columns", "close", "--format", "csv").stdout
        assert text.count("\n") == 45_001

    def test_nothing_in_that_time_is_an_empty_answer(self, recorded):
        assert recorded.json("query", "--level", "1m", "--start", "2025-01-01") == []

    def test_a_reader_that_goes_away_ends_it_quietly(self, cli, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 45_000)
        process = cli.start("query", "CryptoPair1mKdata", "--format", "csv")
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        process.wait()

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--level", "1m", "--codes", "btcusd"), "did you mean btcusdt"),
            (("--level", "1m", "--provider", "okx"), "unknown provider"),
            (("--level", "1h"), "not recorded"),
            (("--level", "1m", "--columns", "closed"), "did you mean close"),
            (("--level", "1m", "--limit", "0"), "limit"),
            (("--level", "1m", "--codes", "btcusdt,btcusdt-perp"), "different tables"),
        ],
    )
    def test_misuse(self, recorded, arguments, says):
        done = recorded("query", *arguments, code=2)
        assert says in done.stderr
        assert done.stdout == ""

    def test_two_providers_must_be_told_apart(self, recorded, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 5, provider="okx")
        assert "binance, okx" in recorded("query", "--level", "1m", code=2).stderr
        assert len(recorded.json("query", "--level", "1m", "--provider", "okx")) == 5


class TestChart:
    def test_one_file_with_the_data_and_no_network(self, recorded):
        done = recorded("chart", "--level", "1m", "--codes", "btcusdt")
        path = recorded.folder / "binance-btcusdt-1m.html"
        assert done.stdout == f"{path}\n"
        page = path.read_text()
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
        assert "Plotly.newPlot" in page
        assert "plotly.js v" in page
        data = json.loads(
            re.search(r"Plotly\.newPlot\(\s*\"[^\"]+\",\s*(\[.*?\]),\s*\{\"template", page, re.S)[1]
        )
        assert [trace["type"] for trace in data] == ["candlestick", "bar"]
        assert len(data[0]["close"]) == len(data[1]["y"]) == 296
        assert data[0]["x"][:2] == ["2024-01-01T00:00:00", "2024-01-01T00:01:00"]
        assert data[0]["close"][1] == 100.2
        assert "BTC\\u002fUSDT" in page or "BTC/USDT" in page
        assert "2024-01-01 00:00 to 2024-01-01 04:59 UTC" in page

    def test_as_json_into_a_file_of_ones_own(self, recorded):
        answer = recorded.json(
            "chart",
            "--level",
            "1h",
            "--codes",
            "btcusdt-perp",
            "--output",
            "mine.html",
            "--end",
            "2024-01-01T09:00",
        )
        assert answer == {"path": str(recorded.folder / "mine.html"), "candles": 10}

    def test_too_many_candles(self, inside, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 50_001)
        done = inside("chart", "--level", "1m", "--codes", "btcusdt", code=2)
        assert "50,000" in done.stderr
        assert "coarser level" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--codes", "btcusdt,ethusdt"), "one market"),
            (("--codes", "btcusdt", "--start", "2025-01-01"), "zvt-crypto report"),
            (("--codes", "btcusdt", "--output", "/nowhere/c.html"), "--output"),
        ],
    )
    def test_misuse(self, recorded, arguments, says):
        assert says in recorded("chart", "--level", "1m", *arguments, code=2).stderr


class TestReport:
    def test_rows_span_gaps_and_disk(self, recorded):
        tables = recorded.json("report", "--gaps")["tables"]
        assert [table["table"] for table in tables] == ["cryptopair_1m_kdata", "cryptoperp_1h_kdata"]
        pairs = tables[0]
        assert pairs["rows"] == 346
        assert pairs["disk_bytes"] > 0
        btc = pairs["symbols"][0]
        assert (btc["rows"], btc["first"], btc["last"]) == (
            296,
            "2024-01-01T00:00:00Z",
            "2024-01-01T04:59:00Z",
        )
        assert (btc["gaps"], btc["missing"], btc["missing_absent"], btc["missing_unrecorded"]) == (2, 4, 3, 1)
        absent, unrecorded = btc["gap_list"]
        assert (absent["start"], absent["end"]) == ("2024-01-01T00:10:00Z", "2024-01-01T00:13:00Z")
        assert (absent["kind"], absent["command"]) == ("absent", None)
        assert unrecorded["command"].endswith("--start 2024-01-01T03:20:00Z --end 2024-01-01T03:20:00Z")
        assert pairs["symbols"][1]["gaps"] == 0

    def test_within_a_range_the_ends_count_too(self, recorded):
        report = recorded.json(
            "report", "--codes", "ethusdt", "--start", "2023-12-31T23:58", "--end", "2024-01-01T00:59"
        )
        [symbol] = report["tables"][0]["symbols"]
        assert (symbol["rows"], symbol["gaps"], symbol["missing"]) == (50, 2, 12)

    def test_removed_rows_are_not_recorded(self, inside, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 20, holes=(3,))
        from zvt_crypto.core.config import Settings
        from zvt_crypto.domain import load_tables
        from zvt_crypto.store.engine import Store

        spec = load_tables().find("CryptoPair1mKdata")
        with Store(Settings(data_path=inside.data_path)).connect("binance", spec) as connection:
            connection.run("DELETE FROM cryptopair_1m_kdata WHERE timestamp = 1704067200000 + 7 * 60000")
        [symbol] = inside.json("report")["tables"][0]["symbols"]
        assert (symbol["missing_absent"], symbol["missing_unrecorded"]) == (1, 1)

    def test_for_people(self, recorded):
        text = recorded("report", "--gaps").stdout
        assert "binance cryptopair_1m_kdata: 346 rows" in text
        assert "the exchange answered and has no candle there" in text
        assert "zvt-crypto record --provider binance" in text

    def test_nothing_recorded(self, inside):
        assert "nothing is recorded" in inside("report").stdout
        assert inside.json("report")["tables"] == []

    def test_a_damaged_file_fails_alone(self, recorded):
        damaged = recorded.data_path / "binance" / "binance_cryptopair_1m_kdata.db"
        damaged.write_bytes(b"no database" * 1000)
        done = recorded("report", code=3)
        assert "cryptoperp_1h_kdata: 48 rows" in done.stdout
        assert done.stderr.count("\n") == 1
        assert "[CRYPTO_STORE_CORRUPT]" in done.stderr

    def test_unknown_market(self, recorded):
        assert "did you mean ethusdt" in recorded("report", "--codes", "ethusd", code=2).stderr
