"""Retries, pauses, the clock, markets and sessions of the client, over a socket."""

import asyncio
import gc
import json
import subprocess
import sys
import time
import warnings

import pytest

from zvt_crypto.core.errors import (
    ExchangeMaintenance,
    NotSupported,
    ProviderUnavailable,
    RateLimitExceeded,
    RegionBlocked,
)
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.budget import Pause

BTC = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
PERP = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTCUSDT")
MINUTE = 60_000
START = 1_704_067_200_000


def page(venue, instrument=BTC, minutes=5, start=START):
    return venue.fetch_candle_page(instrument, "1m", start, start + minutes * MINUTE)


def klines(box):
    return [request for request in box.requests if request.path.endswith("klines")]


PASSING = [
    "status:500",
    "status:503",
    "status:429",
    "html",
    "html:200",
    "cut",
    "cut:close",
    "empty",
    "disconnect",
    "timeout",
    "maintenance",
]


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again(opened, box, fault):
    box.faults = [f"{fault},times=2"]

    async def ask():
        async with opened(timeout_seconds=0.2 if fault == "timeout" else 2) as venue:
            return await page(venue)

    assert asyncio.run(ask()).num_rows == 5
    assert len(klines(box)) == 3


@pytest.mark.parametrize(
    ("fault", "kind", "requests"),
    [
        ("status:500", ProviderUnavailable, 3),
        ("timeout", ProviderUnavailable, 3),
        # aiohttp itself asks once more when a connection breaks
        ("disconnect", ProviderUnavailable, 6),
        ("maintenance", ExchangeMaintenance, 3),
        ("status:429", RateLimitExceeded, 3),
        ("status:451", RegionBlocked, 1),
    ],
)
def test_attempts_end_and_are_counted(opened, box, fault, kind, requests):
    box.faults = [fault]

    async def ask():
        async with opened(timeout_seconds=0.1 if fault == "timeout" else 2) as venue:
            await page(venue)

    with pytest.raises(kind) as caught:
        asyncio.run(ask())
    assert len(klines(box)) == requests
    assert caught.value.details["attempts"] == min(requests, 3)


def test_pauses_between_attempts_grow(opened, box):
    box.faults = ["status:500,times=3"]

    async def ask():
        async with opened(max_attempts=4, retry_wait_seconds=0.1) as venue:
            await page(venue)

    asyncio.run(ask())
    times = [request.time for request in klines(box)]
    first, second, third = (b - a for a, b in zip(times, times[1:], strict=False))
    assert first >= 0.1
    assert second >= 0.2
    assert third >= 0.4


def test_retry_after_holds_back_all_requests(opened, box):
    box.faults = ["status:429,times=1,retry_after=1"]

    async def ask():
        async with opened(retry_wait_seconds=0.01) as venue:
            with_limit = asyncio.create_task(page(venue))
            await asyncio.sleep(0.3)
            others = [page(venue, start=START + n * 5 * MINUTE) for n in range(1, 6)]
            return await asyncio.gather(with_limit, *others)

    answers = asyncio.run(ask())
    assert [table.num_rows for table in answers] == [5] * 6
    refused, *later = [request.time for request in klines(box)]
    assert len(later) == 6
    assert min(later) >= refused + 0.99


def test_a_long_ban_is_not_sat_out_and_outlives_the_client(opened, box):
    box.faults = ["status:418,times=1,retry_after=300"]

    async def ask(instrument):
        async with opened() as venue:
            return await page(venue, instrument)

    for _ in range(2):
        with pytest.raises(RateLimitExceeded) as caught:
            asyncio.run(ask(BTC))
        assert 290 < caught.value.retry_after <= 300
    assert len(klines(box)) == 1, "the second client asked in spite of the ban"
    assert asyncio.run(ask(PERP)).num_rows == 5, "futures have a host and a budget of their own"


def test_a_short_ban_of_an_earlier_process_is_sat_out(opened, box, tmp_path):
    Pause("binance", tmp_path / "state" / "binance.json").hold(0.5)
    began = time.time()

    async def ask():
        async with opened() as venue:
            return await page(venue)

    assert asyncio.run(ask()).num_rows == 5
    assert klines(box)[0].time >= began + 0.49


@pytest.mark.parametrize("content", [b"", b"{", b'{"until_ms":"soon"}', b"[]"])
def test_a_damaged_pause_file_is_ignored_and_can_be_replaced(tmp_path, content):
    pause = Pause("binance", tmp_path / "binance.json")
    pause.path.write_bytes(content)
    assert pause.remaining() == 0
    pause.hold(60)
    assert 59 < pause.remaining() <= 60


def test_a_shorter_pause_does_not_end_a_longer_one(tmp_path):
    pause = Pause("binance", tmp_path / "new" / "binance.json")
    pause.hold(60)
    pause.hold(1)
    assert pause.remaining() > 50


def test_the_exchanges_clock_is_measured_once(opened, box):
    box.faults = ["clock_skew:90000"]

    async def ask():
        async with opened() as venue:
            offsets = await asyncio.gather(*(venue.client.clock_offset("cryptopair") for _ in range(5)))
            return offsets, await venue.client.now("cryptopair"), time.time() * 1000

    offsets, now, local = asyncio.run(ask())
    expected = box.market.now() + 90_000 - local
    assert len(set(offsets)) == 1
    assert abs(offsets[0] - expected) < 1000
    assert abs(now - (local + offsets[0])) < 100
    assert [request.path for request in box.requests] == ["/api/v3/time"]


def test_a_slow_answer_falls_in_the_middle(opened, box):
    box.faults = ["slow:0.6,path=time"]

    async def ask():
        async with opened() as venue:
            before = time.time()
            return await venue.client.clock_offset("cryptopair"), before

    offset, before = asyncio.run(ask())
    # The sandbox's clock stands still, so halfway means 300 ms after the request went out.
    assert abs(box.market.now() - (before + 0.3) * 1000 - offset) < 200


@pytest.mark.parametrize(
    ("provider", "kind", "paths"),
    [
        ("binance", "cryptopair", ["/api/v3/exchangeInfo"]),
        ("binance", "cryptoperp", ["/fapi/v1/exchangeInfo"]),
        ("okx", "cryptopair", ["/api/v5/public/instruments"] * 2),
    ],
)
def test_markets_are_loaded_once_with_few_calls(opened, box, provider, kind, paths):
    async def ask():
        async with opened(provider) as venue:
            return await asyncio.gather(*(venue.client.markets(kind) for _ in range(10)))

    lists = asyncio.run(ask())
    assert lists[0]
    assert all(markets == lists[0] for markets in lists)
    assert [request.path for request in box.requests] == paths


def test_a_failed_load_of_markets_can_be_repeated(opened, box):
    box.faults = ["status:500,times=3"]

    async def ask():
        async with opened() as venue:
            with pytest.raises(ProviderUnavailable):
                await venue.client.markets("cryptopair")
            return await venue.client.markets("cryptopair")

    assert asyncio.run(ask())


@pytest.mark.parametrize("body", ["{}", '{"symbols":[]}', '{"symbols":[{"status":"TRADING"}]}'])
def test_a_list_without_usable_markets_is_an_error(scripted, script, body):
    async def ask():
        async with scripted(script((200, body)), max_attempts=1) as venue:
            await venue.client.markets("cryptopair")

    with pytest.raises(ProviderUnavailable, match="markets"):
        asyncio.run(ask())


def test_no_more_requests_than_allowed_are_under_way(scripted, script):
    server = script((200, "[]"))
    server.seconds = 0.05

    async def ask():
        async with scripted(server, concurrency=3) as venue:
            await asyncio.gather(*(page(venue) for _ in range(12)))

    asyncio.run(ask())
    assert (len(server.paths), server.most_under_way) == (12, 3)


@pytest.mark.parametrize(("rate_limit", "least"), [(True, 0.15), (False, 0.0)])
def test_the_published_budget_is_kept_only_if_wanted(opened, box, rate_limit, least):
    async def ask():
        async with opened(rate_limit=rate_limit, max_attempts=1) as venue:
            await page(venue)
            box.forget_requests()
            await asyncio.gather(*(page(venue) for _ in range(10)))

    asyncio.run(ask())
    times = [request.time for request in klines(box)]
    spread = max(times) - min(times)
    # 6,000 weight a minute and 2 a request make 20 ms between two requests.
    assert spread >= least
    assert rate_limit or spread < 0.15


def test_concurrent_answers_are_not_mixed_up(opened, box):
    async def ask():
        async with opened() as venue:
            starts = [START + n * 7 * MINUTE for n in range(40)]
            tables = await asyncio.gather(*(page(venue, minutes=7, start=start) for start in starts))
            return list(zip(starts, tables, strict=True))

    for start, table in asyncio.run(ask()):
        assert table["ts"].to_pylist() == list(range(start, start + 7 * MINUTE, MINUTE))


def test_an_unreachable_exchange_is_named_without_the_query(quick):
    from zvt_crypto.exchanges.base import venue_class
    from zvt_crypto.exchanges.client import Client

    async def ask():
        kind = venue_class("binance")
        async with Client(kind, quick("http://127.0.0.1:9", max_attempts=1)) as client:
            await page(kind(client))

    with pytest.raises(
        ProviderUnavailable, match=r"binance cannot be reached .*BTC/USDT.*127\.0\.0\.1"
    ) as caught:
        asyncio.run(ask())
    assert "startTime" not in caught.value.message


def test_an_entity_type_that_the_venue_lacks_is_refused(opened):
    async def ask():
        async with opened() as venue:
            await venue.client.now("stock")

    with pytest.raises(NotSupported, match="unknown entity type of binance 'stock'"):
        asyncio.run(ask())


def test_sessions_are_closed(opened, box, caplog):
    async def ask():
        async with opened() as venue:
            await asyncio.gather(page(venue), page(venue, PERP))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(ask())
        gc.collect()
    assert [str(w.message) for w in caught if "nclosed" in str(w.message)] == []
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def test_ccxt_is_not_loaded_before_it_is_needed():
    code = """
import sys, json
from zvt_crypto.exchanges.base import venues
print(json.dumps([sorted(venues()), sorted({"ccxt", "aiohttp", "zvt"} & set(sys.modules))]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, loaded = json.loads(done.stdout)
    assert {"binance", "okx"} <= set(found)
    assert loaded == []
