"""Plain values, as TOML and checkpoints hold them, to the typed records of a recipe."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from flowprep.errors import UsageError

_TYPE_NAMES = {int: "whole number", float: "number", str: "text", bool: "truth value (true or false)"}


def build(record: Any, values: dict[str, Any], prefix: str = "") -> Any:
    """An instance of a dataclass from plain values.

    Args:
        record: the dataclass.
        values: a value for each key; sections are dicts.
        prefix: name of the record's section, with a dot.

    Raises:
        UsageError: a key is not known, or a value has the wrong type.
    """
    types = typing.get_type_hints(record)
    if unknown := [prefix + key for key in values if key not in types]:
        known = ", ".join(prefix + key for key in types)
        raise UsageError(f"unknown key {', '.join(unknown)}; known: {known}")
    return record(**{key: _convert(value, types[key], prefix + key) for key, value in values.items()})


def _convert(value: Any, kind: Any, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return build(kind, _section(value, key), f"{key}.")
    origin = typing.get_origin(kind)
    if origin is types.UnionType:  # one value or a list
        single, several = typing.get_args(kind)
        return _convert(value, several if isinstance(value, (list, tuple)) else single, key)
    if origin is Mapping:
        for name, option in _section(value, key).items():
            _check_option(f"{key}.{name}", option)
        return dict(value)
    if origin is tuple:
        item = typing.get_args(kind)[0]
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{key} is {value!r}; allowed: a list of {_TYPE_NAMES[item]}s")
        return tuple(_convert(v, item, key) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind or not _is_finite(value):
        raise UsageError(f"{key} is {value!r}; allowed: a {_TYPE_NAMES[kind]}")
    return value


def _section(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{key} is {value!r}; it is a section: write [{key}]")
    return value


def _check_option(key: str, value: Any) -> None:
    """Refuse an option of a network that checkpoints and printed recipes cannot hold."""
    for item in value if isinstance(value, (list, tuple)) else [value]:
        if type(item) not in _TYPE_NAMES or not _is_finite(item):
            raise UsageError(f"{key} is {value!r}; allowed: a number, text or truth value, or a list of them")
    if not re.fullmatch(r"[\w.-]+", key, re.ASCII):
        raise UsageError(f"{key!r} is no name of an option; allowed: letters, digits, _ and -")


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
