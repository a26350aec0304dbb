"""The examination as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zvt_crypto.core.config import Settings
from zvt_crypto.doctor.clocks import examine_clocks
from zvt_crypto.doctor.databases import examine_databases
from zvt_crypto.doctor.findings import Finding
from zvt_crypto.doctor.packages import examine_packages
from zvt_crypto.doctor.places import examine_places


@dataclass(frozen=True, slots=True)
class Scope:
    """How far to look.

    Attributes:
        exchanges: Whether to ask the exchanges for their time.
        thorough: Whether to read large databases to their end.
    """

    exchanges: bool = True
    thorough: bool = False


def examine(settings: Settings, scope: Scope) -> Iterator[Finding]:
    """All findings, one after the other as they are made."""
    yield from examine_packages()
    yield from examine_places(settings)
    yield from examine_databases(settings, thorough=scope.thorough)
    if scope.exchanges:
        yield from examine_clocks(settings)
