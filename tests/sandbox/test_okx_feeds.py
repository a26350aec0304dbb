"""OKX's trades, funding events and order books: what its documents say, and what was recorded there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, parse_time
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.events import TradeSpan

NOW = parse_time("2024-05-02T12:34:30Z")
KEPT_MS = 90 * DAY_MS


@pytest.fixture
def ask(get):
    return lambda path, **query: get("www.okx.com/api/v5", path, **{"instId": "BTC-USDT", **query})


@pytest.fixture
def history(ask):
    return lambda **query: ask("market/history-trades", **query).json["data"]


@pytest.fixture
def payments(ask):
    def asked(**query):
        return ask("public/funding-rate-history", **{"instId": "DOGE-USDT-SWAP", **query}).json["data"]

    return asked


@pytest.mark.parametrize(
    ("name", "symbol", "size"),
    [("BTC-USDT", "BTC/USDT", 1.0), ("BTC-USDT-SWAP", "BTC/USDT:USDT", 0.01)],
)
def test_trades_are_the_markets_the_newest_first(still, history, name, symbol, size) -> None:
    rows = history(instId=name, type=2, after=NOW - HOUR_MS)
    wanted = still.market.trades(TradeSpan(symbol, end=NOW - HOUR_MS, limit=100, newest=True))
    wanted = wanted.take(slice(None, None, -1))
    assert [int(row["tradeId"]) for row in rows] == wanted.id.tolist()
    assert [int(row["ts"]) for row in rows] == wanted.ts.tolist()
    assert [float(row["px"]) for row in rows] == wanted.price.tolist()
    assert [float(row["sz"]) * size for row in rows] == pytest.approx(wanted.volume.tolist())
    assert [row["side"] for row in rows] == np.where(wanted.is_buy, "buy", "sell").tolist()
    assert {row["instId"] for row in rows} == {name}


def test_inverse_trades_are_whole_contracts(still, history) -> None:
    rows = history(instId="BTC-USD-SWAP", type=2, after=NOW)
    sizes = np.array([float(row["sz"]) for row in rows])
    wanted = still.market.trades(TradeSpan("BTC/USD:BTC", limit=100, newest=True), NOW - 1)
    assert (sizes >= 1).all() and (sizes == np.rint(sizes)).all()
    assert np.abs(sizes - wanted.turnover[::-1] / 100).max() <= 1


def test_ids_and_times_that_trades_are_asked_by_are_exclusive(history) -> None:
    rows = history()
    assert history(after=rows[9]["tradeId"], limit=5) == rows[10:15]
    assert history(after=rows[9]["tradeId"], before=rows[13]["tradeId"]) == rows[10:13]
    older = [row for row in rows if int(row["ts"]) < int(rows[9]["ts"])]
    assert history(type=2, after=rows[9]["ts"], limit=len(older)) == older


def test_trades_are_kept_for_three_months(history) -> None:
    oldest = NOW - KEPT_MS
    (row,) = history(type=2, after=oldest + HOUR_MS, limit=1)
    assert int(row["ts"]) >= oldest
    assert history(type=2, after=oldest) == []


@pytest.mark.parametrize(("path", "usual", "most"), [("trades", 100, 500), ("history-trades", 100, 100)])
def test_limits_of_trades(ask, path: str, usual: int, most: int) -> None:
    newest = ask(f"market/{path}").json["data"]
    assert len(newest) == usual
    assert ask(f"market/{path}", limit=most).json["data"][:usual] == newest
    assert ask(f"market/{path}", limit=most + 1).json["code"] == "51000"


def test_funding_events_are_the_markets_the_newest_first(still, payments) -> None:
    rows = payments()
    wanted = still.market.fundings("DOGE/USDT:USDT", NOW - KEPT_MS, NOW + 1)
    wanted = wanted.take(slice(None, None, -1)).take(slice(0, 400))
    assert [int(row["fundingTime"]) for row in rows] == wanted.ts.tolist()
    assert [float(row["realizedRate"]) for row in rows] == wanted.rate.tolist()
    assert all(row["fundingRate"] != row["realizedRate"] for row in rows), "one is a prediction"
    assert set(np.rint(-np.diff(wanted.ts) / HOUR_MS).astype(int).tolist()) == {1, 8}
    times = [row["fundingTime"] for row in rows]
    assert payments(after=times[4], limit=3) == rows[5:8]
    assert payments(after=times[4], before=times[7]) == rows[5:7]
    assert payments(after=NOW - KEPT_MS) == []


@pytest.mark.parametrize(
    ("name", "symbol", "size"),
    [("BTC-USDT", "BTC/USDT", 1.0), ("BTC-USDT-SWAP", "BTC/USDT:USDT", 0.01)],
)
@pytest.mark.parametrize(("asked", "levels"), [(None, 1), (5, 5), (400, 400)])
def test_books(still, ask, name, symbol, size, asked, levels) -> None:
    query = {"instId": name} | ({} if asked is None else {"sz": asked})
    (book,) = ask("market/books", **query).json["data"]
    wanted = still.market.book(symbol, levels, NOW)
    for side in ("bids", "asks"):
        rows = [[float(value) for value in level] for level in book[side]]
        prices, volumes = getattr(wanted, side).T
        assert [row[0] for row in rows] == prices.tolist()
        assert [row[1] * size for row in rows] == pytest.approx(volumes.tolist())
        assert {row[2] for row in rows} == {0.0}
    assert (book["ts"], book["seqId"]) == (str(NOW), wanted.sequence)


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("market/trades", {"instId": "NOPE"}, 200, "51001"),
        ("market/history-trades", {"instId": ""}, 400, "50014"),
        ("market/history-trades", {"type": "3"}, 400, "51000"),
        ("market/history-trades", {"after": "now"}, 400, "51000"),
        ("market/books", {"sz": "401"}, 400, "51000"),
        ("market/books", {"instId": "NOPE"}, 200, "51001"),
        ("public/funding-rate-history", {}, 400, "51000"),
        ("public/funding-rate-history", {"instId": "NOPE"}, 200, "51001"),
        ("public/funding-rate-history", {"instId": "BTC-USDT-SWAP", "limit": "401"}, 400, "51000"),
    ],
)
def test_errors(ask, path: str, query: dict, status: int, code: str) -> None:
    reply = ask(path, **query)
    assert (reply.status, reply.json["code"], reply.json["data"]) == (status, code, [])


def test_a_plain_client_reads_them(still: Sandbox, client, with_client) -> None:
    async def use(exchange):
        return (
            await exchange.fetch_trades("BTC/USDT:USDT", None, 500),
            await exchange.fetch_order_book("BTC/USDT", 50),
            await exchange.fetch_funding_rate_history("DOGE/USDT:USDT", NOW - DAY_MS),
        )

    made = client("okx", still, options={"fetchMarkets": {"types": ["spot", "swap"]}})
    trades, book, rates = with_client(made, use)
    wanted = still.market.trades(TradeSpan("BTC/USDT:USDT", limit=500, newest=True), NOW)
    assert [trade["timestamp"] for trade in trades] == wanted.ts.tolist()
    assert book["bids"][0][0] < book["asks"][0][0] and len(book["asks"]) == 50
    due = still.market.fundings("DOGE/USDT:USDT", NOW - DAY_MS, NOW)
    assert [rate["timestamp"] for rate in rates] == due.ts.tolist()
    assert [rate["fundingRate"] for rate in rates] == due.rate.tolist()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "path", "instrument", "newer"),
    [
        ("trades", "market/history-trades", "BTC-USDT", {"source"}),
        ("funding_rate_history", "public/funding-rate-history", "BTC-USDT-SWAP", {"formulaType", "method"}),
        ("order_book", "market/books", "BTC-USDT", {"seqId"}),
    ],
)
def test_recorded_shapes(ask, real: Path, shape_differences, name, path, instrument, newer) -> None:
    """OKX has added keys since."""
    theirs = json.loads((real / f"payloads/okx/http_get_{name}.json").read_text())
    ours = ask(path, instId=instrument).json
    assert not shape_differences(ours, theirs, exact=False)
    assert all(row.keys() - theirs["data"][0].keys() == newer for row in ours["data"])
