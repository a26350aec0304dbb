"""What a run did: one outcome per symbol and table, and how it looks while it happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from zvt_crypto.core.errors import EXIT_FAILED, EXIT_OK, EXIT_PARTIAL, FatalError, ZvtCryptoError


@dataclass(slots=True)
class Outcome:
    """What became of one symbol of one table.

    Attributes:
        table: Name of the table.
        entity_id: The entity.
        rows: Rows received and stored, those that were there already included.
        requests: Requests that it took.
        errors: What went wrong, in order; empty for a symbol that is complete.
        notes: What did not go as planned but was put right, in order.
        answered: What the exchange answered for, where only some stretches of time were wanted.
    """

    table: str
    entity_id: str
    rows: int = 0
    requests: int = 0
    errors: list[ZvtCryptoError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    answered: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What a run did, for all symbols and tables."""

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Rows stored."""
        return sum(outcome.rows for outcome in self.outcomes)

    @property
    def requests(self) -> int:
        """Requests made for rows."""
        return sum(outcome.requests for outcome in self.outcomes)

    @property
    def failed(self) -> list[Outcome]:
        """Symbols that are not complete."""
        return [outcome for outcome in self.outcomes if outcome.errors]

    @property
    def exit_code(self) -> int:
        """0 when all is complete, 3 when some is; the error's own code when nothing is."""
        if not self.failed:
            return EXIT_OK
        if len(self.failed) < len(self.outcomes) or self.rows:
            return EXIT_PARTIAL
        codes = {outcome.errors[0].exit_code for outcome in self.failed}
        return codes.pop() if len(codes) == 1 else EXIT_FAILED

    def raise_first(self) -> None:
        """Raise what went wrong first, the fatal before the rest, if anything did."""
        errors = [error for outcome in self.failed for error in outcome.errors]
        for error in sorted(errors, key=lambda error: not isinstance(error, FatalError)):
            raise error


class Progress(Protocol):
    """Is told what happens, from the event loop's thread."""

    def planned(self, outcome: Outcome, rows: int) -> None:
        """A symbol will be fetched; ``rows`` is how many candles its missing ranges hold at most.

        Trades and funding events count minutes instead.
        """

    def started(self, outcome: Outcome) -> None:
        """The symbol's first page is asked for."""

    def advanced(self, outcome: Outcome, rows: int) -> None:
        """``rows`` more of what was planned are dealt with."""

    def finished(self, outcome: Outcome) -> None:
        """Nothing more will be fetched for the symbol."""


class Silent:
    """Shows nothing."""

    def planned(self, outcome: Outcome, rows: int) -> None:
        """Ignored."""

    def started(self, outcome: Outcome) -> None:
        """Ignored."""

    def advanced(self, outcome: Outcome, rows: int) -> None:
        """Ignored."""

    def finished(self, outcome: Outcome) -> None:
        """Ignored."""
