"""What was found out about stretches of an entity's time, and how, beside the ledger of what was asked.

A hole that was asked for again in a later run and stayed empty is proven under its kind; rows that were
put right are noted as ``REBUILT`` (made of recorded trades) and ``CORRECTED`` (brought in line with the
exchange). Spans are half-open, in epoch milliseconds UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pyarrow as pa

from zvt_crypto.store.sqlite import Connection

REBUILT: Final = "rebuilt"
CORRECTED: Final = "corrected"

_INSERT: Final = (
    "INSERT INTO proofs (start, stop, kind, evidence, proved_at, entity) VALUES (?, ?, ?, ?, ?, {entity:d})"
    " ON CONFLICT DO UPDATE SET evidence = excluded.evidence, proved_at = excluded.proved_at"
)


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a stretch of time.

    Attributes:
        start: First time, epoch ms.
        stop: End of the times, exclusive.
        kind: Kind of the hole, or what was done about it.
        evidence: Machine-readable facts.
        proved_at: When that was found, epoch ms UTC.
    """

    start: int
    stop: int
    kind: str
    evidence: tuple[dict[str, Any], ...]
    proved_at: int


def add(connection: Connection, entity: int, found: Sequence[Proof]) -> None:
    """Enter proofs; one of the same span and kind is replaced. The caller holds the transaction."""
    if not found:
        return
    columns: dict[str, Any] = {
        "start": pa.array([proof.start for proof in found], pa.int64()),
        "stop": pa.array([proof.stop for proof in found], pa.int64()),
        "kind": [proof.kind for proof in found],
        "evidence": [orjson.dumps(proof.evidence).decode() for proof in found],
        "proved_at": pa.array([proof.proved_at for proof in found], pa.int64()),
    }
    connection.write(_INSERT.format(entity=entity), pa.table(columns))


def read(connection: Connection, entity: int, kinds: Sequence[str] | None = None) -> list[Proof]:
    """The proofs of an entity by time, of some kinds or of all."""
    found = connection.query(
        "SELECT start, stop, kind, evidence, proved_at FROM proofs"
        f" WHERE entity = {entity:d} ORDER BY start, stop, kind"
    ).to_pylist()
    return [
        Proof(row["start"], row["stop"], row["kind"], tuple(orjson.loads(row["evidence"])), row["proved_at"])
        for row in found
        if kinds is None or row["kind"] in kinds
    ]
