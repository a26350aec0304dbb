"""``zvt-crypto providers``: which exchanges can be recorded, and what they serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli.state import State, Verb

if TYPE_CHECKING:
    from zvt_crypto.exchanges.base import Venue


@click.command(cls=Verb)
@click.pass_obj
def command(state: State, /) -> None:
    """List the exchanges that can be recorded, and what they serve."""
    from zvt_crypto.exchanges.base import venues

    found = [_as_dict(name, venue) for name, venue in sorted(venues().items())]
    if state.as_json:
        state.write_json(found)
        return
    from rich.table import Table

    shown = Table("provider", "markets", "levels", "candles a request", "history", box=None, pad_edge=False)
    for row in found:
        history = "to the listing" if row["history"] else "recent only"
        shown.add_row(
            row["provider"],
            ", ".join(row["entity_types"]),
            " ".join(row["levels"]),
            str(row["candle_page"]),
            history,
        )
    state.print_table(shown)


def _as_dict(name: str, venue: type[Venue]) -> dict[str, Any]:
    capabilities = venue.capabilities
    return {
        "provider": name,
        "entity_types": list(capabilities.entity_types),
        "levels": list(capabilities.levels),
        "candle_page": capabilities.candle_page,
        "history": capabilities.history,
    }
