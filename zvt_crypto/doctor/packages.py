"""Python and the packages that must fit together."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from zvt_crypto import zvt_bridge
from zvt_crypto.core.errors import BrokenInstall, ZvtCryptoError
from zvt_crypto.doctor.findings import FAIL, OK, WARN, Finding
from zvt_crypto.store.sqlite import Connection

_PYTHONS: Final = ((3, 10), (3, 13))
_ZVT: Final = "0.13.5"
#: The newest ccxt that pip installs beside zvt's exact pins; later ones need an orjson that zvt refuses.
_CCXT_HELD_AT: Final = (4, 5, 64)
_CCXT_NEXT: Final = "pip install --no-deps -U ccxt"
_SHOWN: Final = ("zvt", "ccxt", "pandas", "numpy", "pyarrow", "sqlalchemy", "pydantic", "adbc-driver-sqlite")


def examine_packages() -> Iterator[Finding]:
    """Versions, and the traps that their combination has."""
    yield _python()
    versions = {name: _version(name) for name in _SHOWN}
    for name, version in versions.items():
        if version is None:
            yield Finding(name, FAIL, "is not installed", f"pip install {name}")
    present = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    yield Finding("packages", OK, present)
    yield _sqlite()
    if versions["zvt"] is not None:
        yield from _zvt(versions["zvt"])
    if versions["ccxt"] is not None:
        yield _ccxt(versions["ccxt"])


def _python() -> Finding:
    what = f"{sys.version.split()[0]} at {sys.executable}"
    if _PYTHONS[0] <= sys.version_info[:2] < _PYTHONS[1]:
        return Finding("python", OK, what)
    return Finding("python", FAIL, what, "make a virtual environment with Python 3.10, 3.11 or 3.12")


def _sqlite() -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with Connection(Path(folder) / "probe.db", busy_timeout=1) as connection:
                version = connection.value("SELECT sqlite_version()")
        except ZvtCryptoError as error:
            return Finding("sqlite", FAIL, error.message, "pip install --force-reinstall adbc-driver-sqlite")
    return Finding("sqlite", OK, f"{version}, inside the ADBC driver; the only one that opens our files")


def _zvt(version: str) -> Iterator[Finding]:
    if version != _ZVT:
        yield Finding("zvt", WARN, f"{version} is not the version tested", f"pip install zvt=={_ZVT}")
    if zvt_bridge.is_wheel_broken():
        yield Finding(
            "zvt wheel",
            WARN,
            "lacks its own config.json, as published; zvt_crypto supplies it",
            "in programs of your own, import zvt_crypto before zvt",
        )
    if importlib.util.find_spec("pkg_resources") is None:
        yield Finding(
            "setuptools",
            WARN,
            "has no pkg_resources, which zvt imports; zvt_crypto stands in for it",
            "import zvt_crypto before zvt, or pip install 'setuptools<82'",
        )
    try:
        zvt_bridge.load()
    except BrokenInstall as error:
        yield Finding("zvt import", FAIL, error.message, "; ".join(error.suggestions))
    else:
        yield Finding("zvt import", OK, "works")


def _ccxt(version: str) -> Finding:
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if numbers > _CCXT_HELD_AT:
        return Finding("ccxt", OK, version)
    held = ".".join(str(number) for number in _CCXT_HELD_AT)
    what = f"{version}: zvt's pins hold ccxt at {held}, and exchanges change their APIs since"
    if numbers < _CCXT_HELD_AT:
        what = f"{version} is older than {held}, which this package needs"
    todo = f"if an exchange's answers are not understood: {_CCXT_NEXT} (known to work)"
    return Finding("ccxt", WARN, what, todo)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
