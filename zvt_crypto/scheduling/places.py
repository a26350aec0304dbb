"""The schedule's files, in the state folder beside the data folder."""

from __future__ import annotations

from pathlib import Path

from zvt_crypto.core.config import Settings


def history_path(settings: Settings) -> Path:
    """The database of outcomes."""
    return _state(settings) / f"schedule-{settings.data_path.name}.db"


def lock_path(settings: Settings) -> Path:
    """The file that the one process which may run this data folder's schedule holds locked."""
    return _state(settings) / f"schedule-{settings.data_path.name}.lock"


def _state(settings: Settings) -> Path:
    return settings.data_path.parent / "state"
