"""Recorded streams of real exchanges, sent again by the sandbox, through ccxt.pro into tables."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zvt_crypto.core.config import load_settings
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import load_tables
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.store.engine import Store

ROOT = Path(__file__).resolve().parents[2]
CAPTURES = ROOT / ".." / "shared" / "real" / "captures"
DEPTH = 10
FRAME = re.compile(r"\d+(?:\.\d+)?: (.*)\n?")

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not CAPTURES.is_dir(), reason=f"no recorded market data at {CAPTURES}"),
]


def frames(name):
    """What the exchange sent, in order of time, decoded."""
    found = []
    for path in CAPTURES.glob(f"{name}.ws.*gz"):
        with gzip.open(path, "rt") as file:
            found += [line for line in file if FRAME.fullmatch(line)]
    found.sort(key=lambda line: float(line.partition(":")[0]))
    return [json.loads(FRAME.fullmatch(line)[1]) for line in found]


def recorded(name, *arguments, provider, codes, folder, seconds, speed=None):
    """Run the command over a capture; the rows of a table."""
    with Sandbox(stream_captures=sorted(CAPTURES.glob(f"{name}.*gz")), speed=speed) as box:
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "ZVT_HOME": str(folder),
            "ZVT_CRYPTO_DATA_PATH": str(folder / "data"),
            "ZVT_CRYPTO_GATEWAY": box.url,
        }
        command = [sys.executable, "-m", "zvt_crypto.cli", "stream", "--provider", provider]
        command += ["--codes", codes, "--book-every", "0.5", "--depth", str(DEPTH), "--for", str(seconds)]
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    store = Store(load_settings(data_path=folder / "data"))
    load_tables()

    def rows(table, columns):
        with store.connect(provider, tables[table]) as connection:
            found = connection.query(f"SELECT code, timestamp, {columns} FROM {table} ORDER BY timestamp")
            return found.to_pylist()

    return rows


def trades_of(rows):
    found = rows("cryptotrade", "trade_id, price, volume, side")
    return sorted((r["code"], int(r["trade_id"]), r["price"], r["volume"], r["side"]) for r in found)


def newest_books(rows):
    """The last stored book of each market: sequence, bids and asks."""
    books = {}
    for row in rows("cryptoorderbook", "sequence, bids, asks"):
        books[row["code"]] = (row["sequence"], json.loads(row["bids"]), json.loads(row["asks"]))
    return books


def best(bids, asks):
    return (
        [list(level) for level in sorted(bids.items(), reverse=True)[:DEPTH]],
        [list(level) for level in sorted(asks.items())[:DEPTH]],
    )


def change(side, levels):
    for price, amount in levels:
        side[float(price)] = float(amount)
        if float(amount) == 0:
            del side[float(price)]


@pytest.mark.parametrize("speed", [None, 4.0], ids=["at once", "at four times its pace"])
def test_binance_futures(tmp_path, speed):
    codes = {"SUSHIUSDT": "sushiusdt", "AKROUSDT": "akrousdt", "KEEPUSDT": "keepusdt", "CTKUSDT": "ctkusdt"}
    rows = recorded(
        "BINANCE_FUTURES", "--perps", "--trades", "--levels", "1m", "--orderbooks",
        provider="binance", codes=",".join(codes.values()), folder=tmp_path,
        seconds=7 if speed is None else 14, speed=speed,
    )  # fmt: skip
    said = [frame["data"] for frame in frames("BINANCE_FUTURES")]
    trades = {
        (codes[m["s"]], m["a"], float(m["p"]), float(m["q"]), "sell" if m["m"] else "buy")
        for m in said
        if m["e"] == "aggTrade"
    }
    assert len(trades) > 50
    assert trades_of(rows) == sorted(trades)
    closed = {m["s"]: m["k"] for m in said if m["e"] == "kline" and m["k"]["x"]}
    stored = {r["code"]: r for r in rows("cryptoperp_1m_kdata", "open, high, low, close, volume, turnover")}
    assert set(stored) == {codes[market] for market in closed} and len(closed) == 4
    for market, candle in closed.items():
        row = stored[codes[market]]
        values = [row[name] for name in ("open", "high", "low", "close", "volume", "turnover")]
        assert values == [float(candle[name]) for name in "ohlcvq"]
    answers = binance_books()
    for code, (sequence, bids, asks) in newest_books(rows).items():
        market = next(market for market, known in codes.items() if known == code)
        known = answers[market]
        for m in said:
            if m["e"] == "depthUpdate" and m["s"] == market and known["u"] < m["u"] <= sequence:
                change(known["bids"], m["b"])
                change(known["asks"], m["a"])
        assert (bids, asks) == best(known["bids"], known["asks"]), code
        assert sequence == max(m["u"] for m in said if m["e"] == "depthUpdate" and m["s"] == market)


def binance_books():
    """The recorded answers that the books begin with."""
    books = {}
    with gzip.open(CAPTURES / "BINANCE_FUTURES.http.0.0.gz", "rt") as file:
        for line in file:
            found = re.match(r"\S+depth\?symbol=(\w+)\S* -> [0-9.]+: (.*)", line)
            if found:
                book = json.loads(found[2])
                sides = {side: {float(p): float(a) for p, a in book[side]} for side in ("bids", "asks")}
                books[found[1]] = {"u": book["lastUpdateId"], **sides}
    return books


def test_binance_spot(tmp_path):
    rows = recorded(
        "BINANCE", "--trades", provider="binance", codes="nknusdt,blzeth,lrcbtc,runeeur",
        folder=tmp_path, seconds=5,
    )  # fmt: skip
    said = [frame["data"] for frame in frames("BINANCE") if frame["data"].get("e") == "aggTrade"]
    assert len(said) == 2
    assert trades_of(rows) == sorted(
        (m["s"].lower(), m["a"], float(m["p"]), float(m["q"]), "sell" if m["m"] else "buy") for m in said
    )


def test_okx(tmp_path):
    rows = recorded(
        "OKX", "--trades", "--orderbooks", provider="okx", codes="btc-usdt", folder=tmp_path, seconds=6
    )
    trades, bids, asks = [], {}, {}
    for frame in frames("OKX"):
        channel = frame.get("arg", {})
        if "data" not in frame or channel.get("instId") != "BTC-USDT":
            continue
        if channel["channel"] == "trades":
            trades += [
                ("btcusdt", int(m["tradeId"]), float(m["px"]), float(m["sz"]), m["side"])
                for m in frame["data"]
            ]
        elif channel["channel"] == "books":
            change(bids, [level[:2] for level in frame["data"][0]["bids"]])
            change(asks, [level[:2] for level in frame["data"][0]["asks"]])
    assert len(trades) == 69
    assert trades_of(rows) == sorted(trades)
    _, *sides = newest_books(rows)["btcusdt"]
    assert tuple(sides) == best(bids, asks)


def test_kraken(tmp_path):
    """Its trades had no ids then: the sandbox numbers them, so only their values are those of the capture."""
    rows = recorded(
        "KRAKEN",
        "--trades",
        "--orderbooks",
        provider="kraken",
        codes="xmrusd,adabtc",
        folder=tmp_path,
        seconds=14,
    )
    names = {"XMR/USD": "xmrusd", "ADA/XBT": "adabtc"}
    trades, books = [], {code: ({}, {}) for code in names.values()}
    for frame in frames("KRAKEN"):
        if not isinstance(frame, list) or frame[-1] not in names:
            continue
        code = names[frame[-1]]
        if frame[-2] == "trade":
            sides = {"b": "buy", "s": "sell"}
            trades += [
                (code, float(price), float(size), sides[side]) for price, size, _, side, *_ in frame[1]
            ]
            continue
        for part in frame[1:-2]:
            for name, place in (("b", 0), ("bs", 0), ("a", 1), ("as", 1)):
                change(books[code][place], [level[:2] for level in part.get(name, ())])
    assert trades
    assert sorted((code, price, size, side) for code, _, price, size, side in trades_of(rows)) == sorted(
        trades
    )
    stored = newest_books(rows)
    assert set(stored) == set(books)
    for code, sides in books.items():
        assert tuple(stored[code][1:]) == best(*sides), code


def test_coinbase(tmp_path):
    markets = {"SKL-USD": "sklusd", "CRV-EUR": "crveur", "NU-GBP": "nugbp"}
    rows = recorded(
        "COINBASE", "--trades", "--orderbooks", provider="coinbase", codes=",".join(markets.values()),
        folder=tmp_path, seconds=8,
    )  # fmt: skip
    trades, books = set(), {code: ({}, {}) for code in markets.values()}
    for frame in frames("COINBASE"):
        code = markets.get(frame.get("product_id"))
        if code is None:
            continue
        if frame["type"] in ("match", "last_match"):
            # The side of a match is the maker's.
            side = "sell" if frame["side"] == "buy" else "buy"
            trades.add((code, frame["trade_id"], float(frame["price"]), float(frame["size"]), side))
        elif frame["type"] == "snapshot":
            change(books[code][0], frame["bids"])
            change(books[code][1], frame["asks"])
        elif frame["type"] == "l2update":
            for side, price, size in frame["changes"]:
                change(books[code][0 if side == "buy" else 1], [(price, size)])
    assert len(trades) > 50
    assert trades_of(rows) == sorted(trades)
    stored = newest_books(rows)
    for code, sides in books.items():
        assert tuple(stored[code][1:]) == best(*sides), code
