"""Files as freqtrade has them: ``BTC_USDT-1m.feather``, ``futures/BTC_USDT_USDT-1h-futures.feather``.

Follows freqtrade's ``IDataHandler`` (``_pair_data_filename``, ``_OHLCV_REGEX``) and ``pair_to_filename``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pyarrow as pa

from zvt_crypto.core.errors import InvalidArgument, unknown_value
from zvt_crypto.core.levels import LEVEL_MS
from zvt_crypto.core.symbols import Market

#: Formats that freqtrade reads and we write.
FORMATS: Final = ("feather", "parquet")
TIME_COLUMN: Final = "date"
PRICES: Final = ("open", "high", "low", "close", "volume")
SCHEMA: Final = pa.schema(
    [(TIME_COLUMN, pa.timestamp("ms", "UTC")), *((name, pa.float64()) for name in PRICES)]
)

_REPLACED: Final = re.compile(r"[/ .@$+:]")
_NAME: Final = re.compile(r"([\w-]+)-(\d+[a-zA-Z]{1,2})(?:-([a-zA-Z_]+))?")
_FUTURES: Final = "futures"


def freqtrade_path(out: Path, market: Market, level: str, form: str) -> Path:
    """The file of a market's candles under freqtrade's data folder ``out``."""
    name = f"{_REPLACED.sub('_', market.symbol)}-{level}"
    if market.settle is None:
        return out / f"{name}.{form}"
    return out / _FUTURES / f"{name}-{_FUTURES}.{form}"


def parse_name(path: Path) -> tuple[Market, str]:
    """Market and level of a file of freqtrade's.

    Raises:
        InvalidArgument: The name is none of a file of candles.
    """
    match = _NAME.fullmatch(path.stem)
    if match is None or path.suffix[1:] not in FORMATS:
        raise InvalidArgument(
            f"{path}: neither the folders nor the name tell what is in it",
            suggestions=(
                "name it as freqtrade does, such as BTC_USDT-1m.feather, or put it in folders such as"
                " provider=binance/table=cryptopair_1m_kdata/code=btcusdt",
            ),
        )
    pair, level, kind = match.groups()
    if level not in LEVEL_MS:
        raise unknown_value(f"timeframe of {path}:", level, LEVEL_MS)
    currencies = pair.split("_")
    if not all(currencies) or (len(currencies), kind) not in ((2, None), (3, _FUTURES)):
        raise InvalidArgument(
            f"{path}: {pair!r} with {kind or 'spot'} candles is no market that is known here",
            suggestions=("name it BTC_USDT-1m for a pair, BTC_USDT_USDT-1m-futures for a perpetual",),
        )
    return Market(*currencies), level
