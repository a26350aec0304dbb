"""What the simulated market trades: real names, listing times and precisions of well-known instruments."""

from __future__ import annotations

from typing import Final

from zvt_crypto.core.levels import parse_time
from zvt_crypto.sandbox.market import Instrument


def _spot(
    symbol: str, digits: tuple[int, int], listed: str, turnover: float, delisted: str | None = None
) -> Instrument:
    base, quote = symbol.split("/")
    return Instrument(
        base=base,
        quote=quote,
        price_digits=digits[0],
        quantity_digits=digits[1],
        listed=parse_time(listed),
        delisted=None if delisted is None else parse_time(delisted),
        daily_turnover=turnover,
    )


def _perpetual(
    symbol: str,
    digits: tuple[int, int],
    listed: str,
    turnover: float,
    size: float,
    funding_hours: int = 8,
    funding_change: tuple[str, int] | None = None,
) -> Instrument:
    pair, settle = symbol.split(":")
    base, quote = pair.split("/")
    return Instrument(
        base=base,
        quote=quote,
        settle=settle,
        price_digits=digits[0],
        quantity_digits=digits[1],
        listed=parse_time(listed),
        contract_size=size,
        daily_turnover=turnover,
        funding_hours=funding_hours,
        funding_change=None if funding_change is None else (parse_time(funding_change[0]), funding_change[1]),
    )


INSTRUMENTS: Final = (
    _spot("BTC/USDT", (2, 5), "2017-08-17T04:00:00Z", 2e9),
    _spot("ETH/USDT", (2, 4), "2017-08-17T04:00:00Z", 1e9),
    _spot("SOL/USDT", (2, 3), "2020-08-11T06:00:00Z", 4e8),
    _spot("XRP/USDT", (4, 1), "2018-05-04T08:11:00Z", 3e8),
    _spot("DOGE/USDT", (5, 0), "2019-07-05T12:00:00Z", 2e8),
    _spot("ADA/USDT", (4, 1), "2018-04-17T04:00:00Z", 8e7),
    _spot("LINK/USDT", (2, 2), "2019-01-16T10:00:00Z", 6e7),
    _spot("LTC/USDT", (2, 3), "2017-12-13T03:32:00Z", 4e7),
    _spot("PEPE/USDT", (8, 0), "2023-05-05T16:00:00Z", 1.5e8),
    _spot("BTC/USDC", (2, 5), "2018-12-15T03:00:00Z", 2e8),
    _spot("ETH/USDC", (2, 4), "2018-12-15T03:00:00Z", 1e8),
    _spot("ETH/BTC", (5, 3), "2017-07-14T04:00:00Z", 600.0),
    _spot("SOL/BTC", (7, 1), "2020-08-11T06:00:00Z", 60.0),
    _spot("EOS/USDT", (4, 1), "2018-05-28T10:00:00Z", 2e7, delisted="2025-05-20T03:00:00Z"),
    _perpetual("BTC/USDT:USDT", (1, 3), "2019-09-08T17:57:00Z", 1.5e10, 0.01),
    _perpetual("ETH/USDT:USDT", (2, 3), "2019-11-27T07:45:00Z", 9e9, 0.1),
    _perpetual("SOL/USDT:USDT", (3, 2), "2020-09-14T07:00:00Z", 2e9, 1.0, funding_hours=4),
    _perpetual("XRP/USDT:USDT", (4, 1), "2020-01-06T08:00:00Z", 8e8, 100.0),
    _perpetual(
        "DOGE/USDT:USDT",
        (5, 0),
        "2020-07-10T09:00:00Z",
        7e8,
        1000.0,
        funding_hours=1,
        funding_change=("2024-05-01", 8),
    ),
    _perpetual("BTC/USD:BTC", (1, 6), "2018-12-20T10:00:00Z", 5e8, 100.0),
    _spot("BTC/USD", (1, 5), "2013-10-06T21:34:00Z", 4e8),
    _spot("ETH/USD", (2, 4), "2015-08-07T14:03:00Z", 2e8),
    _perpetual("BTC/USD:USD", (0, 4), "2022-03-22T13:18:45Z", 3e8, 1.0, funding_hours=1),
    _perpetual("ETH/USD:USD", (1, 3), "2022-03-22T13:18:45Z", 1e8, 1.0, funding_hours=1),
    _perpetual("SOL/USD:USD", (3, 2), "2022-03-22T13:18:45Z", 2e7, 1.0, funding_hours=1),
    _perpetual("XRP/USD:USD", (5, 0), "2022-03-22T13:18:45Z", 1e7, 1.0, funding_hours=1),
)

#: Price in dollars around which an asset moves; what is not here is worth one dollar for ever.
ANCHOR_PRICE: Final = {
    "BTC": 42_000.0,
    "ETH": 2_300.0,
    "SOL": 95.0,
    "XRP": 0.62,
    "DOGE": 0.11,
    "ADA": 0.48,
    "LINK": 13.5,
    "LTC": 82.0,
    "PEPE": 0.0000093,
    "EOS": 0.9,
}
