"""What is subscribed: its listeners, its state, and what can be told of its health."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.exchanges.streaming import BookUpdate, Candles, Funding, Topic, Trades


class State(Enum):
    """Of a subscription: ``live`` is the only one in which nothing is missing."""

    WAITING = "waiting"
    LIVE = "live"
    LOST = "lost"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long live feeds wait, in seconds.

    Attributes:
        first_wait: Before the first new attempt to connect, at most; each failure doubles it.
        longest_wait: Before any new attempt, at most.
        held: A connection that held for so long had nothing wrong with it: the next attempt comes soon again.
        confirm: For a venue to confirm a subscription, or to send its first message.
        settle: For the answers to what was sent to be in.
        clear: Without a frame that cannot be read, until what is read counts as complete again.
        patience: Of a topic's silence, until its market is looked at over HTTP; twice that where it is quiet.
        longest_patience: Of the silence of a quiet market, at most.
        dead: Without a sign of life, after which a connection counts as dead, whatever TCP says.
        check: Between two looks at all of this.
    """

    first_wait: float = 0.5
    longest_wait: float = 60.0
    held: float = 10.0
    confirm: float = 10.0
    settle: float = 1.0
    clear: float = 5.0
    patience: float = 30.0
    longest_patience: float = 600.0
    dead: float = 60.0
    check: float = 1.0


class Listener(Protocol):
    """Whoever wants a topic. Its methods are called in the event loop, in order, and must be quick."""

    def received(self, message: Trades | Candles | BookUpdate | Funding) -> None:
        """The venue sent something; also while the topic is not live."""

    def live(self, topic: Topic, since: int) -> None:
        """From this time on (the exchange's, epoch ms) nothing is missing in what is received."""

    def lost(self, topic: Topic, reason: str) -> None:
        """Something may be missing from now until ``live`` is called again."""

    def refused(self, topic: Topic, error: ZvtCryptoError) -> None:
        """The venue does not stream it; nothing more will come."""


@dataclass(slots=True)
class TopicHealth:
    """What is known of a topic's stream.

    Attributes:
        topic: Which.
        state: Whether it is live.
        messages: Messages received.
        rows: Rows in them, as far as a listener has counted them.
        last_message: Epoch seconds of the newest one by this machine's clock; None before the first.
        lag_ms: Age of the newest row when it was received, by the exchange's clock; None where unknown.
        losses: How often it was lost, whatever the reason.
        renewals: How often it was subscribed anew on a connection that held.
    """

    topic: Topic
    state: State = State.WAITING
    messages: int = 0
    rows: int = 0
    last_message: float | None = None
    lag_ms: float | None = None
    losses: int = 0
    renewals: int = 0


@dataclass(slots=True, eq=False)
class Subscription:
    """A topic and all who listen to it.

    Attributes:
        topic: Which.
        listeners: Who wants it, in the order in which they came.
        health: What is told of it.
        asked: Monotonic seconds when it was last asked for; None while it is still to be.
        confirmed: Whether the venue has answered that, or sent something.
        heard: Monotonic seconds of its last sign of life.
        least_patience: Seconds of silence before the exchange is asked over HTTP whether anything happened.
        patience: As much, or more where the market was found to be quiet.
        error: Why the venue does not stream it.
    """

    topic: Topic
    listeners: list[Listener] = field(default_factory=list)
    least_patience: float = 0.0
    health: TopicHealth = field(init=False)
    asked: float | None = None
    confirmed: bool = False
    heard: float = 0.0
    patience: float = field(init=False)
    error: ZvtCryptoError | None = None

    def __post_init__(self) -> None:
        self.health = TopicHealth(self.topic)
        self.patience = self.least_patience

    def ask(self, now: float) -> None:
        """Note that it is asked for, at these monotonic seconds."""
        self.asked = self.heard = now
        self.confirmed = False

    def forget_answer(self) -> None:
        """Note that it is to be asked for anew; what still comes of it tells nothing."""
        self.asked = None
        self.confirmed = False

    def receive(self, message: Trades | Candles | BookUpdate | Funding) -> None:
        """Hand a message on."""
        self.health.messages += 1
        for listener in self.listeners:
            listener.received(message)

    def heard_from(self, now: float) -> None:
        """Note a sign of life, at these monotonic seconds."""
        if self.patience > self.least_patience and now - self.heard < self.least_patience:
            self.patience = max(self.least_patience, self.patience / 2)  # it is quiet no more
        self.heard = now
        self.health.last_message = time.time()

    def set_live(self, since: int) -> None:
        """Nothing is missing from this exchange time on."""
        if self.health.state in (State.LIVE, State.REFUSED):
            return
        self.health.state = State.LIVE
        for listener in list(self.listeners):
            listener.live(self.topic, since)

    def set_lost(self, reason: str) -> None:
        """Something may be missing from now on."""
        if self.health.state is State.LIVE:
            self.health.losses += 1
        if self.health.state in (State.LIVE, State.WAITING):
            self.health.state = State.LOST
            for listener in list(self.listeners):
                listener.lost(self.topic, reason)

    def set_refused(self, error: ZvtCryptoError) -> None:
        """The venue does not stream it."""
        self.error = error
        self.health.state = State.REFUSED
        for listener in list(self.listeners):
            listener.refused(self.topic, error)
