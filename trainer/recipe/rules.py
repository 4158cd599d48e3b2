"""Rules: what a key of a recipe means and which values it may have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from flowprep.errors import UsageError

_RULE = "rule"  # the entry of a field's metadata


@dataclass(frozen=True)
class Rule:
    """The meaning of a key and the values that it may have.

    Attributes:
        meaning: one or more sentences, printed above the key by `trainer recipe`.
        minimum, above: least value, and a bound that every value exceeds.
        maximum, below: greatest value, and a bound that no value reaches.
        choices: the only values.
        accepts: a further condition.
        allowed: the allowed values in words; "" derives the words from the bounds or the choices.
    """

    meaning: str
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    accepts: Callable[[Any], bool] | None = None
    allowed: str = ""

    def allows(self, value: Any) -> bool:
        """Whether the key may have this value."""
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
            and (not self.choices or value in self.choices)
            and (self.accepts is None or self.accepts(value))
        )

    def describe(self, kind: str) -> str:
        """The allowed values in words.

        Args:
            kind: the key's type as its dataclass spells it, such as "int".
        """
        if self.allowed:
            return self.allowed
        if self.choices:
            return " | ".join(map(str, self.choices))
        noun = "a whole number" if kind == "int" else "a number"
        if self.maximum is None and self.below is None:
            return f"{noun} from {self.minimum}" if self.above is None else f"{noun} above {self.above}"
        low = f"[{self.minimum}" if self.above is None else f"({self.above}"
        high = f"{self.maximum}]" if self.below is None else f"{self.below})"
        return f"{noun} in {low}, {high}"


def rule(meaning: str, **conditions: Any) -> dict[str, Rule]:
    """Metadata of a dataclass field that holds a key of a recipe.

    Args:
        meaning: see Rule.
        conditions: further attributes of Rule.
    """
    return {_RULE: Rule(meaning, **conditions)}


def rule_of(field: dataclasses.Field[Any]) -> Rule | None:
    """The rule of a field; None for a section."""
    return field.metadata.get(_RULE)


def check_fields(record: Any, prefix: str = "") -> None:
    """Hold every key of a record, and of the sections in it, against its rule.

    Args:
        record: an instance of a dataclass.
        prefix: name of the record's section, with a dot.

    Raises:
        UsageError: a key has a value that its rule does not allow.
    """
    for field in dataclasses.fields(record):
        value, rule = getattr(record, field.name), rule_of(field)
        if rule is None:
            check_fields(value, f"{prefix}{field.name}.")
        elif not rule.allows(value):
            refuse(prefix + field.name, value, rule.describe(str(field.type)))


def refuse(key: str, value: Any, allowed: str) -> NoReturn:
    """Raise the error of a key with a value that is not allowed.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"{key} is {plain(value)!r}; allowed: {allowed}")


def plain(value: Any) -> Any:
    """A value of plain types, as TOML and checkpoints hold it: tuples become lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
