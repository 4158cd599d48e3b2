"""Recipes as TOML files: read, changed and printed."""

from __future__ import annotations

import dataclasses
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowprep.errors import UsageError
from flowprep.system.files import read_regular
from trainer.recipe.networks import allow_network
from trainer.recipe.rules import plain, rule_of
from trainer.recipe.schema import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 1 << 20  # of a recipe
LINE_WIDTH = 110  # of printed comments


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply changes. The network that it names may be imported from now on.

    Args:
        path: the TOML file.
        changes: each "key=value" or "section.key=value". A value is written as in TOML (`[1, 2]`, `0.5`,
            `true`, `"text"`); a plain word stands for itself.

    Raises:
        UsageError: the file cannot be read or is not TOML; a change is malformed; or as Recipe.from_dict.
    """
    try:
        values = tomllib.loads(read_regular(path, max_bytes=MAX_BYTES).decode("utf-8"))
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UsageError(f"{path}: not a TOML file: {exc}") from exc
    for change in changes:
        _apply_change(values, change)
    try:
        recipe = Recipe.from_dict(values)
    except UsageError as exc:
        raise UsageError(f"{path}: {exc}") from exc
    allow_network(recipe.model.name)
    return recipe


def _apply_change(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {change}: write key=value, such as train.lr=0.01")
    *sections, name = key.strip().split(".")
    section = values
    for part in sections:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise UsageError(f"--set {change}: {part} is not a section")
    section[name] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a word without quotes; where a number belongs, the type check refuses it


def as_toml(recipe: Recipe) -> str:
    """The whole recipe as a TOML file: every key with its value, below its meaning."""
    return "\n".join(_section_lines(recipe, "")).lstrip() + "\n"


def _section_lines(record: Any, prefix: str) -> list[str]:
    """Lines of the keys of a record, and then of its sections."""
    keys: list[str] = []
    sections: list[str] = []
    for field in dataclasses.fields(record):
        value, rule = getattr(record, field.name), rule_of(field)
        header = f"[{prefix}{field.name}]"
        if rule is None:
            lines = _section_lines(value, f"{prefix}{field.name}.")
            sections += ["", header, *lines[lines[0] == "" :]]
        elif isinstance(value, Mapping):
            options = [_key_line(*item) for item in value.items()]
            sections += ["", *_comment(rule.meaning), header, *options]
        else:
            keys += ["", *_comment(rule.meaning), _key_line(field.name, value)]
    return keys + sections


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, LINE_WIDTH, initial_indent="# ", subsequent_indent="# ")


def _key_line(key: str, value: object) -> str:
    return f"{key} = {json.dumps(plain(value), ensure_ascii=False)}".replace("\x7f", "\\u007f")
