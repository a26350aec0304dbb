"""Packages that load when someone uses them: some libraries import far more than we need."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, Final

#: Names with underscores that are worth loading a package for; the import system asks for many others.
_PUBLIC_DUNDERS: Final = ("__all__", "__version__", "__author__")


class LazyPackage(ModuleType):
    """Stands for a package until one of its names is asked for, then becomes it; submodules import as usual.

    ``importlib.util.LazyLoader`` does not do: the import system reads ``__spec__``, which would load it.

    Args:
        spec: The package's spec.
        around_loading: Makes the context in which the package's own code is run.
    """

    def __init__(
        self,
        spec: importlib.machinery.ModuleSpec,
        around_loading: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        super().__init__(spec.name)
        self.__path__ = list(spec.submodule_search_locations or ())
        self.__file__ = spec.origin
        self.__spec__ = spec
        self.__dict__["_around_loading"] = around_loading

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _PUBLIC_DUNDERS:
            raise AttributeError(name)
        around_loading = self.__dict__.pop("_around_loading", None)
        if around_loading is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        assert self.__spec__ is not None and self.__spec__.loader is not None
        with around_loading():
            self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def make_lazy(
    name: str,
    path: list[str] | None,
    around_loading: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> None:
    """Put a ``LazyPackage`` where a package would be imported, unless it is imported already.

    Args:
        name: Full name of the package.
        path: Search path of its parent; None for a package without one.
        around_loading: See ``LazyPackage``.

    Raises:
        ModuleNotFoundError: There is no such package.
    """
    if name in sys.modules:
        return
    spec = importlib.machinery.PathFinder.find_spec(name, path)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    package = LazyPackage(spec, around_loading)
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, package)
