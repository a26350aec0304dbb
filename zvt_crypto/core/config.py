"""Settings: command line, then environment, then file, then default."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from zvt_crypto.core.errors import ConfigError
from zvt_crypto.core.schedules import ScheduleEntry, parse_entries

CONFIG_VARIABLE = "ZVT_CRYPTO_CONFIG"

#: A shorter token could be guessed.
LEAST_TOKEN: Final = 16
_EXCHANGE_NAME: Final = re.compile(r"[a-z0-9]{1,40}")


def config_file() -> Path:
    """The settings file: ``$ZVT_CRYPTO_CONFIG``, else ``config.toml`` in the user's configuration folder."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else user_config_path("zvt-crypto") / "config.toml"


def _zvt_data_path() -> Path:
    return Path(os.environ.get("ZVT_HOME") or Path.home() / "zvt-home") / "data"


class ExchangeSettings(BaseModel):
    """What holds for one exchange instead of the general setting; ``[exchange.<name>]`` in the file.

    None leaves the general setting in force.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    enabled: bool | None = Field(default=None, description="Whether the exchange may be asked at all.")
    rate_limit: bool | None = Field(default=None, description="Keep to the published request budget.")
    concurrency: int | None = Field(default=None, ge=1, le=64, description="Requests under way at once.")
    timeout_seconds: float | None = Field(
        default=None, gt=0, le=600, allow_inf_nan=False, description="How long to wait for one answer."
    )


class Settings(BaseSettings):
    """Everything that can be configured. Each field ``x`` is read from ``ZVT_CRYPTO_X`` too."""

    model_config = SettingsConfigDict(
        env_prefix="ZVT_CRYPTO_",
        extra="forbid",
        frozen=True,
        # A value that is wrong may be a secret.
        hide_input_in_errors=True,
    )

    data_path: Path = Field(
        default_factory=_zvt_data_path,
        description="Folder of the databases; zvt's own data folder by default.",
    )
    gateway: str | None = Field(
        default=None,
        description="http://host:port that receives every call to every exchange, for proxies and tests.",
    )
    rate_limit: bool = Field(default=True, description="Keep to the venues' published request budgets.")
    concurrency: int = Field(default=8, ge=1, le=64, description="Requests under way at once per venue.")
    timeout_seconds: float = Field(default=20.0, gt=0, description="How long to wait for one answer.")
    max_attempts: int = Field(
        default=5, ge=1, le=20, description="How often a failed request is tried in all."
    )
    retry_wait_seconds: float = Field(
        default=1.0, gt=0, description="First pause before a retry; it doubles, with jitter, up to a minute."
    )
    busy_timeout_seconds: float = Field(
        default=30.0, ge=0, description="How long to wait for another process that writes to the same table."
    )

    archives: bool = Field(
        default=True,
        description="Fetch whole months and days from the venues' public archives where that saves requests.",
    )
    segments: bool = Field(
        default=True,
        description="Keep columnar copies of settled history beside the databases, for speed.",
    )

    public_requests_per_minute: int = Field(
        default=1_000,
        ge=0,
        description="Requests a minute that the server answers one client; 0 is no limit.",
    )
    limits_storage: str = Field(
        default="memory://",
        description="Where requests are counted: memory://, or redis://host:6379 for several servers.",
    )
    trusted_proxies: int = Field(
        default=0,
        ge=0,
        le=10,
        description="Proxies in front of the server whose X-Forwarded-For and -Proto are believed.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Origins whose pages may read the server's answers, such as https://charts.example.org.",
    )
    server_threads: int = Field(
        default=8, ge=1, le=256, description="Requests that the server works on at once; more of them wait."
    )
    server_requests: int = Field(
        default=512, ge=1, description="Requests under way or waiting; beyond, the server answers 503."
    )
    server_streams: int = Field(
        default=8, ge=1, le=256, description="Streams of many rows at once; beyond, the server answers 503."
    )
    receive_timeout_seconds: float = Field(
        default=20.0, gt=0, description="How long a client of the server may take to send a request."
    )
    send_timeout_seconds: float = Field(
        default=30.0, gt=0, description="How long a client of the server may read nothing of its answer."
    )

    stream_connections_per_client: int = Field(
        default=5, ge=0, description="WebSocket connections of one client at once; 0 is no limit."
    )
    stream_connections: int = Field(
        default=1_000, ge=1, description="WebSocket connections at once; beyond, the server answers 503."
    )
    stream_subscriptions: int = Field(
        default=200, ge=1, le=2_000, description="Channels that one WebSocket connection may subscribe to."
    )

    exchange: Mapping[str, ExchangeSettings] = Field(
        default_factory=dict, description="What differs for single exchanges: [exchange.<name>] in the file."
    )
    admin_token: SecretStr | None = Field(
        default=None,
        description=f"What changes of the settings over HTTP need; {LEAST_TOKEN} characters or more.",
    )

    schedule: tuple[ScheduleEntry, ...] = Field(
        default=(), description="What `zvt-crypto schedule` records, and when; [[schedule]] in the file."
    )

    @field_validator("schedule", mode="before")
    @classmethod
    def _entries_are_named_in_errors(cls, value: Any) -> Any:
        return parse_entries(value, where=str(config_file()))

    @field_validator("exchange")
    @classmethod
    def _exchanges_have_names(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in value:
            if not _EXCHANGE_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of an exchange: write it as binance")
        return value

    @field_validator("admin_token")
    @classmethod
    def _token_is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < LEAST_TOKEN:
            raise ValueError(f"must have {LEAST_TOKEN} characters or more")
        return value

    @field_validator("gateway")
    @classmethod
    def _gateway_is_a_base_url(cls, value: str | None) -> str | None:
        if value is None or value == "":
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("cors_origins")
    @classmethod
    def _cors_origins_are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or not parts.netloc
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"{origin!r} is no origin; write it as https://charts.example.org")
        return value

    def of_exchange(self, exchange: str) -> Settings:
        """The settings with what differs for an exchange put in their place."""
        own = self.exchange.get(exchange, ExchangeSettings())
        return self.model_copy(update=own.model_dump(exclude={"enabled"}, exclude_none=True))

    def is_enabled(self, exchange: str) -> bool:
        """Whether an exchange may be asked."""
        return self.exchange.get(exchange, ExchangeSettings()).enabled is not False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of precedence: arguments, environment, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_file())


def switched_off(exchange: str) -> ConfigError:
    """The error of a request to an exchange that is not enabled."""
    return ConfigError(
        f"exchange {exchange} is switched off in the settings",
        suggestions=(f"set enabled = true under [exchange.{exchange}] in {config_file()}",),
        setting=f"exchange.{exchange}.enabled",
    )


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; an override that is None counts as not given.

    Raises:
        ConfigError: A value is not allowed, a name in the file is unknown, or the file is not TOML.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"setting {name!r} is wrong: {first['msg']}",
            suggestions=(
                f"correct it on the command line, in ZVT_CRYPTO_{name.upper()}, or in {config_file()}",
            ),
            setting=name,
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{config_file()} cannot be read: {error}", suggestions=("correct the file",)
        ) from error
