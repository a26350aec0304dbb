"""Prices of one instrument that several data sources recorded, ready to be compared.

The price at a time is the close of the last candle that was finished by then; its volume is its weight. An
instrument is an entity type and a code: pairs quoted in different currencies are different instruments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from zvt_crypto.core.errors import DataQualityFailure, InvalidArgument, PairNotFound, ZvtCryptoError
from zvt_crypto.core.levels import iso, level_ms
from zvt_crypto.core.symbols import entity_id
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.quality.prices import (
    MAX_AGE_MS,
    TOLERANCE_PCT,
    Array,
    PriceComparison,
    agreement_of,
    compare_prices,
)
from zvt_crypto.quality.summary import recorded_codes, recorded_tables
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read

_SECOND_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Quote:
    """A recorded price.

    Attributes:
        price: Close of a candle, in quote currency.
        volume: Volume of the candle, in base currency.
        time: End of the candle, epoch ms.
        level: Level of the candle.
    """

    price: float
    volume: float
    time: int
    level: str


@dataclass(frozen=True, slots=True)
class PricesAt:
    """The prices of one instrument at one time.

    Attributes:
        at: The time, epoch ms.
        quotes: Provider -> its price; never empty.
        left_out: Provider -> why it has none, and what to do.
        max_age_ms: How old a price may be.
    """

    at: int
    quotes: Mapping[str, Quote]
    left_out: Mapping[str, ZvtCryptoError]
    max_age_ms: int = MAX_AGE_MS

    def compare(self, tolerance_pct: float = TOLERANCE_PCT) -> PriceComparison:
        """Compare them, weighted by volume.

        Raises:
            InvalidArgument: The tolerance is not positive.
        """
        return compare_prices(
            {provider: quote.price for provider, quote in self.quotes.items()},
            {provider: quote.volume for provider, quote in self.quotes.items()},
            ages_ms={provider: self.at - quote.time for provider, quote in self.quotes.items()},
            tolerance_pct=tolerance_pct,
            max_age_ms=self.max_age_ms,
        )


def tables_with(
    store: Store, entity_type: str, code: str, providers: Collection[str] | None = None
) -> dict[str, list[TableSpec]]:
    """Provider -> its candle tables that know an instrument, the finest level first.

    Args:
        store: Where the data is.
        entity_type: ``cryptopair`` or ``cryptoperp``.
        code: The instrument's code.
        providers: Only these; all by default.

    Raises:
        StoreCorrupt: A file is damaged.
    """
    found: dict[str, list[TableSpec]] = {}
    for provider, spec in recorded_tables(store):
        is_wanted = providers is None or provider in providers
        if (
            is_wanted
            and (spec.feed, spec.entity_type) == ("candles", entity_type)
            and code in recorded_codes(store, provider, spec)
        ):
            found.setdefault(provider, []).append(spec)
    return {provider: sorted(specs, key=_step) for provider, specs in found.items()}


def prices_at(
    store: Store,
    entity_type: str,
    code: str,
    providers: Sequence[str],
    at: int,
    *,
    level: str | None = None,
    max_age_ms: int = MAX_AGE_MS,
) -> PricesAt:
    """Look up what each provider recorded for a time.

    Args:
        store: Where the data is.
        entity_type: ``cryptopair`` or ``cryptoperp``.
        code: The instrument's code.
        providers: Whose prices to look up.
        at: The time, epoch ms.
        level: Level of the candles; by default each provider's finest that has a price of that time.
        max_age_ms: A provider whose last candle ended earlier before ``at`` is left out.

    Raises:
        InvalidArgument: No provider is named.
        PairNotFound: No provider recorded the instrument.
        DataQualityFailure: No provider has a price of that time.
        StoreCorrupt: A file is damaged.
    """
    if not providers:
        raise InvalidArgument("no provider is named", suggestions=("name at least two providers",))
    known = tables_with(store, entity_type, code, providers)
    quotes: dict[str, Quote] = {}
    left_out: dict[str, ZvtCryptoError] = {}
    for provider in dict.fromkeys(providers):
        specs = [spec for spec in known.get(provider, ()) if level in (None, spec.level)]
        if not specs:
            left_out[provider] = not_recorded(entity_type, code, provider, level)
            continue
        quote = _freshest(store, specs, provider, code, at, max_age_ms)
        if quote is None or at - quote.time > max_age_ms:
            left_out[provider] = _too_old(entity_type, code, provider, at, quote)
        else:
            quotes[provider] = quote
    if not quotes:
        raise _none_left(code, at, left_out)
    return PricesAt(at, quotes, left_out, max_age_ms)


def last_common_time(store: Store, tables: Mapping[str, Sequence[TableSpec]], code: str) -> int | None:
    """The last time that all providers' candles of a code reach, epoch ms; None where there are no candles.

    Args:
        store: Where the data is.
        tables: Provider -> the candle tables that count.
        code: The instrument's code.
    """
    ends = [
        max((quote.time for quote in _last_quotes(store, specs, provider, code)), default=None)
        for provider, specs in tables.items()
    ]
    return min((end for end in ends if end is not None), default=None)


def compare_range(
    store: Store,
    spec: TableSpec,
    code: str,
    providers: Sequence[str],
    start: int | None = None,
    end: int | None = None,
    *,
    tolerance_pct: float = TOLERANCE_PCT,
) -> pa.Table:
    """Compare the closes of several providers' candles, each time by itself.

    Args:
        store: Where the data is.
        spec: A candle table.
        code: The instrument's code.
        providers: Whose candles to compare.
        start: First open time, epoch ms; by default the first one recorded.
        end: End of the open times, exclusive.
        tolerance_pct: A price no further from the median is no outlier, in percent.

    Returns:
        One row for each time at which a provider has a candle, in order: ``timestamp`` (open time of the
        candles, naive UTC), ``close_{provider}`` and ``is_outlier_{provider}`` (NULL where it has no candle),
        ``median``, and ``max_deviation_pct`` (NULL where fewer than two have one).

    Raises:
        InvalidArgument: No provider is named, or the tolerance is not positive.
        StoreCorrupt: A file is damaged.
    """
    names = list(dict.fromkeys(providers))
    if not names:
        raise InvalidArgument("no provider is named", suggestions=("name at least two providers",))
    series = [_closes(store, spec, name, code, start, end) for name in names]
    times = np.unique(np.concatenate([ts for ts, _ in series]))
    prices = np.full((len(times), len(names)), np.nan)
    for column, (ts, closes) in enumerate(series):
        prices[np.searchsorted(times, ts), column] = closes
    agreement = agreement_of(prices, tolerance_pct)
    is_absent = np.isnan(prices)
    is_single = np.count_nonzero(~is_absent, axis=1) < 2
    columns = {"timestamp": pa.array(times, pa.timestamp("ms"))}
    for column, name in enumerate(names):
        columns[f"close_{name}"] = pa.array(prices[:, column], mask=is_absent[:, column])
    columns["median"] = pa.array(agreement.median)
    columns["max_deviation_pct"] = pa.array(agreement.max_deviation_pct, mask=is_single)
    for column, name in enumerate(names):
        flags = agreement.is_outlier[:, column]
        columns[f"is_outlier_{name}"] = pa.array(flags, mask=is_absent[:, column])
    return pa.table(columns)


def not_recorded(entity_type: str, code: str, provider: str, level: str | None = None) -> PairNotFound:
    """The error of a provider that has no candles of an instrument, with the command that records them."""
    return PairNotFound(
        f"no {f'{level} ' if level else ''}candles of {code} are recorded from {provider}",
        suggestions=(_record(entity_type, code, provider, level or "1m"),),
        provider=provider,
        symbol=code,
    )


def _step(spec: TableSpec) -> int:
    return level_ms(str(spec.level))


def _closes(
    store: Store, spec: TableSpec, provider: str, code: str, start: int | None, end: int | None
) -> tuple[Array, Array]:
    query = Query(spec, provider, codes=(code,), start=start, end=end, columns=("timestamp", "close"))
    rows = read(store, query)
    return rows["timestamp"].cast(pa.int64()).to_numpy(), rows["close"].to_numpy()


def _freshest(
    store: Store, specs: Sequence[TableSpec], provider: str, code: str, at: int, max_age_ms: int
) -> Quote | None:
    """The price of the finest level that is not too old; where all are, the newest."""
    quotes = []
    for quote in _last_quotes(store, specs, provider, code, at):
        if at - quote.time <= max_age_ms:
            return quote
        quotes.append(quote)
    return max(quotes, key=lambda quote: quote.time, default=None)


def _last_quotes(
    store: Store, specs: Sequence[TableSpec], provider: str, code: str, at: int | None = None
) -> Iterator[Quote]:
    """The last candle of each level that was finished at a time, or of all."""
    for spec in specs:
        step = _step(spec)
        query = Query(
            spec,
            provider,
            codes=(code,),
            end=None if at is None else at - step + 1,
            columns=("timestamp", "close", "volume"),
            order="desc",
            limit=1,
        )
        rows = read(store, query)
        if rows.num_rows:
            opened = rows["timestamp"].cast(pa.int64())[0].as_py()
            price, volume = rows["close"][0].as_py(), rows["volume"][0].as_py()
            yield Quote(price, volume, opened + step, str(spec.level))


def _too_old(entity_type: str, code: str, provider: str, at: int, quote: Quote | None) -> DataQualityFailure:
    when = iso(at)
    if quote is None:
        message = f"{provider} has no candle of {code} that ended by {when}"
    else:
        seconds = (at - quote.time) // _SECOND_MS
        message = (
            f"{provider}'s last price of {code} at {when} is {seconds:,} seconds old"
            f" (a {quote.level} candle that ended {iso(quote.time)})"
        )
    return DataQualityFailure(
        message,
        suggestions=(
            _record(entity_type, code, provider, quote.level if quote else "1m"),
            "or choose another time, or a higher maximal age",
        ),
        provider=provider,
        symbol=code,
    )


def _none_left(code: str, at: int, left_out: Mapping[str, ZvtCryptoError]) -> ZvtCryptoError:
    errors = list(left_out.values())
    if len(errors) == 1:
        return errors[0]
    is_recorded = any(isinstance(error, DataQualityFailure) for error in errors)
    kind = DataQualityFailure if is_recorded else PairNotFound
    return kind(
        f"no provider has a price of {code} at {iso(at)}: {'; '.join(error.message for error in errors)}",
        suggestions=dict.fromkeys(hint for error in errors for hint in error.suggestions),
        symbol=code,
    )


def _record(entity_type: str, code: str, provider: str, level: str) -> str:
    symbol = entity_id(entity_type, provider, code)
    return f"record it: `zvt-crypto record --provider {provider} --codes {symbol} --levels {level}`"
