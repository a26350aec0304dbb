"""The markets of one venue by any of their names: as they are recorded, else as the exchange lists them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import PairNotFound, SymbolMappingError, ZvtCryptoError
from zvt_crypto.core.symbols import entity_id, parse_notation
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import Instrument, Venue, open_venue
from zvt_crypto.recorders.entities import entity_spec, find_entity
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read

#: How long what was found is taken for true, and how soon an exchange is asked for its list again.
KEPT_SECONDS: Final = 60.0

#: Unknown names of one question that are told what they may have been meant for: comparing takes long.
_MOST_EXPLAINED: Final = 5


class Rows:
    """Rows of an entity table, and the names by which they are found."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.names = {row.get(name) for row in rows for name in ("id", "native_id", "symbol", "code")}


class Markets:
    """Finds instruments. Nothing is written; files and long lists are read in threads.

    Args:
        venue: Whose.
        settings: Where instruments are recorded, and how the exchange is asked.
    """

    def __init__(self, venue: Venue, settings: Settings) -> None:
        load_tables()
        self._venue = venue
        self._settings = settings
        self._store = Store(settings)
        self._recorded: dict[str, tuple[float, Rows]] = {}
        self._listed: dict[str, tuple[float, Rows]] = {}
        self._lock = asyncio.Lock()

    async def find(self, names: Sequence[str], entity_type: str) -> list[Instrument | ZvtCryptoError]:
        """The market that each name means, or why it means none.

        Raises:
            ZvtCryptoError: A market is not recorded, and the exchange cannot be asked.
        """
        async with self._lock:
            rows = await self._recorded_rows(entity_type)
            if not all(_is_among(name, rows) for name in names):
                rows = await self._listed_rows(entity_type)
        return await asyncio.to_thread(self._among, names, entity_type, rows)

    def _among(self, names: Sequence[str], entity_type: str, rows: Rows) -> list[Instrument | ZvtCryptoError]:
        found: list[Instrument | ZvtCryptoError] = []
        failures = 0
        for name in names:
            try:
                if failures >= _MOST_EXPLAINED and not _is_among(name, rows):
                    raise PairNotFound(f"unknown {self._venue.name} market {name!r}", value=name)
                row = find_entity(name, entity_spec(entity_type), self._venue.name, rows.rows)
                found.append(self._venue.instrument(row))
            except (PairNotFound, SymbolMappingError) as error:
                failures += 1
                found.append(error)
        return found

    async def _recorded_rows(self, entity_type: str) -> Rows:
        known = self._recorded.get(entity_type)
        if known is None or time.monotonic() > known[0]:
            rows = await asyncio.to_thread(self._read, entity_type)
            known = self._recorded[entity_type] = time.monotonic() + KEPT_SECONDS, rows
        return known[1]

    async def _listed_rows(self, entity_type: str) -> Rows:
        known = self._listed.get(entity_type)
        if known is None or time.monotonic() > known[0]:
            rows = await asyncio.to_thread(asyncio.run, self._ask(entity_type))
            known = self._listed[entity_type] = time.monotonic() + KEPT_SECONDS, rows
        return known[1]

    def _read(self, entity_type: str) -> Rows:
        spec = entity_spec(entity_type)
        if not self._store.exists(self._venue.name, spec):
            return Rows([])
        rows = read(self._store, Query(spec, self._venue.name)).to_pylist()
        return Rows([row for row in rows if row["exchange"] == self._venue.exchange])

    async def _ask(self, entity_type: str) -> Rows:
        """The exchange's list; it takes a second of work, which the event loop of others must not do."""
        exchange = self._venue.exchange if self._venue.serves_many else None
        async with open_venue(self._venue.name, self._settings, exchange) as venue:
            batch = (await venue.fetch_instruments(entity_type)).batch
        rows = batch.to_pylist()
        for row in rows:
            row["entity_type"] = entity_type
            row["id"] = entity_id(entity_type, self._venue.exchange, row["code"])
        return Rows(rows)


def _is_among(name: str, rows: Rows) -> bool:
    """Whether a name means one of the rows, in any notation."""
    if name in rows.names:
        return True
    try:
        return any(code in rows.names for code in parse_notation(name).codes)
    except SymbolMappingError:
        return False
