"""What is laid over a ccxt class: the gateway, pauses and budget, bad answers, and rows that stay text."""

from __future__ import annotations

import asyncio
import re
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from zvt_crypto.core.errors import RateLimitExceeded
from zvt_crypto.exchanges.budget import Pause
from zvt_crypto.exchanges.ccxt_errors import no_answer, refusal
from zvt_crypto.exchanges.headers import UsedWeight
from zvt_crypto.exchanges.health import HealthLog
from zvt_crypto.exchanges.rawrows import cut_rows
from zvt_crypto.exchanges.throttle import Budget

#: Any to the type checker: ccxt's class, which is only known when an exchange is opened.
CcxtExchange: Any = object

_AUTH_STATUS: Final = (401, 407, 511)


@dataclass(slots=True)
class Call:
    """One call to ccxt: what its caller wants of the transport, and what the transport saw.

    Attributes:
        keep_rows: Leave the rows of the answer as text.
        rows: The rows' text, None if the answer had none in plain form.
        sent: Local epoch seconds when the last HTTP request went out (after any throttling).
        received: Local epoch seconds when its answer was there.
    """

    keep_rows: bool = False
    rows: str | None = None
    sent: float = 0.0
    received: float = 0.0


#: Set by ``Connection`` around a call; tasks that ccxt starts inherit it.
CALL: Final[ContextVar[Call | None]] = ContextVar("call", default=None)

#: What ccxt says that the task's next request takes of the budget, in ms.
_COST: Final[ContextVar[float]] = ContextVar("cost", default=0.0)


#: Set where a request is only to be priced: none goes out.
PRICING: Final[ContextVar[bool]] = ContextVar("pricing", default=False)


class Priced(Exception):
    """What a request that was not made would have taken of the venue's budget, in seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds} s")
        self.seconds = seconds


class Transport(CcxtExchange):
    """Mixed in before a ccxt async class; overrides only hooks that ccxt has for this purpose.

    Status and headers of the last answer are kept on ccxt's instance, where concurrent requests overwrite
    them. ``handle_errors`` gets each request's own, so that is where they are judged.
    """

    pause: Pause
    budget: Budget
    health: HealthLog
    used_weight: UsedWeight | None
    slots: asyncio.Semaphore
    gateway: str | None = None
    listed: tuple[dict[str, Any], ...] = ()

    def use_gateway(self, gateway: str) -> None:
        """Send every REST and WebSocket call to ``{gateway}/{original host}/{original path}``."""
        self.gateway = gateway
        self.urls["api"] = self._redirected(self.urls["api"])

    async def throttle(self, cost: float | None = None) -> None:
        """Note what the next request costs; ccxt asks this of each one unless its rate limit is switched off.

        ``fetch`` does the waiting, so that what waits for a slot or for the end of a ban takes nothing from
        other processes, and does not go out in a burst afterwards.
        """
        _COST.set(self.rateLimit * (1.0 if cost is None else cost))

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        """Make one HTTP request, once a slot is free, no pause holds it back and the budget allows it."""
        if PRICING.get():
            raise Priced(_COST.get() / 1000)
        async with self.slots:
            await self._may_go()
            with self.health.request(_COST.get()):
                call = CALL.get()
                if call is None:
                    return await super().fetch(url, method, headers, body)
                call.sent = time.time()
                answer = await super().fetch(url, method, headers, body)
                call.received = time.time()
                return answer

    async def close(self) -> None:
        """Close the HTTP session."""
        self.health.close()
        await super().close()

    def on_json_response(self, response_body: str) -> Any:
        """Decode an answer, without its rows if the caller wants those as text."""
        call = CALL.get()
        if call is None or not call.keep_rows:
            return super().on_json_response(response_body)
        answer, call.rows = cut_rows(response_body)
        return answer

    def handle_errors(
        self,
        code: int,
        reason: str,
        url: str,
        method: str,
        headers: dict[str, str],
        body: str,
        response: Any,
        request_headers: Any,
        request_body: Any,
    ) -> None:
        """Raise ours for refusals and for what is no answer; the venue's own codes are ccxt's business."""
        self._heed_used_weight(headers)
        refused = refusal(self.id, code, headers, body)
        if refused is not None:
            if isinstance(refused, RateLimitExceeded) and refused.retry_after:
                self.pause.hold(refused.retry_after)
            raise refused
        super().handle_errors(
            code, reason, url, method, headers, body, response, request_headers, request_body
        )
        unknown = code >= 400 and str(code) not in self.httpExceptions
        if (response is None or unknown) and code not in _AUTH_STATUS:
            raise no_answer(self.id, code, reason, body)

    def set_markets(self, markets: Any, currencies: Any = None) -> Any:
        """Keep the markets as listed: ccxt's index keeps only one of those that share a symbol."""
        self.listed = tuple(markets.values() if isinstance(markets, dict) else markets)
        return super().set_markets(markets, currencies)

    def filter_by_since_limit(self, array: Any, *_: Any, **__: Any) -> Any:
        """Keep every row: ccxt drops what it cannot read, and an answer of another form would look empty."""
        return self.to_array(array)

    def filter_by_symbol_since_limit(self, array: Any, symbol: str | None = None, *_: Any, **__: Any) -> Any:
        """Keep every row of the symbol."""
        return super().filter_by_symbol_since_limit(array, symbol)

    def get_exceptions_by_url(self, url: str, kind: str) -> Any:
        """Binance tells its error tables apart by the host, so it must see the original one."""
        original = url.replace(f"{self.gateway}/", "https://", 1) if self.gateway else url
        return super().get_exceptions_by_url(original, kind)

    async def _may_go(self) -> None:
        await self.pause.wait()
        if not self.enableRateLimit:
            return
        await self.budget.take(_COST.get())
        while self.pause.remaining() > 0:  # it began while the request waited for the budget
            await self.pause.wait()
            await self.budget.take(_COST.get())

    def _heed_used_weight(self, headers: dict[str, str]) -> None:
        """Leave the rest of the minute to the other programs behind this address, if they have used much."""
        if self.used_weight is None or not self.enableRateLimit:
            return
        seconds = self.used_weight.pause(headers)
        if seconds and not self.pause.remaining():
            self.pause.hold(seconds, "this address has used up the minute's request weight")

    def _redirected(self, urls: Any) -> Any:
        if isinstance(urls, dict):
            return {key: self._redirected(value) for key, value in urls.items()}
        if not isinstance(urls, str):
            return urls
        return redirected(urls.replace("{hostname}", self.hostname or ""), self.gateway)


def redirected(url: str, gateway: str | None) -> str:
    """A URL by way of the gateway: ``{gateway}/{original host}/{original path}``."""
    parts = re.match(r"(http|ws)s?://([^/:]+)(?::\d+)?(.*)", url)
    if parts is None or gateway is None:
        return url
    base = gateway if parts[1] == "http" else re.sub(r"^http", "ws", gateway)
    return f"{base}/{parts[2]}{parts[3]}"
