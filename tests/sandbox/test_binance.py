"""Binance's wire format: what its documents say, and the shape of what was recorded there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from urllib.parse import urlencode

import pytest

from zvt_crypto.core.levels import DAY_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox, SimulatedMarket, binance

START = parse_time("2024-03-01")
NOW = START + 90_000


def klines(box: Sandbox, fetch, host: str = "api.binance.com/api/v3", **query):
    query = {"symbol": "BTCUSDT", "interval": "1m", **query}
    return fetch(f"{box.url}/{host}/klines?{urlencode(query)}")


def test_rows_ascend_from_the_start(box: Sandbox, fetch) -> None:
    rows = klines(box, fetch, startTime=START + 1, limit=3).json
    assert [row[0] for row in rows] == [START + n * MINUTE_MS for n in (1, 2, 3)]
    assert [row[6] for row in rows] == [row[0] + MINUTE_MS - 1 for row in rows]


def test_the_end_is_inclusive(box: Sandbox, fetch) -> None:
    rows = klines(box, fetch, startTime=START, endTime=START + 2 * MINUTE_MS).json
    assert [row[0] for row in rows] == [START + n * MINUTE_MS for n in (0, 1, 2)]


def test_without_a_start_the_newest_rows_are_answered(box: Sandbox, fetch) -> None:
    rows = klines(box, fetch, endTime=START, limit=2).json
    assert [row[0] for row in rows] == [START - MINUTE_MS, START]


def test_values_are_the_markets(box: Sandbox, fetch) -> None:
    row = klines(box, fetch, startTime=START, limit=1).json[0]
    candle = box.market.candles("BTC/USDT", "1m", START, START + 1).table().to_pylist()[0]
    assert [float(row[n]) for n in (1, 2, 3, 4, 5, 7)] == [
        candle[name] for name in ("open", "high", "low", "close", "volume", "turnover")
    ]
    assert row[8] == candle["trade_count"]
    assert [float(row[9]), float(row[10])] == [candle["taker_volume"], candle["taker_turnover"]]
    assert row[1] == f"{candle['open']:.8f}", "eight digits, padded"


@pytest.mark.parametrize(
    ("host", "asked", "count"),
    [
        ("api.binance.com/api/v3", None, 500),
        ("api.binance.com/api/v3", 1000, 1000),
        ("api.binance.com/api/v3", 5000, 1000),
        ("fapi.binance.com/fapi/v1", None, 500),
        ("fapi.binance.com/fapi/v1", 1500, 1500),
    ],
)
def test_limits(box: Sandbox, fetch, host: str, asked: int | None, count: int) -> None:
    query = {} if asked is None else {"limit": asked}
    assert len(klines(box, fetch, host, startTime=START, **query).json) == count


def test_the_last_candle_is_unfinished(fetch) -> None:
    with Sandbox(SimulatedMarket(1, now=NOW)) as box:
        row = klines(box, fetch, limit=1).json[0]
        assert row[0] == START + MINUTE_MS <= NOW <= row[6]
        final = box.market.candles("BTC/USDT", "1m", START + MINUTE_MS, NOW)
        assert 0 < float(row[5]) < final.volume[0]
        assert klines(box, fetch, startTime=START).json[-1] == row
        assert klines(box, fetch, startTime=NOW).json == []


def test_a_page_changes_as_time_passes(fetch) -> None:
    clock = [NOW]
    with Sandbox(SimulatedMarket(1, now=lambda: clock[0])) as box:
        first = klines(box, fetch, startTime=START).json
        assert klines(box, fetch, startTime=START).json == first
        clock[0] += 10_000
        within = klines(box, fetch, startTime=START).json
        assert float(within[1][5]) > float(first[1][5])
        clock[0] += MINUTE_MS
        later = klines(box, fetch, startTime=START).json
    assert (len(first), len(later)) == (2, 3)
    assert later[0] == first[0]
    assert float(later[1][5]) > float(within[1][5])


@pytest.mark.parametrize(("interval", "step"), [("3m", 3), ("2h", 120), ("8h", 480), ("1w", 10080)])
def test_other_intervals(box: Sandbox, fetch, interval: str, step: int) -> None:
    rows = klines(box, fetch, interval=interval, startTime=START, limit=2).json
    assert rows[1][0] - rows[0][0] == step * MINUTE_MS
    if interval == "1w":
        assert rows[0][0] == parse_time("2024-03-04"), "a Monday"


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ({"symbol": "NOPE"}, -1121, "Invalid symbol."),
        ({"symbol": "btc/usdt"}, -1100, "Illegal characters found in parameter 'symbol'"),
        ({"symbol": ""}, -1102, "Mandatory parameter 'symbol' was not sent"),
        ({"interval": "7m"}, -1120, "Invalid interval."),
        ({"startTime": "yesterday"}, -1100, "Illegal characters found in parameter 'startTime'"),
        ({"limit": "0"}, -1130, "Data sent for parameter 'limit' is not valid."),
    ],
)
@pytest.mark.parametrize("host", ["api.binance.com/api/v3", "fapi.binance.com/fapi/v1"])
def test_errors(box: Sandbox, fetch, host: str, query: dict, code: int, message: str) -> None:
    reply = klines(box, fetch, host, **query)
    assert (reply.status, reply.json["code"]) == (400, code)
    assert reply.json["msg"].startswith(message)


def test_weight_is_counted(fetch, monkeypatch) -> None:
    monkeypatch.setattr(binance, "_minute", lambda: 7)
    with Sandbox(SimulatedMarket(1, now=NOW)) as box:
        used = [klines(box, fetch, limit=1).headers["X-MBX-USED-WEIGHT-1M"] for _ in range(3)]
        host = "fapi.binance.com/fapi/v1"
        replies = [klines(box, fetch, host, limit=n) for n in (99, 100, 500, 1001)]
        fapi = [reply.headers["X-MBX-USED-WEIGHT-1M"] for reply in replies]
        monkeypatch.setattr(binance, "_minute", lambda: 8)
        later = klines(box, fetch, limit=1).headers["X-MBX-USED-WEIGHT-1M"]
    assert used == ["2", "4", "6"]
    assert fapi == ["1", "3", "8", "18"]
    assert later == "2"


def test_unknown_paths(box: Sandbox, fetch) -> None:
    assert fetch(f"{box.url}/api.binance.com/api/v3/nope").status == 404
    assert fetch(f"{box.url}/fapi.binance.com/fapi/v1/nope").json["code"] == -5000


def test_funding_info_lists_what_is_unusual(box: Sandbox, fetch) -> None:
    rows = fetch(f"{box.url}/fapi.binance.com/fapi/v1/fundingInfo").json
    assert [(r["symbol"], r["fundingIntervalHours"]) for r in rows] == [("SOLUSDT", 4), ("DOGEUSDT", 1)]


def test_server_time(fetch) -> None:
    with Sandbox(SimulatedMarket(1, now=NOW)) as box:
        assert fetch(f"{box.url}/api.binance.com/api/v3/time").json == {"serverTime": NOW}
        assert fetch(f"{box.url}/fapi.binance.com/fapi/v1/time").json == {"serverTime": NOW}
        assert fetch(f"{box.url}/api.binance.com/api/v3/ping").json == {}


def recorded(path: Path) -> dict:
    with gzip.open(path, "rt") as file:
        line = next(line for line in file if "exchangeInfo ->" in line)
    return json.loads(line.split(": ", 1)[1])


@pytest.mark.real_data
def test_klines_have_the_recorded_shape(box: Sandbox, fetch, real: Path, shape_differences) -> None:
    theirs = json.loads((real / "payloads/binance/spot/http_json/klines_response.json").read_text())
    ours = klines(box, fetch, startTime=START, limit=2).json
    assert {len(row) for row in ours} == {len(theirs[0])}
    for row in ours:
        assert [type(v) for v in row] == [type(v) for v in theirs[0]]
    for row in (ours[0], theirs[0]):
        assert {len(text.partition(".")[2]) for text in row[1:6]} == {8}
    assert not shape_differences(ours, theirs)


@pytest.mark.real_data
def test_spot_instruments_have_the_recorded_shape(box: Sandbox, fetch, real: Path, shape_differences) -> None:
    ours = fetch(f"{box.url}/api.binance.com/api/v3/exchangeInfo").json
    theirs = json.loads((real / "payloads/binance/spot/http_json/exchange_info_response.json").read_text())
    older = recorded(real / "captures/BINANCE.0.gz")
    assert ours.keys() == theirs.keys()
    assert ours["symbols"][0].keys() == theirs["symbols"][0].keys()
    for symbol in ours["symbols"]:
        assert not shape_differences({**symbol, "filters": []}, {**theirs["symbols"][0], "filters": []})
    assert not shape_differences(ours["rateLimits"], older["rateLimits"])
    known = {f["filterType"]: f for f in older["symbols"][0]["filters"]}
    shared = [f for f in ours["symbols"][0]["filters"] if f["filterType"] in known]
    assert len(shared) >= 5
    for one in shared:
        assert not shape_differences(one, known[one["filterType"]])


@pytest.mark.real_data
def test_futures_instruments_have_the_recorded_shape(
    box: Sandbox, fetch, real: Path, shape_differences
) -> None:
    ours = fetch(f"{box.url}/fapi.binance.com/fapi/v1/exchangeInfo").json
    theirs = recorded(real / "captures/BINANCE_FUTURES.0.gz")
    assert not shape_differences({**ours, "symbols": []}, {**theirs, "symbols": []})
    example = {**theirs["symbols"][0], "filters": []}
    for symbol in ours["symbols"]:
        # Recorded in 2021; Binance has added keys since.
        assert not shape_differences({**symbol, "filters": []}, example, exact=False)
        for mine, real_one in zip(symbol["filters"], theirs["symbols"][0]["filters"], strict=True):
            assert not shape_differences(mine, real_one)


def test_one_instrument_alone(box: Sandbox, fetch) -> None:
    reply = fetch(f"{box.url}/api.binance.com/api/v3/exchangeInfo?symbol=ETHBTC").json
    assert [s["symbol"] for s in reply["symbols"]] == ["ETHBTC"]


def test_days_before_the_listing_are_empty(box: Sandbox, fetch) -> None:
    listed = box.market.instruments["PEPE/USDT"].listed
    assert klines(box, fetch, symbol="PEPEUSDT", startTime=0, endTime=listed - DAY_MS).json == []
    assert klines(box, fetch, symbol="PEPEUSDT", startTime=0, limit=1).json[0][0] == listed
