"""``/api/crypto/config``: the settings that concern exchanges; secrets are in no answer."""

from __future__ import annotations

from typing import Any, Final

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field

from zvt_crypto.core.config import ExchangeSettings
from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.server import exchangeconfig
from zvt_crypto.server.admin import require_admin
from zvt_crypto.server.bodies import json_body
from zvt_crypto.server.schemas import FailureAnswer
from zvt_crypto.server.services import services

_TAG = Tag(name="config", description="Settings that concern exchanges.")

#: Days that a recording without a start goes back.
DEFAULT_BACKFILL_DAYS: Final = 30


class ConfigRateLimits(BaseModel):
    """What goes out to an exchange at most; null is no limit, or not known."""

    requests_per_minute: int | None
    burst_limit: int | None


class ExchangeConfig(BaseModel):
    """What is set for an exchange."""

    api_endpoint: str | None
    api_endpoints: dict[str, str] = Field(description="By ccxt's id.")
    websocket_endpoint: str | None = Field(description="Where its trades are streamed.")
    rate_limits: ConfigRateLimits
    enabled: bool
    rate_limit: bool
    concurrency: int
    timeout_seconds: float
    overrides: dict[str, Any] = Field(description="What differs from the general settings.")


class DataCollection(BaseModel):
    """What holds for all recordings."""

    default_backfill_days: int
    max_concurrent_streams: int = Field(description="Subscriptions of one client of /ws.")
    data_quality_checks_enabled: bool
    archives: bool
    max_attempts: int
    uses_gateway: bool
    schedule_entries: int


class ConfigAnswer(BaseModel):
    """The settings that concern exchanges."""

    exchanges: dict[str, ExchangeConfig]
    data_collection: DataCollection


class ExchangePath(BaseModel):
    """Which exchange."""

    exchange_name: str = Field(description="Such as binance, or ccxt's id of any other.", max_length=40)


class ExchangeChange(ExchangeSettings):
    """What to set; null goes back to the general setting, and what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ChangeAnswer(BaseModel):
    """An exchange's settings after a change."""

    exchange: str
    config: ExchangeConfig
    effective: str


def config_views() -> APIBlueprint:
    """The views of ``/api/crypto/config``."""
    api = APIBlueprint("config", __name__, url_prefix="/api/crypto/config", abp_tags=[_TAG])

    @api.before_request
    def admit() -> None:
        # Before the body is looked at.
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            require_admin(services().settings)

    @api.after_request
    def challenge(answer: Response) -> Response:
        if answer.status_code == 401:
            answer.headers["WWW-Authenticate"] = 'Bearer realm="zvt-crypto"'
        return answer

    @api.get("", summary="Settings that concern exchanges", responses={200: ConfigAnswer})
    def config() -> Response:
        settings = services().settings
        return json_body(
            {
                "exchanges": exchangeconfig.described(settings),
                "data_collection": {
                    "default_backfill_days": DEFAULT_BACKFILL_DAYS,
                    "max_concurrent_streams": settings.stream_subscriptions,
                    "data_quality_checks_enabled": True,
                    "archives": settings.archives,
                    "max_attempts": settings.max_attempts,
                    # Its address may hold a password.
                    "uses_gateway": settings.gateway is not None,
                    "schedule_entries": len(settings.schedule),
                },
            }
        )

    @api.put(
        "/exchanges/<exchange_name>",
        summary="Change what is set for an exchange",
        responses={200: ChangeAnswer, 401: FailureAnswer, 403: FailureAnswer},
        security=[{"adminToken": []}],
    )
    def change(path: ExchangePath, body: ExchangeChange) -> Response:
        values = body.model_dump(exclude_unset=True)
        if not values:
            allowed = ", ".join(ExchangeSettings.model_fields)
            raise InvalidArgument("nothing is to be changed", suggestions=(f"give one of {allowed}",))
        settings = services().settings
        exchangeconfig.change(settings, path.exchange_name, values)
        return json_body(
            {
                "exchange": path.exchange_name,
                "config": exchangeconfig.described(settings)[path.exchange_name],
                "effective": "for recordings that start from now on",
            }
        )

    return api
