"""Who may change settings over HTTP: whoever has the token of the settings."""

from __future__ import annotations

import hmac

from flask import request

from zvt_crypto.core.config import LEAST_TOKEN, Settings
from zvt_crypto.core.errors import AuthError, FatalError

_SCHEME = "Bearer "


class AdminDisabled(FatalError):
    """No token is set, so that nobody may."""

    code = "CRYPTO_ADMIN_DISABLED"
    http_status = 403
    default_suggestions = (
        f'set admin_token = "..." ({LEAST_TOKEN} characters or more) in the settings file, or'
        " ZVT_CRYPTO_ADMIN_TOKEN, and start the server anew",
    )


def require_admin(settings: Settings) -> None:
    """Do nothing for a request that bears the token.

    Raises:
        AdminDisabled: No token is set.
        AuthError: The request has none, or another.
    """
    if settings.admin_token is None:
        raise AdminDisabled("settings cannot be changed over HTTP: no admin token is set")
    given = request.headers.get("Authorization", "")
    token = given.removeprefix(_SCHEME) if given.startswith(_SCHEME) else ""
    if not hmac.compare_digest(token.encode(), settings.admin_token.get_secret_value().encode()):
        raise AuthError(
            "the admin token is wrong" if token else "settings are changed with the admin token only",
            suggestions=("send the header Authorization: Bearer <admin token>",),
        )
