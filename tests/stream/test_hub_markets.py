"""Markets by their names: recorded ones without asking, others from the exchange's list, which is not stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import PairNotFound, ProviderUnavailable, SymbolMappingError
from zvt_crypto.exchanges.base import Instrument, open_venue
from zvt_crypto.recorders.entities import entity_spec, record_entities
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.store.engine import Store
from zvt_crypto.stream.broadcast.markets import Markets


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(seed=3) as running:
        yield running


@pytest.fixture
def settings(box: Sandbox, tmp_path: Path) -> Settings:
    return Settings(data_path=tmp_path / "data", gateway=box.url, rate_limit=False, max_attempts=1)


def find(settings: Settings, *names: str, entity_type: str = "cryptopair") -> list[object]:
    async def run() -> list[object]:
        async with open_venue("binance", settings) as venue:
            return list(await Markets(venue, settings).find(names, entity_type))

    return asyncio.run(run())


def record(settings: Settings) -> None:
    async def run() -> None:
        async with open_venue("binance", settings) as venue:
            await record_entities(Store(settings), venue, entity_spec("cryptopair"))

    asyncio.run(run())


def test_markets_that_are_not_recorded_are_listed_by_the_exchange(settings: Settings) -> None:
    first, second, third = find(settings, "BTC/USDT", "ethusdt", "nothing")
    assert isinstance(first, Instrument)
    assert (first.entity_type, first.code, first.native_id) == ("cryptopair", "btcusdt", "BTCUSDT")
    assert isinstance(second, Instrument)
    assert isinstance(third, PairNotFound)
    assert not settings.data_path.exists(), "looking does not record"
    [perpetual] = find(settings, "BTC/USDT:USDT", entity_type="cryptoperp")
    assert isinstance(perpetual, Instrument)
    assert perpetual.entity_type == "cryptoperp"


def test_recorded_markets_are_the_same_and_nobody_is_asked(box: Sandbox, settings: Settings) -> None:
    listed = find(settings, "BTC/USDT", "ethusdt")
    record(settings)
    box.forget_requests()
    assert find(settings, "BTC/USDT", "ethusdt") == listed
    assert box.requests == []


def test_the_list_is_asked_for_once_in_a_while(box: Sandbox, settings: Settings) -> None:
    async def run() -> None:
        async with open_venue("binance", settings) as venue:
            markets = Markets(venue, settings)
            box.forget_requests()
            await asyncio.gather(*(markets.find(["btcusdt", "nothing"], "cryptopair") for _ in range(5)))

    asyncio.run(run())
    assert len([one for one in box.requests if one.path.endswith("exchangeInfo")]) == 1


def test_many_unknown_names_are_not_all_compared(settings: Settings) -> None:
    found = find(settings, *(f"nothing{n}" for n in range(50)), "", "btcusdt")
    assert [type(one) for one in found[:50]] == [PairNotFound] * 50
    assert isinstance(found[50], (PairNotFound, SymbolMappingError))
    assert isinstance(found[51], Instrument)


def test_an_exchange_out_of_reach_is_told(settings: Settings) -> None:
    gone = settings.model_copy(update={"gateway": "http://127.0.0.1:9"})
    with pytest.raises(ProviderUnavailable):
        find(gone, "btcusdt")
