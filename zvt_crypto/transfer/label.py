"""The label inside a file: whose rows it holds, and for which times they are all there are.

It is kept in the file's schema metadata under ``zvt_crypto``, as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from zvt_crypto.core.errors import DataQualityFailure
from zvt_crypto.core.levels import merge_spans
from zvt_crypto.transfer.conversion import TIME_END

Span = tuple[int, int]

KEY: Final = b"zvt_crypto"


class Label(BaseModel):
    """What a file says about itself.

    Attributes:
        format: Version of the label.
        table: Name of the table.
        provider: The data source.
        entity_id: The entity; None for a table of entities.
        code: Its code.
        name: The market's name, such as ``BTC/USDT``.
        level: Level of the candles.
        coverage: Half-open spans, epoch ms, for which the exchange answered: what is missing inside does not
            exist.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    format: Literal[1] = 1
    table: str
    provider: str
    entity_id: str | None = None
    code: str | None = None
    name: str | None = None
    level: str | None = None
    coverage: tuple[Span, ...] = ()

    @field_validator("coverage")
    @classmethod
    def _spans_are_times(cls, spans: tuple[Span, ...]) -> tuple[Span, ...]:
        if not all(0 <= start < end <= TIME_END for start, end in spans):
            raise ValueError("spans must lie between 1970 and 2100 and end after they start")
        return tuple(merge_spans(spans))

    def metadata(self) -> dict[bytes, bytes]:
        """As the metadata of an Arrow schema."""
        return {KEY: self.model_dump_json().encode()}


def label_in(metadata: Mapping[bytes, bytes] | None) -> Label | None:
    """The label in the metadata of an Arrow schema, None where there is none.

    Raises:
        DataQualityFailure: It is damaged, or of a later version.
    """
    text = (metadata or {}).get(KEY)
    if text is None:
        return None
    try:
        return Label.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise DataQualityFailure(
            f"the file's own label is wrong: {name}: {first['msg']}",
            suggestions=("export it again with this version of zvt-crypto",),
        ) from error
