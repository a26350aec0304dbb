"""Recorded streams: Binance's and OKX's word for word, Kraken's and Coinbase's in today's layout."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ccxt.pro
import pytest

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.sandbox import Sandbox, SandboxSettings, SimulatedMarket
from zvt_crypto.sandbox.events import TradeSpan

LIST = {
    "symbols": [
        {
            "symbol": "NKNUSDT", "status": "TRADING", "baseAsset": "NKN", "quoteAsset": "USDT",
            "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.00010000"},
                        {"filterType": "LOT_SIZE", "stepSize": "1.00000000"}],
        }
    ]
}  # fmt: skip
TRADE = '{{"e":"aggTrade","E":{ts},"s":"NKNUSDT","a":{id},"p":"0.35","q":"58","f":1,"l":1,"T":{ts},"m":false,"M":true}}'
BEGIN = 1_633_998_512


@pytest.fixture(scope="module")
def recorded(real: Path) -> Callable[[str], list[Path]]:
    """The files of a venue, such as ``KRAKEN``."""
    return lambda name: sorted((real / "captures").glob(f"{name}.*gz"))


@pytest.fixture
def made(tmp_path: Path) -> list[Path]:
    """A capture of four trades in two seconds, made up."""
    answers = [
        f"https://api.binance.com/api/v3/exchangeInfo -> {BEGIN}.5: {json.dumps(LIST)}",
        f'https://api.binance.com/api/v3/depth?symbol=NKNUSDT&limit=1000 -> {BEGIN}.6: {{"lastUpdateId":7}}',
        "configuration: {}",
    ]
    frames = [
        "wss://stream.binance.com:9443/stream?streams=nknusdt@aggTrade <-> 1633998511.1",
        'wss://stream.binance.com:9443/stream <- 1633998511.2: {"method":"SUBSCRIBE"}',
        *(
            f'{BEGIN + n / 2}: {{"stream":"nknusdt@aggTrade","data":{TRADE.format(ts=1000 * BEGIN + 500 * n, id=n)}}}'
            for n in range(5)
        ),
    ]
    (tmp_path / "answers").write_text("\n".join(answers))
    with gzip.open(tmp_path / "frames.gz", "wt") as file:
        file.write("\n".join(frames))
    return [tmp_path / "answers", tmp_path / "frames.gz"]


def frames_of(files: list[Path]) -> Iterator[str]:
    """What the exchange sent, in order of time."""
    found = []
    for path in files:
        with gzip.open(path, "rt") as file:
            found += [m for m in (re.fullmatch(r"(\d+\.?\d*): (.*)\n?", line) for line in file) if m]
    return (match[2] for match in sorted(found, key=lambda match: float(match[1])))


def said(box: Sandbox, talk: Any, address: str, *frames: Any, answers: int = 1) -> list[str]:
    """What a client is told after its frames, but for so many answers to each."""

    async def use(peer) -> list[str]:
        for frame in frames:
            await peer.send(frame)
        texts = await peer.rest_of_texts(0.2)
        return texts[answers * len(frames) :]

    return talk(box, use, address)


def subscribe(*names: str) -> dict[str, Any]:
    return {"method": "SUBSCRIBE", "params": list(names), "id": 1}


@pytest.mark.parametrize("speed", [None, 40.0])
def test_a_capture_is_sent_as_it_was(made, talk, fetch, speed: float | None) -> None:
    with Sandbox(stream_captures=made, speed=speed) as box:

        def ask(path: str) -> Any:
            return fetch(f"{box.url}/api.binance.com/api/v3/{path}").json

        assert ask("time") == {"serverTime": BEGIN * 1000}
        assert ask("exchangeInfo") == LIST
        assert ask("depth?symbol=NKNUSDT&limit=5000") == {"lastUpdateId": 7}
        assert ask("aggTrades?symbol=NKNUSDT") == [
            {
                "a": 0,
                "p": "0.35000000",
                "q": "58.00000000",
                "f": 0,
                "l": 0,
                "T": BEGIN * 1000,
                "m": False,
                "M": True,
            }
        ]

        async def use(peer) -> list[str]:
            await peer.ask(subscribe("nknusdt@aggTrade"))
            return [await peer.text() for _ in range(5)]

        assert talk(box, use, "stream.binance.com/ws") == [
            TRADE.format(ts=1000 * BEGIN + 500 * n, id=n) for n in range(5)
        ]
        assert ask("time") == {"serverTime": BEGIN * 1000 + 2000}
        assert [row["a"] for row in ask("aggTrades?symbol=NKNUSDT")] == [0, 1, 2, 3, 4]
        late = talk(box, use, "stream.binance.com/ws")
        assert len(late) == 5, "who comes late gets everything, too"


def test_a_capture_has_a_pace(made, talk) -> None:
    async def use(peer) -> None:
        await peer.ask(subscribe("nknusdt@aggTrade"))
        first = await peer.receive()
        assert (first["a"], box.market.now() < 1000 * BEGIN + 2000) == (0, True)

    with Sandbox(stream_captures=made, speed=0.01) as box:
        talk(box, use, "stream.binance.com/ws")


def test_faults_strike_recorded_streams(made, talk) -> None:
    with Sandbox(stream_captures=made, speed=None, faults=["ws_skip,after=2,times=1"]) as box:
        texts = said(box, talk, "stream.binance.com/stream", subscribe("nknusdt@aggTrade"))
    assert [json.loads(text)["data"]["a"] for text in texts] == [0, 1, 3, 4]


def test_what_was_not_recorded_is_not_sent(made, talk) -> None:
    with Sandbox(stream_captures=made, speed=None) as box:
        assert said(box, talk, "stream.binance.com/ws", subscribe("nknusdt@trade", "btcusdt@aggTrade")) == []
        unknown = said(box, talk, "ws.kraken.com/v2", {"method": "ping"}, answers=0)
        assert [json.loads(text).get("method") for text in unknown] == [None, "pong"], (
            "other venues are there"
        )


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["nothing"], "holds nothing that was recorded"),
        (["wss://stream.example.com <-> 1.5", "1.5: {}"], "streams of stream.example.com cannot be replayed"),
        (["wss://stream.binance.com/stream <-> 1.5", '1.5: {"stream":"a@b","data":{}}'], "exchangeInfo"),
    ],
)
def test_captures_that_cannot_be_replayed(tmp_path: Path, lines: list[str], says: str) -> None:
    (tmp_path / "x").write_text("\n".join(lines))
    with pytest.raises(InvalidArgument) as caught:
        Sandbox(stream_captures=[tmp_path / "x"])
    assert says in caught.value.one_line()


def test_settings_of_captures(made) -> None:
    with pytest.raises(InvalidArgument, match="speed -1"):
        Sandbox(stream_captures=made, speed=-1)
    with pytest.raises(InvalidArgument, match="not both"):
        Sandbox(SimulatedMarket(1), stream_captures=made)
    with pytest.raises(InvalidArgument, match="a market and a clock of their own"):
        SandboxSettings(stream_captures=tuple(made), now="2024-03-01").market()


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "host"), [("BINANCE", "stream"), ("BINANCE_FUTURES", "fstream")])
@pytest.mark.parametrize("kind", ["ws", "stream"])
def test_binance_word_for_word(recorded, talk, name: str, host: str, kind: str) -> None:
    theirs = [text for text in frames_of(recorded(name)) if text.startswith('{"stream"')]
    names = sorted({json.loads(text)["stream"] for text in theirs})
    with Sandbox(stream_captures=recorded(name), speed=None) as box:
        ours = said(box, talk, f"{host}.binance.com/{kind}", subscribe(*names))
    if kind == "ws":
        theirs = [text[text.index('"data":') + 7 : -1] for text in theirs]
    assert ours == theirs


@pytest.mark.real_data
def test_binance_books_at_another_speed(recorded, talk) -> None:
    with Sandbox(stream_captures=recorded("BINANCE"), speed=None) as box:
        usual = said(box, talk, "stream.binance.com/stream", subscribe("nknusdt@depth@100ms"))
        slow = said(box, talk, "stream.binance.com/stream", subscribe("nknusdt@depth"))
    assert [text.replace("depth@100ms", "depth") for text in usual] == slow
    assert len(slow) > 100


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "symbol", "host", "api"),
    [("BINANCE", "NKN/USDT", "stream.binance.com", "api.binance.com/api/v3"),
     ("BINANCE_FUTURES", "SUSHI/USDT:USDT", "fstream.binance.com", "fapi.binance.com/fapi/v1")],
)  # fmt: skip
def test_binance_books_join_the_recorded_answer(recorded, talk, fetch, name, symbol, host, api) -> None:
    native = symbol.partition(":")[0].replace("/", "")
    with Sandbox(stream_captures=recorded(name), speed=None) as box:
        book = fetch(f"{box.url}/{api}/depth?symbol={native}&limit=1000").json
        texts = said(
            box,
            talk,
            f"{host}/ws",
            subscribe(f"{native.lower()}@depth@100ms", f"{native.lower()}@bookTicker"),
        )
    sides = {
        side: {float(p): float(q) for p, q in book[name]} for side, name in (("b", "bids"), ("a", "asks"))
    }
    last, checked = book["lastUpdateId"], 0
    frames = [json.loads(text) for text in texts]
    best_at = {
        f["u"]: {side: (float(f[side]), float(f[side.upper()])) for side in "ba"} for f in frames if "B" in f
    }
    for frame in (frame for frame in frames if "U" in frame and frame["u"] > last):
        assert frame["U"] <= last + 1 or frame.get("pu") == last
        for side, levels in sides.items():
            levels.update((float(price), float(amount)) for price, amount in frame[side])
        last = frame["u"]
        if last in best_at:
            there = {side: [level for level in levels.items() if level[1]] for side, levels in sides.items()}
            assert best_at[last] == {"b": max(there["b"]), "a": min(there["a"])}
            checked += 1
    assert last > book["lastUpdateId"]
    assert checked > 0 or "pu" in frame, "numbers of futures are not those of their best levels"


@pytest.mark.real_data
def test_okx_word_for_word(recorded, talk) -> None:
    theirs = [text for text in frames_of(recorded("OKX")) if '"data"' in text and "220527" not in text]
    markets = ("BTC-USDT", "UNI-USD-SWAP")

    def ask(channel: str) -> dict[str, Any]:
        return {"op": "subscribe", "args": [{"channel": channel, "instId": name} for name in markets]}

    with Sandbox(stream_captures=recorded("OKX"), speed=None) as box:
        public = said(box, talk, "ws.okx.com/ws/v5/public", ask("trades"), ask("books"), answers=2)
        all_trades = said(box, talk, "ws.okx.com/ws/v5/business", ask("trades-all"), answers=2)
    assert public == [text for text in theirs if '"channel":"tickers"' not in text]
    trades = [text for text in theirs if '"channel":"trades"' in text]
    assert all_trades == [text.replace('"trades"', '"trades-all"') for text in trades]


@pytest.mark.real_data
def test_okx_over_rest_is_what_was_streamed(recorded, talk, fetch) -> None:
    with Sandbox(stream_captures=recorded("OKX"), speed=None) as box:
        ask = {"op": "subscribe", "args": [{"channel": "trades", "instId": "UNI-USD-SWAP"}]}
        trades = [json.loads(text)["data"][0] for text in said(box, talk, "ws.okx.com/ws/v5/public", ask)]
        api = f"{box.url}/www.okx.com/api/v5"
        rows = fetch(f"{api}/market/trades?instId=UNI-USD-SWAP&limit=500").json["data"]
        swaps = fetch(f"{api}/public/instruments?instType=SWAP").json["data"]
        book = fetch(f"{api}/market/books?instId=BTC-USDT&sz=400").json["data"][0]
    assert [(t["tradeId"], t["px"], t["sz"]) for t in trades] == [
        (r["tradeId"], r["px"], r["sz"]) for r in rows[::-1]
    ]
    assert len(swaps) > 100
    assert len(book["asks"]) == len(book["bids"]) == 400


def crc(sides: dict[str, dict[float, str]], reverse: dict[str, bool]) -> int:
    """Of the digits of the ten best levels, asks first, as both versions of the document say."""
    digits = ""
    for name in ("asks", "bids"):
        best = sorted(sides[name], reverse=reverse[name])[:10]
        digits += "".join(sides[name][price] for price in best)
    return zlib.crc32(digits.encode())


REVERSE = {"asks": False, "bids": True}


def plain_digits(*texts: str) -> str:
    return "".join(text.replace(".", "").lstrip("0") for text in texts)


@pytest.mark.real_data
def test_kraken_checksums_were_right_when_recorded(recorded) -> None:
    """That is how v1 is understood here: what the checksums of v2 are made from."""
    books: dict[str, dict[str, dict[float, str]]] = {}
    checked = 0
    for frame in map(json.loads, frames_of(recorded("KRAKEN"))):
        if not isinstance(frame, list) or not frame[-2].startswith("book"):
            continue
        parts = {name: rows for part in frame[1:-2] for name, rows in part.items()}
        sides = books.setdefault(frame[-1], {"asks": {}, "bids": {}})
        for name in REVERSE:
            for row in [*parts.get(name[0] + "s", []), *parts.get(name[0], [])]:
                sides[name].pop(float(row[0]), None)
                if float(row[1]):
                    sides[name][float(row[0])] = plain_digits(row[0], row[1])
            for price in sorted(sides[name], reverse=REVERSE[name])[1000:]:
                del sides[name][price]
        if "c" in parts:
            assert crc(sides, REVERSE) == int(parts["c"])
            checked += 1
    assert checked > 4000


@pytest.mark.real_data
@pytest.mark.parametrize("depth", [10, 100, 1000])
def test_kraken_books(recorded, talk, depth: int) -> None:
    pairs = ["XMR/USD", "KSM/BTC", "OCEAN/BTC", "SC/EUR", "WAVES/EUR"]
    ask = {"method": "subscribe", "params": {"channel": "book", "depth": depth, "symbol": pairs}}
    with Sandbox(stream_captures=recorded("KRAKEN"), speed=None) as box:
        texts = [text for text in said(box, talk, "ws.kraken.com/v2", ask) if '"channel":"book"' in text]
        rest = {pair: box.market.book(pair, depth, box.market.now()) for pair in pairs}
    texts = [text for text in texts if '"method"' not in text]
    books: dict[str, dict[str, dict[float, str]]] = {}
    amounts: dict[str, dict[str, dict[float, float]]] = {}
    # Numbers are read as texts: the zeros at their end count.
    for frame in (json.loads(text, parse_float=str) for text in texts):
        (data,) = frame["data"]
        pair = data["symbol"]
        if frame["type"] == "snapshot":
            books[pair], amounts[pair] = ({"asks": {}, "bids": {}} for _ in range(2))
        for name in REVERSE:
            for level in data[name]:
                price, amount = float(level["price"]), float(level["qty"])
                books[pair][name].pop(price, None)
                amounts[pair][name].pop(price, None)
                if amount:
                    books[pair][name][price] = plain_digits(level["price"], level["qty"])
                    amounts[pair][name][price] = amount
            for price in sorted(books[pair][name], reverse=REVERSE[name])[depth:]:
                del books[pair][name][price], amounts[pair][name][price]
        assert crc(books[pair], REVERSE) == data["checksum"]
    assert sorted(books) == sorted(pairs)
    for pair, book in rest.items():
        assert sorted(amounts[pair]["bids"].items(), reverse=True) == list(map(tuple, book.bids.tolist()))
        assert sorted(amounts[pair]["asks"].items()) == list(map(tuple, book.asks.tolist()))


@pytest.mark.real_data
def test_kraken_books_as_deep_as_recorded_have_the_recorded_changes(recorded, talk) -> None:
    theirs = [
        [
            (float(row[0]), float(row[1]))
            for part in frame[1:-2]
            for side in "ba"
            for row in part.get(side, [])
        ]
        for frame in map(json.loads, frames_of(recorded("KRAKEN")))
        if isinstance(frame, list) and frame[-1] == "XMR/USD" and frame[-2] == "book-1000"
    ]
    ask = {"method": "subscribe", "params": {"channel": "book", "depth": 1000, "symbol": ["XMR/USD"]}}
    with Sandbox(stream_captures=recorded("KRAKEN"), speed=None) as box:
        texts = [text for text in said(box, talk, "ws.kraken.com/v2", ask) if '"type":"update"' in text]
    ours = [
        {(level["price"], level["qty"]) for side in REVERSE for level in data[side]}
        for text in texts
        if text.startswith('{"channel":"book"')
        for data in json.loads(text)["data"]
    ]
    # What v1 sends without a change, or beyond the depth, v2 does not send.
    assert len(ours) > 0.99 * (len(theirs) - 1)
    assert {level for levels in ours for level in levels} <= {level for levels in theirs for level in levels}


@pytest.mark.real_data
def test_kraken_trades(recorded, talk, fetch) -> None:
    theirs = [
        (frame[-1], *row[:5])
        for frame in map(json.loads, frames_of(recorded("KRAKEN")))
        if isinstance(frame, list) and frame[-2] == "trade"
        for row in frame[1]
    ]
    ask = {
        "method": "subscribe",
        "params": {"channel": "trade", "symbol": ["XMR/USD", "SC/EUR"], "snapshot": True},
    }
    with Sandbox(stream_captures=recorded("KRAKEN"), speed=None) as box:
        texts = [text for text in said(box, talk, "ws.kraken.com/v2", ask) if '"type":"update"' in text]
        rest = fetch(f"{box.url}/api.kraken.com/0/public/Trades?pair=XMRUSD&since=0").json["result"]
    ours = [row for text in texts if '"trade"' in text for row in json.loads(text)["data"]]
    assert [(r["symbol"], r["price"], r["qty"], r["side"][0], r["ord_type"][0]) for r in ours] == [
        (pair, float(price), float(volume), side, kind) for pair, price, volume, _, side, kind in theirs
    ]
    assert [(r["trade_id"], r["timestamp"]) for r in ours if r["symbol"] == "XMR/USD"] == [
        (1, "2021-04-17T16:49:02.557535Z"),
        (2, "2021-04-17T16:49:05.715785Z"),
        (3, "2021-04-17T16:49:10.826417Z"),
        (4, "2021-04-17T16:49:10.827816Z"),
    ]
    assert [row[-1] for row in next(iter(rest.values()))] == [1, 2, 3, 4]


@pytest.mark.real_data
def test_coinbase(recorded, talk, fetch) -> None:
    theirs = [json.loads(text) for text in frames_of(recorded("COINBASE"))]
    products = sorted({frame["product_id"] for frame in theirs if "product_id" in frame})
    asks = [
        {"type": "subscribe", "channel": name, "product_ids": products}
        for name in ("market_trades", "level2")
    ]
    with Sandbox(stream_captures=recorded("COINBASE"), speed=None) as box:
        ours = [
            json.loads(text) for text in said(box, talk, "advanced-trade-ws.coinbase.com", *asks, answers=0)
        ]
        listed = fetch(f"{box.url}/api.coinbase.com/api/v3/brokerage/market/products").json["products"]
    assert {entry["product_id"] for entry in listed} == set(products)
    assert [frame["sequence_num"] for frame in ours] == list(range(len(ours)))
    trades = [
        tuple(trade[name] for name in ("trade_id", "product_id", "price", "size", "side", "time"))
        for frame in ours
        if frame["channel"] == "market_trades" and frame["events"][0]["type"] == "update"
        for trade in frame["events"][0]["trades"]
    ]
    assert trades == [
        (str(f["trade_id"]), f["product_id"], f["price"], f["size"], f["side"].upper(), f["time"])
        for f in theirs
        if f["type"] == "match"
    ]
    began = [
        (trade["product_id"], trade["trade_id"])
        for frame in ours
        if frame["channel"] == "market_trades" and frame["events"][0]["type"] == "snapshot"
        for trade in frame["events"][0]["trades"]
    ]
    assert sorted(began) == sorted(
        (f["product_id"], str(f["trade_id"])) for f in theirs if f["type"] == "last_match"
    )
    updates = [
        (
            event["product_id"],
            update["side"],
            update["price_level"],
            update["new_quantity"],
            update["event_time"],
        )
        for frame in ours
        if frame["channel"] == "l2_data" and frame["events"][0]["type"] == "update"
        for event in frame["events"]
        for update in event["updates"]
    ]
    words = {"buy": "bid", "sell": "offer"}
    assert updates == [
        (f["product_id"], words[side], price, size, f["time"])
        for f in theirs
        if f["type"] == "l2update"
        for side, price, size in f["changes"]
    ]
    snapshots = {
        event["product_id"]: {(u["side"], u["price_level"], u["new_quantity"]) for u in event["updates"]}
        for frame in ours
        if frame["channel"] == "l2_data"
        for event in frame["events"]
        if event["type"] == "snapshot"
    }
    assert snapshots == {
        f["product_id"]: {
            (word, p, s) for word, name in (("bid", "bids"), ("offer", "asks")) for p, s in f[name]
        }
        for f in theirs
        if f["type"] == "snapshot"
    }


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "venue", "symbol"),
    [
        ("BINANCE", "binance", "NKN/USDT"),
        ("BINANCE_FUTURES", "binance", "SUSHI/USDT:USDT"),
        ("OKX", "okx", "BTC/USDT"),
        ("KRAKEN", "kraken", "XMR/USD"),
        ("COINBASE", "coinbase", "SKL/BTC"),
    ],
)
def test_through_ccxt(recorded, client, with_client, name: str, venue: str, symbol: str) -> None:
    kinds = ["spot", "linear"] if venue == "binance" else ["spot", "swap"]
    types = {"fetchMarkets": {"types": kinds}} if venue in ("binance", "okx") else {}

    async def use(exchange: Any) -> tuple[Any, Any]:
        await exchange.load_markets()
        book = await asyncio.wait_for(exchange.watch_order_book(symbol), 30)
        trades = await asyncio.wait_for(exchange.watch_trades(symbol), 30)
        return book, trades

    with Sandbox(stream_captures=recorded(name), speed=3.0) as box:
        options = {**types, "watchTrades": {"name": "aggTrade"}}
        book, trades = with_client(client(venue, box, kind=ccxt.pro, options=options), use)
        recorded_trades = box.market.trades(TradeSpan(symbol))
    assert book["bids"][0][0] < book["asks"][0][0]
    assert int(trades[0]["id"]) in recorded_trades.id
    assert trades[0]["price"] in recorded_trades.price
