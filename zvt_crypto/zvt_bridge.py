"""The only file that touches zvt's internals: a light and silent import, registration, look-ups.

zvt 0.13.5 as published cannot be imported (its wheel lacks ``config.json``), and its import loads every
recorder and factor, prints, replaces the root logger's handlers and changes pandas options and the
precision of ``decimal``. ``install`` puts a finder before Python's own, so that zvt, whoever imports it, is
loaded without any of that; nothing is written into site-packages.
"""

from __future__ import annotations

import contextlib
import decimal
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import io
import logging
import os
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from zvt_crypto.core.errors import BrokenInstall
from zvt_crypto.core.lazy import make_lazy

_LAZY_PACKAGES: Final = ("recorders", "factors")
_PANDAS_OPTIONS: Final = (
    "display.expand_frame_repr",
    "mode.chained_assignment",
    "display.max_rows",
    "display.max_columns",
)
_CONFIG: Final = Path(__file__).with_name("zvt_config.json")


def install(on_loaded: Callable[[], None]) -> None:
    """Make zvt load lightly, and call ``on_loaded`` once it is loaded: now, or when somebody imports it.

    Args:
        on_loaded: Registers our tables with zvt.
    """
    _registration.function = on_loaded
    if "zvt" in sys.modules:
        _registration.run()
    else:
        sys.meta_path.insert(0, _ZvtFinder())


def load() -> None:
    """Import zvt, lightly if nobody imported it before.

    Raises:
        BrokenInstall: zvt is not installed, or fails to import.
    """
    try:
        importlib.import_module("zvt.contract.api")
    except ImportError as error:
        raise BrokenInstall(
            f"zvt cannot be imported: {error}",
            suggestions=(
                "install it beside this package: pip install zvt==0.13.5",
                "run `zvt-crypto doctor`",
            ),
        ) from error


class _Registration:
    """The call that registers our tables: made once, when zvt is loaded and our classes can be made."""

    def __init__(self) -> None:
        self.function: Callable[[], None] | None = None
        self.held = False

    def run(self) -> None:
        function = self.function
        if function is not None and not self.held:
            self.function = None
            function()


_registration = _Registration()


def hold_registration() -> None:
    """Called by the module that defines our classes before it imports zvt: they cannot be registered yet."""
    _registration.held = True


def release_registration() -> None:
    """Called by that module at its end: register the classes, unless that is under way."""
    _registration.held = False
    _registration.run()


def is_wheel_broken() -> bool:
    """Whether the installed zvt lacks its own ``config.json``, as the published wheels do."""
    spec = importlib.machinery.PathFinder.find_spec("zvt")
    return spec is not None and not (_package_root(spec) / "config.json").exists()


class _ZvtFinder(importlib.abc.MetaPathFinder):
    """Finds zvt as Python would and wraps its loader; every other name is left alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "zvt":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LightLoader(spec.loader)
        return spec


class _LightLoader(importlib.abc.Loader):
    def __init__(self, real: importlib.abc.Loader) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        assert module.__spec__ is not None
        root = _package_root(module.__spec__)
        for name in _LAZY_PACKAGES:
            make_lazy(f"zvt.{name}", [str(root)], lambda: contextlib.redirect_stdout(io.StringIO()))
        with _process_left_as_found(), _own_pkg_resources(root):
            self._real.exec_module(module)
        for name in _LAZY_PACKAGES:
            setattr(module, name, sys.modules[f"zvt.{name}"])
        _registration.run()


def _package_root(spec: importlib.machinery.ModuleSpec) -> Path:
    assert spec.origin is not None
    return Path(spec.origin).parent


@contextlib.contextmanager
def _process_left_as_found() -> Iterator[None]:
    """Undo what zvt's import does to the process: prints, log handlers, pandas options, decimal precision."""
    import pandas as pd

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    options = {name: pd.get_option(name) for name in _PANDAS_OPTIONS}
    precision = decimal.getcontext().prec
    warn_20 = os.environ.get("SQLALCHEMY_WARN_20")
    # Its import logs a warning about Windows through the handlers that it has just installed.
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, value in options.items():
            pd.set_option(name, value)
        decimal.getcontext().prec = precision
        if warn_20 is None:
            os.environ.pop("SQLALCHEMY_WARN_20", None)


@contextlib.contextmanager
def _own_pkg_resources(root: Path) -> Iterator[None]:
    """Answer the three names that zvt takes from ``pkg_resources``, with the missing file supplied.

    setuptools 82 no longer has that module, and the real one costs 0.15 s.
    """

    class DistributionNotFound(Exception):
        pass

    def get_distribution(name: str) -> types.SimpleNamespace:
        try:
            return types.SimpleNamespace(version=importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError as error:
            raise DistributionNotFound(name) from error

    def resource_filename(package: str, name: str) -> str:
        folder = root if package == "zvt" else _package_root(_find(package))
        own = folder / name
        return str(_CONFIG if package == "zvt" and name == "config.json" and not own.exists() else own)

    stand_in = types.ModuleType("pkg_resources")
    vars(stand_in).update(
        DistributionNotFound=DistributionNotFound,
        get_distribution=get_distribution,
        resource_filename=resource_filename,
    )
    real = sys.modules.get("pkg_resources")
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        if real is None:
            del sys.modules["pkg_resources"]
        else:
            sys.modules["pkg_resources"] = real


def _find(package: str) -> importlib.machinery.ModuleSpec:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(package)
    return spec


def register_entity(cls: type, entity_type: str) -> None:
    """Make an entity class known to ``get_entities`` and to zvt's readers and factors."""
    from zvt.contract import zvt_context

    if entity_type not in zvt_context.tradable_entity_types:
        zvt_context.tradable_entity_types.append(entity_type)
        zvt_context.tradable_entity_schemas.append(cls)
    zvt_context.tradable_schema_map[entity_type] = cls


def register_table(cls: type, *, db_name: str, entity_type: str, providers: Sequence[str]) -> None:
    """Make a table known to zvt's look-ups. Creates no folder, file, engine or table.

    Replaces zvt's ``register_schema``, which opens and migrates every database when a schema is declared,
    and switches them out of WAL.

    Args:
        cls: The mapped class.
        db_name: Name of its database; each of our tables has one of its own.
        entity_type: Type of the entities whose rows it holds.
        providers: Data sources that can fill it.
    """
    from zvt.contract import zvt_context

    zvt_context.schemas.append(cls)
    zvt_context.dbname_map_base[db_name] = cls
    zvt_context.dbname_map_schemas[db_name] = [cls]
    zvt_context.entity_map_schemas.setdefault(entity_type, []).append(cls)
    for provider in providers:
        register_provider(cls, db_name=db_name, provider=provider)


def register_provider(cls: Any, *, db_name: str, provider: str) -> None:
    """Make one more data source of a table known to zvt."""
    from zvt.contract import zvt_context

    if provider not in cls.providers:
        cls.providers.append(provider)
    if provider not in zvt_context.providers:
        zvt_context.providers.append(provider)
    names = zvt_context.provider_map_dbnames.setdefault(provider, [])
    if db_name not in names:
        names.append(db_name)


def register_engines(db_names: frozenset[str], make_engine: Callable[[str, str], Any]) -> None:
    """Let zvt take the engines and sessions of our databases from us, made on first use.

    Args:
        db_names: Our databases.
        make_engine: SQLAlchemy engine of (provider, db_name).
    """
    from sqlalchemy.orm import sessionmaker
    from zvt.contract import zvt_context

    engines = _OnFirstUse(db_names, make_engine, zvt_context.db_engine_map)
    zvt_context.db_engine_map = engines
    zvt_context.db_session_map = _OnFirstUse(
        db_names,
        lambda provider, db_name: sessionmaker(bind=engines[f"{provider}_{db_name}"]),
        zvt_context.db_session_map,
    )


class _OnFirstUse(dict[str, Any]):
    """zvt's map from ``{provider}_{db_name}``; the values of our databases are made when asked for."""

    def __init__(
        self, db_names: frozenset[str], make: Callable[[str, str], Any], known: dict[str, Any]
    ) -> None:
        super().__init__(known)
        self._db_names = db_names
        self._make = make

    def __missing__(self, key: str) -> Any:
        # A provider's name may hold underscores, and so do ours: the longest database name decides.
        endings = [name for name in self._db_names if key.endswith(f"_{name}")]
        if not endings:
            raise KeyError(key)
        db_name = max(endings, key=len)
        self[key] = self._make(key.removesuffix(f"_{db_name}"), db_name)
        return self[key]

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default
