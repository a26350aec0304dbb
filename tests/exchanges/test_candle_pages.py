"""Pages of the venues: the sandbox's own candles, in our columns."""

import ast
import asyncio
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import zvt_crypto.exchanges
from zvt_crypto.core.errors import InvalidArgument, ProviderUnavailable
from zvt_crypto.core.levels import LEVEL_MS, finished_end, floor_ms, parse_time
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import kdata  # noqa: F401 - registers the tables
from zvt_crypto.exchanges.base import Instrument, venue_class, venues
from zvt_crypto.exchanges.paging import fetch_window

MARKETS = [
    ("binance", Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")),
    ("binance", Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTCUSDT")),
    ("okx", Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC-USDT")),
    ("okx", Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTC-USDT-SWAP")),
    ("okx", Instrument("cryptoperp", "btcusd-btc", "BTC/USD:BTC", "BTC-USD-SWAP")),
]
IDS = [f"{provider} {instrument.symbol}" for provider, instrument in MARKETS]
START = parse_time("2023-06-01")
ROOM = Path(zvt_crypto.exchanges.__file__).parent


def expected(box, provider, instrument, level, start, end):
    rows = box.market.candles(instrument.symbol, level, start, end).table()
    rows = rows.select(tables.candles(instrument.entity_type, level).schema.names)
    if provider == "okx":
        column = rows.schema.get_field_index("trade_count")
        rows = rows.set_column(column, "trade_count", pa.nulls(rows.num_rows, pa.int64()))
    return rows


@pytest.mark.parametrize("level", LEVEL_MS)
@pytest.mark.parametrize(("provider", "instrument"), MARKETS, ids=IDS)
def test_a_page_is_the_markets_candles_in_the_tables_schema(opened, box, provider, instrument, level):
    step = LEVEL_MS[level]
    start = floor_ms(parse_time("2023-06-01"), step)
    count = min(venue_class(provider).capabilities.candle_page[instrument.entity_type], 300)
    end = start + count * step if level != "1d" else start + 200 * step

    async def ask():
        async with opened(provider) as venue:
            return await venue.fetch_candle_page(instrument, level, start, end)

    page = asyncio.run(ask())
    assert page.schema.equals(tables.candles(instrument.entity_type, level).schema)
    page = page.sort_by("ts")
    assert page.num_rows == (end - start) // step
    assert page.equals(expected(box, provider, instrument, level, start, end).cast(page.schema))


@pytest.mark.parametrize(("provider", "instrument"), MARKETS, ids=IDS)
def test_a_full_page_is_one_request(opened, box, provider, instrument):
    size = venue_class(provider).capabilities.candle_page[instrument.entity_type]
    start = parse_time("2023-06-01")

    async def ask():
        async with opened(provider) as venue:
            await venue.client.now(instrument.entity_type)
            box.forget_requests()
            return await fetch_window(
                lambda a, b: venue.fetch_candle_page(instrument, "1m", a, b),
                start,
                start + size * 60_000,
                60_000,
            )

    window = asyncio.run(ask())
    assert (window.batch.num_rows, window.requests, len(box.requests)) == (size, 1, 1)


@pytest.mark.parametrize(("provider", "instrument"), MARKETS, ids=IDS)
def test_unfinished_candles_do_not_get_into_a_window(opened, box, provider, instrument):
    now = box.market.now()
    start, end = floor_ms(now, 60_000) - 600_000, finished_end(now, 60_000)

    async def ask():
        async with opened(provider) as venue:
            assert abs(await venue.client.now(instrument.entity_type) - now) < 5000
            page = await venue.fetch_candle_page(instrument, "1m", start, end + 60_000)
            window = await fetch_window(
                lambda a, b: venue.fetch_candle_page(instrument, "1m", a, b + 60_000), start, end, 60_000
            )
            return page, window

    page, window = asyncio.run(ask())
    assert sorted(window.batch["ts"].to_pylist()) == list(range(start, end, 60_000))
    # OKX marks the unfinished candle, so it is left out already; binance sends it like the others.
    assert (pc.max(page["ts"]).as_py() == end) == (provider == "binance")


@pytest.mark.parametrize(
    ("age_bars", "path"),
    [
        (100, "/api/v5/market/candles"),
        (1430, "/api/v5/market/candles"),
        (1500, "/api/v5/market/history-candles"),
    ],
)
def test_okx_is_asked_where_the_candles_are(opened, box, age_bars, path):
    start = finished_end(box.market.now(), 60_000) - age_bars * 60_000

    async def ask():
        async with opened("okx") as venue:
            return await venue.fetch_candle_page(MARKETS[2][1], "1m", start, start + 100 * 60_000)

    assert asyncio.run(ask()).num_rows == 100
    assert box.requests[-1].path == path


@pytest.mark.parametrize("late", [True, False])
def test_a_finished_candle_that_okx_has_not_confirmed_is_not_taken_for_missing(scripted, script, late):
    # The clock that is answered stands well on one side of the candle's end, whatever the test's speed.
    now = START + (300_000 if late else 30_000)
    clock = '{"code":"0","data":[{"ts":"%d"}],"msg":""}' % now  # noqa: UP031 - braces of JSON
    rows = (
        f'[["{START}","1","1","1","1","5","5","5","0"],["{START - 60_000}","1","1","1","1","5","5","5","1"]]'
    )
    answers = [(200, clock), (200, f'{{"code":"0","data":{rows},"msg":""}}')]

    async def ask():
        async with scripted(script(*answers), "okx") as venue:
            return await venue.fetch_candle_page(MARKETS[2][1], "1m", START - 60_000, START + 60_000)

    if late:
        with pytest.raises(
            ProviderUnavailable, match="has not confirmed BTC/USDT 1m of 2023-06-01T00:00:00Z"
        ):
            asyncio.run(ask())
    else:
        assert asyncio.run(ask())["ts"].to_pylist() == [START - 60_000]


def test_a_candle_that_okx_confirms_late_is_asked_for_until_it_does(scripted, script):
    now = START + 300_000
    clock = '{"code":"0","data":[{"ts":"%d"}],"msg":""}' % now  # noqa: UP031 - braces of JSON
    pages = [
        f'{{"code":"0","data":[["{START}","1","1","1","1","5","5","5","{c}"]],"msg":""}}' for c in (0, 1)
    ]

    async def ask():
        async with scripted(script((200, clock), (200, pages[0]), (200, pages[1])), "okx") as venue:
            return await venue.fetch_candle_page(MARKETS[2][1], "1m", START, START + 60_000)

    assert asyncio.run(ask())["ts"].to_pylist() == [START]


def test_binance_asks_for_no_more_rows_than_it_wants(opened, box):
    start = parse_time("2023-06-01")

    async def ask():
        async with opened() as venue:
            await venue.fetch_candle_page(MARKETS[1][1], "1m", start, start + 90 * 60_000)

    asyncio.run(ask())
    assert box.requests[-1].query["limit"] == "90", "a futures request of 100 and more costs more weight"


@pytest.mark.parametrize(("provider", "instrument"), MARKETS[:2] + MARKETS[3:4], ids=IDS[:2] + IDS[3:4])
def test_the_listing_is_found(opened, box, provider, instrument):
    async def ask():
        async with opened(provider) as venue:
            return await venue.find_listing(instrument)

    listed = box.market.instrument(instrument.symbol).listed
    assert asyncio.run(ask()) == floor_ms(listed, LEVEL_MS["1d"])
    if provider == "binance":
        assert len(box.requests) == 1


@pytest.mark.parametrize("provider", ["binance", "okx"])
def test_the_listing_of_a_delisted_market_is_found(opened, box, provider):
    native = {"binance": "EOSUSDT", "okx": "EOS-USDT"}[provider]

    async def ask():
        async with opened(provider) as venue:
            return await venue.find_listing(Instrument("cryptopair", "eosusdt", "EOS/USDT", native))

    assert asyncio.run(ask()) == parse_time("2018-05-28")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("market", "file", "count"),
    [
        (MARKETS[0], "binance/spot/http_json/klines_response.json", 1),
        (MARKETS[3], "okx/http_get_candlesticks_full.json", 2),
    ],
)
def test_recorded_answers_are_read(scripted, script, market, file, count):
    provider, instrument = market
    body = (ROOM.parents[1] / ".." / "shared" / "real" / "payloads" / file).read_text()
    rows = json.loads(body) if provider == "binance" else json.loads(body)["data"]
    answers = [(200, body)]
    if provider == "okx":
        answers.insert(0, (200, '{"code":"0","data":[{"ts":"1747100000000"}],"msg":""}'))

    async def ask(answers):
        async with scripted(script(*answers), provider) as venue:
            return await venue.fetch_candle_page(instrument, "1m", int(rows[-1][0]), int(rows[0][0]) + 60_000)

    page = asyncio.run(ask(answers))
    assert page.num_rows == count
    for row, raw in zip(page.to_pylist(), rows, strict=True):
        assert [row["ts"], row["open"], row["high"], row["low"], row["close"]] == [
            int(raw[0]),
            *map(float, raw[1:5]),
        ]
        assert (row["volume"], row["turnover"]) == (
            float(raw[5 if provider == "binance" else 6]),
            float(raw[7]),
        )
        assert row["trade_count"] == (308 if provider == "binance" else None)


def test_venues_are_found_by_their_files():
    found = venues()
    assert {"binance", "okx"} <= set(found)
    assert all(kind.name == name for name, kind in found.items())
    for name, kind in found.items():
        if kind.serves_many:
            continue
        assert kind.exchange == name and kind.__module__.endswith(f".{name}")
        assert set(kind.ccxt_ids) == set(kind.capabilities.entity_types)
        assert set(kind.capabilities.levels) <= set(LEVEL_MS)


def test_an_unknown_provider_is_answered_with_the_nearest():
    with pytest.raises(InvalidArgument, match="unknown provider 'binanse'") as caught:
        venue_class("binanse")
    assert "binance" in caught.value.one_line()


def test_only_the_client_names_ccxt_and_no_room_lists_the_venues():
    names = {name for name, venue in venues().items() if not venue.serves_many}
    for path in ROOM.glob("*.py"):
        tree = ast.parse(path.read_text())
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        if path.name != "client.py":
            assert not any(name.split(".")[0] == "ccxt" for name in modules | texts if " " not in name), path
        if path.stem not in names:
            assert not names & texts, f"{path.name} names a venue"
            assert not any(m.rsplit(".", 1)[-1] in names for m in modules if m.startswith("zvt_crypto")), path
