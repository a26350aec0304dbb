"""The sandbox in the foreground, from settings: what the command line runs."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import parse_time
from zvt_crypto.sandbox.market import BOOK_STEP_MS, Market, Now, running_clock
from zvt_crypto.sandbox.replay import ReplayMarket
from zvt_crypto.sandbox.server import Sandbox, cannot_listen
from zvt_crypto.sandbox.simulated import SimulatedMarket


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """What ``run`` starts.

    Attributes:
        host: Address to listen at.
        port: Port to listen at; 0 takes a free one.
        seed: Seed of the simulated market and of what faults draw.
        now: The exchange's time, in any notation of ``parse_time``, standing still; None is the real time.
        speed: Lets the exchange's clock run so many times as fast as the real one, beginning at ``now``, or
            recorded streams so many times as fast as they were; 0 sends those at once.
        faults: Faults in force from the start, as ``parse_fault`` reads them.
        replay: File to replay instead of a simulation.
        symbol: Unified symbol of the replayed file.
        level: Level of the replayed file; None infers it.
        captures: Files of recorded answers.
        tick_ms: Real time between two looks of the streams at the market.
        book_step_ms: How long an order book stays as it is.
        stream_captures: Files of recorded streams and of the answers that belong to them.
    """

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    now: str | int | None = None
    speed: float | None = None
    faults: tuple[str, ...] = ()
    replay: str | Path | None = None
    symbol: str | None = None
    level: str | None = None
    captures: tuple[str | Path, ...] = ()
    tick_ms: int = 50
    book_step_ms: int = BOOK_STEP_MS
    stream_captures: tuple[str | Path, ...] = ()

    def market(self) -> Market | None:
        """The market that these settings describe; None if it was recorded with its streams.

        Raises:
            InvalidArgument: A file to replay without its symbol, or the other way round, or a wrong value.
        """
        if self.stream_captures:
            if self.replay is not None or self.now is not None:
                raise InvalidArgument(
                    "recorded streams have a market and a clock of their own",
                    suggestions=("leave --replay and --now out",),
                )
            return None
        now = self._clock()
        if self.replay is None:
            if self.symbol or self.level:
                raise InvalidArgument(
                    "symbol and level belong to a file to replay", suggestions=("give --replay FILE",)
                )
            return SimulatedMarket(self.seed, now)
        if not self.symbol:
            raise InvalidArgument(
                f"{self.replay} does not tell its market", suggestions=("give --symbol, such as BTC/USDT",)
            )
        return ReplayMarket({self.symbol: self.replay}, self.level, now)

    def _clock(self) -> Now:
        now = None if self.now is None else parse_time(self.now, name="now")
        if self.speed is None:
            return now
        if not 0 < self.speed < math.inf:
            raise InvalidArgument(f"speed {self.speed:g} is not above 0")
        return running_clock(time.time_ns() // 1_000_000 if now is None else now, self.speed)


def run(settings: SandboxSettings, on_ready: Callable[[str], None]) -> None:
    """Run the sandbox in the foreground until SIGINT or SIGTERM.

    Args:
        settings: What to run.
        on_ready: Called with the base URL once requests are answered.

    Raises:
        InvalidArgument: A setting is wrong, or the address cannot be listened at.
    """
    box = Sandbox(
        settings.market(),
        settings.faults,
        settings.port,
        host=settings.host,
        captures=settings.captures,
        seed=settings.seed,
        tick_ms=settings.tick_ms,
        book_step_ms=settings.book_step_ms,
        stream_captures=settings.stream_captures,
        speed=(1.0 if settings.speed is None else settings.speed) or None,
    )
    try:
        asyncio.run(box.serve(on_ready, signals=True))
    except OSError as error:
        raise cannot_listen(settings.host, settings.port, error) from error
