"""What a venue is: hosts, paths, and answers in its own wire format.

A venue is one module of this package that defines subclasses of ``Venue``; ``discover`` finds them.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import orjson

from zvt_crypto.sandbox.events import Fundings, Trades
from zvt_crypto.sandbox.market import Candles, Instrument, Market
from zvt_crypto.sandbox.pages import Pages

Rows = TypeVar("Rows", Candles, Trades, Fundings)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    @staticmethod
    def json(value: Any, status: int = 200) -> Answer:
        """An answer of a value as JSON."""
        return Answer(orjson.dumps(value), status)


class Refused(Exception):
    """A venue turns a request down; ``answer`` is what it says."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a venue.

    Attributes:
        host: The venue's own host name.
        path: Path on that host.
        query: Parameters.
        now: The venue's time, epoch ms.
        damage: Applies the row faults that strike this request; None where there are none.
    """

    host: str
    path: str
    query: Mapping[str, str]
    now: int
    damage: Callable[[Any], Any] | None = None

    def damaged(self, rows: Rows) -> Rows:
        """Rows as the faults that strike this request leave them."""
        damaged: Rows = rows if self.damage is None else self.damage(rows)
        return damaged


Handler = Callable[[Call], Answer]


class Venue(ABC):
    """One exchange, or one of its API families.

    Attributes:
        name: Name for people.
        hosts: Host names that it answers for.
        row_paths: Routes that answer candles, trades or funding events; row faults strike there.
    """

    name: ClassVar[str]
    hosts: ClassVar[tuple[str, ...]]
    row_paths: ClassVar[tuple[str, ...]] = ()

    def __init__(self, market: Market, pages: Pages) -> None:
        self.market = market
        self.pages = pages
        self.listed: dict[str, Instrument] = {
            self.native(i): i for i in market.instruments.values() if self.lists(i)
        }
        self._routes = self.routes()
        self._patterns = {
            re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(route))): route
            for route in self._routes
            if "{" in route
        }

    def resolve(self, path: str, query: Mapping[str, str]) -> tuple[str | None, Mapping[str, str]]:
        """The route of a path, and the query with what stands in the route's places; None where none fits."""
        if path in self._routes:
            return path, query
        for pattern, route in self._patterns.items():
            match = pattern.fullmatch(path)
            if match:
                return route, {**query, **match.groupdict()}
        return None, query

    def answer(self, call: Call) -> Answer:
        """Answer a request as the venue does, errors included."""
        route, query = self.resolve(call.path, call.query)
        if route is None:
            return self.unknown_path(call.path)
        try:
            return self._routes[route](replace(call, query=query))
        except Refused as refusal:
            return refusal.answer

    def instrument_of(self, query: Mapping[str, str]) -> Instrument | None:
        """The instrument that a query is about, if it names one."""
        return self.listed.get(query.get(self.symbol_parameter(), ""))

    @staticmethod
    @abstractmethod
    def symbol_parameter() -> str:
        """Name of the query parameter (or part of the path) with the venue's name of an instrument."""

    @abstractmethod
    def routes(self) -> Mapping[str, Handler]:
        """Path to what answers it; ``{name}`` stands for a part, which the call's query then has."""

    @abstractmethod
    def lists(self, instrument: Instrument) -> bool:
        """Whether the venue trades it."""

    @abstractmethod
    def native(self, instrument: Instrument) -> str:
        """The venue's name of an instrument."""

    @abstractmethod
    def unknown_path(self, path: str) -> Answer:
        """The venue's answer to a path that it does not have."""

    @abstractmethod
    def error(self, status: int) -> Answer:
        """The venue's body for an HTTP error status."""

    @abstractmethod
    def maintenance(self, path: str) -> Answer:
        """The venue's answer to a path while it is in maintenance."""


def html(status: int, title: str) -> Answer:
    """The page of a proxy in front of a venue."""
    page = f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n<center><h1>{status} {title}"
    return Answer(f"{page}</h1></center>\r\n</body>\r\n</html>\r\n".encode(), status, {}, "text/html")


def concrete_classes() -> Iterator[type]:
    """The classes that modules of this package define, but for those with abstract methods."""
    for module_info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__package__}.{module_info.name}")
        for kind in vars(module).values():
            # Where it is defined comes first: Python 3.10 takes ``Callable[...]`` for a class until it looks.
            is_local = getattr(kind, "__module__", None) == module.__name__
            if is_local and isinstance(kind, type) and not inspect.isabstract(kind):
                yield kind


def discover(market: Market, pages: Pages) -> dict[str, Venue]:
    """All venues of this package by host name."""
    venues: dict[str, Venue] = {}
    for kind in concrete_classes():
        if issubclass(kind, Venue):
            venues.update(dict.fromkeys(kind.hosts, kind(market, pages)))
    return venues
