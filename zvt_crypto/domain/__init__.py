"""What is stored: one file per table family, found by discovery."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final

from zvt_crypto.core.tables import Registry, tables

#: Makes zvt's classes from the registered tables, and loads zvt for it.
_CLASSES: Final = "models"


def load_tables() -> Registry:
    """All tables, their families imported; zvt is not."""
    for module in pkgutil.iter_modules(__path__):
        if module.name != _CLASSES:
            importlib.import_module(f"{__name__}.{module.name}")
    return tables
