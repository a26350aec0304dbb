"""Folders named after what is in them: ``provider=binance/table=cryptopair_1m_kdata/code=btcusdt/``.

A market of another exchange than the provider's own has one more folder, ``exchange=kraken``. Arrow, pandas,
DuckDB and Spark read all files of a table at once and take the folders for columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

KEYS: Final = ("provider", "table", "code", "exchange")


def hive_path(out: Path, keys: dict[str, str], form: str) -> Path:
    """The file of a format under ``out`` for some of ``KEYS``, in their order."""
    # Readers decode percent signs in the names of folders.
    folders = (f"{key}={quote(keys[key], safe='')}" for key in KEYS if key in keys)
    return out.joinpath(*folders, f"data.{form}")


def hive_keys(path: Path) -> dict[str, str]:
    """What the folders that a file lies in say, the innermost first; they may be anything."""
    keys: dict[str, str] = {}
    for folder in path.absolute().parent.parts[::-1]:
        key, equals, value = folder.partition("=")
        if equals and key in KEYS:
            keys.setdefault(key, unquote(value))
    return keys
