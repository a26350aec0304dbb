"""The messages of one channel: numbered, the newest state at hand, the last ones kept for who comes back."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Hashable
from typing import Any, Final, Literal

from zvt_crypto.stream.broadcast.channels import Channel
from zvt_crypto.stream.broadcast.wiremessages import Message, event, timestamp

#: Whether a channel's rows arrive: not yet, without a hole since it became so, or not any more.
ChannelState = Literal["waiting", "live", "disconnected"]

#: What is kept for clients that come back, per channel.
MOST_KEPT: Final = 1_000
MOST_KEPT_BYTES: Final = 1 << 18


class ChannelLog:
    """What a channel has said.

    Args:
        channel: Which.

    Attributes:
        epoch: Tells numbers of this log from those of one before it, of this or another process.
        sequence: Number of the newest message, 0 before the first.
        state: See ``ChannelState``.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.epoch = secrets.token_hex(4)
        self.sequence = 0
        self.state: ChannelState = "waiting"
        self._is_state = channel.stream != "crypto.trades"
        self._newest: Message | None = None
        self._fresh: list[Message] = []
        self._kept: deque[Message] = deque()
        self._kept_bytes = 0

    def update(self, data: bytes, merge: Hashable = None) -> None:
        """Say something new; the first state that is known is a snapshot, as nobody has one before it."""
        is_first = self._newest is None and self._is_state
        self.sequence += 1
        self._newest = Message(self.channel, "snapshot" if is_first else "update", self.sequence, data, merge)
        self._add(self._newest)

    def tell(self, name: str, **facts: Any) -> None:
        """Say something of the channel itself."""
        self.sequence += 1
        self._add(event(self.channel, self.sequence, name, **facts))

    def live(self, since: int) -> None:
        """From this exchange time (epoch ms) on nothing is missing."""
        self.state = "live"
        self.tell("live", since=timestamp(since))

    def lost(self, reason: str) -> None:
        """Something may be missing; what was the newest state is not one any more."""
        self.state = "disconnected"
        self._newest = None
        self.tell("disconnected", reason=reason)

    def gap(self, start: int, end: int, reason: str) -> None:
        """Something between two exchange times (epoch ms) was not received."""
        self.tell("gap", start=timestamp(start), end=timestamp(end), reason=reason)

    def collect(self) -> list[Message]:
        """What was said since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def snapshot(self) -> Message | None:
        """The newest state, for who has none; None where there is none."""
        return None if self._newest is None else self._newest.as_snapshot()

    def since(self, epoch: str, sequence: int) -> list[Message] | None:
        """What was said after a message; None where that is not known any more."""
        first = self._kept[0].sequence if self._kept else self.sequence + 1
        if epoch != self.epoch or not first - 1 <= sequence <= self.sequence:
            return None
        return [message for message in self._kept if message.sequence > sequence]

    def _add(self, message: Message) -> None:
        self._fresh.append(message)
        self._kept.append(message)
        self._kept_bytes += len(message.frame)
        while len(self._kept) > MOST_KEPT or self._kept_bytes > MOST_KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft().frame)
