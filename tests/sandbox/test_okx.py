"""OKX's wire format: what its documents say, and the shape of what was recorded there."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlencode

import pytest

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox

START = parse_time("2024-03-01")
NOW = START + 90_000


def ask(box: Sandbox, fetch, path: str, **query):
    return fetch(f"{box.url}/www.okx.com/api/v5/{path}?{urlencode(query)}")


def history(box: Sandbox, fetch, **query) -> list[list[str]]:
    return ask(box, fetch, "market/history-candles", **{"instId": "BTC-USDT", **query}).json["data"]


def recent(box: Sandbox, fetch, **query) -> list[list[str]]:
    return ask(box, fetch, "market/candles", **{"instId": "BTC-USDT", **query}).json["data"]


def times(rows: list[list[str]]) -> list[int]:
    return [int(row[0]) for row in rows]


def test_rows_descend_between_exclusive_bounds(still: Sandbox, fetch) -> None:
    rows = history(still, fetch, before=START - 5 * MINUTE_MS, after=START - MINUTE_MS)
    assert times(rows) == [START - n * MINUTE_MS for n in (2, 3, 4)]


def test_before_alone_answers_the_newest(still: Sandbox, fetch) -> None:
    rows = history(still, fetch, before=START - DAY_MS, limit=2)
    assert times(rows) == [START, START - MINUTE_MS]


def test_history_holds_only_finished_candles(still: Sandbox, fetch) -> None:
    assert times(history(still, fetch, limit=1)) == [START]
    assert {row[8] for row in history(still, fetch)} == {"1"}


def test_recent_candles_include_the_unfinished_one(still: Sandbox, fetch) -> None:
    rows = recent(still, fetch, limit=2)
    assert times(rows) == [START + MINUTE_MS, START]
    assert [row[8] for row in rows] == ["0", "1"]


def test_recent_candles_end_after_1440_bars(still: Sandbox, fetch) -> None:
    oldest = START + MINUTE_MS - 1439 * MINUTE_MS
    assert times(recent(still, fetch, after=oldest + 1, limit=10)) == [oldest]
    assert recent(still, fetch, after=oldest) == []
    assert times(history(still, fetch, after=oldest, limit=1)) == [oldest - MINUTE_MS]


@pytest.mark.parametrize(("asked", "count"), [(None, 100), (300, 300)])
def test_limits(still: Sandbox, fetch, asked: int | None, count: int) -> None:
    query = {} if asked is None else {"limit": asked}
    assert len(history(still, fetch, **query)) == len(recent(still, fetch, **query)) == count


@pytest.mark.parametrize(
    ("bar", "opens"),
    [("1D", 16 * HOUR_MS), ("1Dutc", 0), ("6H", 4 * HOUR_MS), ("6Hutc", 0), ("1H", 0)],
)
def test_long_bars_open_by_hong_kong_time_unless_utc(still: Sandbox, fetch, bar: str, opens: int) -> None:
    step = DAY_MS if "D" in bar else 6 * HOUR_MS if "6" in bar else HOUR_MS
    assert {(t - opens) % step for t in times(history(still, fetch, bar=bar, limit=10))} == {0}


def test_volumes_of_spot_linear_and_inverse(still: Sandbox, fetch) -> None:
    def row_and_candle(name: str, symbol: str):
        row = [float(v) for v in history(still, fetch, instId=name, limit=1)[0]]
        return row, still.market.candles(symbol, "1m", START, START + 1)

    row, candle = row_and_candle("BTC-USDT", "BTC/USDT")
    assert row[5:8] == [candle.volume[0], candle.turnover[0], candle.turnover[0]]
    row, candle = row_and_candle("BTC-USDT-SWAP", "BTC/USDT:USDT")
    assert row[5] == pytest.approx(candle.volume[0] / 0.01)
    assert row[6:8] == [candle.volume[0], candle.turnover[0]]
    row, candle = row_and_candle("BTC-USD-SWAP", "BTC/USD:BTC")
    assert row[5] == pytest.approx(candle.turnover[0] / 100, abs=1)
    assert row[5] == int(row[5]) > 0
    assert row[6] == candle.volume[0]


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("market/candles", {"instId": "NOPE-USDT"}, 200, "51001"),
        ("market/candles", {}, 400, "50014"),
        ("market/history-candles", {"instId": "BTC-USDT", "bar": "7m"}, 400, "51000"),
        ("market/history-candles", {"instId": "BTC-USDT", "limit": 301}, 400, "51000"),
        ("market/history-candles", {"instId": "BTC-USDT", "after": "now"}, 400, "51000"),
        ("public/instruments", {"instType": "COINS"}, 400, "51000"),
        ("public/instruments", {"instType": "SPOT", "instId": "NOPE"}, 200, "51001"),
        ("public/nope", {}, 404, "404"),
    ],
)
def test_errors(still: Sandbox, fetch, path: str, query: dict, status: int, code: str) -> None:
    reply = ask(still, fetch, path, **query)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert reply.json["msg"]
    assert reply.json["data"] == []


def test_server_time(still: Sandbox, fetch) -> None:
    assert ask(still, fetch, "public/time").json == {"code": "0", "msg": "", "data": [{"ts": str(NOW)}]}


def test_what_is_not_traded_is_an_empty_list(still: Sandbox, fetch) -> None:
    for kind in ("FUTURES", "OPTION"):
        assert ask(still, fetch, "public/instruments", instType=kind).json["data"] == []


@pytest.mark.real_data
@pytest.mark.parametrize(("kind", "file"), [("SPOT", "spot"), ("SWAP", "swap")])
def test_instruments_have_the_recorded_shape(
    still: Sandbox, fetch, real: Path, shape_differences, kind: str, file: str
) -> None:
    theirs = json.loads((real / f"payloads/okx/http_get_instruments_{file}.json").read_text())
    ours = ask(still, fetch, "public/instruments", instType=kind).json
    assert not shape_differences(ours, theirs)
    assert len(ours["data"]) >= 5


@pytest.mark.real_data
def test_candles_have_the_recorded_shape(still: Sandbox, fetch, real: Path, shape_differences) -> None:
    theirs = json.loads((real / "payloads/okx/http_get_candlesticks_full.json").read_text())
    ours = ask(still, fetch, "market/candles", instId="BTC-USDT-SWAP", limit=2).json
    assert not shape_differences(ours, theirs)
    assert {len(row) for row in ours["data"]} == {len(row) for row in theirs["data"]} == {9}
    assert times(theirs["data"]) == sorted(times(theirs["data"]), reverse=True)
