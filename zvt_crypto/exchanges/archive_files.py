"""Files of a venue's public archive: what they hold, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A file that holds all rows of an instrument for a stretch of time.

    Attributes:
        host: Host name, such as ``data.binance.vision``.
        path: Path on it.
        start: First time, epoch ms.
        end: End of the times, exclusive.
        checksum_path: Path of the file that holds its SHA-256, None where the venue publishes none.
    """

    host: str
    path: str
    start: int
    end: int
    checksum_path: str | None = None

    @property
    def requests(self) -> int:
        """HTTP requests that fetching it takes."""
        return 1 if self.checksum_path is None else 2

    @property
    def name(self) -> str:
        """Its name without the folders."""
        return self.path.rpartition("/")[2]
