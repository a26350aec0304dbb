"""The page at ``/``, the API reference at ``/docs``, and what both load; all of it from this server."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Final

from flask import Blueprint, Response, abort, render_template, request

_YEAR_SECONDS: Final = 31_536_000
#: Nothing from elsewhere and no script inside a page, so that no recorded name can ever become one.
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGES: Final = "zvt_crypto.server.pages"
#: Name of an asset -> the package that has it, its path there, and its type.
_ASSETS: Final = {
    "page.js": (_PAGES, "page.js", "text/javascript; charset=utf-8"),
    "page.css": (_PAGES, "page.css", "text/css; charset=utf-8"),
    "live.js": (_PAGES, "live.js", "text/javascript; charset=utf-8"),
    "docs.js": (_PAGES, "docs.js", "text/javascript; charset=utf-8"),
    "icon.svg": (_PAGES, "icon.svg", "image/svg+xml"),
    "plotly.css": (_PAGES, "plotly.css", "text/css; charset=utf-8"),
    "plotly.js": ("plotly", "package_data/plotly.min.js", "text/javascript; charset=utf-8"),
    "swagger-ui.js": (
        "flask_openapi3_swagger",
        "templates/swagger/js/swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
    ),
    "swagger-ui.css": (
        "flask_openapi3_swagger",
        "templates/swagger/css/swagger-ui.css",
        "text/css; charset=utf-8",
    ),
}


@dataclass(frozen=True)
class Asset:
    """A file that a page loads.

    Attributes:
        body: Its bytes.
        media_type: Its type.
    """

    body: bytes
    media_type: str

    @cached_property
    def tag(self) -> str:
        """What changes with the contents; part of the address, so that browsers may keep the file."""
        return hashlib.sha256(self.body).hexdigest()[:16]

    @cached_property
    def compressed(self) -> bytes:
        """The bytes in gzip, made once."""
        return gzip.compress(self.body, mtime=0)


def page_views() -> Blueprint:
    """The pages, which are not part of the API."""
    pages = Blueprint("pages", __name__, template_folder="pages")

    @pages.get("/")
    def page() -> Response:
        return _page("page.html")

    @pages.get("/docs")
    def docs() -> Response:
        return _page("docs.html")

    @pages.get("/assets/<tag>/<name>")
    def asset(tag: str, name: str) -> Response:
        if name not in _ASSETS or _asset(name).tag != tag:
            abort(404)
        return _asset_response(_asset(name))

    return pages


@cache
def _asset(name: str) -> Asset:
    package, path, media_type = _ASSETS[name]
    return Asset((files(package) / path).read_bytes(), media_type)


def _address(name: str) -> str:
    """Relative to the page: a proxy may have put the server under a path."""
    return f"assets/{_asset(name).tag}/{name}"


def _page(template: str) -> Response:
    answer = Response(render_template(template, asset=_address), content_type="text/html; charset=utf-8")
    answer.headers["Content-Security-Policy"] = _PAGE_POLICY
    answer.headers["Cache-Control"] = "no-cache"
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


def _asset_response(asset: Asset) -> Response:
    is_compressed = request.accept_encodings.quality("gzip") > 0
    answer = Response(asset.compressed if is_compressed else asset.body, content_type=asset.media_type)
    if is_compressed:
        answer.headers["Content-Encoding"] = "gzip"
    answer.headers["Vary"] = "Accept-Encoding"
    answer.headers["Cache-Control"] = f"public, max-age={_YEAR_SECONDS}, immutable"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer
