"""What an export or an import did, file by file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zvt_crypto.core.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_PARTIAL,
    DataQualityFailure,
    ZvtCryptoError,
)
from zvt_crypto.core.levels import iso


@dataclass(slots=True)
class Rejected:
    """Rows that were left out for one reason.

    Attributes:
        rows: How many.
        first: Time of the first one, epoch ms; None where it has none that could be told.
    """

    rows: int = 0
    first: int | None = None

    def add(self, rows: int, first: int | None) -> None:
        """Count more of them."""
        self.rows += rows
        if self.first is None:
            self.first = first


@dataclass(slots=True)
class Outcome:
    """What became of one file.

    Attributes:
        path: The file; None where a series had no rows to write.
        provider: The data source, empty where the file does not tell.
        table: Name of the table, likewise.
        entity_id: The entity, None for a whole table of entities.
        rows: Rows written to the file or stored.
        bytes: Size of the file.
        rejected: Rows that were left out, by reason.
        errors: What went wrong, in order.
    """

    path: Path | None
    provider: str = ""
    table: str = ""
    entity_id: str | None = None
    rows: int = 0
    bytes: int = 0
    rejected: dict[str, Rejected] = field(default_factory=dict)
    errors: list[ZvtCryptoError] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether the file was written or read, if only in part."""
        return self.path is not None and (self.rows > 0 or not self.errors)

    def reject(self, rejected: Mapping[str, Rejected]) -> None:
        """Count rows that were left out."""
        for reason, found in rejected.items():
            self.rejected.setdefault(reason, Rejected()).add(found.rows, found.first)

    def tell_rejected(self) -> None:
        """Make an error of the rows that were left out, if any were."""
        parts = [
            f"{reason} ({found.rows} rows{'' if found.first is None else f', first at {iso(found.first)}'})"
            for reason, found in self.rejected.items()
        ]
        if parts:
            self.errors.append(
                DataQualityFailure(
                    f"{self.path}: rows that cannot be true were left out: {'; '.join(parts)}",
                    suggestions=("the others are stored; correct the file and import it again",),
                    rows=sum(found.rows for found in self.rejected.values()),
                )
            )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": None if self.path is None else str(self.path),
            "provider": self.provider,
            "table": self.table,
            "entity_id": self.entity_id,
            "rows": self.rows,
            "bytes": self.bytes,
            "rejected": {reason: found.rows for reason, found in self.rejected.items()},
            "errors": [error.as_dict() for error in self.errors],
        }


@dataclass(slots=True)
class Report:
    """What became of all files.

    Attributes:
        outcomes: One per file, in the order in which they were dealt with.
        skipped: Files of the folders walked that are no data.
        fatal: What ended it early.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    skipped: int = 0
    fatal: ZvtCryptoError | None = None

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(outcome.rows for outcome in self.outcomes)

    @property
    def bytes(self) -> int:
        """Size of the files that ``files`` counts."""
        return sum(outcome.bytes for outcome in self.outcomes if outcome.is_done)

    @property
    def files(self) -> int:
        """Files that were written, or that rows were stored from."""
        return sum(outcome.is_done for outcome in self.outcomes)

    @property
    def errors(self) -> list[ZvtCryptoError]:
        """All that went wrong; what ended it early comes first."""
        found = [error for outcome in self.outcomes for error in outcome.errors]
        return found if self.fatal is None or self.fatal in found else [self.fatal, *found]

    @property
    def exit_code(self) -> int:
        """0 when all is done, 3 when some is; the errors' own code when nothing is."""
        if not self.errors:
            return EXIT_OK
        if self.rows or any(not outcome.errors for outcome in self.outcomes):
            return EXIT_PARTIAL
        codes = {error.exit_code for error in self.errors}
        return codes.pop() if len(codes) == 1 else EXIT_FAILED

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "files": self.files,
            "rows": self.rows,
            "bytes": self.bytes,
            "skipped": self.skipped,
            "exit_code": self.exit_code,
            "error": None if self.fatal is None else self.fatal.as_dict(),
            "outcomes": [outcome.as_dict() for outcome in self.outcomes],
        }


#: Is called with each outcome as soon as its file is dealt with.
Notify = Callable[[Outcome], None]


def silent(outcome: Outcome) -> None:
    """Tells nobody."""
