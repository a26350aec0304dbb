"""What the views need: settings, store, tables. One object per application."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from flask import current_app

from zvt_crypto.core.config import Settings
from zvt_crypto.server.liveservice import LiveService
from zvt_crypto.store.engine import Store

_KEY: Final = "zvt_crypto"


@dataclass(frozen=True, slots=True)
class Services:
    """What an application is made of.

    Attributes:
        settings: Limits and paths.
        store: The databases.
        live: Streams for clients; None where the application runs without.
        started: Epoch seconds.
    """

    settings: Settings
    store: Store
    live: LiveService | None = None
    started: float = field(default_factory=time.time)

    def attach(self, extensions: dict[str, object]) -> None:
        """Make these the services of an application."""
        extensions[_KEY] = self


def services() -> Services:
    """The services of the application that answers the request."""
    found = current_app.extensions[_KEY]
    assert isinstance(found, Services)
    return found
