"""Kraken Futures' streams: what the documents say, the shapes recorded there, and that REST tells the same."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import ccxt.pro
import pytest

from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.events import TradeSpan

#: Half a minute before a payment.
NOW = parse_time("2024-06-10T11:59:30Z")
HOST = "futures.kraken.com"
SYMBOLS = {"PF_XBTUSD": "BTC/USD:USD", "PI_XBTUSD": "BTC/USD:BTC"}
products = pytest.mark.parametrize("product", SYMBOLS)


class Line:
    """A connection."""

    def __init__(self, peer: Any) -> None:
        self.send = peer.send
        self.until = peer.until
        self._peer = peer

    async def ask(self, feed: str, *products: str, event: str = "subscribe") -> None:
        await self.send({"event": event, "feed": feed, "product_ids": products or ["PF_XBTUSD"]})

    async def read(self, count: int = 1) -> Any:
        """The next message, or a list of the next ones."""
        frames = [await self._peer.receive() for _ in range(count)]
        return frames if count > 1 else frames[0]


@pytest.fixture
def run(talk, paced) -> Callable[..., Any]:
    """Runs ``await use(line)`` with a new connection."""

    def run_it(use: Callable[[Line], Awaitable[Any]]) -> Any:
        async def begun(peer: Any) -> Any:
            line = Line(peer)
            assert await line.read() == {"event": "info", "version": 1}
            return await use(line)

        return talk(paced, begun, f"{HOST}/ws/v1")

    return run_it


@pytest.fixture
def recorded(real: Path) -> Callable[[str], Any]:
    return lambda name: json.loads((real / "payloads" / "kraken" / f"ws_futures_{name}.json").read_text())


@pytest.fixture
def rest(paced, fetch) -> Callable[..., Any]:
    """The decoded answer of a path over REST."""

    def answer(path: str, **query: Any) -> Any:
        told = "&".join(f"{name}={value}" for name, value in query.items())
        return fetch(f"{paced.url}/{HOST}/{path}?{told}").json

    return answer


# Answers


def test_other_paths_are_not_there(talk, paced) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        talk(paced, None, f"{HOST}/ws/v2")
    assert refused.value.status == 404


def test_each_product_has_an_answer(run) -> None:
    async def use(line: Line) -> Any:
        await line.ask("book", "PF_XBTUSD", "PF_NONE", "PI_XBTUSD")
        return await line.until(lambda frame: frame.get("product_id") == "PI_XBTUSD")

    first, unknown, second, *books = run(use)
    assert first == {"event": "subscribed", "feed": "book", "product_ids": ["PF_XBTUSD"]}
    assert unknown == {"event": "error", "message": "Invalid product id"}
    assert second == {"event": "subscribed", "feed": "book", "product_ids": ["PI_XBTUSD"]}
    assert [book["feed"] for book in books] == ["book_snapshot"] * 2


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "Json Error"),
        ("[]", "Json Error"),
        ('{"event": "dance"}', "Json Error"),
        ('{"event": "subscribe", "feed": "funding", "product_ids": ["PF_XBTUSD"]}', "Invalid feed"),
        ('{"event": "subscribe", "feed": "trade"}', "Invalid product id"),
    ],
)
def test_what_cannot_be_done_is_refused(run, text, error) -> None:
    async def use(line: Line) -> Any:
        await line.send(text)
        return await line.read()

    assert run(use) == {"event": "error", "message": error}


def test_a_book_that_is_asked_for_again_begins_again(run, paced) -> None:
    async def use(line: Line) -> Any:
        await line.ask("book")
        _, first = await line.read(2)
        await line.ask("book")
        alert, again = await line.read(2)
        for _ in range(2):
            await line.ask("book", event="unsubscribe")
        return first, alert, again, *await line.read(2)

    first, alert, again, done, nothing = run(use)
    assert alert == {"event": "alert", "message": "Already subscribed to feed, re-requesting"}
    assert first["feed"] == "book_snapshot" and again == first
    assert done == {"event": "unsubscribed", "feed": "book", "product_ids": ["PF_XBTUSD"]}
    assert nothing == {"event": "alert", "message": "Not subscribed to feed"}


def test_heartbeats_are_a_feed(run) -> None:
    async def use(line: Line) -> Any:
        await line.send({"event": "subscribe", "feed": "heartbeat"})
        return await line.read(2)

    assert run(use) == [{"event": "subscribed", "feed": "heartbeat"}, {"feed": "heartbeat", "time": NOW}]


@pytest.mark.real_data
@products
@pytest.mark.parametrize(
    ("feed", "name"),
    [
        ("trade", "trade_snapshot"),
        ("trade", "trade"),
        ("book", "book_snapshot"),
        ("book", "book_delta"),
        ("ticker", "ticker"),
    ],
)
def test_messages_have_the_recorded_shape(
    run, clock, recorded, shape_differences, product, feed, name
) -> None:
    wanted = recorded(name)

    async def use(line: Line) -> Any:
        await line.ask(feed, product)
        await line.read()
        clock.forward(5_000)
        return (await line.until(lambda frame: frame["feed"] == wanted["feed"]))[-1]

    missing = [f"$ lacks {field}" for field in ("leverage", "index", "premium", "openInterest")]
    found = shape_differences(as_floats(run(use)), as_floats(wanted))
    assert sorted(found) == (sorted(missing) if feed == "ticker" else [])


def as_floats(value: Any) -> Any:
    """The same with all numbers as floats: Kraken writes whole ones without a decimal point."""
    if isinstance(value, dict):
        return {key: as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(as_floats, value))
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


# Trades, books and payments


def as_rest(trade: Any) -> list[Any]:
    return [trade[name] for name in ("uid", "time", "price", "qty", "side")]


def answered(element: Any) -> list[Any]:
    execution = element["event"]["Execution"]["execution"]
    amounts = float(execution["price"]), float(execution["quantity"])
    side = execution["takerOrder"]["direction"].lower()
    return [execution["uid"], execution["timestamp"], *amounts, side]


@products
def test_trades_are_those_of_rest(run, paced, clock, rest, product) -> None:
    def executions(count: int, **query: int) -> list[Any]:
        page = rest(f"api/history/v3/market/{product}/executions", count=count, **query)
        return list(map(answered, page["elements"]))

    async def use(line: Line) -> None:
        await line.ask("trade", product)
        _, latest = await line.read(2)
        assert list(map(as_rest, latest["trades"])) == executions(100)

        span = TradeSpan(SYMBOLS[product], NOW + 1, clock.forward(MINUTE_MS) + 1)
        wanted = paced.market.trades(span).id.tolist()
        told = await line.until(lambda frame: frame["seq"] == wanted[-1])
        assert [trade["seq"] for trade in told] == wanted and len(wanted) > 100
        newest = min(len(told), 1000)
        assert list(map(as_rest, told[: -newest - 1 : -1])) == executions(newest)

    run(use)


def changed(book: dict[str, dict[float, float]], frame: Any) -> None:
    side = book[{"buy": "bids", "sell": "asks"}[frame["side"]]]
    side[frame["price"]] = frame["qty"]
    if not frame["qty"]:
        del side[frame["price"]]


@products
def test_a_book_leads_to_that_of_rest(run, clock, rest, product) -> None:
    def told_by_rest() -> Any:
        return rest("derivatives/api/v3/orderbook", symbol=product)["orderBook"]

    def levels(book: dict[str, dict[float, float]]) -> Any:
        bids, asks = (list(map(list, book[side].items())) for side in ("bids", "asks"))
        return {"bids": sorted(bids, reverse=True), "asks": sorted(asks)}

    async def use(line: Line) -> None:
        await line.ask("book", product)
        _, whole = await line.read(2)
        book = {side: {row["price"]: row["qty"] for row in whole[side]} for side in ("bids", "asks")}
        wanted, number = told_by_rest(), whole["seq"]
        assert levels(book) == {side: wanted[side] for side in ("bids", "asks")}
        for _ in range(5):
            clock.forward(1_000)
            wanted = told_by_rest()
            while levels(book) != {side: wanted[side] for side in ("bids", "asks")}:
                frame = await line.read()
                number += 1
                assert (frame["feed"], frame["seq"]) == ("book", number)
                changed(book, frame)

    run(use)


def test_a_ticker_tells_the_payment_that_rest_tells_later(run, clock, rest) -> None:
    async def use(line: Line) -> Any:
        await line.ask("ticker")
        await line.read()
        clock.forward(2_000)
        before = await line.read()
        clock.forward(MINUTE_MS)
        return before, (await line.until(lambda frame: frame["time"] > before["time"]))[-1]

    before, after = run(use)
    rates = rest("derivatives/api/v4/historicalfundingrates", symbol="PF_XBTUSD")["rates"]
    paid = {parse_time(rate["timestamp"]): rate["relativeFundingRate"] for rate in rates}
    due = before["next_funding_rate_time"]
    assert due == parse_time("2024-06-10T12:00:00Z") == max(paid)
    assert before["relative_funding_rate_prediction"] == paid[due] == after["relative_funding_rate"]
    assert before["relative_funding_rate"] == paid[due - HOUR_MS]
    assert after["next_funding_rate_time"] == due + HOUR_MS
    assert before["funding_rate_prediction"] == pytest.approx(paid[due] * before["markPrice"], abs=1e-9)


# ccxt


def test_ccxt_reads_them(with_client) -> None:
    with Sandbox(seed=1, tick_ms=20) as box:
        exchange = ccxt.pro.krakenfutures({"enableRateLimit": False, "timeout": 5000})
        exchange.urls["api"] |= {
            name: url.replace("https:/", box.url)
            for name, url in exchange.urls["api"].items()
            if isinstance(url, str)
        }
        exchange.urls["api"]["ws"] = f"{box.url.replace('http', 'ws')}/{HOST}/ws/v1"

        async def use(exchange: Any) -> Any:
            symbol = "BTC/USD:USD"
            book = await exchange.watch_order_book(symbol)
            return await exchange.watch_trades(symbol), book, await exchange.watch_ticker(symbol)

        trades, book, ticker = with_client(exchange, use)
    assert {trade["symbol"] for trade in trades} == {"BTC/USD:USD"} and trades[0]["amount"] > 0
    assert book["bids"][0][0] < book["asks"][0][0] and len(book["bids"]) > 100
    assert ticker["markPrice"] > 0
