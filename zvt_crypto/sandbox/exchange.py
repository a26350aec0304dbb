"""The venues together behind one gateway: which of them answers, and what goes wrong on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from zvt_crypto.sandbox.captures import Captures
from zvt_crypto.sandbox.faults import ANSWER_KINDS, ROW_KINDS, Fault, FaultPlan, plain_name
from zvt_crypto.sandbox.market import Instrument, Market
from zvt_crypto.sandbox.pages import Damage, Pages
from zvt_crypto.sandbox.stream_captures import StreamCaptures
from zvt_crypto.sandbox.venue import Answer, Call, Venue, discover, html


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request gets: an answer, after a pause, and the fault that strikes while it is sent."""

    answer: Answer
    pause: float = 0.0
    fault: Fault | None = None


class Exchange:
    """All venues over one market.

    Args:
        market: What they trade.
        faults: What goes wrong.
        captures: Recorded answers, which take precedence.
        seed: Decides which rows the row faults hit.
        streams: Recorded streams, whose answers and clock count at the hosts of their venues.
    """

    def __init__(
        self,
        market: Market,
        faults: FaultPlan,
        captures: Captures,
        seed: int = 0,
        streams: StreamCaptures | None = None,
    ) -> None:
        self.market = market
        self.faults = faults
        self.captures = captures
        self.pages = Pages(market)
        self.venues = discover(market, self.pages)
        self._seed = seed
        self._streams = streams

    def answer(self, host: str, path: str, query: Mapping[str, str]) -> Outcome:
        """What ``https://{host}{path}?{query}`` gets."""
        venue = self.venues.get(host)
        if venue is None:
            known = sorted(self.venues)
            return Outcome(Answer.json({"error": f"no venue at {host!r}", "known": known}, 404))
        route, query = venue.resolve(path, query)
        where, instrument = host + path, venue.instrument_of(query)
        names = _names(venue, instrument, query)
        pause = sum(f.number("seconds") for f in self.faults.strike(("slow",), where, names))
        struck = self.faults.strike(ANSWER_KINDS, where, names, one=True)
        if struck and struck[0].kind in _REPLACED:
            return Outcome(_replaced(struck[0], venue, path), pause)
        skew = sum(int(f.number("ms")) for f in self.faults.strike(("clock_skew",), where, names))
        damage = self._damage(where, names, instrument) if route in venue.row_paths else None
        recorded, now = self._recorded(host, path, query)
        if recorded is None:
            answer = venue.answer(Call(host, path, query, now + skew, damage))
        else:
            answer = Answer(recorded)
        return Outcome(answer, pause, struck[0] if struck else None)

    def summary(self) -> dict[str, Any]:
        """Venues, symbols and faults, for people."""
        venues: dict[str, list[str]] = {}
        for host, venue in self.venues.items():
            venues.setdefault(venue.name, []).append(host)
        return {
            "venues": venues,
            "symbols": list(self.market.instruments),
            "now": self.market.now(),
            "faults": [{"fault": str(fault), "struck": count} for fault, count in self.faults.counts()],
        }

    def _recorded(self, host: str, path: str, query: Mapping[str, str]) -> tuple[bytes | None, int]:
        """The recorded body of a request, if there is one, and the time."""
        body, now = self.captures.find(host, path, query), None
        if self._streams is not None:
            body, now = body or self._streams.answer(host, path, query), self._streams.now(host)
        return body, self.market.now() if now is None else now

    def _damage(self, where: str, names: frozenset[str], instrument: Instrument | None) -> Damage | None:
        faults = self.faults.strike(ROW_KINDS, where, names) if instrument else []
        if not faults or instrument is None:
            return None
        return partial(self._damaged, faults=faults, symbol=f"{where} {instrument.symbol}")

    def _damaged(self, rows: Any, faults: list[Fault], symbol: str) -> Any:
        return self.pages.damage(rows, faults, symbol, self._seed)


_REPLACED = ("status", "html", "empty", "maintenance")


def _replaced(fault: Fault, venue: Venue, path: str) -> Answer:
    if fault.kind == "maintenance":
        return venue.maintenance(path)
    status = int(fault.number("status"))
    if fault.kind == "html":
        return html(status, "OK" if status == 200 else "Bad Gateway")
    if fault.kind == "empty":
        return Answer(b"", status)
    wait = fault.number("retry_after")
    answer = venue.error(status)
    return replace(answer, headers={**answer.headers, "Retry-After": f"{wait:g}"}) if wait else answer


def _names(venue: Venue, instrument: Instrument | None, query: Mapping[str, str]) -> frozenset[str]:
    native = query.get(venue.symbol_parameter(), "")
    return frozenset(plain_name(n) for n in (native, instrument.symbol if instrument else ""))
