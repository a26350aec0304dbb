"""How much may be asked: requests a minute of one client, bytes of a request, streams at once."""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from typing import Final

from flask import Flask, Response, request
from flask_limiter import Limiter, RateLimitExceeded
from limits.errors import ConfigurationError
from werkzeug.middleware.proxy_fix import ProxyFix

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ConfigError
from zvt_crypto.server.counts import MemoryCounts
from zvt_crypto.server.errors import error_response

logger = logging.getLogger(__name__)

#: Bytes of a request's body; the bodies of the contract are far smaller.
MOST_BODY_BYTES: Final = 1 << 20

#: Bits of an IPv6 address that tell customers apart; one of them has all addresses that begin so.
_IPV6_PREFIX: Final = 64


def apply_limits(app: Flask, settings: Settings) -> None:
    """Hold an application to the limits of the settings.

    Raises:
        ConfigError: Requests cannot be counted where ``limits_storage`` says.
    """
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=0)  # type: ignore[method-assign]
    # Flask runs these hooks last to first.
    _limit_streams(app, settings.server_streams)
    if settings.public_requests_per_minute:
        app.after_request(_only_refusals_tell_when_to_retry)
        _limit_rate(app, settings.public_requests_per_minute, settings.limits_storage)


def client_network() -> str:
    """Whose requests are counted together: an IPv4 address, or the network of an IPv6 one."""
    return network_of(request.remote_addr or "unknown")


def network_of(address: str) -> str:
    """The IPv4 address, or the network of an IPv6 address, that a client is known by."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _IPV6_PREFIX), strict=False))


def _limit_rate(app: Flask, per_minute: int, storage: str) -> None:
    try:
        limiter = Limiter(
            client_network,
            application_limits=[f"{per_minute} per minute"],
            storage_uri=f"{MemoryCounts.STORAGE_SCHEME[0]}://" if storage == "memory://" else storage,
            headers_enabled=True,
            # Where requests are counted must not decide whether they are answered.
            in_memory_fallback_enabled=True,
        )
        limiter.init_app(app)
    except ConfigurationError as error:
        raise ConfigError(
            f"setting 'limits_storage' is {storage!r}: {' '.join(str(error).split())}",
            suggestions=("give memory://, or redis://host:6379 with the package redis installed",),
            setting="limits_storage",
        ) from error

    @app.errorhandler(RateLimitExceeded)
    def too_many(error: RateLimitExceeded) -> Response:
        current = limiter.current_limit
        wait = 60 if current is None else max(0, current.reset_at - int(time.time()))
        logger.info("%s asked more than %d times a minute", client_network(), per_minute)
        return error_response(
            429,
            "CRYPTO_RATE_LIMIT_EXCEEDED",
            f"more than {per_minute} requests in a minute",
            {"limit": per_minute, "retry_after_seconds": wait},
            (f"wait {wait} seconds; X-RateLimit-Remaining of each answer says how many requests are left",),
        )


def _only_refusals_tell_when_to_retry(answer: Response) -> Response:
    """Flask-Limiter tells it with every answer."""
    if answer.status_code not in (429, 503):
        answer.headers.pop("Retry-After", None)
    return answer


def _limit_streams(app: Flask, most: int) -> None:
    """Refuse further streams: each holds a thread and a snapshot of a database until it is read."""
    slots = threading.BoundedSemaphore(most)

    @app.after_request
    def take_slot(answer: Response) -> Response:
        if not answer.is_streamed:
            return answer
        if slots.acquire(blocking=False):
            answer.call_on_close(slots.release)
            return answer
        answer.close()
        return error_response(
            503,
            "CRYPTO_SERVER_BUSY",
            f"{most} streams are under way, which is as many as there may be",
            {"limit": most, "retry_after_seconds": 5},
            ("ask again in a few seconds, or for fewer rows in JSON",),
        )
