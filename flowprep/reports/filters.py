"""Conditions on the columns of a table of videos, such as "pairs > 100 and still_share > 0.2"."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowprep.errors import UsageError

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "~": lambda text, part: part in text,
}
_CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|!=|==|=|<|>|~)\s*(\"[^\"]*\"|'[^']*'|.*?)\s*", re.DOTALL)
_AND = re.compile(r"\s+and\s+(?=\w+\s*(?:[<>=!~]))", re.IGNORECASE)
_GRAMMAR = 'allowed: COLUMN OP VALUE, joined by "and", with OP one of = != < <= > >= ~ (contains)'


@dataclass(frozen=True)
class Condition:
    """A comparison of one column with a value.

    Attributes:
        column: its name.
        operation: "=", "!=", "<", "<=", ">", ">=", or "~", which is true if the text contains the value.
        value: a number for columns of numbers, else a text.
    """

    column: str
    operation: str
    value: float | str

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row satisfies it. A row without a value never does."""
        value = row[self.column]
        return value is not None and _OPERATORS[self.operation](value, self.value)


def parse_conditions(text: str, columns: Mapping[str, type]) -> list[Condition]:
    """Parse conditions that are joined by "and". Nothing is evaluated.

    Args:
        text: such as "pairs > 100 and label = Punch". A value with "and" in it stands in quotation marks.
        columns: the type of each column: int, float or str.

    Raises:
        UsageError: the text is no condition, names another column, or compares a number with a text.
    """
    return [_parse_condition(part, text, columns) for part in _AND.split(text)]


def _parse_condition(part: str, text: str, columns: Mapping[str, type]) -> Condition:
    match = _CONDITION.fullmatch(part)
    if not match or not match[3]:
        raise UsageError(f"--where is {text!r}; {_GRAMMAR}")
    column, operation, value = match.groups()
    if column not in columns:
        nearest = difflib.get_close_matches(column, columns, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UsageError(f"--where names the column {column!r}{hint}; allowed: {', '.join(columns)}")
    value = value[1:-1] if value[0] == value[-1:] and value[0] in "\"'" and len(value) > 1 else value
    if columns[column] is str:
        if operation not in ("=", "==", "!=", "~"):
            raise UsageError(f"--where compares the text {column} by {operation}; allowed: = != ~")
        return Condition(column, operation, value)
    try:
        number = float(value)
    except ValueError:
        raise UsageError(f"--where compares {column} with {value!r}; allowed: a number") from None
    if operation == "~":
        raise UsageError(f"--where searches in the number {column}; allowed: = != < <= > >=")
    return Condition(column, operation, number)


def matching(rows: Sequence[Mapping[str, Any]], conditions: Sequence[Condition]) -> list[Mapping[str, Any]]:
    """The rows that satisfy all conditions."""
    return [row for row in rows if all(condition.holds(row) for condition in conditions)]
