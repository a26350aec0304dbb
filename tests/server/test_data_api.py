"""``/api/data``: what each parameter of each table answers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from recorded_market import CANDLES, FIRST, FUNDINGS, HOLES, PAIRS, PERPS, TRADES, candles

from zvt_crypto.core.levels import iso, level_ms
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import venues
from zvt_crypto.store.reader import public_schema

SPECS = list(load_tables().values())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.class_name)
def test_every_table_answers_all_its_columns(spec, ask):
    found = ask(spec.class_name, limit=5)
    assert set(found) == {"data", "total", "page", "page_size", "next"}
    assert (found["page"], found["page_size"]) == (1, 5)
    for row in found["data"]:
        assert list(row) == public_schema(spec).names
    assert found["total"] >= len(found["data"])


def test_a_row_is_the_specifications(ask):
    (row,) = ask("CryptoPair1mKdata", codes="btcusdt", start_timestamp="2024-01-01T00:01:00Z", limit=1)[
        "data"
    ]
    assert row == {
        "id": "cryptopair_binance_btcusdt_2024-01-01T00:01:00Z",
        "entity_id": "cryptopair_binance_btcusdt",
        "timestamp": "2024-01-01T00:01:00Z",
        "provider": "binance",
        "code": "btcusdt",
        "name": "BTCUSDT",
        "level": "1m",
        "open": 100.0,
        "high": 100.7,
        "low": 99.5,
        "close": 100.2,
        "volume": 0.25,
        "turnover": 200.4,
        "trade_count": None,
        "volume_base": 0.25,
        "volume_quote": 200.4,
        "vwap": 801.6,
        "change_pct": pytest.approx(0.002),
        "turnover_rate": None,
    }


def test_what_divides_by_nothing_is_null(ask):
    (row,) = ask("CryptoPair1mKdata", codes="btcusdt", limit=1)["data"]
    assert (row["volume"], row["vwap"]) == (0, None)


def test_times_between_seconds_keep_their_milliseconds(ask):
    times = [row["timestamp"] for row in ask("CryptoTrade", codes="btcusdt", limit=13)["data"]]
    assert sorted(set(times)) == ["2024-01-01T00:00:00.250Z", "2024-01-01T00:00:00Z"]


def test_instruments_without_a_list_date_have_null(ask):
    rows = ask("CryptoPair", provider="okx", codes="btcusdt,ethusdt")["data"]
    assert {row["code"]: row["list_date"] for row in rows} == {
        "btcusdt": None,
        "ethusdt": "2017-07-14T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        ({}, set(PAIRS)),
        ({"base_symbols": "eth"}, {"ethusdt", "ethbtc"}),
        ({"base_symbols": " BTC , eth"}, {"btcusdt", "ethusdt", "ethbtc"}),
        ({"quote_symbols": "btc"}, {"ethbtc"}),
        ({"base_symbols": "btc,eth", "quote_symbols": "usdt", "is_active": "true"}, {"btcusdt", "ethusdt"}),
        ({"is_active": "false"}, {"xrpusdt"}),
        ({"margin_enabled": "true"}, {"btcusdt", "ethusdt"}),
        ({"margin_enabled": "false"}, {"ethbtc"}),
        ({"base_symbols": "doge"}, set()),
        ({"codes": "BTC/USDT,eth-btc"}, {"btcusdt", "ethbtc"}),
        ({"entity_ids": "cryptopair_binance_xrpusdt"}, {"xrpusdt"}),
    ],
)
def test_pairs_by_their_columns(ask, given, codes):
    found = ask("CryptoPair", **given)
    assert {row["code"] for row in found["data"]} == codes
    assert found["total"] == len(codes)


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        ({"underlying_symbols": "btc"}, {"btcusdt", "btcusd-btc"}),
        ({"settlement_symbols": "btc"}, {"btcusd-btc"}),
        ({"max_leverage": 100}, {"btcusdt"}),
        ({"max_leverage": 75}, {"btcusdt", "ethusdt"}),
        ({"funding_interval_hours": 8}, {"btcusdt", "btcusd-btc"}),
        ({"funding_interval_hours": 4, "settlement_symbols": "usdt"}, {"ethusdt"}),
    ],
)
def test_perpetuals_by_their_columns(ask, given, codes):
    assert set(PERPS) >= codes
    assert {row["code"] for row in ask("CryptoPerp", **given)["data"]} == codes


def test_filters_need_no_column_of_the_answer(ask):
    found = ask("CryptoPair", is_active="false", columns="name,code")
    assert found["data"] == [{"name": "XRP/USDT", "code": "xrpusdt"}]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-01-01T00:10:00Z", "2024-01-01T00:20:00Z"),
        ("2024-01-01T00:10:00", "2024-01-01 00:20:00+00:00"),
        ("2024-01-01T01:10:00+01:00", str(FIRST + 20 * 60_000)),
    ],
)
def test_both_ends_of_a_range_belong_to_it(ask, start, end):
    found = ask("CryptoPair1mKdata", codes="btcusdt", start_timestamp=start, end_timestamp=end)
    times = [row["timestamp"] for row in found["data"]]
    assert (times[0], times[-1]) == ("2024-01-01T00:10:00Z", "2024-01-01T00:20:00Z")
    assert found["total"] == len(times) == 11


def test_holes_stay_holes_unless_they_are_filled(ask):
    hour = {
        "codes": "btcusdt",
        "start_timestamp": "2024-01-01T01:30:00Z",
        "end_timestamp": "2024-01-01T01:59:00Z",
    }
    assert ask("CryptoPair1mKdata", **hour)["total"] == 20
    filled = ask("CryptoPair1mKdata", **hour, fill="ffill")
    assert filled["total"] == len(filled["data"]) == 30
    assert sum(row["is_filled"] for row in filled["data"]) == 10


def test_coarser_candles(ask):
    day = ask("CryptoPair1mKdata", codes="btcusdt", resample="1d")
    assert [row["timestamp"] for row in day["data"]] == ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"]
    assert {row["level"] for row in day["data"]} == {"1d"}
    marked = ask("CryptoPair1mKdata", codes="btcusdt", resample="1d", unfinished="mark")
    assert [row["is_finished"] for row in marked["data"]] == [True, True, False]
    assert (day["total"], marked["total"]) == (2, 3)


def test_columns_come_in_the_order_asked_for(ask):
    found = ask("CryptoPair1mKdata", columns="close,timestamp,code", limit=1)
    assert list(found["data"][0]) == ["close", "timestamp", "code"]


def test_newest_first(ask):
    rows = ask("CryptoPair1mKdata", order="timestamp_desc", codes="btcusdt", limit=2)["data"]
    last = FIRST + (CANDLES - 1) * level_ms("1m")
    assert [row["timestamp"] for row in rows] == [iso(last), iso(last - 60_000)]


def test_trades_by_side_and_volume(ask):
    buys = ask("CryptoTrade", codes="btcusdt", side="buy", limit=100_000)
    sells = ask("CryptoTrade", codes="btcusdt", side="sell", limit=100_000)
    # The pair and the perpetual share the code.
    assert buys["total"] + sells["total"] == TRADES + TRADES // 4
    assert {row["side"] for row in buys["data"]} == {"buy"}
    assert len(buys["data"]) == buys["total"]
    large = ask(
        "CryptoTrade", entity_ids="cryptopair_binance_btcusdt", min_volume=0.04, side="buy", limit=100
    )
    assert {row["volume"] for row in large["data"]} == {0.04}
    assert large["total"] == len(large["data"]) > 0


def test_funding_by_interval(ask):
    found = ask("CryptoFunding", funding_interval_hours=4)
    assert {row["code"] for row in found["data"]} == {"ethusdt"}
    # The first event has no event before it.
    assert found["total"] == FUNDINGS - 1


def test_a_known_market_without_rows_is_an_empty_page(ask):
    found = ask("CryptoPair1mKdata", codes="ethbtc")
    assert found == {"data": [], "total": 0, "page": 1, "page_size": 1000, "next": None}
    assert ask("CryptoPair5mKdata")["data"] == []


def test_unknown_markets_beside_known_ones_are_left_out(ask):
    assert ask("CryptoPair1mKdata", codes="btcusdt,nosuch", limit=1)["total"] == CANDLES - len(HOLES)


def test_nothing_recorded_is_an_empty_page(empty_client, settings):
    found = empty_client.get("/api/data/CryptoTrade?provider=okx")
    assert (found.status_code, found.json["data"], found.json["total"]) == (200, [], 0)
    assert not settings.data_path.exists()


def test_rows_imported_under_another_name_are_found(recorder, ask, market):
    spec = load_tables().find("CryptoPair1dKdata")
    source = recorder.store.path("binance", spec)
    target = recorder.store.path("archive-2024", spec)
    target.parent.mkdir()
    target.write_bytes(source.read_bytes())
    assert ask("CryptoPair1dKdata", provider="archive-2024")["total"] == 60


def test_totals_follow_what_is_written_and_deleted(recorder, ask):
    given = {"codes": "btcusdt", "limit": 1}
    recorded = CANDLES - len(HOLES)
    assert ask("CryptoPair1mKdata", **given)["total"] == recorded
    later = FIRST + CANDLES * level_ms("1m")
    recorder.series("binance", "CryptoPair1mKdata", "btcusdt", candles("1m", 25, first=later))
    assert ask("CryptoPair1mKdata", **given)["total"] == recorded + 25
    spec = load_tables().find("CryptoPair1mKdata")
    with recorder.store.connect("binance", spec) as connection:
        connection.run(f"DELETE FROM {spec.name} WHERE timestamp >= {later}")
    assert ask("CryptoPair1mKdata", **given)["total"] == recorded
    assert ask("CryptoPair1mKdata", **given, start_timestamp="2024-01-02")["total"] == CANDLES - 1440


def test_head_answers_the_headers_alone(client):
    for form in ("json", "csv", "parquet"):
        url = f"/api/data/CryptoPair1mKdata?provider=binance&format={form}"
        got, head = client.get(url), client.head(url)
        assert (head.status_code, head.data) == (200, b"")
        assert head.content_type == got.content_type
        assert head.headers["ETag"] == got.headers["ETag"]


def test_providers(client):
    found = client.get("/api/data/providers").json
    assert found["crypto"] == sorted(venues())
    assert {"em", "joinquant"} <= set(found["stock"])


def test_schemas_of_an_exchange_and_of_zvt(client):
    ours = client.get("/api/data/schemas?provider=binance").json
    assert ours["entity_schemas"] == ["CryptoAsset", "CryptoPair", "CryptoPerp"]
    assert len(ours["kdata_schemas"]) == 14
    assert sorted(ours["tick_schemas"]) == ["CryptoFunding", "CryptoOrderbook", "CryptoTrade"]
    theirs = client.get("/api/data/schemas?provider=em").json
    assert "Stock" in theirs["entity_schemas"]
    assert "Stock1dKdata" in theirs["kdata_schemas"]


def test_zvts_own_tables_make_no_files_and_print_nothing(tmp_path):
    code = (
        "from zvt_crypto.api import catalogue\n"
        "catalogue.load()\n"
        "assert 'jqka' in catalogue.providers()['other']\n"
        "import sys\n"
        "assert 'zvt.domain' not in sys.modules\n"
    )
    home = tmp_path / "zvt-home"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ZVT_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert not home.exists()
