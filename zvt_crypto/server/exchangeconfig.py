"""What differs for single exchanges, read from the settings file and written into it."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from zvt_crypto.core.config import ExchangeSettings, Settings, config_file, load_settings
from zvt_crypto.core.errors import ConfigError, NotSupported, StoreFull, unknown_value
from zvt_crypto.exchanges.base import Instrument, Venue, venues
from zvt_crypto.exchanges.client import exchange_ids
from zvt_crypto.exchanges.streaming import Topic
from zvt_crypto.scheduling.lockfile import ProcessLock
from zvt_crypto.server import tomltable
from zvt_crypto.server.providerfacts import state_dir

TABLE: Final = "exchange"
VARIABLE: Final = "ZVT_CRYPTO_EXCHANGE"

#: The settings file may hold secrets: a new one is its owner's only.
_MODE: Final = 0o600

_own_lock = threading.Lock()


def described(settings: Settings) -> dict[str, dict[str, Any]]:
    """Each exchange's API and what is set for it, in the shape of ``crypto-api.md``.

    The settings file is read anew: it tells what recorders will take that start now.

    Raises:
        ConfigError: The settings file is wrong.
    """
    now = settings.model_copy(update={"exchange": load_settings().exchange})
    known = {venue.exchange: venue for venue in venues().values() if not venue.serves_many}
    names = [*sorted(known), *sorted(set(now.exchange) - set(known))]
    return {name: _described(now, name, known.get(name)) for name in names}


def _described(settings: Settings, name: str, venue: type[Venue] | None) -> dict[str, Any]:
    endpoints = {} if venue is None else venue.endpoints
    found = list(endpoints.values())
    own = settings.of_exchange(name)
    pace = found[0].requests_per_minute if found and own.rate_limit else None
    return {
        "api_endpoint": found[0].url if found else None,
        "api_endpoints": {ccxt_id: endpoint.url for ccxt_id, endpoint in endpoints.items()},
        "websocket_endpoint": None if venue is None else _stream_url(venue),
        "rate_limits": {"requests_per_minute": pace, "burst_limit": 1 if own.rate_limit else None},
        "enabled": settings.is_enabled(name),
        "rate_limit": own.rate_limit,
        "concurrency": own.concurrency,
        "timeout_seconds": own.timeout_seconds,
        "overrides": settings.exchange.get(name, ExchangeSettings()).model_dump(exclude_none=True),
    }


def _stream_url(venue: type[Venue]) -> str | None:
    """Where an exchange streams the trades of a market; None where it streams none."""
    if venue.streams is None:
        return None
    kind = next(iter(sorted(venue.streams.feeds)))
    market = Instrument(kind, "btcusdt", "BTC/USDT", "BTCUSDT")
    return venue.streams.endpoint(Topic("trades", market))


def check_exchange(name: str) -> None:
    """Do nothing for an exchange that can be recorded.

    Raises:
        InvalidArgument: There is none of that name.
    """
    own = {venue.exchange for venue in venues().values() if not venue.serves_many}
    taken = {ccxt_id for venue in venues().values() for ccxt_id in venue.ccxt_ids.values()} - own
    known = own | (set(exchange_ids()) - taken)
    if name not in known:
        raise unknown_value("exchange", name, known)


def change(settings: Settings, name: str, values: Mapping[str, tomltable.Value | None]) -> None:
    """Write what differs for an exchange into the settings file, all or nothing.

    Args:
        settings: Names the state folder, where the lock is.
        name: The exchange.
        values: Field of ``ExchangeSettings`` -> its value; None takes it out.

    Raises:
        InvalidArgument: There is no such exchange.
        ConfigError: The file is wrong, cannot be written, or is overruled by the environment.
        StoreBusy: Another process changes the file.
        StoreFull: The disk is full.
    """
    check_exchange(name)
    if os.environ.get(VARIABLE):
        raise ConfigError(
            f"{VARIABLE} is set and goes before the settings file",
            suggestions=(f"unset {VARIABLE}, and start the server anew",),
            setting=TABLE,
        )
    # A link stays one: what it leads to is replaced.
    path = config_file().resolve()
    with _alone(settings):
        text = _read(path)
        _replace(path, tomltable.with_values(text, (TABLE, name), values, str(path)))


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Keep other threads, and where the system can, other processes, from changing the file meanwhile."""
    lock = ProcessLock(state_dir(settings) / "settings.lock")
    with _own_lock:
        with contextlib.suppress(NotSupported):
            lock.acquire("a change of the settings")
        try:
            yield
        finally:
            lock.release()


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", suggestions=("correct the file",)) from error


def _replace(path: Path, text: str) -> None:
    """Put a text in a file's place at once, with the file's mode."""
    draft: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else _MODE
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        draft = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(mode)
        draft.replace(path)
    except OSError as error:
        if draft is not None:
            draft.unlink(missing_ok=True)
        kind = StoreFull if error.errno == errno.ENOSPC else ConfigError
        raise kind(
            f"{path} cannot be written: {error.strerror}",
            suggestions=("correct the permissions of the file and its folder",),
            path=str(path),
        ) from error
