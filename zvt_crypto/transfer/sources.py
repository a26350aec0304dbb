"""Which files an import reads, and what is in each: from its folders, its label, or its name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from zvt_crypto.core.errors import InvalidArgument, SymbolMappingError, ZvtCryptoError
from zvt_crypto.core.symbols import entity_id, parse_notation, split_entity_id
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import load_tables
from zvt_crypto.store.writer import Entity
from zvt_crypto.transfer import freqtrade
from zvt_crypto.transfer.hive import hive_keys
from zvt_crypto.transfer.label import Label, Span, label_in
from zvt_crypto.transfer.reading import READERS, naming, open_data

#: A provider names a folder and files.
_PROVIDER: Final = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_NOT_IN_CODES: Final = re.compile(r"[\s\x00-\x1f/\\:_]")
_HIDDEN: Final = (".", "_")


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a file.

    Attributes:
        provider: The data source.
        spec: The table.
        entity: Whose rows, None for a table of entities.
        time_column: Name of the rows' time.
        answered: Spans of which the rows are all that the exchange has.
        last_is_open: Whether the last candle may have been unfinished when the file was written.
    """

    provider: str
    spec: TableSpec
    entity: Entity | None
    time_column: str = "timestamp"
    answered: tuple[Span, ...] = ()
    last_is_open: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A file to import: what is in it, or why that cannot be told."""

    path: Path
    contents: Contents | ZvtCryptoError


@dataclass(slots=True)
class Found:
    """What paths lead to.

    Attributes:
        sources: Files to import.
        skipped: Files in folders that are no data.
    """

    sources: list[Source] = field(default_factory=list)
    skipped: int = 0


class _Unknown(InvalidArgument):
    """Nothing tells what is in a file."""


class _NoProvider(InvalidArgument):
    """Nothing tells a file's provider."""


def find_sources(paths: Iterable[Path], provider: str | None) -> Found:
    """The files that paths name or that lie in the folders that they name, each once.

    Args:
        paths: Files and folders.
        provider: Data source of the files that do not tell theirs.

    Raises:
        InvalidArgument: A folder holds no data, or a provider is needed and not given.
    """
    if provider is not None:
        _check_provider(provider)
    found = Found()
    seen: set[Path] = set()
    for path in paths:
        if not path.is_dir():
            _add(found, seen, path, provider, is_named=True)
            continue
        before = len(found.sources)
        for inner in _walk(path):
            _add(found, seen, inner, provider, is_named=False)
        if len(found.sources) == before:
            others = f", only {found.skipped} others" if found.skipped else ""
            raise InvalidArgument(
                f"{path} holds no files that can be imported{others}",
                suggestions=("name a folder of `zvt-crypto export`, or of freqtrade's data",),
            )
    return found


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise InvalidArgument(
            f"{error.filename} cannot be read: {error.strerror}", suggestions=("correct its permissions",)
        ) from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith(_HIDDEN))
        yield from (Path(parent, name) for name in sorted(files))


def _add(found: Found, seen: set[Path], path: Path, provider: str | None, *, is_named: bool) -> None:
    if path.resolve() in seen:
        return
    seen.add(path.resolve())
    if not path.exists():
        missing = InvalidArgument(f"{path} is not there", suggestions=("check its name",), path=str(path))
        found.sources.append(Source(path, missing))
        return
    if not is_named and (path.suffix not in READERS or path.name.startswith(_HIDDEN)):
        found.skipped += 1
        return
    try:
        found.sources.append(Source(path, contents_of(path, provider)))
    except _NoProvider:
        raise
    except _Unknown as error:
        if is_named:
            found.sources.append(Source(path, error))
        else:
            found.skipped += 1
    except ZvtCryptoError as error:
        found.sources.append(Source(path, error))


def contents_of(path: Path, provider: str | None) -> Contents:
    """What is in a file: its folders say it, else its label, else its name.

    Raises:
        InvalidArgument: Nothing tells, or what tells is not allowed.
        SymbolMappingError: Its code is none.
        DataQualityFailure: The file is damaged.
    """
    label = _label(path)
    told = ({} if label is None else _told_by(label)) | hive_keys(path)
    if "table" not in told:
        return _freqtrade(path, provider)
    if provider is not None and told.setdefault("provider", provider) != provider:
        raise InvalidArgument(
            f"{path} is of provider {told['provider']!r}, not of {provider!r}",
            suggestions=("leave --provider out for this file, or move it to other folders",),
        )
    if "provider" not in told:
        raise _no_provider(path)
    with naming(path):
        return _ours(told, label)


def _label(path: Path) -> Label | None:
    if path.suffix == ".csv":
        return None
    with open_data(path) as data, naming(path):
        return label_in(data.metadata)


def _told_by(label: Label) -> dict[str, str]:
    told = {"provider": label.provider, "table": label.table}
    if label.code is not None:
        told["code"] = label.code
    return told


def _ours(told: dict[str, str], label: Label | None) -> Contents:
    """Contents of a file whose table and provider are told."""
    provider = told["provider"]
    _check_provider(provider)
    spec = load_tables().find(told["table"])
    if spec.layout == "entities":
        return Contents(provider, spec, None)
    code = told.get("code", "")
    _check_code(code)
    # Moved to other folders, a file tells of another market than its label.
    if label is not None and _told_by(label) != {key: told.get(key) for key in ("provider", "table", "code")}:
        label = None
    exchange = told.get("exchange", _exchange(label, provider))
    _check_exchange(exchange)
    entity = Entity(entity_id(spec.entity_type, exchange, code), code, label.name if label else None)
    is_labelled = label is not None and label.entity_id == entity.entity_id
    return Contents(provider, spec, entity, answered=label.coverage if label and is_labelled else ())


def _exchange(label: Label | None, provider: str) -> str:
    return provider if label is None or label.entity_id is None else split_entity_id(label.entity_id)[1]


def _freqtrade(path: Path, provider: str | None) -> Contents:
    """Contents of a file that freqtrade's naming tells of."""
    try:
        market, level = freqtrade.parse_name(path)
    except InvalidArgument as error:
        raise _Unknown(error.message, suggestions=error.suggestions) from error
    if provider is None:
        raise _no_provider(path)
    with naming(path):
        _check_code(market.code)
        _check_exchange(provider)
        entity = Entity(entity_id(market.entity_type, provider, market.code), market.code, market.symbol)
    spec = load_tables().candles(market.entity_type, level)
    # freqtrade stores the candle under way too, and takes the last one of a file off again when it reads.
    return Contents(provider, spec, entity, freqtrade.TIME_COLUMN, last_is_open=True)


def _no_provider(path: Path) -> _NoProvider:
    return _NoProvider(
        f"{path} does not tell its provider", suggestions=("name the exchange with --provider",)
    )


def _check_provider(provider: str) -> None:
    if _PROVIDER.fullmatch(provider) is None:
        raise InvalidArgument(
            f"{provider!r} cannot name a provider",
            suggestions=("write letters and digits, such as binance",),
            value=provider,
        )


def _check_exchange(exchange: str) -> None:
    if _PROVIDER.fullmatch(exchange) is None or "_" in exchange:
        raise SymbolMappingError(
            f"{exchange!r} cannot name an exchange",
            suggestions=("write letters and digits in the folder's name, such as exchange=kraken",),
            value=exchange,
        )


def _check_code(code: str) -> None:
    """Codes are ours where they read as themselves."""
    if code and not _NOT_IN_CODES.search(code) and parse_notation(code).codes[0] == code:
        return
    raise SymbolMappingError(
        f"{code!r} is no code of a market",
        suggestions=("write base and quote in lower case, such as btcusdt",),
        value=code,
    )
