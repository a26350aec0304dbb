"""Faults on demand: what goes wrong, on which requests, and how often.

A fault is written ``kind[:value][,key=value...]``, such as ``status:429,path=klines,times=3,retry_after=2``.
The value after the colon is the kind's main parameter.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from zvt_crypto.core.errors import InvalidArgument, unknown_value

Parameters = Mapping[str, float | str]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a kind takes: its main parameter first, each with its default."""

    doc: str
    defaults: Parameters = field(default_factory=dict)

    @property
    def main(self) -> str | None:
        return next(iter(self.defaults), None)


#: Faults that replace the answer.
ANSWER_KINDS: Final[dict[str, _Kind]] = {
    "status": _Kind("an HTTP error with the venue's own body", {"status": 500, "retry_after": 0}),
    "timeout": _Kind("no answer until the client gives up"),
    "html": _Kind("an HTML page", {"status": 502}),
    "cut": _Kind("JSON cut in the middle: 'length' fits the rest, 'close' ends early", {"mode": "length"}),
    "empty": _Kind("no body", {"status": 200}),
    "disconnect": _Kind("the connection is closed without an answer"),
    "maintenance": _Kind("the venue's answer while it is in maintenance"),
}
#: Faults in the candles of an answer that is otherwise right.
ROW_KINDS: Final[dict[str, _Kind]] = {
    "empty_rows": _Kind("an answer without rows"),
    "duplicate": _Kind("rows sent twice; 0 is all", {"rows": 0}),
    "reorder": _Kind("rows shuffled"),
    "missing": _Kind("rows left out", {"rows": 1}),
    "nan": _Kind("a value that is no number", {"rows": 1, "column": "close", "text": "NaN"}),
    "negative": _Kind("a value below zero", {"rows": 1, "column": "close"}),
    "high_below_low": _Kind("high and low exchanged", {"rows": 1}),
    "repeat": _Kind("the first page again, whatever is asked"),
}
#: Faults that leave the answer as it is.
OTHER_KINDS: Final[dict[str, _Kind]] = {
    "slow": _Kind("an answer that takes its time", {"seconds": 1.0}),
    "clock_skew": _Kind("the venue's clock is fast (or, below 0, slow)", {"ms": 60_000}),
}
#: Faults of streams: of the handshake, of the connection, or of single messages with market data.
STREAM_KINDS: Final[dict[str, _Kind]] = {
    "ws_refuse": _Kind("the handshake is answered with an HTTP error", {"status": 503}),
    "ws_disconnect": _Kind("the connection ends: with a close code or, at 0, without a word", {"code": 0}),
    "ws_silence": _Kind("nothing comes; with pongs=0 no pongs either", {"seconds": 5.0, "pongs": 1}),
    "ws_duplicate": _Kind("a message comes twice"),
    "ws_reorder": _Kind("a message comes after the one behind it"),
    "ws_skip": _Kind("a message is lost"),
    "ws_checksum": _Kind("a checksum that is wrong"),
    "ws_flood": _Kind("a message comes many times", {"copies": 100}),
    "ws_rename": _Kind("a field has another name", {"field": "price", "to": "renamed"}),
    "ws_garbage": _Kind("a message that is not JSON", {"text": "garbage"}),
}
KINDS: Final = {**ANSWER_KINDS, **ROW_KINDS, **OTHER_KINDS, **STREAM_KINDS}

_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "mode": ("length", "close"),
    "column": ("open", "high", "low", "close", "volume"),
}
_WHEN: Final = ("path", "symbol", "times", "after", "every", "probability")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: One of ``KINDS``.
        path: Only requests whose ``host/path`` contains this, or messages whose ``host/path channel`` does.
        symbol: Only requests for this instrument: the venue's name of it or the unified symbol, which is what
            messages of streams go by.
        times: How often in all; None is for ever.
        after: So many matching requests go well first.
        every: Of the matching requests after that, each n-th one.
        probability: Chance to strike, drawn from the sandbox's seed; None is always.
        params: The kind's own parameters, see ``KINDS``.

    Raises:
        InvalidArgument: A kind, a parameter or a value is not allowed.
    """

    kind: str
    path: str | None = None
    symbol: str | None = None
    times: int | None = None
    after: int = 0
    every: int = 1
    probability: float | None = None
    params: Parameters = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_value("fault", self.kind, KINDS)
        for name, value in self.params.items():
            _check_parameter(self.kind, name, value)
        if self.every < 1 or self.after < 0 or (self.times is not None and self.times < 0):
            raise InvalidArgument("a fault's every must be at least 1, its after and times at least 0")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise InvalidArgument(f"a fault's probability {self.probability} is not between 0 and 1")

    def number(self, name: str) -> float:
        """A numeric parameter, or its default."""
        return float(self.params.get(name, KINDS[self.kind].defaults[name]))

    def word(self, name: str) -> str:
        """A text parameter, or its default."""
        return str(self.params.get(name, KINDS[self.kind].defaults[name]))

    def __str__(self) -> str:
        """The text that ``parse_fault`` reads back."""
        when = {name: getattr(self, name) for name in _WHEN}
        changed = {k: v for k, v in when.items() if v not in (None, _WHEN_DEFAULTS.get(k))}
        return ",".join([self.kind, *(f"{k}={v}" for k, v in {**self.params, **changed}.items())])


_WHEN_DEFAULTS: Final = {"after": 0, "every": 1}


def parse_fault(text: str) -> Fault:
    """Read ``kind[:value][,key=value...]``.

    Raises:
        InvalidArgument: The text cannot be read, or names something unknown.
    """
    head, *rest = text.split(",")
    kind, colon, value = (part.strip() for part in head.partition(":"))
    if kind not in KINDS:
        raise unknown_value("fault", kind, KINDS)
    main = KINDS[kind].main
    if colon and main is None:
        raise InvalidArgument(f"fault {kind!r} takes no value", suggestions=(f"write {kind},key=value",))
    given = {main: value} if colon and main else {}
    for item in rest:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise InvalidArgument(f"{item!r} in fault {text!r} is not key=value")
        given[key] = value
    when = {key: _when_value(key, value) for key, value in given.items() if key in _WHEN}
    params = {key: _parameter(kind, key, value) for key, value in given.items() if key not in _WHEN}
    return Fault(kind, params=params, **when)


def _when_value(key: str, value: str) -> Any:
    if key in ("path", "symbol"):
        return value
    return float(_number(key, value)) if key == "probability" else _whole(key, value)


def _parameter(kind: str, key: str, value: str) -> float | str:
    default = KINDS[kind].defaults.get(key)
    return value if default is None or isinstance(default, str) else _number(key, value)


def _whole(key: str, value: str) -> int:
    number = _number(key, value)
    if not isinstance(number, int):
        raise InvalidArgument(f"{key} {value!r} of a fault is not a whole number")
    return number


def _number(key: str, value: str) -> int | float:
    try:
        return int(value) if value.lstrip("+-").isdigit() else float(value)
    except ValueError:
        raise InvalidArgument(f"{key} {value!r} of a fault is not a number") from None


def _check_parameter(kind: str, name: str, value: float | str) -> None:
    defaults = KINDS[kind].defaults
    if name not in defaults:
        raise unknown_value(f"key of fault {kind!r}", name, [*defaults, *_WHEN])
    if isinstance(value, str) != isinstance(defaults[name], str):
        raise InvalidArgument(f"{name} {value!r} of fault {kind!r} has the wrong type")
    if name in _WORDS and value not in _WORDS[name]:
        raise unknown_value(f"{name} of fault {kind!r}", value, _WORDS[name])
    if name == "status" and value and not 100 <= float(value) <= 599:
        raise InvalidArgument(f"status {value} is no HTTP status")


class FaultPlan:
    """The faults in force, with how often each matched and struck. Safe to use from several threads."""

    def __init__(self, faults: Iterable[Fault | str] = (), seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = np.random.default_rng(seed)
        self._faults: tuple[Fault, ...] = ()
        self._matched: list[int] = []
        self._struck: list[int] = []
        self.set(faults)

    def set(self, faults: Iterable[Fault | str]) -> None:
        """Replace all faults; texts are parsed, and all counts start again."""
        made = tuple(parse_fault(f) if isinstance(f, str) else f for f in faults)
        with self._lock:
            self._faults = made
            self._matched = [0] * len(made)
            self._struck = [0] * len(made)

    def add(self, fault: Fault | str) -> None:
        """Put one more fault in force; the others keep their counts."""
        made = parse_fault(fault) if isinstance(fault, str) else fault
        with self._lock:
            self._faults += (made,)
            self._matched.append(0)
            self._struck.append(0)

    def clear(self) -> None:
        """End all faults."""
        self.set(())

    def counts(self) -> list[tuple[Fault, int]]:
        """Each fault and how often it struck."""
        with self._lock:
            return list(zip(self._faults, self._struck, strict=True))

    def strike(
        self, kinds: Iterable[str], where: str, names: frozenset[str], *, one: bool = False
    ) -> list[Fault]:
        """The faults that strike a request now, in the order given.

        Args:
            kinds: Only faults of these kinds are asked (and counted).
            where: The request's ``host/path``; of a message its ``host/path channel``.
            names: What the request's instrument is called, as ``plain_name`` writes it.
            one: Stop at the first fault that strikes; those behind it are not counted.
        """
        if not self._faults:
            return []
        struck = []
        with self._lock:
            for number, fault in enumerate(self._faults):
                if fault.kind in kinds and _matches(fault, where, names) and self._turn(number, fault):
                    struck.append(fault)
                    if one:
                        break
        return struck

    def _turn(self, number: int, fault: Fault) -> bool:
        self._matched[number] += 1
        turn = self._matched[number] - fault.after
        if turn < 1 or turn % fault.every or self._struck[number] == fault.times:
            return False
        if fault.probability is not None and self._random.random() >= fault.probability:
            return False
        self._struck[number] += 1
        return True

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def __len__(self) -> int:
        return len(self._faults)


def plain_name(symbol: str) -> str:
    """A symbol without its separators, in upper case: ``BTC/USDT`` and ``btc-usdt`` are ``BTCUSDT``."""
    return "".join(c for c in symbol.upper() if c.isalnum())


def _matches(fault: Fault, where: str, names: frozenset[str]) -> bool:
    if fault.path is not None and fault.path not in where:
        return False
    return fault.symbol is None or plain_name(fault.symbol) in names
