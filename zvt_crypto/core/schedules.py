"""Entries of the schedule: what is recorded again and again, and when.

All times are UTC. A cadence is a grid of moments from the epoch on, so that a restart does not shift it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from zvt_crypto.core.errors import ConfigError, unknown_value
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, LEVEL_MS, MINUTE_MS

#: ``every`` in words, for messages.
EVERY_FORMS: Final = '"close", "funding", an interval such as "30s", "15m", "1h" or "1d", or "daily 03:30"'

_UNIT_MS: Final = {"s": 1000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_INTERVAL: Final = re.compile(r"(\d{1,6})([smhd])")
_DAILY: Final = re.compile(r"daily ([01]?\d|2[0-3]):([0-5]\d)")
_LONGEST_MS: Final = 366 * DAY_MS

#: No venue pays funding more often than hourly. Events are there some minutes after the hour.
_FUNDING_STEP_MS: Final = HOUR_MS
_FUNDING_AFTER_MS: Final = 5 * MINUTE_MS

_FEEDS: Final = ("trades", "funding", "orderbooks")
#: What an entry of instruments does not take: it records all of them.
_NOT_WITH_ENTITIES: Final = ("codes", "all_markets", "perps", "levels", *_FEEDS, "repair", "depth")
#: Holes are those of candles and funding events.
_NOT_WITH_REPAIR: Final = ("trades", "orderbooks", "depth", "exchanges")
_USUAL_DAYS: Final = 2


@dataclass(frozen=True, slots=True)
class Cadence:
    """The moments ``k * step + offset`` for all whole ``k``, in epoch ms.

    Attributes:
        step: Distance between two moments, ms.
        offset: How long after a multiple of ``step``, ms.
    """

    step: int
    offset: int = 0

    def last(self, now: int) -> int:
        """The last moment at or before ``now``."""
        return now - (now - self.offset) % self.step

    def next(self, now: int) -> int:
        """The first moment after ``now``."""
        return self.last(now) + self.step


class ScheduleEntry(BaseModel):
    """What one entry of the schedule records, and when; a ``[[schedule]]`` table of the settings file.

    Attributes:
        name: What the entry is called, here and in the history.
        provider: The data source.
        codes: Markets in any notation.
        all_markets: Every market that trades now, instead of ``codes``; ``all`` in the file.
        perps: Codes whose notation does not tell mean perpetuals.
        levels: Candle levels; 1m where nothing else is named either.
        trades: Record trades.
        funding: Record funding events.
        orderbooks: Record a snapshot of each order book.
        depth: Levels of order books.
        entities: Record the exchange's instruments, and nothing else.
        repair: Look for holes in what is recorded of the markets and levels named, or else of all, and heal
            them.
        exchanges: The exchanges of a provider that serves many.
        days: How far back a run looks; only what is missing there is fetched. By default 2, and for repairs
            everything that is recorded.
        every: When; by default what suits the kind.
        delay_seconds: How long after a close, a funding event or an interval the run begins.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(min_length=1, max_length=80)
    provider: str
    codes: tuple[str, ...] = ()
    all_markets: bool = Field(default=False, alias="all")
    perps: bool = False
    levels: tuple[str, ...] = ()
    trades: bool = False
    funding: bool = False
    orderbooks: bool = False
    depth: int | None = Field(default=None, ge=1)
    entities: bool = False
    repair: bool = False
    exchanges: tuple[str, ...] = ()
    days: int | None = Field(default=None, ge=1)
    every: str = ""
    delay_seconds: float = Field(default=5.0, ge=0, le=3600)

    @field_validator("name")
    @classmethod
    def _name_is_one_line(cls, value: str) -> str:
        if not value.isprintable() or value != value.strip():
            raise ValueError("must be one line of text without blanks around it")
        return value

    @field_validator("codes", "levels", "exchanges", mode="before")
    @classmethod
    def _as_on_the_command_line(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("levels")
    @classmethod
    def _levels_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for level in value:
            if level not in LEVEL_MS:
                raise ValueError(unknown_value("level", level, LEVEL_MS).one_line())
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> ScheduleEntry:
        if self.entities:
            self._goes_without(_NOT_WITH_ENTITIES, "entities = true records all instruments")
        elif self.repair:
            self._goes_without(_NOT_WITH_REPAIR, "repair = true heals candles and funding events")
        elif not self.codes and not self.all_markets:
            raise ValueError('no markets are named: give codes = ["btcusdt"], or all = true')
        if self.codes and self.all_markets:
            raise ValueError("codes and all = true exclude each other: give one of them")
        _cadence(self)
        return self

    def _goes_without(self, names: Iterable[str], what: str) -> None:
        given = [name.removesuffix("_markets") for name in names if getattr(self, name)]
        if given:
            raise ValueError(f"{what}, and goes without {' and '.join(given)}")

    @property
    def kind(self) -> str:
        """``repair`` or ``record``."""
        return "repair" if self.repair else "record"

    @property
    def candle_levels(self) -> tuple[str, ...]:
        """The levels of candles meant, 1m where no rows are named at all; none means all for a repair."""
        if self.levels or self.entities or self.repair or any(getattr(self, feed) for feed in _FEEDS):
            return self.levels
        return ("1m",)

    @property
    def days_back(self) -> int | None:
        """``days``, or what suits the kind; None is all that is recorded."""
        return self.days or (None if self.repair else _USUAL_DAYS)

    @property
    def when(self) -> str:
        """``every``, or what suits the kind."""
        if self.every:
            return self.every
        if self.entities:
            return "daily 00:10"
        if self.repair:
            return "daily 03:30"
        if self.candle_levels:
            return "close"
        return "5m" if self.trades or self.orderbooks else "funding"

    @property
    def cadence(self) -> Cadence:
        """The moments at which the entry is due."""
        return _cadence(self)


def parse_entries(value: Any, *, where: str) -> tuple[ScheduleEntry, ...]:
    """The entries of the setting ``schedule``.

    Args:
        value: A list of tables, or of entries.
        where: The file that they are written in, for messages.

    Raises:
        ConfigError: An entry is wrong; it is named, with the value and what is allowed.
    """
    if not isinstance(value, (list, tuple)):
        raise ConfigError(
            "schedule is not a list of tables",
            suggestions=(f"begin each entry in {where} with a line [[schedule]]",),
            setting="schedule",
        )
    entries = tuple(_entry(item, number, where) for number, item in enumerate(value, 1))
    _refuse_doubles((entry.name for entry in entries), where)
    return entries


def _entry(item: Any, number: int, where: str) -> ScheduleEntry:
    if isinstance(item, ScheduleEntry):
        return item
    try:
        return ScheduleEntry.model_validate(item)
    except ValidationError as error:
        name = item.get("name") if isinstance(item, dict) else None
        label = repr(name) if isinstance(name, str) and name else f"number {number}"
        problem, hints = _problem(error)
        raise ConfigError(
            f"schedule entry {label}: {problem}",
            suggestions=(*hints, f"correct it in {where}"),
            setting="schedule",
            entry=name or number,
        ) from error


def _problem(error: ValidationError) -> tuple[str, tuple[str, ...]]:
    """What is wrong first, with the value, and hints."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = (field.alias or name for name, field in ScheduleEntry.model_fields.items())
        unknown = unknown_value("key", path, known)
        return unknown.message, unknown.suggestions
    message = str(first.get("ctx", {}).get("error", first["msg"]))
    if first["type"] == "missing":
        return f"{path} is missing", ()
    if not path:
        return message, ()
    return f"{path} = {first['input']!r} is wrong: {message}", ()


def _refuse_doubles(names: Iterable[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(
                f"two schedule entries are called {name!r}",
                suggestions=(f"give each a name of its own in {where}",),
                setting="schedule",
                entry=name,
            )
        seen.add(name)


def _cadence(entry: ScheduleEntry) -> Cadence:
    text, delay = entry.when, int(entry.delay_seconds * 1000)
    if text == "close":
        if not entry.candle_levels:
            raise ValueError('every = "close" needs levels, whose candles close')
        return Cadence(min(LEVEL_MS[level] for level in entry.candle_levels), delay)
    if text == "funding":
        return Cadence(_FUNDING_STEP_MS, _FUNDING_AFTER_MS + delay)
    if match := _DAILY.fullmatch(text):
        return Cadence(DAY_MS, int(match[1]) * HOUR_MS + int(match[2]) * MINUTE_MS)
    match = _INTERVAL.fullmatch(text)
    step = int(match[1]) * _UNIT_MS[match[2]] if match else 0
    if not 0 < step <= _LONGEST_MS:
        raise ValueError(f"every = {text!r} is no time to run at; allowed: {EVERY_FORMS}")
    return Cadence(step, delay)
