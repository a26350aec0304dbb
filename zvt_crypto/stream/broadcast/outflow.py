"""What goes out to one client: at once while it reads and its rate allows, from a bounded backlog else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from zvt_crypto.stream.broadcast.backlog import Backlog, DropPolicy, Lane, Overflow
from zvt_crypto.stream.broadcast.pacing import TokenBucket
from zvt_crypto.stream.broadcast.wiremessages import Message, text_frame

#: Messages that may wait for a client which has not said otherwise.
BUFFER_SIZE: Final = 10_000
#: Bytes of backlog that are handed over at once, when a client reads again.
_DRAIN_BYTES: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class Flow:
    """How a client wants to be sent messages.

    Attributes:
        rate: Most messages of channels a second, None for all.
        size: Most messages that may wait.
        policy: What becomes of further ones.
    """

    rate: float | None = None
    size: int = BUFFER_SIZE
    policy: DropPolicy = "disconnect"


class Outflow:
    """The messages of one client on their way out.

    Args:
        write: Takes bytes for the client.
        clock: Monotonic seconds.
        dropped: Is counted up by reason.
    """

    def __init__(
        self, write: Callable[[bytes], None], clock: Callable[[], float], dropped: Counter[str]
    ) -> None:
        self.flow = Flow()
        self.sent = 0
        self.is_overflown = False
        self._write = write
        self._clock = clock
        self._dropped = dropped
        self._is_paused = False
        self._pace: TokenBucket | None = None
        self._chunks: list[bytes] = []
        self._backlog = Backlog(self.flow.size, self.flow.policy, dropped)

    @property
    def waiting(self) -> int:
        """Messages that were not sent yet."""
        return len(self._backlog)

    def configure(self, flow: Flow) -> None:
        """Keep to other limits from now on."""
        self.flow = flow
        burst = max(1.0, flow.rate or 0.0)
        self._pace = None if flow.rate is None else TokenBucket(flow.rate, burst, self._clock())
        self._backlog.reconfigure(flow.size, flow.policy)

    def say(self, payload: bytes) -> None:
        """Answer the client: this waits for no channel's messages, and no rate holds it back."""
        self._chunks.append(text_frame(payload))

    def take(self, batch: Iterable[tuple[Lane, Sequence[Message], bytes]]) -> None:
        """Send messages: of each channel a list, and all of it as frames for clients that gave it no name."""
        if self._is_paused or self._pace is not None or self._backlog:
            for lane, messages, _ in batch:
                self._hold(lane, messages)
            return
        for lane, messages, frames in batch:
            self.sent += len(messages)
            if lane.name is None:
                self._chunks.append(frames)
            else:
                self._chunks += [message.named(lane.name) for message in messages]

    def flush(self) -> float | None:
        """Hand over what may go out now.

        Returns:
            Seconds until more of what waits may go out; None where nothing does, or where the client has to
            read first.
        """
        wait = None if self._is_paused else self._drain()
        if self._chunks:
            chunks, self._chunks = self._chunks, []
            self._write(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        return wait

    def pause(self) -> None:
        """The client does not read fast enough: what comes from now on has to wait."""
        self._is_paused = True

    def resume(self) -> None:
        """The client has read what there was."""
        self._is_paused = False

    def forget(self, lane: Lane) -> None:
        """Send no more of a channel."""
        self._backlog.forget(lane)

    def _hold(self, lane: Lane, messages: Sequence[Message]) -> None:
        try:
            for message in messages:
                self._backlog.put(lane, message)
        except Overflow:
            self.is_overflown = True

    def _drain(self) -> float | None:
        drained = 0
        while self._backlog:
            if self._pace is not None and not self._pace.take(self._clock()):
                return self._pace.wait()
            if drained > _DRAIN_BYTES:
                return 0.0
            waiting = self._backlog.take()
            if waiting is None:
                break
            lane, message = waiting
            frame = message.frame if lane.name is None else message.named(lane.name)
            self._chunks.append(frame)
            self.sent += 1
            drained += len(frame)
        return None
