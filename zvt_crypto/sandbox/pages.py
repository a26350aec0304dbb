"""Pages of candles as bytes: rendered once, then kept as long as they fit.

Only pages whose candles are all finished are kept, because those never change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zvt_crypto.sandbox.damage import damaged
from zvt_crypto.sandbox.faults import Fault
from zvt_crypto.sandbox.market import Candles, Market, Span

Form = Callable[[Candles], bytes]
Damage = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Key:
    form: str
    symbol: str
    step: int
    offset: int
    first: int
    stop: int


class Pages:
    """Rendered pages of a market.

    Args:
        market: Where the candles come from.
        megabytes: How much to keep; the least recently used pages go first.
    """

    def __init__(self, market: Market, megabytes: float = 256) -> None:
        self.market = market
        self._room = int(megabytes * 1e6)
        self._kept: OrderedDict[_Key, bytes] = OrderedDict()
        self._size = 0
        self._first_pages: dict[tuple[str, str], Any] = {}

    def page(self, span: Span, now: int, damage: Damage | None, name: str, form: Form) -> bytes:
        """The candles of a span at ``now``, in the wire format ``form``, whose name is ``name``."""
        if damage is not None:
            return form(damage(self.market.bars(span, now)))
        first, stop = self.market.extent(span, now)
        exact = Span(span.symbol, span.step, first, stop, span.offset)
        if stop > now:
            return form(self.market.bars(exact, now))
        key = _Key(name, span.symbol, span.step, span.offset, first, stop)
        body = self._kept.get(key)
        if body is None:
            body = form(self.market.bars(exact, now))
            self._keep(key, body)
        else:
            self._kept.move_to_end(key)
        return body

    def damage(self, rows: Any, faults: list[Fault], symbol: str, seed: int) -> Any:
        """The rows as the row faults leave them, one after the other."""
        for fault in faults:
            if fault.kind == "repeat":
                rows = self._first_pages.setdefault((str(fault), symbol), rows)
            else:
                rows = damaged(rows, fault, seed)
        return rows

    def forget_repeats(self) -> None:
        """Let ``repeat`` start again with the next page."""
        self._first_pages.clear()

    def _keep(self, key: _Key, body: bytes) -> None:
        self._kept[key] = body
        self._size += len(body)
        while self._size > self._room:
            self._size -= len(self._kept.popitem(last=False)[1])
