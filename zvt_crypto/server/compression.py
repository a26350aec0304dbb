"""Answers compressed for clients that ask for it, streams too, with validators that stay right."""

from __future__ import annotations

from typing import Any, Final

from flask import Flask, Response
from flask_compress import Compress

from zvt_crypto.server.answers import MEDIA_TYPE

#: Parquet is compressed already.
_COMPRESSED: Final = (
    *(media for form, media in MEDIA_TYPE.items() if form != "parquet"),
    "text/html",
    "text/css",
    "text/javascript",
    "text/plain",
    "image/svg+xml",
)


def compress_answers(app: Flask) -> None:
    """Let an application answer in zstd or gzip, whichever a client prefers."""
    app.config.update(
        COMPRESS_MIMETYPES=list(_COMPRESSED),
        COMPRESS_ALGORITHM=["zstd", "gzip"],
        COMPRESS_ALGORITHM_STREAMING=["zstd", "gzip"],
        # Rows of numbers become little smaller at higher levels, which take several times as long.
        COMPRESS_LEVEL=1,
        COMPRESS_ZSTD_LEVEL=1,
        COMPRESS_MIN_SIZE=1_000,
    )
    Compress(app)
    # Flask runs these hooks last to first: the tag is weak before Flask-Compress sees it.
    app.after_request(_weaken_tag)
    app.wsgi_app = _CompareWeakly(app.wsgi_app)  # type: ignore[method-assign]


def _weaken_tag(answer: Response) -> Response:
    """The same rows in another encoding are other bytes: one tag for all of them is a weak one."""
    tag, is_weak = answer.get_etag()
    if tag is not None and not is_weak:
        answer.set_etag(tag, weak=True)
    return answer


class _CompareWeakly:
    """Takes weak tags of ``If-None-Match`` for strong ones: it is compared weakly (RFC 9110, 13.1.2)."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        tags = environ.get("HTTP_IF_NONE_MATCH")
        if tags:
            environ["HTTP_IF_NONE_MATCH"] = tags.replace('W/"', '"')
        return self._app(environ, start_response)
