"""Settings: command line, then environment, then file, then default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from platformdirs import user_config_path
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from zvt_crypto.core.errors import ConfigError
from zvt_crypto.core.schedules import ScheduleEntry, parse_entries

CONFIG_VARIABLE = "ZVT_CRYPTO_CONFIG"


def config_file() -> Path:
    """The settings file: ``$ZVT_CRYPTO_CONFIG``, else ``config.toml`` in the user's configuration folder."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else user_config_path("zvt-crypto") / "config.toml"


def _zvt_data_path() -> Path:
    return Path(os.environ.get("ZVT_HOME") or Path.home() / "zvt-home") / "data"


class Settings(BaseSettings):
    """Everything that can be configured. Each field ``x`` is read from ``ZVT_CRYPTO_X`` too."""

    model_config = SettingsConfigDict(env_prefix="ZVT_CRYPTO_", extra="forbid", frozen=True)

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

    schedule: tuple[ScheduleEntry, ...] = Field(
        default=(), description="What `zvt-crypto schedule` records, and when; [[schedule]] in the file."
    )

    @field_validator("schedule", mode="before")
    @classmethod
    def _entries_are_named_in_errors(cls, value: Any) -> Any:
        return parse_entries(value, where=str(config_file()))

    @field_validator("gateway")
    @classmethod
    def _gateway_is_a_base_url(cls, value: str | None) -> str | None:
        if value is None or value == "":
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

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
