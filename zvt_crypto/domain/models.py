"""The classes that users and zvt see, made from the registered ``TableSpec``s.

Importing this module makes every table of this package known to zvt; no file is opened.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import pandas as pd
from sqlalchemy import BigInteger, Boolean, Column, Float, String
from sqlalchemy.ext.declarative import DeclarativeMeta
from sqlalchemy.orm import declarative_base, validates
from sqlalchemy.types import TypeDecorator

from zvt_crypto import zvt_bridge
from zvt_crypto.core.levels import DAY_MS, iso, level_ms, parse_time
from zvt_crypto.core.symbols import split_row_id
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import load_tables

# Importing zvt registers our tables, which takes the classes that this module is about to define.
zvt_bridge.hold_registration()

from zvt.contract import IntervalLevel  # noqa: E402
from zvt.contract.schema import Mixin, TradableEntity  # noqa: E402

_EPOCH: Final = dt.datetime(1970, 1, 1)


class EpochMs(TypeDecorator[dt.datetime]):
    """A naive UTC datetime in Python, integer milliseconds since the epoch in SQL."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> int | None:
        """Accepts whatever ``parse_time`` does."""
        return None if value is None or value is pd.NaT else parse_time(value)

    def process_result_value(self, value: Any, dialect: Any) -> dt.datetime | None:
        """Naive UTC. Text is what pandas wrote into an entity table."""
        if value is None:
            return None
        ms = value if isinstance(value, int) else parse_time(value)
        return _EPOCH + dt.timedelta(milliseconds=ms)


class RowId(TypeDecorator[str]):
    """``{entity_id}_{time}``, with the time in any notation on the way in.

    zvt and its users' recorders write days or local-looking times there; unless such an id finds its row,
    zvt's recorder loop takes the row for new for ever.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        """The id as our views show it."""
        return None if value is None else canonical_id(value)


def canonical_id(text: str) -> str:
    """The id of a series row with its time as ISO 8601 with ``Z``; other texts are left as they are."""
    parts = split_row_id(text)
    return text if parts is None else f"{parts[0]}_{iso(parts[1])}"


_SQLALCHEMY_TYPE: Final[dict[str, Any]] = {
    "float": Float,
    "int": BigInteger,
    "text": String,
    "time": EpochMs,
    "bool": Boolean,
}


class Verbs(Protocol):
    """What the tables' two verbs do; bound by the package, since it needs the rooms above this one."""

    def query_data(self, table: Any, arguments: dict[str, Any]) -> Any:
        """Answer ``table.query_data``."""

    def record_data(self, table: Any, arguments: dict[str, Any]) -> Any:
        """Answer ``table.record_data``."""


class ZvtName(str):
    """A class name that equals itself in any case.

    zvt looks classes up as ``"cryptopair".capitalize() + "1mKdata"``, people as ``CryptoPair1mKdata``.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.casefold() == other.casefold()

    def __hash__(self) -> int:
        return hash(self.casefold())


class CryptoTable(Mixin):
    """Base of our tables: zvt's verbs with zvt's arguments, over our store and recorders."""

    spec: TableSpec
    verbs: Verbs | None = None
    providers: list[str]
    provider_map_recorder: dict[str, Any]

    @classmethod
    def query_data(cls, provider_index: int = 0, **arguments: Any) -> Any:
        """Query the table; takes all arguments of zvt's ``Mixin.query_data``.

        Args:
            provider_index: Which of ``providers`` to ask where ``provider`` is not given.
            **arguments: ``provider``, ``codes`` (any notation: ``btcusdt``, ``BTC/USDT``), ``entity_ids``,
                ``ids``, ``start_timestamp`` and ``end_timestamp`` (inclusive, UTC), ``columns``, ``order``,
                ``limit``, ``index``, ``filters``, ``return_type`` (``arrow`` too) and the rest. Candles also
                take ``resample="15m"`` (coarser candles made of these; ``unfinished="mark"`` keeps the one
                that is not over yet, told by a column ``is_finished``) and ``fill="ffill"`` (times without
                a candle get one with the last close, told by a column ``is_filled``).

        Returns:
            A frame with naive UTC times for ``return_type="df"``; see zvt for the other kinds.

        Raises:
            InvalidArgument: An argument has a value that is not allowed.
        """
        arguments.setdefault("provider", None)
        arguments["provider"] = arguments["provider"] or cls.providers[provider_index]
        assert cls.verbs is not None
        return cls.verbs.query_data(cls, arguments)

    @classmethod
    def record_data(cls, provider_index: int = 0, **arguments: Any) -> Any:
        """Record the table from an exchange; takes all arguments of zvt's ``Mixin.record_data``.

        Only what is missing is fetched; a run that was killed costs the page in flight.

        Args:
            provider_index: Which of ``providers`` to record from where ``provider`` is not given.
            **arguments: ``provider``, ``codes``, ``entity_ids``, ``exchanges``, ``start_timestamp`` (listing
                by default), ``end_timestamp`` (inclusive, now by default), ``force_update``,
                ``sleeping_time``, ``return_unfinished`` and the rest.

        Returns:
            With ``return_unfinished``, the ids of the entities that could not be finished.

        Raises:
            ZvtCryptoError: What failed first, after all other symbols were recorded.
        """
        arguments.setdefault("provider", None)
        arguments["provider"] = arguments["provider"] or cls.providers[provider_index]
        assert cls.verbs is not None
        return cls.verbs.record_data(cls, arguments)

    @classmethod
    def register_provider(cls, provider: str) -> None:
        """Let one more data source fill the table, such as a user's own recorder."""
        zvt_bridge.register_provider(cls, db_name=cls.spec.name, provider=provider)

    @classmethod
    def register_recorder_cls(cls, provider: str, recorder_cls: Any) -> None:
        """Called by zvt for each recorder class that names this table: the newest one is used."""
        cls.provider_map_recorder[provider] = recorder_cls

    @classmethod
    def important_cols(cls) -> list[str]:
        """The stored columns."""
        return [column.name for column in cls.spec.columns]


class CryptoSeries(CryptoTable):
    """Base of the tables of layout ``series``."""

    @validates("id")
    def _canonical_id(self, key: str, value: str | None) -> str | None:
        return value if value is None or self.spec.keys else canonical_id(value)


class CryptoEntity(CryptoTable, TradableEntity):
    """Base of the entity tables: a market that never closes, in UTC."""

    @classmethod
    def get_timezone(cls) -> str:
        """Exchanges publish in UTC."""
        return "UTC"

    @classmethod
    def get_trading_dates(cls, start_date: Any = None, end_date: Any = None) -> pd.DatetimeIndex:
        """Every day."""
        return pd.date_range(start_date, end_date, freq="D")

    @classmethod
    def get_trading_intervals(cls, include_bidding_time: bool = False) -> list[tuple[str, str]]:
        """The whole day."""
        return [("00:00", "24:00")]

    @classmethod
    def in_real_trading_time(cls, timestamp: Any = None, include_bidding_time: bool = True) -> bool:
        """Always."""
        return True

    @classmethod
    def in_trading_time(cls, timestamp: Any = None) -> bool:
        """Always."""
        return True

    @classmethod
    def before_trading_time(cls, timestamp: Any = None) -> bool:
        """Never."""
        return False

    @classmethod
    def after_trading_time(cls, timestamp: Any = None) -> bool:
        """Never."""
        return False

    @classmethod
    def get_close_hour_and_minute(cls) -> tuple[int, int]:
        """A day's candle closes at midnight."""
        return 24, 0

    @classmethod
    def get_interval_timestamps(cls, start_date: Any, end_date: Any, level: Any) -> Iterator[pd.Timestamp]:
        """Open times of all candles of the level in the days from start to end, both included."""
        step = level_ms(IntervalLevel(level).value)
        start = parse_time(start_date, name="start_date")
        end = parse_time(end_date, name="end_date")
        for ts in range(start - start % DAY_MS, end - end % DAY_MS + DAY_MS, step):
            yield pd.Timestamp(ts, unit="ms")

    @classmethod
    def is_open_timestamp(cls, timestamp: Any) -> bool:
        """Whether a day begins."""
        return parse_time(timestamp) % DAY_MS == 0

    @classmethod
    def is_close_timestamp(cls, timestamp: Any) -> bool:
        """Whether a day ends, which is when the next one begins."""
        return parse_time(timestamp) % DAY_MS == 0

    @classmethod
    def is_finished_kdata_timestamp(cls, timestamp: Any, level: Any) -> bool:
        """Whether the time is the open time of a candle of the level."""
        return parse_time(timestamp) % level_ms(IntervalLevel(level).value) == 0

    @classmethod
    def could_short(cls) -> bool:
        """Perpetuals can be sold short."""
        return cls.spec.entity_type == "cryptoperp"

    @classmethod
    def get_trading_t(cls) -> int:
        """What was bought can be sold at once."""
        return 0


Base: Any = declarative_base()

_ENTITY_COLUMNS: Final = (
    ("entity_type", String),
    ("exchange", String),
    ("code", String),
    ("name", String),
    ("list_date", EpochMs),
    ("end_date", EpochMs),
)
_SERIES_COLUMNS: Final = (("provider", String), ("code", String), ("name", String), ("level", String))


def _mapped_class(spec: TableSpec) -> Any:
    parent, head = (
        (CryptoEntity, _ENTITY_COLUMNS) if spec.layout == "entities" else (CryptoSeries, _SERIES_COLUMNS)
    )
    attributes: dict[str, Any] = {
        "__tablename__": spec.name,
        "__doc__": spec.doc,
        "__module__": "zvt_crypto",
        # Deletes pass through a trigger, which reports no rows.
        "__mapper_args__": {"confirm_deleted_rows": False},
        "spec": spec,
        "providers": [],
        "provider_map_recorder": {},
        "id": Column(RowId if spec.layout == "series" and not spec.keys else String, primary_key=True),
        "entity_id": Column(String),
        "timestamp": Column(EpochMs),
    }
    attributes |= {name: Column(kind) for name, kind in head}
    attributes |= {c.name: Column(_SQLALCHEMY_TYPE[c.type], doc=c.doc) for c in spec.shown}
    mapped = DeclarativeMeta(spec.class_name, (Base, parent), attributes)
    mapped.__name__ = ZvtName(spec.class_name)
    return mapped


def register(providers: Sequence[str]) -> dict[str, Any]:
    """Make the class of every registered table and make it known to zvt.

    Args:
        providers: Data sources that can fill our tables.

    Returns:
        The classes by public name.
    """
    classes: dict[str, Any] = {}
    for spec in load_tables().values():
        mapped = _mapped_class(spec)
        classes[spec.class_name] = mapped
        if spec.layout == "entities":
            zvt_bridge.register_entity(mapped, spec.entity_type)
        zvt_bridge.register_table(
            mapped, db_name=spec.name, entity_type=spec.entity_type, providers=providers
        )
    return classes


zvt_bridge.release_registration()
