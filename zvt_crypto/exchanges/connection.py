"""One ccxt instance in use: calls with retries and our errors, its markets, the exchange's clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final, TypeVar

import pyarrow as pa
import tenacity

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ProviderUnavailable, RateLimitExceeded, RetriableError, ZvtCryptoError
from zvt_crypto.exchanges.ccxt_errors import our_error
from zvt_crypto.exchanges.download import receive
from zvt_crypto.exchanges.rawrows import RowLayout
from zvt_crypto.exchanges.transport import CALL, Call

T = TypeVar("T")

_LONGEST_WAIT_SECONDS: Final = 60.0
_CLOCK_AGE_SECONDS: Final = 600.0
#: What ccxt's parsers raise where an answer is not what they expect.
_NOT_UNDERSTOOD: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Clock:
    """Where an exchange tells its time, if ccxt has no ``fetchTime`` for it.

    Attributes:
        method: One of ccxt's implicit methods.
        path: Keys and positions that lead from its answer to the time: epoch ms, or ISO 8601.
        params: The request's parameters.
    """

    method: str
    path: tuple[str | int, ...]
    params: Mapping[str, Any] = field(default_factory=dict)


class Connection:
    """A ccxt instance with ``Transport`` mixed in, for as many coroutines at once as like.

    Args:
        exchange: The instance.
        failure: ccxt's root error class.
        settings: Attempts and waits.
        clock: What tells the exchange's time where ccxt does not.
    """

    def __init__(
        self,
        exchange: Any,
        failure: type[Exception],
        settings: Settings,
        clock: Clock | None = None,
    ) -> None:
        self.exchange = exchange
        self._failure = failure
        self._settings = settings
        self._clock = clock
        self._markets_lock = asyncio.Lock()
        self._clock_lock = asyncio.Lock()
        self._offset_ms = 0
        self._clock_read_at: float | None = None

    async def request(self, method: str, params: dict[str, Any], subject: str | None = None) -> Any:
        """The decoded answer of one of ccxt's implicit methods, such as ``publicGetKlines``."""
        endpoint = getattr(self.exchange, method)
        return await self._attempts(lambda: endpoint(params), subject)

    async def request_rows(
        self,
        method: str,
        params: dict[str, Any],
        layout: RowLayout,
        subject: str | None = None,
        judge: Callable[[pa.Table], None] | None = None,
    ) -> pa.Table:
        """The rows of an implicit method's answer as columns; no rows give an empty table.

        ``judge`` may raise one of our errors about the rows, which then counts as a failed attempt.
        """
        endpoint = getattr(self.exchange, method)

        async def rows() -> pa.Table:
            call = Call(keep_rows=True)
            token = CALL.set(call)
            try:
                answer = await endpoint(params)
            finally:
                CALL.reset(token)
            table = layout.read(answer, call.rows)
            if judge is not None:
                judge(table)
            return table

        return await self._attempts(rows, subject)

    async def unified(
        self,
        method: str,
        args: tuple[Any, ...],
        params: dict[str, Any],
        read: Callable[[Any], T],
        subject: str | None = None,
    ) -> T:
        """What ``read`` makes of what a unified method of ccxt's, such as ``fetch_ohlcv``, returns.

        ``read`` may raise one of our errors, which then counts as a failed attempt.

        ``read`` gets every row that the exchange sent, also those outside of what was asked for, as
        ``Transport`` takes ccxt's filters out.

        Raises:
            ProviderUnavailable: The answer is of a form that ccxt does not understand.
        """
        await self.markets()
        ask = getattr(self.exchange, method)

        async def parsed() -> T:
            try:
                answer = await ask(*args, params=params)
            except _NOT_UNDERSTOOD as error:
                raise ProviderUnavailable(
                    f"{self.exchange.id} answers {method} in a form that ccxt does not understand: {error!r}"
                ) from error
            return read(answer)

        return await self._attempts(parsed, subject)

    async def markets(self) -> tuple[dict[str, Any], ...]:
        """Every market that the venue lists, in ccxt's form; loaded once.

        Raises:
            ProviderUnavailable: The answer holds no market.
        """
        async with self._markets_lock:
            if not self.exchange.listed:
                await self._attempts(self._load_markets, None)
        listed: tuple[dict[str, Any], ...] = self.exchange.listed
        return listed

    async def offset_ms(self, *, fresh: bool = False) -> int:
        """How far the exchange's clock is ahead of this machine's, in ms; measured anew after ten minutes.

        0 where the venue does not tell its time. ``fresh`` has it measured now.
        """
        if self._clock is None and not self.exchange.has["fetchTime"]:
            return self._offset_ms
        async with self._clock_lock:
            read_at = self._clock_read_at
            if fresh or read_at is None or time.monotonic() - read_at > _CLOCK_AGE_SECONDS:
                self._offset_ms = await self._attempts(self._read_clock, None)
                self._clock_read_at = time.monotonic()
        return self._offset_ms

    def heard(self, ts: int) -> None:
        """The exchange has told of something that happened at this time: its clock is no earlier."""
        self._offset_ms = max(self._offset_ms, ts - time.time_ns() // 1_000_000)

    async def download(self, host: str, path: str, target: IO[bytes], largest: int) -> None:
        """Fetch ``https://{host}{path}`` into a file, outside of the API's budget; see ``receive``."""
        self.exchange.open()  # the session, where no request was made yet
        url = f"{self.exchange.gateway or 'https:/'}/{host}{path}"
        timeout = self._settings.timeout_seconds
        await self._attempts(lambda: receive(self.exchange.session, url, target, largest, timeout), None)

    async def close(self) -> None:
        """Close the HTTP session."""
        await self.exchange.close()

    async def _load_markets(self) -> None:
        try:
            await self.exchange.load_markets(True)
        except _NOT_UNDERSTOOD as error:
            raise ProviderUnavailable(
                f"{self.exchange.id} lists its markets in a form that ccxt does not understand: {error!r}"
            ) from error
        if not self.exchange.listed:
            raise ProviderUnavailable(f"{self.exchange.id} lists no markets at all")

    async def _read_clock(self) -> int:
        call = Call()
        token = CALL.set(call)
        try:
            server_ms = await self._server_ms()
        finally:
            CALL.reset(token)
        if server_ms is None:
            raise ProviderUnavailable(f"{self.exchange.id} answers without the time that it was asked for")
        return int(server_ms) - round((call.sent + call.received) * 500)

    async def _server_ms(self) -> int | None:
        if self._clock is None:
            told: int | None = await self.exchange.fetch_time()
            return told
        found = await getattr(self.exchange, self._clock.method)(dict(self._clock.params))
        try:
            for key in self._clock.path:
                found = found[key]
        except (IndexError, KeyError, TypeError):
            return None
        text = str(found)
        return int(text) if text.isdigit() else self.exchange.parse8601(text)

    async def _attempts(self, ask: Callable[[], Awaitable[T]], subject: str | None) -> T:
        """Ask until it works, the error is not worth another attempt, or the attempts are used up."""
        made = 0

        async def attempt() -> T:
            nonlocal made
            made += 1
            try:
                return await ask()
            except self._failure as error:
                raise our_error(error, self.exchange.id, subject, self.exchange.symbols or ()) from error

        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._settings.max_attempts),
            wait=self._wait_seconds,
            retry=tenacity.retry_if_exception(self._is_worth_a_retry),
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except ZvtCryptoError as error:
            error.details["attempts"] = made
            raise

    def _is_worth_a_retry(self, error: BaseException) -> bool:
        if isinstance(error, RateLimitExceeded) and error.retry_after:
            return bool(error.retry_after <= self.exchange.pause.patience)
        return isinstance(error, RetriableError)

    def _wait_seconds(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RateLimitExceeded) and error.retry_after:
            return 0.0  # the transport's pause holds the next attempt back, with all other requests
        first = self._settings.retry_wait_seconds
        doubling = tenacity.wait_exponential(multiplier=first, max=_LONGEST_WAIT_SECONDS)
        return (doubling + tenacity.wait_random(0, first))(state)
