"""From what a person names to recorded rows, for the verbs that read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from zvt_crypto.cli.options import listed, market_of, range_of
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import InvalidArgument, PairNotFound, unknown_value
from zvt_crypto.core.symbols import PAIR, PERP
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import load_tables
from zvt_crypto.quality.summary import recorded_codes, recorded_tables
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query


class Target(NamedTuple):
    """How a person names recorded rows; see the options of ``query``."""

    table: str | None
    provider: str | None
    level: str | None
    perps: bool
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recorded rows that were found.

    Attributes:
        spec: The table.
        provider: The data source.
        codes: Codes of the symbols, None for all.
    """

    spec: TableSpec
    provider: str
    codes: tuple[str, ...] | None


def find_target(settings: Settings, target: Target) -> Recorded:
    """The table, data source and codes that a person means.

    Raises:
        InvalidArgument: A name is unknown, or does not tell which table or provider is meant.
        PairNotFound: A market is not recorded.
    """
    texts = listed(target.codes)
    spec = _table(target, texts)
    store = Store(settings)
    provider = _provider(store, spec, target.provider)
    if not texts:
        return Recorded(spec, provider, None)
    known = recorded_codes(store, provider, spec)
    return Recorded(spec, provider, tuple(_code(text, spec, provider, known) for text in texts))


def find_recorded(
    settings: Settings,
    provider: str | None,
    *,
    table: TableSpec | None = None,
    fits: Callable[[TableSpec], bool] = lambda spec: True,
) -> list[Recorded]:
    """All recorded tables of a data source, or of all of them.

    Args:
        settings: Where the data is.
        provider: The data source.
        table: Only this table.
        fits: Which tables count.

    Raises:
        InvalidArgument: There is no such data source.
        PairNotFound: None is recorded.
    """
    load_tables()
    found = list(recorded_tables(Store(settings)))
    providers = {name for name, _ in found}
    if provider is not None and providers and provider not in providers:
        raise unknown_value("provider", provider, providers)
    chosen = [
        Recorded(spec, name, None)
        for name, spec in found
        if provider in (None, name) and table in (None, spec) and fits(spec)
    ]
    if not chosen:
        raise _not_recorded(table.class_name if table else None, provider, settings)
    return chosen


def query_for(
    recorded: Recorded,
    *,
    start: str | None = None,
    end: str | None = None,
    columns: Sequence[str] = (),
    **asked: Any,
) -> Query:
    """The question that a person asks about recorded rows.

    Args:
        recorded: The rows.
        start: First time, as a person writes it.
        end: Last time, inclusive.
        columns: Names, separated by commas or not.
        **asked: What else ``Query`` takes.

    Raises:
        InvalidArgument: A time, a column, a level or the limit is not allowed.
    """
    first, last = range_of(start, end)
    return Query(
        recorded.spec,
        recorded.provider,
        codes=recorded.codes,
        start=first,
        end=last,
        columns=tuple(listed(columns)) or None,
        **asked,
    )


def _table(target: Target, codes: Sequence[str]) -> TableSpec:
    tables = load_tables()
    if (target.table is None) == (target.level is None):
        raise InvalidArgument(
            "no table is named" if target.table is None else "a table and --level exclude each other",
            suggestions=("give a table, such as CryptoPair1mKdata, or --level 1m",),
        )
    if target.table is not None:
        return tables.find(target.table)
    default = PERP if target.perps else PAIR
    types = {market_of(text).entity_type or default for text in codes} or {default}
    if len(types) > 1:
        raise InvalidArgument(
            "pairs and perpetuals are in different tables",
            suggestions=("ask for each in a command of its own",),
        )
    return tables.candles(types.pop(), str(target.level))


def _provider(store: Store, spec: TableSpec, wanted: str | None) -> str:
    """The provider that has the table; the only one where none is named."""
    recorded = list(recorded_tables(store))
    having = [provider for provider, table in recorded if table is spec]
    if wanted in having or (wanted is None and len(having) == 1):
        return wanted or having[0]
    if wanted is None and having:
        raise InvalidArgument(
            f"{spec.class_name} is recorded from {', '.join(having)}",
            suggestions=("choose one with --provider",),
        )
    providers = {provider for provider, _ in recorded}
    if wanted is not None and providers and wanted not in providers:
        raise unknown_value("provider", wanted, providers)
    raise _not_recorded(spec.class_name, wanted, store)


def _not_recorded(name: str | None, provider: str | None, where: Settings | Store) -> PairNotFound:
    what = f"{name} is not recorded" if name else "nothing is recorded"
    return PairNotFound(
        f"{what}{f' from {provider}' if provider else ''} in {where.data_path}",
        suggestions=(
            "record it first, see `zvt-crypto record --help`, or name another folder with --data-path",
        ),
    )


def _code(text: str, spec: TableSpec, provider: str, known: Sequence[str]) -> str:
    notation = market_of(text)
    if notation.entity_type in (None, spec.entity_type):
        for code in notation.codes:
            if code in known:
                return code
    raise unknown_value(f"market in {provider}'s {spec.class_name}", text, known, error=PairNotFound)
