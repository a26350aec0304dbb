"""``/api/crypto/providers``: what each provider can do, and how its exchange answers."""

from __future__ import annotations

from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field, RootModel

from zvt_crypto.server import livefacts, providerfacts
from zvt_crypto.server.bodies import json_body
from zvt_crypto.server.services import services
from zvt_crypto.server.tablefacts import TableReader, newest_by_provider
from zvt_crypto.stream.status import published

_TAG = Tag(name="providers", description="What providers can do, and how their exchanges answer.")

State = Literal["operational", "degraded", "down", "unknown"]


class RateLimits(BaseModel):
    """How much may be asked of an exchange."""

    requests_per_minute: int | None = Field(description="Requests of the usual cost.")
    orders_per_minute: int | None
    websocket_connections: int = Field(description="Of this machine at once; 0 where nothing is streamed.")


class DataCapabilities(BaseModel):
    """What can be recorded."""

    entity_types: list[str]
    levels: list[str]
    candle_page: dict[str, int] = Field(description="Most candles of one request, by entity type.")
    candle_reach: dict[str, int | None] = Field(description="Candles back from now; null: to the listing.")
    trades: dict[str, Literal["history", "recent"] | None]
    funding: Literal["history", "recent"] | None
    book_depths: dict[str, list[int]]


class ProviderCapabilities(BaseModel):
    """What a provider can do; null is what is not known."""

    spot_trading: bool = Field(description="Whether orders can be placed through this server.")
    perpetual_trading: bool
    margin_trading: bool
    max_leverage: float | None = Field(description="Largest of the recorded perpetuals.")
    funding_intervals: list[float] | None = Field(description="Hours, of the recorded perpetuals.")
    supported_order_types: list[str]
    websocket_endpoints: list[str] = Field(description="What /ws streams of it: crypto.<name>.")
    rate_limits: RateLimits
    spot_markets: bool
    perpetual_markets: bool
    margin_markets: bool | None = Field(description="Whether any recorded pair allows margin.")
    data: DataCapabilities


class CapabilitiesAnswer(RootModel[dict[str, ProviderCapabilities]]):
    """Capabilities by provider."""


class ApiStatus(BaseModel):
    """One API of an exchange."""

    name: str
    status: State
    paused_until: str | None
    rate_limit_used_ratio: float


class ProviderStatus(BaseModel):
    """How an exchange answered this machine's recorders; null where they did not ask."""

    name: str
    status: State
    api_latency_ms: float | None = Field(description="Mean of the last hour.")
    websocket_connected: bool = Field(
        description="Whether anything of it is streamed now, to be recorded or served."
    )
    last_data_timestamp: str | None = Field(description="Time of the newest recorded row.")
    error_rate_1h: float | None = Field(description="Share of failed requests.")
    uptime_24h: float | None = Field(description="Minutes with an answer, in percent of those with requests.")
    requests_1h: int
    paused_until: str | None = Field(description="End of the pause that the exchange imposes.")
    apis: list[ApiStatus]


class StatusAnswer(BaseModel):
    """Status of all providers."""

    providers: list[ProviderStatus]


def provider_views(tables: TableReader) -> APIBlueprint:
    """The views of ``/api/crypto/providers``.

    Args:
        tables: Tells how new the rows are.
    """
    api = APIBlueprint("providers", __name__, url_prefix="/api/crypto/providers", abp_tags=[_TAG])

    @api.get("/capabilities", summary="What each provider can do", responses={200: CapabilitiesAnswer})
    def capabilities() -> Response:
        return json_body(providerfacts.capabilities(services().store))

    @api.get("/status", summary="How each exchange answers", responses={200: StatusAnswer})
    def status() -> Response:
        newest = newest_by_provider(tables.look(services().settings))
        found = services()
        streams = livefacts.streamed(livefacts.report_of(found.live), published(found.settings))
        connected = livefacts.connected(streams)
        return json_body({"providers": providerfacts.statuses(found.settings, newest, connected)})

    return api
