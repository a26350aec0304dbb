"""The sandbox in the foreground, from settings: what the command line runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import parse_time
from zvt_crypto.sandbox.market import Market
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
        faults: Faults in force from the start, as ``parse_fault`` reads them.
        replay: File to replay instead of a simulation.
        symbol: Unified symbol of the replayed file.
        level: Level of the replayed file; None infers it.
        captures: Files of recorded answers.
    """

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    now: str | int | None = None
    faults: tuple[str, ...] = ()
    replay: str | Path | None = None
    symbol: str | None = None
    level: str | None = None
    captures: tuple[str | Path, ...] = ()

    def market(self) -> Market:
        """The market that these settings describe.

        Raises:
            InvalidArgument: A file to replay without its symbol, or the other way round, or a wrong value.
        """
        now = None if self.now is None else parse_time(self.now, name="now")
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
    )
    try:
        asyncio.run(box.serve(on_ready, signals=True))
    except OSError as error:
        raise cannot_listen(settings.host, settings.port, error) from error
