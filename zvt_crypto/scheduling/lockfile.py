"""One process per data folder: a lock that ends with the process, however that ends."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from zvt_crypto.core.errors import ConfigError, NotSupported, StoreBusy

#: ``is_held`` takes the lock for microseconds, which a process that starts just then sits out.
_PATIENCE_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 0.05


class ProcessLock:
    """An exclusive lock on a file, which the system frees when the process is gone.

    Args:
        path: The file; it is made when first needed and stays. It names the process, for messages only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, what: str) -> None:
        """Take the lock, or fail.

        Args:
            what: What the lock stands for, for the error.

        Raises:
            StoreBusy: Another process holds it.
            ConfigError: The file cannot be made.
            NotSupported: This system has no such locks.
        """
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while (file := _locked(self.path, shared=False)) is None:
            if time.monotonic() > give_up:
                raise StoreBusy(
                    f"process {_holder(self.path)} runs {what} already",
                    suggestions=("end that process first, or choose another data folder with --data-path",),
                    path=str(self.path),
                )
            time.sleep(_PAUSE_SECONDS)
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        self._file = file

    def release(self) -> None:
        """Give the lock back; does nothing without one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def is_held(self) -> bool:
        """Whether any process holds it now."""
        if not self.path.exists():
            return False
        file = _locked(self.path, shared=True)
        if file is not None:
            os.close(file)
        return file is None


def _locked(path: Path, *, shared: bool) -> int | None:
    """The open and locked file, None where another process holds it."""
    try:
        import fcntl
    except ImportError as error:
        raise NotSupported(
            "this system has no file locks that end with the process",
            suggestions=("run `zvt-crypto record` from the system's own scheduler instead",),
        ) from error
    file = _opened(path)
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be opened: {error.strerror}",
            suggestions=("check the folder's permissions, or choose another with ZVT_CRYPTO_DATA_PATH",),
            path=str(path),
        ) from error


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return str(int(path.read_text(encoding="ascii")))
    return "another"
