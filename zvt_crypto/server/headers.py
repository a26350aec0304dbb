"""Headers that keep browsers from doing with an answer what it is not for."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response

_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
#: Rows are no page: a browser that is led to show them as one must run and load nothing.
_DATA_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
#: Everything of a page comes from this server. plotly styles its elements in place and draws into data URLs.
_PAGE_POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def add_security_headers(app: Flask) -> None:
    """Send the headers with every answer; a view that sets one of them itself is left alone."""

    @app.after_request
    def add(answer: Response) -> Response:
        for name, value in _ALWAYS.items():
            answer.headers.setdefault(name, value)
        policy = _PAGE_POLICY if answer.mimetype == "text/html" else _DATA_POLICY
        answer.headers.setdefault("Content-Security-Policy", policy)
        return answer
