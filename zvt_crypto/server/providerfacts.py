"""What each provider can do, by its venue file and its recorded instruments, and how its exchange answers."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import iso
from zvt_crypto.core.symbols import PAIR, PERP
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import entities
from zvt_crypto.exchanges.base import Capabilities, Venue, venues
from zvt_crypto.exchanges.budget import Pause
from zvt_crypto.exchanges.client import CCXT
from zvt_crypto.exchanges.health import Health, health_path, read_health
from zvt_crypto.server.clock import now_ms
from zvt_crypto.store.engine import Store
from zvt_crypto.stream.broadcast.channels import STREAMS

#: States of an exchange, the worst first.
_WORST: Final = ("down", "degraded", "operational", "unknown")


class ApiHealth(NamedTuple):
    """What was measured of one API of an exchange: some have one for pairs and one for perpetuals.

    Attributes:
        name: ccxt's id.
        health: The measurements.
        paused_until: End of the pause that the exchange imposes, epoch ms; None where it imposes none.
    """

    name: str
    health: Health
    paused_until: int | None

    @property
    def state(self) -> str:
        """As ``Health.state``; one that imposes a pause is degraded."""
        return self.health.state if self.paused_until is None else "degraded"


def capabilities(store: Store) -> dict[str, dict[str, Any]]:
    """What each provider can do, in the shape of ``crypto-api.md``; null is what is not known.

    Orders are not served yet, whatever the exchange has.
    """
    return {name: _capabilities(store, venue) for name, venue in sorted(venues().items())}


def _capabilities(store: Store, venue: type[Venue]) -> dict[str, Any]:
    can = venue.capabilities
    endpoint = venue.endpoints.get(venue.ccxt_ids.get(PAIR, ""))
    perps = _recorded(store, venue.name, entities.PERP, "max(max_leverage)")
    margin = _recorded(store, venue.name, entities.PAIR, "max(margin_enabled)")
    intervals = _recorded(store, venue.name, entities.PERP, "group_concat(DISTINCT funding_interval_hours)")
    return {
        "spot_trading": False,
        "perpetual_trading": False,
        "margin_trading": False,
        "max_leverage": None if perps is None else float(perps),
        "funding_intervals": None if intervals is None else sorted(map(_hours, str(intervals).split(","))),
        "supported_order_types": [],
        "websocket_endpoints": _streams(venue),
        "rate_limits": {
            "requests_per_minute": None if endpoint is None else endpoint.requests_per_minute,
            "orders_per_minute": None,
            "websocket_connections": 0 if venue.streams is None else venue.streams.limits.connections,
        },
        "spot_markets": PAIR in can.entity_types,
        "perpetual_markets": PERP in can.entity_types,
        "margin_markets": None if margin is None else bool(margin),
        "data": _data(can),
    }


def _streams(venue: type[Venue]) -> list[str]:
    """What ``/ws`` streams of a provider, as ``crypto-api.md`` names it; candles may be made of trades."""
    feeds = set() if venue.streams is None else set().union(*venue.streams.feeds.values())
    if "trades" in feeds:
        feeds.add("candles")
    return [stream.partition(".")[2] for stream, feed in STREAMS.items() if feed in feeds]


def _data(can: Capabilities) -> dict[str, Any]:
    return {
        "entity_types": list(can.entity_types),
        "levels": list(can.levels),
        "candle_page": dict(can.candle_page),
        "candle_reach": {kind: can.candle_reach.get(kind) for kind in can.entity_types},
        "trades": {kind: can.trades.get(kind) for kind in can.entity_types},
        "funding": can.funding,
        "book_depths": {kind: list(can.book_depths.get(kind, ())) for kind in can.entity_types},
    }


def _hours(text: str) -> float:
    hours = float(text)
    return int(hours) if hours.is_integer() else hours


def _recorded(store: Store, provider: str, spec: TableSpec, expression: str) -> Any:
    """An aggregate over a provider's instruments; None where none are recorded, or none tell."""
    if not store.exists(provider, spec):
        return None
    with store.reading(provider, spec) as connection:
        return connection.value(f"SELECT {expression} FROM {spec.name}")


def state_dir(settings: Settings) -> Path:
    """The folder in which recorders keep what they tell each other, beside the data folder."""
    return settings.data_path.parent / "state"


def measured(settings: Settings) -> dict[str, list[ApiHealth]]:
    """What was measured of each provider's APIs, of the exchanges of ccxt's too."""
    folder = state_dir(settings)
    found = {name: sorted(set(venue.ccxt_ids.values())) for name, venue in sorted(venues().items())}
    own = {name for names in found.values() for name in names}
    if folder.is_dir():
        others = {path.stem for path in folder.glob("*.health")} - own
        found[CCXT] = sorted([*found.get(CCXT, ()), *others])
    return {provider: [_api(folder, name) for name in names] for provider, names in found.items()}


def _api(folder: Path, name: str) -> ApiHealth:
    seconds = Pause(name, folder / f"{name}.json").remaining()
    until = int(now_ms() + seconds * 1000) if seconds else None
    return ApiHealth(name, read_health([health_path(folder, name)]), until)


def statuses(
    settings: Settings, newest: Mapping[str, int], connected: Container[str]
) -> list[dict[str, Any]]:
    """The health of each provider, in the shape of ``crypto-api.md``.

    Args:
        settings: Where it was measured.
        newest: Provider -> time of its newest row, epoch ms.
        connected: The providers of which anything is streamed now.
    """
    folder = state_dir(settings)
    return [
        _status(provider, apis, read_health([health_path(folder, api.name) for api in apis]), newest)
        | {"websocket_connected": provider in connected}
        for provider, apis in measured(settings).items()
    ]


def worst_state(apis: list[ApiHealth]) -> str:
    """The worst state of an exchange's APIs; ``unknown`` where none was asked in the last hour."""
    states = {api.state for api in apis}
    return next((state for state in _WORST if state in states), "unknown")


def _status(
    provider: str, apis: list[ApiHealth], together: Health, newest: Mapping[str, int]
) -> dict[str, Any]:
    hour = together.hour
    last = newest.get(provider)
    return {
        "name": provider,
        "status": worst_state(apis),
        "api_latency_ms": _rounded(hour.mean_latency_ms, 1),
        "websocket_connected": False,
        "last_data_timestamp": None if last is None else iso(last),
        "error_rate_1h": _rounded(hour.error_rate, 4),
        "uptime_24h": _rounded(together.uptime_pct, 2),
        "requests_1h": hour.requests,
        "paused_until": _latest([api.paused_until for api in apis]),
        "apis": [
            {
                "name": api.name,
                "status": api.state,
                "paused_until": _latest([api.paused_until]),
                "rate_limit_used_ratio": round(api.health.used_ratio, 4),
            }
            for api in apis
        ],
    }


def _latest(times: list[int | None]) -> str | None:
    known = [time for time in times if time is not None]
    return iso(max(known)) if known else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
