"""The package's own streams on the sandbox: ccxt.pro's connection, our frames, our readers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from zvt_crypto.core.config import Settings
from zvt_crypto.exchanges.base import Venue, open_venue
from zvt_crypto.exchanges.streaming import Confirmed, Message, Topic
from zvt_crypto.exchanges.wire import Wire
from zvt_crypto.sandbox import Sandbox


class Reading(NamedTuple):
    """A topic that is subscribed, and what has been told of it since."""

    venue: Venue
    topic: Topic
    messages: list[Message]

    async def until(self, is_enough: Any, seconds: float = 10) -> list[Any]:
        """The messages once they are enough."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not self.messages or not is_enough(self.messages):
            assert asyncio.get_running_loop().time() < deadline, f"not enough: {self.messages}"
            await asyncio.sleep(0.01)
        return self.messages


@contextlib.asynccontextmanager
async def reading(
    box: Sandbox, folder: Path, provider: str, symbol: str, feed: Any, **details: Any
) -> AsyncIterator[Reading]:
    """Subscribes to a topic of a market that the venue lists."""
    settings = Settings(data_path=folder / "data", gateway=box.url, rate_limit=False)
    kind = "cryptoperp" if ":" in symbol else "cryptopair"
    async with open_venue(provider, settings) as venue, Wire(venue.ccxt_ids[kind], settings) as wire:
        rows = (await venue.fetch_instruments(kind)).batch.to_pylist()
        row = next(row for row in rows if row["symbol"] == symbol)
        topic = Topic(feed, venue.instrument({**row, "entity_type": kind}), **details)
        messages: list[Message] = []
        reader = venue.streams.reader()
        reader.expect([topic])

        def read(frame: str) -> bool:
            told = reader.read(frame)
            messages.extend(told or ())
            return told is not None

        url = await venue.streams.url(venue.streams.endpoint(topic), kind, venue.client)
        line = await wire.connect(url, read)
        for frame in venue.streams.subscribe([topic], 1):
            await line.send(frame)
        found = Reading(venue, topic, messages)
        await found.until(lambda told: isinstance(told[0], Confirmed))
        del messages[0]
        yield found
        await line.close()
