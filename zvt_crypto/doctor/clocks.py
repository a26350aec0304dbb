"""This machine's clock beside the exchanges'."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.doctor.findings import FAIL, OK, WARN, Finding
from zvt_crypto.exchanges.base import open_venue, venues

_NOTICEABLE_MS: Final = 1_000
#: Exchanges refuse signed requests that are further off (Binance: recvWindow).
_REFUSED_MS: Final = 5_000
_ATTEMPTS: Final = 1
_TIMEOUT_SECONDS: Final = 5.0


def examine_clocks(settings: Settings) -> Iterator[Finding]:
    """The offset against the server time of each exchange that has a provider of its own, all at once."""
    hasty = settings.model_copy(
        update={
            "max_attempts": min(settings.max_attempts, _ATTEMPTS),
            "timeout_seconds": min(settings.timeout_seconds, _TIMEOUT_SECONDS),
        }
    )
    yield from asyncio.run(_all(hasty))


async def _all(settings: Settings) -> list[Finding]:
    single = sorted(name for name, venue in venues().items() if not venue.serves_many)
    return list(await asyncio.gather(*(_clock(settings, name) for name in single)))


async def _clock(settings: Settings, provider: str) -> Finding:
    area = f"{provider} clock"
    try:
        async with open_venue(provider, settings) as venue:
            ahead = await venue.client.clock_offset(venue.capabilities.entity_types[0])
    except ZvtCryptoError as error:
        return Finding(area, WARN, f"skipped, {error.message}", "; ".join(error.suggestions))
    return _judged(area, -ahead)


def _judged(area: str, offset: int) -> Finding:
    way = "ahead of" if offset > 0 else "behind"
    what = f"this machine is {abs(offset) / 1000:.2f} s {way} the exchange"
    todo = "set the system clock, for example with NTP"
    if abs(offset) >= _REFUSED_MS:
        return Finding(area, FAIL, what, f"{todo}; orders would be refused")
    if abs(offset) >= _NOTICEABLE_MS:
        return Finding(area, WARN, what, todo)
    return Finding(area, OK, what)
