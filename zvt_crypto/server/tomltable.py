"""One table of a TOML text, changed in place: comments, order and everything else stay as they are."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

from zvt_crypto.core.errors import ConfigError

tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

Value = bool | int | float

_HEADER: Final = re.compile(r"\s*\[")


def parse(text: str, where: str) -> dict[str, Any]:
    """What a TOML text says.

    Args:
        text: The text.
        where: The file, for the message.

    Raises:
        ConfigError: It is not TOML.
    """
    try:
        known: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} cannot be read: {error}", suggestions=("correct the file",)) from error
    return known


def with_values(text: str, table: tuple[str, str], values: Mapping[str, Value | None], where: str) -> str:
    """A TOML text in which ``[parent.name]`` has other values.

    Args:
        text: The text.
        table: Parent and name; both are bare keys.
        values: Key -> its new value; None takes the key out.
        where: The file, for messages.

    Raises:
        ConfigError: The text is not TOML, or has the table in another notation than ``[parent.name]``.
    """
    wanted = _merged(parse(text, where), table, values)
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    start, end = _span(lines, table)
    body = lines[start:end]
    for key, value in values.items():
        body = _with_value(body, key, value)
    changed = newline.join([*lines[:start], *body, *lines[end:]]) + newline
    # What was mistaken for the table, such as lines of a text, shows here.
    if parse(changed, where) != wanted:
        parent, name = table
        raise ConfigError(
            f"{where} holds the settings of {name} in a form that is not changed by a program",
            suggestions=(f"write them below a line [{parent}.{name}], or change them by hand",),
        )
    return changed


def _merged(
    known: dict[str, Any], table: tuple[str, str], values: Mapping[str, Value | None]
) -> dict[str, Any]:
    parent, name = table
    tables = known.get(parent, {})
    if not isinstance(tables, dict) or not isinstance(tables.get(name, {}), dict):
        raise ConfigError(f"setting {parent!r} is not made of tables")
    entry = {**tables.get(name, {}), **values}
    kept = {key: value for key, value in entry.items() if value is not None}
    return {**known, parent: {**tables, name: kept}}


def _span(lines: list[str], table: tuple[str, str]) -> tuple[int, int]:
    """First line and end of a table, its header included; a header is added where there is none."""
    parent, name = table
    header = re.compile(rf"\s*\[\s*{re.escape(parent)}\s*\.\s*{re.escape(name)}\s*\]\s*(#.*)?")
    start = next((number for number, line in enumerate(lines) if header.fullmatch(line)), None)
    if start is None:
        if lines and lines[-1].strip():
            lines.append("")
        lines.append(f"[{parent}.{name}]")
        return len(lines) - 1, len(lines)
    rest = range(start + 1, len(lines))
    end = next((number for number in rest if _HEADER.match(lines[number])), len(lines))
    # Blank lines and comments before the next header belong to that.
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return start, end


def _with_value(body: list[str], key: str, value: Value | None) -> list[str]:
    """The lines of a table with one value changed, added or taken out; a comment behind it stays."""
    line_of = re.compile(rf"(\s*{re.escape(key)}\s*=\s*)([^#\s]+)(\s*(?:#.*)?)")
    for number, line in enumerate(body):
        match = line_of.fullmatch(line)
        if match is not None:
            changed = [] if value is None else [f"{match[1]}{_text(value)}{match[3]}"]
            return [*body[:number], *changed, *body[number + 1 :]]
    return body if value is None else [*body, f"{key} = {_text(value)}"]


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
