"""Channels of a server's ``/ws`` as they come; a lost connection is made anew and goes on where it was."""

from __future__ import annotations

import itertools
import logging
import random
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final

import orjson
import websocket

from zvt_crypto.api.failures import error_of
from zvt_crypto.core.errors import (
    ProviderUnavailable,
    RetriableError,
    StreamDisconnected,
    ZvtCryptoError,
)

logger = logging.getLogger(__name__)

#: Without a word for so long, not even a heartbeat, a server is gone.
SILENCE_SECONDS: Final = 45.0
#: Before the first new attempt, at most; each failure doubles it.
FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 30.0
#: Messages of one frame, and how long they are waited for.
_MOST_ROWS: Final = 10_000
_GATHER_SECONDS: Final = 0.2
_TIMES: Final = ("timestamp", "next_funding_time")
_WRONG_SERVER: Final = "check the URL, and that `zvt-crypto serve` runs there"

Event = dict[str, Any]


class LiveStream:
    """Messages of some channels: an iterable, and a context manager that closes the connection.

    Iterating over it yields messages as dicts, with events (``gap``, ``disconnected``, ``live``, and
    ``connection_lost`` and ``connection_restored`` of the connection to the server itself) among them; or
    frames of what arrived together, and events go to ``on_event``.

    Args:
        url: Of ``/ws``.
        params: Of the command ``subscribe``.
        timeout: Seconds to wait for a connection.
        as_frames: Whether to yield frames.
        reconnect: Whether a lost connection is made anew, for as long as it takes.
        on_event: Is told of each event, where frames are wanted; without it they are logged.
        options: Further arguments of ``websocket.create_connection``.

    Raises:
        ZvtCryptoError: When it is iterated over: the server refuses, or, at first, cannot be reached.
    """

    def __init__(
        self,
        url: str,
        params: Mapping[str, Any],
        *,
        timeout: float,
        as_frames: bool = False,
        reconnect: bool = True,
        on_event: Callable[[Event], None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = url
        self._params = dict(params)
        self._timeout = timeout
        self._as_frames = as_frames
        self._reconnect = reconnect
        self._on_event = on_event or _log_event
        self._options = dict(options or {})
        self._socket: Any = None
        self._closed = threading.Event()
        #: Key of a channel -> epoch, and number of its newest message.
        self._places: dict[str, tuple[str, int]] = {}

    def __enter__(self) -> LiveStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; iterating ends."""
        self._closed.set()
        self._hang_up()

    def __iter__(self) -> Iterator[Any]:
        """See the class."""
        try:
            self._connect()
            yield from self._frames() if self._as_frames else self._messages()
        finally:
            self._hang_up()

    # Messages

    def _messages(self) -> Iterator[Event]:
        """Messages and events, until ``close`` is called."""
        while not self._closed.is_set():
            try:
                message = self._receive()
            except (OSError, websocket.WebSocketException, ValueError) as error:
                if self._closed.is_set():
                    return
                yield from self._restored(error)
                continue
            if message is not None:
                yield message

    def _frames(self) -> Iterator[Any]:
        rows: list[Event] = []
        until = 0.0
        for message in self._messages():
            if "event" in message:
                self._on_event(message)
            else:
                until = until if rows else time.monotonic() + _GATHER_SECONDS
                rows.append(message)
            if rows and (len(rows) >= _MOST_ROWS or time.monotonic() > until or not self._has_more()):
                yield _frame_of(rows)
                rows = []

    def _receive(self) -> Event | None:
        """The next message; None for what is of no interest.

        Raises:
            OSError: The connection is lost; a ``WebSocketException`` or a ``ValueError`` says so, too.
            ZvtCryptoError: The server has refused a channel after all.
        """
        connection = self._socket
        if connection is None:
            raise websocket.WebSocketConnectionClosedException("closed")
        opcode, data = connection.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            reason = data[2:].decode(errors="replace") or "the server has closed the connection"
            raise websocket.WebSocketConnectionClosedException(reason)
        message: Event = orjson.loads(data)
        if "error" in message:
            raise error_of(message["error"])
        if "sequence" not in message:
            return None
        key = _key_of(message)
        epoch, _ = self._places.get(key, ("", 0))
        self._places[key] = epoch, message["sequence"]
        return message

    def _has_more(self) -> bool:
        """Whether bytes have come already."""
        connection = None if self._socket is None else self._socket.sock
        if connection is None:
            return False
        pending = getattr(connection, "pending", None)
        return bool(pending and pending()) or bool(select.select([connection], [], [], 0)[0])

    # Connections

    def _restored(self, lost: Exception) -> Iterator[Event]:
        """Connect until it succeeds; tells when it was lost, and when it is there again."""
        self._hang_up()
        reason = str(lost) or type(lost).__name__
        if not self._reconnect:
            raise StreamDisconnected(f"{self.url}: {reason}", url=self.url) from lost
        yield {"event": "connection_lost", "reason": reason}
        for attempt in itertools.count():
            # Full jitter: clients that lost the same server do not come back at the same moment.
            longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt, 10))
            if self._closed.wait(random.uniform(0, longest)):  # noqa: S311
                return
            try:
                self._connect()
            except RetriableError as error:
                self._hang_up()
                logger.info("%s: %s", self.url, error.message)
            else:
                yield {"event": "connection_restored"}
                return

    def _connect(self) -> None:
        """Connect and subscribe, at the places where it was before.

        Raises:
            ZvtCryptoError: The server cannot be reached, or refuses; retriable ones may pass.
        """
        try:
            self._socket = websocket.create_connection(
                self.url,
                timeout=self._timeout,
                suppress_origin=True,
                skip_utf8_validation=True,
                **self._options,
            )
            self._socket.settimeout(SILENCE_SECONDS)
            places = {
                key: {"epoch": epoch, "sequence": sequence} for key, (epoch, sequence) in self._places.items()
            }
            self._socket.send(
                orjson.dumps(
                    {"method": "subscribe", "id": 1, "params": self._params | {"resume": places}}
                ).decode()
            )
            self._note_answer()
        except websocket.WebSocketBadStatusException as error:
            raise _refusal(self.url, error) from error
        except (OSError, websocket.WebSocketException, ValueError) as error:
            raise ProviderUnavailable(
                f"{self.url} cannot be reached: {error}", suggestions=(_WRONG_SERVER,), url=self.url
            ) from error

    def _note_answer(self) -> None:
        """Wait for the answer to the subscription; one symbol that is refused is refused for all."""
        while True:
            opcode, data = self._socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                raise websocket.WebSocketConnectionClosedException("the server has closed the connection")
            answer: Event = orjson.loads(data)
            refusals = [answer["error"]] if "error" in answer else answer.get("errors", [])
            if refusals:
                raise error_of(refusals[0])
            if answer.get("event") == "subscribed":
                break
        for one in answer["subscriptions"]:
            _, sequence = self._places.get(one["key"], ("", 0))
            self._places[one["key"]] = one["epoch"], sequence

    def _hang_up(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close(timeout=0)


def _refusal(url: str, error: Any) -> ZvtCryptoError:
    """Why a server refuses the handshake; that it is busy, or that there are too many, may pass."""
    body = getattr(error, "resp_body", None) or b""
    try:
        told = error_of(orjson.loads(body)["error"], http_status=error.status_code)
    except (ValueError, KeyError, TypeError):
        return ProviderUnavailable(
            f"{url} answers {error.status_code}", suggestions=(_WRONG_SERVER,), url=url
        )
    is_busy = error.status_code == 503 and not isinstance(told, RetriableError)
    return (
        ProviderUnavailable(told.message, suggestions=told.suggestions, **told.details) if is_busy else told
    )


def _key_of(message: Event) -> str:
    """The channel of a message, as the server calls it."""
    key = f"{message['stream']}:{message['provider']}:{message['symbol']}"
    detail = message.get("interval") or message.get("depth")
    return key if detail is None else f"{key}:{detail}"


def _frame_of(messages: list[Event]) -> Any:
    """Messages as rows: what they are of, and their data; times are naive UTC ``datetime64[ns]``."""
    import pandas as pd

    names = ("provider", "symbol", "interval", "depth")
    rows = [
        {name: message[name] for name in names if name in message} | message["data"] for message in messages
    ]
    frame = pd.DataFrame(rows)
    for name in _TIMES:
        if name in frame.columns:
            frame[name] = pd.to_datetime(frame[name], utc=True).dt.tz_localize(None).astype("datetime64[ns]")
    return frame


def _log_event(event: Event) -> None:
    level = logging.INFO if event["event"] in ("live", "connection_restored") else logging.WARNING
    logger.log(level, "%s", event)
