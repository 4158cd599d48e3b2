"""Generates the reference of recipe keys from the rules of the keys, so that it cannot be out of date."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from trainer.recipe.rules import Rule, plain, rule_of
from trainer.recipe.schema import Recipe

MARK = "<!-- recipe -->"
TYPES = {"bool": "true, false", "str": "a text", "tuple[str, ...]": "a list of texts"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark on a page with one table for each section of a recipe."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "\n".join(section_table(Recipe(stream="temporal"))))


def section_table(section: Any, prefix: str = "") -> list[str]:
    """Lines of Markdown: a heading, a table of the keys of a section, then the sections in it."""
    title = f"`[{prefix}]`" if prefix else "The top of the file"
    lines = ["", f"## {title}", "", "| key | default | allowed | meaning |", "|---|---|---|---|"]
    inner: list[str] = []
    for field in dataclasses.fields(section):
        value, rule = getattr(section, field.name), rule_of(field)
        if rule is None:
            inner += section_table(value, f"{prefix}.{field.name}".lstrip("."))
        else:
            lines.append(_row(field, value, rule))
    return lines + inner


def _row(field: dataclasses.Field[Any], value: Any, rule: Rule) -> str:
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    default = "(required)" if required else f"`{json.dumps(plain(value))}`"
    conditions = dataclasses.asdict(rule)
    limited = any(conditions[name] not in (None, (), "") for name in conditions if name != "meaning")
    allowed = rule.describe(str(field.type)) if limited else TYPES.get(str(field.type), "")
    cells = (f"`{field.name}`", default, allowed, rule.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
