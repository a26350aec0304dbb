"""From what a person names to recorded series, for the verbs that look after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zvt_crypto.cli.options import listed, market_of, range_of
from zvt_crypto.cli.reading import find_recorded
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import PairNotFound, unknown_value
from zvt_crypto.core.levels import level_ms
from zvt_crypto.core.symbols import PAIR, PERP
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.quality.series import RecordedSeries, recorded_series
from zvt_crypto.store.engine import Store


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of ``options.recorded_series``; see their help."""

    provider: str | None = None
    codes: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    perps: bool = False
    funding: bool = False
    trades: bool = False
    start: str | None = None
    end: str | None = None

    @property
    def range(self) -> tuple[int | None, int | None]:
        """Half-open range, epoch ms."""
        return range_of(self.start, self.end)


def chosen_series(settings: Settings, asked: Asked) -> list[RecordedSeries]:
    """The recorded series that a person means, by provider, table and code.

    Raises:
        InvalidArgument: A provider, level or code is not allowed.
        PairNotFound: Nothing of it is recorded.
    """
    levels = listed(asked.levels)
    for level in levels:
        level_ms(level)
    store = Store(settings)
    found = [
        series
        for recorded in find_recorded(settings, asked.provider, fits=lambda spec: _fits(spec, asked, levels))
        for series in recorded_series(store, recorded.provider, recorded.spec)
    ]
    return _named(found, asked)


def _fits(spec: TableSpec, asked: Asked, levels: Sequence[str]) -> bool:
    if asked.perps and PERP not in spec.entity_types:
        return False
    if spec.feed == "candles":
        return spec.level in levels if levels else not (asked.funding or asked.trades)
    if spec.feed == "funding":
        return asked.funding or not (levels or asked.trades)
    return spec.feed == "trades" and asked.trades


def _named(found: Sequence[RecordedSeries], asked: Asked) -> list[RecordedSeries]:
    """The series of the codes named, in their order; all of the kind where none is."""
    texts = listed(asked.codes)
    if not texts:
        return [series for series in found if not asked.perps or series.entity_type == PERP]
    only_funding = asked.funding and not (asked.levels or asked.trades)
    default = PERP if asked.perps or only_funding else PAIR
    chosen: dict[tuple[str, str, str], RecordedSeries] = {}
    for text in texts:
        notation = market_of(text)
        entity_type = notation.entity_type or default
        of_type = [series for series in found if series.entity_type == entity_type]
        known = {series.code for series in of_type}
        code = next((code for code in notation.codes if code in known), None)
        if code is None:
            raise unknown_value("recorded market", text, known, error=PairNotFound)
        for series in of_type:
            if series.code == code:
                chosen[series.provider, series.spec.name, series.entity_id] = series
    return list(chosen.values())
