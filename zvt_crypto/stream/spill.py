"""Pages that wait on disk until their table takes them: Arrow streams, one file at a time, in order."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa

from zvt_crypto.core.tables import TableSpec
from zvt_crypto.store import coverage
from zvt_crypto.store.writer import Entity, Page

logger = logging.getLogger(__name__)

_SUFFIX: Final = ".arrow"
_PAGE: Final = b"page"


@dataclass(frozen=True, slots=True)
class Spilled:
    """A page as it stands in a file: with its entity, since keys are the table's own business."""

    entity: Entity
    batch: pa.Table
    answered: tuple[coverage.Span, ...]
    streamed: tuple[coverage.Span, ...]
    source: str

    def page(self, key: int) -> Page:
        """The page for the table."""
        return Page(key, self.batch, self.answered, source=self.source, streamed=self.streamed)


class Spills:
    """The files of one table.

    Args:
        folder: Where they are; made when first needed.
        spec: The table.
    """

    def __init__(self, folder: Path, spec: TableSpec) -> None:
        self._folder = folder
        self._spec = spec
        self._numbers = count()

    def files(self) -> list[Path]:
        """Those that wait, the oldest first."""
        if not self._folder.is_dir():
            return []
        return sorted(self._folder.glob(f"*{_SUFFIX}"))

    def write(self, pages: Sequence[Page], entities: Mapping[int, Entity]) -> None:
        """Put pages aside; they are on disk when this returns.

        Raises:
            OSError: The disk is full, or cannot be written; then nothing is left behind.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(self._numbers):06d}"
        draft, path = self._folder / f"{name}.tmp", self._folder / f"{name}{_SUFFIX}"
        try:
            with draft.open("wb") as file:
                with pa.ipc.new_stream(file, self._spec.schema) as stream:
                    for page in pages:
                        facts = {_PAGE: _facts(page, entities[page.key])}
                        for batch in page.batch.combine_chunks().to_batches() or [_no_rows(self._spec)]:
                            stream.write_batch(batch, custom_metadata=facts)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    def read(self, path: Path) -> tuple[list[Spilled], bool]:
        """The pages of a file, and whether these are all: of one that is damaged, those before the damage."""
        found: list[Spilled] = []
        try:
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                if not stream.schema.equals(self._spec.schema):
                    raise ValueError(f"its columns are {stream.schema.names}")
                while True:
                    batch, facts = stream.read_next_batch_with_custom_metadata()
                    found.append(_spilled(pa.Table.from_batches([batch]), orjson.loads(facts[_PAGE])))
        except (StopIteration, FileNotFoundError):  # another process has stored it
            pass
        except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError) as error:
            logger.error("%s is damaged, %d pages of it are read: %s", path, len(found), error)
            return found, False
        return found, True


def _facts(page: Page, entity: Entity) -> bytes:
    return orjson.dumps(
        {
            "entity": [entity.entity_id, entity.code, entity.name],
            "answered": page.answered,
            "streamed": page.streamed,
            "source": page.source,
        }
    )


def _spilled(batch: pa.Table, facts: Mapping[str, Any]) -> Spilled:
    answered, streamed = (tuple((a, b) for a, b in facts[name]) for name in ("answered", "streamed"))
    return Spilled(Entity(*facts["entity"]), batch, answered, streamed, facts["source"])


def _no_rows(spec: TableSpec) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=spec.schema)
