"""What one client of ``/ws`` has subscribed to, and the answers to its commands."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Protocol

import orjson

from zvt_crypto.core.errors import InvalidArgument, NotSupported, RetriableError, ZvtCryptoError
from zvt_crypto.core.levels import iso
from zvt_crypto.server import wscommands
from zvt_crypto.server.clock import now_ms
from zvt_crypto.server.failures import failure, failure_of, new_trace_id
from zvt_crypto.server.liveservice import LiveService
from zvt_crypto.server.wscommands import ChannelParams, FlowParams, Resume, SubscribeParams
from zvt_crypto.stream.broadcast.channels import STREAMS, Channel
from zvt_crypto.stream.broadcast.finding import Wanted
from zvt_crypto.stream.broadcast.hub import Delivery, Subscription, TooManySubscriptions
from zvt_crypto.stream.broadcast.outflow import Flow, Outflow
from zvt_crypto.stream.broadcast.pacing import TokenBucket

logger = logging.getLogger(__name__)

#: Commands of a client that wait for the one before them; beyond, its bytes are not read.
MOST_WAITING: Final = 32
#: Frames of a client a second, and at once.
_FRAMES_PER_SECOND: Final = 20.0
_MOST_FRAMES_AT_ONCE: Final = 100
#: Bad messages that are put up with at once, and a second; each is answered. Then the client is sent away.
_MOST_OFFENCES: Final = 10
_OFFENCES_PER_SECOND: Final = 0.1
#: Close codes, see RFC 6455, section 7.4, and its registry.
POLICY_VIOLATION: Final = 1008
INTERNAL_ERROR: Final = 1011
TRY_AGAIN_LATER: Final = 1013
#: A client that wants nothing for so long is sent away.
IDLE_SECONDS: Final = 60.0
HEARTBEAT_SECONDS: Final = 15.0


class Peer(Protocol):
    """The connection of a session."""

    def write(self, data: bytes) -> None:
        """Send frames."""

    def close(self, code: int, reason: str) -> None:
        """End the connection."""

    def read_on(self, wanted: bool) -> None:
        """Whether the client's bytes are to be read."""


class Session:
    """A client; a ``Subscriber`` of the hub.

    Args:
        service: The streams.
        peer: The connection.
        client: The client's address, for the log.
    """

    def __init__(self, service: LiveService, peer: Peer, client: str) -> None:
        now = time.monotonic()
        self.client = client
        self._service = service
        self._hub = service.hub
        self._settings = service.settings
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._out = Outflow(self._write, time.monotonic, service.dropped)
        self._lanes: dict[tuple[Channel, bytes | None], Subscription] = {}
        self._commands: deque[bytes] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        self._frames = TokenBucket(_FRAMES_PER_SECOND, _MOST_FRAMES_AT_ONCE, now)
        self._offences = TokenBucket(_OFFENCES_PER_SECOND, _MOST_OFFENCES, now)
        self._wanted_at = now
        self._wrote_at = now
        self._counted = 0
        self._is_paused = False
        self._has_ended = False

    # What the connection tells.

    def frame(self) -> bool:
        """Count a frame of the client; False where it sends too many, of which it is told."""
        if self._frames.take(time.monotonic()):
            return True
        self.offend(
            "CRYPTO_RATE_LIMIT_EXCEEDED",
            f"more than {_FRAMES_PER_SECOND:.0f} messages a second",
            "send fewer messages: one subscribe takes many symbols",
        )
        return False

    def text(self, data: bytes) -> None:
        """A message of the client; its commands are answered in their order."""
        self._wanted_at = time.monotonic()
        self._commands.append(data)
        if len(self._commands) >= MOST_WAITING:
            self._peer.read_on(False)
        self._start_work()

    def offend(self, code: str, message: str, suggestion: str) -> None:
        """Refuse what the client sent; one that goes on is sent away."""
        self.refuse(failure(code, message, {}, [suggestion], new_trace_id()))
        self._count_offence()

    def last_word(self, code: str, message: str, suggestion: str) -> None:
        """Tell the client why the connection ends."""
        self.refuse(failure(code, message, {}, [suggestion], new_trace_id()))

    def refuse(self, told: dict[str, Any], **beside: Any) -> None:
        """Tell the client of a failure."""
        logger.info("%s %s: %s %s", told["trace_id"], self.client, told["code"], told["message"])
        self._say({"error": told, **beside})
        self.flush()

    def pause(self) -> None:
        """The client does not read what it is sent; its commands wait, too."""
        self._is_paused = True
        self._out.pause()
        self._peer.read_on(False)

    def resume(self) -> None:
        """The client has read what there was."""
        self._is_paused = False
        self._out.resume()
        self._read_on()
        self.flush()
        self._start_work()

    def beat(self) -> None:
        """Do what is due by the clock; called about every second."""
        now = time.monotonic()
        if not self._lanes and now - self._wanted_at > IDLE_SECONDS:
            self._peer.close(POLICY_VIOLATION, f"nothing was subscribed to for {IDLE_SECONDS:.0f} s")
        elif now - self._wrote_at > HEARTBEAT_SECONDS and not self._is_paused:
            self._say({"event": "heartbeat", "timestamp": iso(now_ms())})
            self.flush()

    def end(self) -> None:
        """The connection is about to end, or has ended."""
        if self._has_ended:
            return
        self._has_ended = True
        self._service.dropped["disconnected"] += self._out.waiting
        for subscription in self._lanes.values():
            self._hub.leave(subscription)
        self._lanes.clear()
        self._commands.clear()
        if self._later is not None:
            self._later.cancel()
        if self._worker is not None:
            self._worker.cancel()

    # What the hub tells.

    def deliver(self, batch: Sequence[Delivery]) -> None:
        """Messages of channels."""
        self._out.take(batch)
        self.flush()

    def flush(self) -> None:
        """Write what may be written now, and the rest when it may."""
        if self._has_ended:
            return
        wait = self._out.flush()
        self._service.sent += self._out.sent - self._counted
        self._counted = self._out.sent
        if self._out.is_overflown:
            self._peer.close(TRY_AGAIN_LATER, "too slow: more messages wait than buffer_size allows")
        elif wait is not None and self._later is None:
            self._later = self._loop.call_later(wait, self._flush_later)

    def refused(self, lane: Subscription, error: ZvtCryptoError) -> None:
        """The exchange does not stream it after all."""
        self._lanes.pop((lane.channel, lane.name), None)
        self._out.forget(lane)
        told = failure_of(error, self._settings, new_trace_id())
        self.refuse(told, **lane.channel.facts, **_named(lane))

    # Commands.

    def _start_work(self) -> None:
        if self._worker is None and self._commands and not self._has_ended:
            self._worker = self._loop.create_task(self._work())
            self._worker.add_done_callback(self._worked)

    async def _work(self) -> None:
        while self._commands and not self._is_paused:
            await self._answer(self._commands.popleft())
            self._read_on()
        self._worker = None

    def _worked(self, worker: asyncio.Task[None]) -> None:
        """Tell of what must not happen, and end the connection: its commands are not answered any more."""
        if worker.cancelled() or worker.exception() is None:
            return
        trace_id = new_trace_id()
        logger.error("%s %s: unexpected error", trace_id, self.client, exc_info=worker.exception())
        self.refuse(
            failure(
                "CRYPTO_INTERNAL_ERROR",
                "the server failed to carry this out",
                {},
                ["report it with the trace_id; the log of the server tells more"],
                trace_id,
            )
        )
        self._peer.close(INTERNAL_ERROR, f"unexpected error {trace_id}")

    async def _answer(self, data: bytes) -> None:
        number: str | int | None = None
        try:
            message = wscommands.read_json(data)
            number = wscommands.id_of(message)
            method = wscommands.method_of(message)
            if method in wscommands.PRIVATE_METHODS:
                raise _no_accounts(method)
            params = wscommands.params_of(method, message)
        except ZvtCryptoError as error:
            self._refuse_command(error, number)
            self._count_offence()
            return
        try:
            await self._carry_out(method, params, number)
        except ZvtCryptoError as error:
            self._refuse_command(error, number)

    async def _carry_out(self, method: str, params: Any, number: str | int | None) -> None:
        if method == "subscribe":
            await self._subscribe(params, number)
        elif method == "unsubscribe":
            await self._unsubscribe(params, number)
        elif method == "configure_flow":
            self._configure(params, number)
        elif method == "list":
            self._say({"event": "list", "id": number, **self._described()})
        else:
            self._say({"event": "pong", "id": number, "timestamp": iso(now_ms())})
        self.flush()

    async def _subscribe(self, params: SubscribeParams, number: str | int | None) -> None:
        chosen = params.chosen()
        if not chosen:
            raise InvalidArgument(
                "no stream is named",
                suggestions=(f"give stream ({', '.join(STREAMS)}), provider and symbols",),
            )
        made: list[tuple[str, Subscription]] = []
        errors: list[dict[str, Any]] = []
        may_pass = False
        for wanted in chosen:
            try:
                found = await self._hub.find(wanted)
                if not wanted.symbols:
                    raise InvalidArgument("parameter 'symbols' is missing", suggestions=("give symbols",))
            except ZvtCryptoError as error:
                errors.append(self._told(error, wanted))
                may_pass |= isinstance(error, RetriableError)
                continue
            for symbol, channel in zip(wanted.symbols, found, strict=True):
                joined = self._join(channel, params)
                if isinstance(joined, ZvtCryptoError):
                    errors.append(self._told(joined, wanted, symbol=symbol))
                else:
                    made.append((symbol, joined))
        if not made:
            others = {"errors": errors} if len(errors) > 1 else {}
            self._say({"error": errors[0], **others, "id": number})
            if not may_pass:
                self._count_offence()
            return
        told = [{"requested": symbol, **_described(one)} for symbol, one in made]
        self._say({"event": "subscribed", "id": number, "subscriptions": told, "errors": errors})
        self._out.take([_first(subscription) for _, subscription in made])

    def _join(
        self, channel: Channel | ZvtCryptoError, params: SubscribeParams
    ) -> Subscription | ZvtCryptoError:
        if isinstance(channel, ZvtCryptoError):
            return channel
        known = self._lanes.get((channel, params.name))
        if known is not None:
            return known
        most = self._settings.stream_subscriptions
        if len(self._lanes) >= most:
            return TooManySubscriptions(f"a connection may have {most} subscriptions, and this one has")
        resume: Resume | None = params.resume.get(channel.key)
        try:
            subscription = self._hub.join(
                channel, self, params.name, None if resume is None else (resume.epoch, resume.sequence)
            )
        except ZvtCryptoError as error:
            return error
        self._lanes[channel, params.name] = subscription
        return subscription

    async def _unsubscribe(self, params: ChannelParams, number: str | int | None) -> None:
        """End streams, of any name or of the one given; all streams of a name; or everything."""
        chosen = params.chosen()
        keys = {
            channel
            for wanted in chosen
            for channel in await self._hub.find(wanted)
            if isinstance(channel, Channel)
        }
        ended = [
            one
            for (channel, name), one in self._lanes.items()
            if (not chosen or channel in keys) and (params.name is None or params.name == name)
        ]
        for subscription in ended:
            del self._lanes[subscription.channel, subscription.name]
            self._hub.leave(subscription)
            self._out.forget(subscription)
        told = [_described(one) for one in ended]
        self._say({"event": "unsubscribed", "id": number, "subscriptions": told})

    def _configure(self, params: FlowParams, number: str | int | None) -> None:
        self._out.configure(Flow(params.max_messages_per_second, params.buffer_size, params.drop_policy))
        self._say({"event": "flow", "id": number, **self._flow()})

    def _flow(self) -> dict[str, Any]:
        flow = self._out.flow
        return {
            "max_messages_per_second": flow.rate,
            "buffer_size": flow.size,
            "drop_policy": flow.policy,
        }

    def _described(self) -> dict[str, Any]:
        return {
            "subscriptions": [_described(one) for one in self._lanes.values()],
            "flow": self._flow(),
            "streams": list(STREAMS),
        }

    # Answers.

    def _refuse_command(self, error: ZvtCryptoError, number: str | int | None) -> None:
        self.refuse(failure_of(error, self._settings, new_trace_id()), id=number)

    def _told(self, error: ZvtCryptoError, wanted: Wanted, **facts: str) -> dict[str, Any]:
        told = failure_of(error, self._settings, new_trace_id())
        told["details"] |= {"stream": wanted.stream, "provider": wanted.provider, **facts}
        logger.info("%s %s: %s %s", told["trace_id"], self.client, error.code, error.message)
        return told

    def _count_offence(self) -> None:
        if not self._offences.take(time.monotonic()):
            self.flush()
            self._peer.close(POLICY_VIOLATION, "too many messages that cannot be carried out")

    def _say(self, body: dict[str, Any]) -> None:
        self._out.say(orjson.dumps(body, default=str))

    def _write(self, data: bytes) -> None:
        self._wrote_at = time.monotonic()
        self._peer.write(data)

    def _flush_later(self) -> None:
        self._later = None
        self.flush()

    def _read_on(self) -> None:
        self._peer.read_on(not self._is_paused and len(self._commands) < MOST_WAITING)


def _first(subscription: Subscription) -> Delivery:
    first, subscription.first = subscription.first, []
    return subscription, first, b"".join([message.frame for message in first])


def _described(subscription: Subscription) -> dict[str, Any]:
    log = subscription.log
    return {
        "key": subscription.channel.key,
        **subscription.channel.facts,
        **_named(subscription),
        "state": log.state,
        "epoch": log.epoch,
        "sequence": log.sequence,
    }


def _named(subscription: Subscription) -> dict[str, Any]:
    return {} if subscription.name is None else {"channel": orjson.loads(subscription.name)}


def _no_accounts(method: str) -> NotSupported:
    return NotSupported(
        f"{method} is not served yet: accounts are not connected to",
        suggestions=(f"streams of markets need none: {', '.join(STREAMS)}",),
    )
