"""``zvt-crypto providers``: which exchanges can be recorded, and what they serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli.state import State, Verb
from zvt_crypto.core.symbols import PERP

if TYPE_CHECKING:
    from zvt_crypto.exchanges.base import Venue


_REACH = {None: "none", "recent": "newest only", "history": "to the listing"}


@click.command(cls=Verb)
@click.pass_obj
def command(state: State, /) -> None:
    """List the exchanges that can be recorded, and what they serve.

    The provider ccxt serves any other exchange of ccxt's, and then what that one has.
    """
    from zvt_crypto.exchanges.base import venues

    found = [_as_dict(name, venue) for name, venue in sorted(venues().items())]
    if state.as_json:
        state.write_json(found)
        return
    from rich.table import Table

    shown = Table("provider", "markets", "levels", "candles", "trades", "funding", box=None, pad_edge=False)
    for row in found:
        for entity_type in row["entity_types"]:
            if row["serves_many"]:
                shown.add_row(row["provider"], entity_type, " ".join(row["levels"]), *["by exchange"] * 3)
                continue
            reach = row["candle_reach"].get(entity_type)
            shown.add_row(
                row["provider"],
                entity_type,
                " ".join(row["levels"]),
                f"newest {reach}" if reach else "to the listing",
                _REACH[row["trades"].get(entity_type)],
                _REACH[row["funding"]] if entity_type == PERP else "none",
            )
    state.print_table(shown)


def _as_dict(name: str, venue: type[Venue]) -> dict[str, Any]:
    capabilities = venue.capabilities
    return {
        "provider": name,
        "serves_many": venue.serves_many,
        "entity_types": list(capabilities.entity_types),
        "levels": list(capabilities.levels),
        "candle_page": dict(capabilities.candle_page),
        "candle_reach": dict(capabilities.candle_reach),
        "trades": dict(capabilities.trades),
        "funding": capabilities.funding,
        "book_depths": {kind: list(depths) for kind, depths in capabilities.book_depths.items()},
    }
