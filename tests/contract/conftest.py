"""The market behind the sandbox, and venues opened on it."""

import asyncio

import pytest
from places import NOW, symbol_of

from zvt_crypto.core.config import Settings
from zvt_crypto.exchanges.base import open_venue
from zvt_crypto.sandbox import SimulatedMarket


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(seed=11, now=NOW)


@pytest.fixture
def with_venue(box, tmp_path):
    """Runs ``await use(venue, instrument)`` with a venue whose instruments are loaded.

    The instrument is the first of ``symbols`` that the venue lists; unless told, that of ``symbol_of``.
    """

    def run(name, kind, use, *, symbols=None, faults=(), attempts=3):
        settings = Settings(
            data_path=tmp_path / "data",
            gateway=box.url,
            rate_limit=False,
            max_attempts=attempts,
            retry_wait_seconds=0.01,
            timeout_seconds=3,
        )

        async def main():
            provider, _, exchange = name.partition(":")
            async with open_venue(provider, settings, exchange or None) as venue:
                found = await venue.fetch_instruments(kind)
                rows = {row["symbol"]: row | {"entity_type": kind} for row in found.batch.to_pylist()}
                symbol = next(symbol for symbol in symbols or (symbol_of(name, kind),) if symbol in rows)
                await venue.client.now(kind)
                box.faults = list(faults)
                return await use(venue, venue.instrument(rows[symbol]))

        return asyncio.run(main())

    return run
