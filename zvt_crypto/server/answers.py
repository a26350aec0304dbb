"""Rows as the body of an answer, in the form that a client asks for."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from flask import Response, request
from werkzeug.exceptions import NotAcceptable

from zvt_crypto.server.errors import trace_id
from zvt_crypto.server.rowjson import json_rows
from zvt_crypto.store.answer import iso_texts

logger = logging.getLogger(__name__)

#: Media type of each form of an answer.
MEDIA_TYPE: Final = {
    "json": "application/json",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
    "ndjson": "application/x-ndjson",
}
_CONTENT_TYPE: Final = {**MEDIA_TYPE, "csv": "text/csv; charset=utf-8"}


def wanted_form(given: str | None) -> str:
    """The form of the answer: the parameter's, else what the Accept header likes best, else JSON.

    Raises:
        NotAcceptable: The Accept header allows none of the forms.
    """
    if given is not None:
        return given
    accepted = request.accept_mimetypes
    if not accepted:
        return "json"
    best = accepted.best_match(list(MEDIA_TYPE.values()))
    if best is None:
        raise NotAcceptable(
            f"no form of an answer is {str(accepted)[:80]!r}; there are {', '.join(MEDIA_TYPE.values())}"
        )
    return next(form for form, media in MEDIA_TYPE.items() if media == best)


def json_page(rows: pa.Table, *, total: int, page: int, page_size: int, following: str | None) -> Response:
    """A page of rows as ``crypto-api.md`` has it."""
    facts = {"total": total, "page": page, "page_size": page_size, "next": following}
    # In parts: the rows are megabytes, and joining copies them.
    body = [b'{"data":[', json_rows(rows), b"]," + orjson.dumps(facts)[1:]]
    return Response(body, content_type=MEDIA_TYPE["json"])


def bulk(form: str, schema: pa.Schema, batches: Iterator[pa.Table], name: str) -> Response:
    """All rows as a stream; memory holds one batch at a time.

    Args:
        form: One of ``MEDIA_TYPE`` but JSON.
        schema: Columns of the rows.
        batches: The rows.
        name: What a browser calls the file.
    """
    # What cannot be read at all is told as an error, before the first byte is out.
    first = list(itertools.islice(batches, 1))
    parts: Iterable[bytes] = ()
    if request.method != "HEAD":
        parts = _told(_STREAMS[form](schema, itertools.chain(first, batches)), trace_id())
    answer = Response(parts, content_type=_CONTENT_TYPE[form])
    ending = {"arrow": "arrows"}.get(form, form)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.{ending}"'
    return answer


def _told(parts: Iterator[bytes], trace: str) -> Iterator[bytes]:
    """The parts; what fails between them can only break the connection off, and is told in the log."""
    try:
        yield from parts
    except Exception:
        logger.exception("%s the answer was broken off", trace)
        raise


class _Sink(io.RawIOBase):
    """Collects what a writer writes until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def _arrow(schema: pa.Schema, batches: Iterable[pa.Table]) -> Iterator[bytes]:
    sink = _Sink()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), schema) as writer:
        yield sink.take()
        for batch in batches:
            writer.write_table(batch)
            yield sink.take()
    yield sink.take()


def _parquet(schema: pa.Schema, batches: Iterable[pa.Table]) -> Iterator[bytes]:
    sink = _Sink()
    with pa_parquet.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        yield sink.take()
        for batch in batches:
            writer.write_table(batch)
            yield sink.take()
    yield sink.take()


def _csv(schema: pa.Schema, batches: Iterable[pa.Table]) -> Iterator[bytes]:
    sink = _Sink()
    texted = _texted(schema.empty_table()).schema
    with pa_csv.CSVWriter(sink, texted, write_options=pa_csv.WriteOptions(quoting_style="needed")) as writer:
        yield sink.take()
        for batch in batches:
            writer.write_table(_texted(batch))
            yield sink.take()
    yield sink.take()


def _ndjson(schema: pa.Schema, batches: Iterable[pa.Table]) -> Iterator[bytes]:
    for batch in batches:
        yield json_rows(batch, separator="\n") + b"\n"


def _texted(rows: pa.Table) -> pa.Table:
    """Times as ISO 8601 text."""
    for i, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            rows = rows.set_column(i, field.name, iso_texts(rows.column(i)))
    return rows


_STREAMS: Final[dict[str, Callable[[pa.Schema, Iterable[pa.Table]], Iterator[bytes]]]] = {
    "csv": _csv,
    "arrow": _arrow,
    "parquet": _parquet,
    "ndjson": _ndjson,
}
