"""Faults on the way of one connection: messages lost, doubled, delayed or spoiled, silence, and the end.

Only messages with market data are counted; answers and heartbeats are spared by all faults but silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from zvt_crypto.sandbox.faults import STREAM_KINDS, Fault, FaultPlan, plain_name
from zvt_crypto.sandbox.feeder import Told
from zvt_crypto.sandbox.streams import Close, Frame, Subscription

_MESSAGE_KINDS: Final = tuple(kind for kind in STREAM_KINDS if kind != "ws_refuse")
#: What a close code of 0 stands for: no close frame, as if the line were cut.
ABNORMAL: Final = 1006


class Spoiler:
    """What of a connection's frames is sent in the end.

    Args:
        plan: The faults in force.
        where: ``host/path`` of the connection.
    """

    def __init__(self, plan: FaultPlan, where: str) -> None:
        self._plan = plan
        self._where = where
        self._silent_until = 0.0
        self._pongs = True
        self._held: list[bytes] = []

    @property
    def answers_pings(self) -> bool:
        """Whether a ping of the client gets its pong now."""
        return self._pongs or not self._silent

    @property
    def _silent(self) -> bool:
        return time.monotonic() < self._silent_until

    def sent(self, told: Iterable[Told]) -> tuple[list[bytes], Close | None]:
        """The messages to send, encoded, and how the connection ends after them, if it does."""
        messages: list[bytes] = []
        for subscription, frames in told:
            for frame in frames:
                if isinstance(frame, Close):
                    return messages, frame
                end = self._pass(subscription, encoded(frame), messages)
                if end is not None:
                    return messages, end
        return messages, None

    def _pass(self, subscription: Subscription | None, message: bytes, out: list[bytes]) -> Close | None:
        if self._silent:
            return None
        struck = self._struck(subscription) if len(self._plan) and subscription is not None else []
        end, copies = None, 1
        for fault in struck:
            if fault.kind == "ws_disconnect":
                end = Close(int(fault.number("code")) or ABNORMAL, "fault")
            elif fault.kind == "ws_silence":
                self._silent_until = time.monotonic() + fault.number("seconds")
                self._pongs = bool(fault.number("pongs"))
            elif fault.kind in _COPIES:
                copies *= _COPIES[fault.kind](fault)
            elif fault.kind in _SPOILED:
                message = _SPOILED[fault.kind](fault, message)
        if end is not None or self._silent:
            return end
        if any(fault.kind == "ws_reorder" for fault in struck):
            self._held += [message] * copies
            return None
        out += [message] * copies
        if copies and self._held:
            out += self._held
            self._held = []
        return None

    def _struck(self, subscription: Subscription) -> list[Fault]:
        names = frozenset((plain_name(subscription.symbol), plain_name(subscription.channel)))
        return self._plan.strike(_MESSAGE_KINDS, f"{self._where} {subscription.channel}", names)


def encoded(frame: Frame) -> bytes:
    """The bytes of a text frame."""
    if isinstance(frame, bytes):
        return frame
    return frame.encode() if isinstance(frame, str) else orjson.dumps(frame)


def _garbage(fault: Fault, message: bytes) -> bytes:
    return fault.word("text").encode()


def _renamed(fault: Fault, message: bytes) -> bytes:
    names = {fault.word("field"): fault.word("to")}
    return orjson.dumps(_walked(orjson.loads(message), lambda name, value: (names.get(name, name), value)))


def _wrong_checksum(fault: Fault, message: bytes) -> bytes:
    def spoiled(name: str, value: Any) -> tuple[str, Any]:
        return name, value + 1 if name == "checksum" else value

    return orjson.dumps(_walked(orjson.loads(message), spoiled))


def _walked(value: Any, change: Callable[[str, Any], tuple[str, Any]]) -> Any:
    if isinstance(value, dict):
        return dict(change(name, _walked(item, change)) for name, item in value.items())
    return [_walked(item, change) for item in value] if isinstance(value, list) else value


_COPIES: Final[Mapping[str, Callable[[Fault], int]]] = {
    "ws_skip": lambda fault: 0,
    "ws_duplicate": lambda fault: 2,
    "ws_flood": lambda fault: int(fault.number("copies")),
}
_SPOILED: Final[Mapping[str, Callable[[Fault, bytes], bytes]]] = {
    "ws_garbage": _garbage,
    "ws_rename": _renamed,
    "ws_checksum": _wrong_checksum,
}
