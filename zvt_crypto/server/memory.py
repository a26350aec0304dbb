"""How much memory the server uses, and how much it may."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_STATM = Path("/proc/self/statm")
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def resident_bytes() -> int | None:
    """Memory of this process that is not swapped out; None where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def limit_bytes() -> int | None:
    """The machine's memory, or what the control group allows if that is less; None where nobody tells."""
    try:
        limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    # "max" where the group has no limit
    with contextlib.suppress(OSError, ValueError):
        limit = min(limit, int(_CGROUP.read_text()))
    return limit
