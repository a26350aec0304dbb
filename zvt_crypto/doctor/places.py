"""The places that the settings name: files, folders, the gateway."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from zvt_crypto.core.config import Settings, config_file
from zvt_crypto.doctor.findings import FAIL, OK, WARN, Finding

_GB: Final = 1 << 30
#: A year of one market's 1m candles takes 30 MB.
_TIGHT: Final = _GB
_FULL: Final = _GB // 20
_CONNECT_SECONDS: Final = 3.0


def examine_places(settings: Settings) -> Iterator[Finding]:
    """Settings file, data folder, disk and gateway."""
    path = config_file()
    yield Finding("settings file", OK, f"{path}{'' if path.exists() else ' (none there, so defaults hold)'}")
    yield _data_folder(settings.data_path)
    yield _disk(settings.data_path)
    yield _gateway(settings.gateway)


def _data_folder(path: Path) -> Finding:
    existing = _nearest_existing(path)
    todo = "correct its permissions, or choose another folder with ZVT_CRYPTO_DATA_PATH"
    if not existing.is_dir():
        return Finding("data folder", FAIL, f"{path}: {existing} is no folder", todo)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding("data folder", FAIL, f"{path} cannot be written: {error.strerror}", todo)
    return Finding("data folder", OK, f"{path}{'' if path.exists() else ' (made when first used)'}")


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(_nearest_existing(path)).free
    what = f"{free / _GB:,.1f} GB free for {path}"
    if free < _FULL:
        return Finding(
            "disk", FAIL, what, "free disk space, or choose another folder with ZVT_CRYPTO_DATA_PATH"
        )
    if free < _TIGHT:
        return Finding("disk", WARN, what, "a year of 1m candles takes about 30 MB a market")
    return Finding("disk", OK, what)


def _gateway(url: str | None) -> Finding:
    if url is None:
        proxies = [name for name in ("HTTPS_PROXY", "https_proxy") if os.environ.get(name)]
        return Finding(
            "gateway", OK, f"none: exchanges are called directly{' by your proxy' if proxies else ''}"
        )
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        todo = "start it (`zvt-crypto sandbox` is one), or unset ZVT_CRYPTO_GATEWAY"
        return Finding("gateway", FAIL, f"{url} does not answer: {error.strerror or error}", todo)
    return Finding("gateway", OK, f"{url} receives every call to every exchange")


def _nearest_existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
