"""What waits for one client: bounded, in order, and what is left out of it is told."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from zvt_crypto.stream.broadcast.wiremessages import Message, event

DropPolicy = Literal["oldest", "newest", "disconnect"]


class Lane(Protocol):
    """What a client has subscribed to, as far as the order of its messages goes."""

    @property
    def name(self) -> bytes | None:
        """What the client calls it, in JSON; None where it has given no name."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A message, or in its place the numbers of those that were left out."""

    lane: Any
    message: Message
    gap: _Gap | None = None


@dataclass(slots=True)
class _Gap:
    first: int
    last: int
    dropped: int
    policy: str

    def extend(self, other: _Gap) -> None:
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.dropped += other.dropped


class Overflow(Exception):
    """The backlog is full, and the client wants to be disconnected rather than to miss something."""


class Backlog:
    """Messages that a client has not been sent yet.

    A state that waits right before a newer one of the same channel gives way to it: such numbers are left
    out without a word. Whatever else is left out is told by an event ``gap`` where it would have stood.

    Args:
        size: Most messages that wait.
        policy: What happens to further ones: the ``oldest`` makes room, the ``newest`` is not taken, or the
            client is to be disconnected.
        dropped: Is counted up by reason: the policy, or ``conflated``.
    """

    def __init__(self, size: int, policy: DropPolicy, dropped: Counter[str]) -> None:
        self._size = size
        self._policy = policy
        self._dropped = dropped
        self._queue: deque[_Waiting] = deque()
        self._messages = 0
        self._tails: dict[Any, _Waiting] = {}
        #: Left out at the head of the queue, by lane: told before the lane's next message.
        self._heads: dict[Any, _Waiting] = {}

    def __len__(self) -> int:
        """Messages that wait; what tells of gaps does not count."""
        return self._messages

    def __bool__(self) -> bool:
        return bool(self._queue) or bool(self._heads)

    def put(self, lane: Lane, message: Message) -> None:
        """Let a message wait.

        Raises:
            Overflow: There is no room, and the policy is ``disconnect``.
        """
        tail = self._tails.get(lane)
        if tail is not None and tail.gap is None and _gives_way(tail.message, message):
            tail.message = message.as_snapshot() if tail.message.kind == "snapshot" else message
            self._dropped["conflated"] += 1
            return
        if self._messages >= self._size and not self._make_room(lane, message):
            return
        self._append(_Waiting(lane, message))
        self._messages += 1

    def take(self) -> tuple[Lane, Message] | None:
        """The next message; None where nothing waits."""
        if not self._queue:
            return self._take_head()
        first = self._queue[0]
        head = self._heads.pop(first.lane, None)
        if head is not None:
            return head.lane, _told(head)
        self._pop()
        return first.lane, _told(first)

    def forget(self, lane: Lane) -> None:
        """Leave out what waits for a lane, without a word: the client does not want it any more."""
        self._queue = deque(one for one in self._queue if one.lane is not lane)
        self._messages = sum(one.gap is None for one in self._queue)
        self._tails.pop(lane, None)
        self._heads.pop(lane, None)

    def reconfigure(self, size: int, policy: DropPolicy) -> None:
        """Change the limits; what waits already, waits on."""
        self._size, self._policy = size, policy

    def _make_room(self, lane: Lane, message: Message) -> bool:
        if self._policy == "disconnect":
            raise Overflow
        self._dropped[self._policy] += 1
        if self._policy == "oldest":
            self._drop_oldest()
            return True
        gap = _Gap(message.sequence, message.sequence, 1, self._policy)
        tail = self._tails.get(lane)
        if tail is not None and tail.gap is not None:
            tail.gap.extend(gap)
            tail.message = message
        else:
            self._append(_Waiting(lane, message, gap))
        return False

    def _drop_oldest(self) -> None:
        while True:
            first = self._pop()
            gap = first.gap or _Gap(first.message.sequence, first.message.sequence, 1, self._policy)
            head = self._heads.get(first.lane)
            if head is None or head.gap is None:
                self._heads[first.lane] = _Waiting(first.lane, first.message, gap)
            else:
                head.gap.extend(gap)
                head.message = first.message
            if first.gap is None:
                return

    def _take_head(self) -> tuple[Lane, Message] | None:
        if not self._heads:
            return None
        _, head = self._heads.popitem()
        return head.lane, _told(head)

    def _append(self, one: _Waiting) -> None:
        self._queue.append(one)
        self._tails[one.lane] = one

    def _pop(self) -> _Waiting:
        first = self._queue.popleft()
        if self._tails.get(first.lane) is first:
            del self._tails[first.lane]
        self._messages -= first.gap is None
        return first


def _gives_way(old: Message, new: Message) -> bool:
    return old.merge is not None and old.merge == new.merge


def _told(one: _Waiting) -> Message:
    """A message, or the event that stands for those that were left out."""
    if one.gap is None:
        return one.message
    return event(
        one.message.channel,
        one.gap.last,
        "gap",
        first_sequence=one.gap.first,
        last_sequence=one.gap.last,
        dropped=one.gap.dropped,
        reason=f"the buffer was full, drop_policy {one.gap.policy}",
    )
