"""Messages of wrong use: one line with what was found, what is allowed, and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from flowprep.presets import Tvl1Settings, allowed_presets

# Names of settings that no message can have in another sense. They stand for their options everywhere.
_UNMISTAKABLE = ("codes", "codec")
_NUMBER = re.compile("not a valid|not in the range")  # in the messages of click's types


def parameter_name(param: click.Parameter) -> str:
    """The name of an argument, or of an option as the user types it."""
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return (param.metavar or str(param.name).upper()).replace("[", "").replace("]", "").rstrip(".")


def describe_value(param: click.Parameter, raw: Any, message: str) -> str:
    """What is wrong with the value of an option or of an argument.

    Args:
        param: the option or argument.
        raw: its values, as they stand on the command line.
        message: the message of its type.
    """
    name, value = parameter_name(param), _wrong_item(param, raw)
    match param.type:
        case click.Choice() if "is not one of" in message:
            allowed = ", ".join(map(str, param.type.choices))
            allowed = allowed_presets() if param.name == "preset" else allowed
        case click.IntRange() | click.types.IntParamType() if _NUMBER.search(message):
            allowed = f"a whole number{_range(param.type)}"
        case click.FloatRange() | click.types.FloatParamType() if _NUMBER.search(message):
            allowed = f"a number{_range(param.type)}"
        case click.Path() if "' is a directory." in message:
            return f"{_prefix(param)}{value} is a folder; allowed: a file"
        case click.Path() if "' is a file." in message:
            return f"{_prefix(param)}{value} is a file; allowed: a folder"
        case click.Path() if "' does not exist." in message:
            kinds = [kind for kind, ok in _kinds(param.type) if ok]
            return f"{_prefix(param)}no such {' or '.join(kinds)}: {value}"
        case _:
            return f"{_prefix(param)}{message}"
    shown = value if re.fullmatch(r"[-+.\w]+", str(value)) else repr(value)
    return f"{name} is {shown}; allowed: {allowed}"


def describe(error: click.ClickException) -> str:
    """The message of an error, in one line. For a wrong command line it ends with where its help is."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.NoSuchOption):
        text = f"no option {error.option_name}{_did_you_mean(error.possibilities or ())}"
    elif isinstance(error, click.MissingParameter) and error.param:
        text = _describe_missing(error.param)
    elif isinstance(error, click.BadParameter):
        text, context = error.message, None
    else:
        text = error.format_message()
    text = " ".join(text.split())
    if not context:
        return text
    see = "See" if text.endswith("?") else "see"
    return f"{text.rstrip('.')}{'' if see == 'See' else ';'} {see} `{context.command_path} --help`"


def _describe_missing(param: click.Parameter) -> str:
    name = parameter_name(param)
    if not isinstance(param, click.Option):
        return f"{name} is missing"
    if isinstance(param.type, click.Choice):
        return f"{name} is missing; allowed: {', '.join(map(str, param.type.choices))}"
    return f"{name} {param.metavar or ''}".rstrip() + f" is missing: {param.help}"


def name_options(message: str, params: Iterable[click.Parameter]) -> str:
    """A message about settings, with the names of the options in place of the names of the settings.

    Args:
        message: the message. It begins with a setting ("step is 0; allowed: ..."), or lists several.
        params: the options of the command.
    """
    options = {
        str(p.name): parameter_name(p)
        for p in params
        if isinstance(p, click.Option) and not isinstance(p.type, click.Path)
    }
    sure = [name for name in options if "_" in name or name in _UNMISTAKABLE]
    if "--tvl1" in options.values():
        tvl1 = {name: f"--tvl1 {name}" for name in Tvl1Settings.__dataclass_fields__}
        options = {**tvl1, **options, "tvl1": "--tvl1"}
    names = [
        r"\A(?P<first>\w+(?:, \w+)*)(?= is .*; )",  # step is 0; allowed: ...
        r"(?<=[;:] )(?P<listed>\w+)(?=: )",  # size: short:256, source; step: 1, 2
        rf"(?<![-\w])(?P<sure>{'|'.join(map(re.escape, sure))})(?!\w)" if sure else r"(?P<sure>(?!))",
    ]
    return re.sub("|".join(names), lambda match: _options(match[0], options), message, flags=re.DOTALL)


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a message that suggests the names nearest to a wrong one; "" if none is near."""
    return _did_you_mean(difflib.get_close_matches(name, list(names), 3))


def _options(names: str, options: Mapping[str, str]) -> str:
    return ", ".join(options.get(name, name) for name in names.split(", "))


def _did_you_mean(names: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _prefix(param: click.Parameter) -> str:
    return f"{parameter_name(param)}: " if isinstance(param, click.Option) else ""


def _wrong_item(param: click.Parameter, raw: Any) -> Any:
    """The first of several values that the type of a parameter refuses."""
    items = raw if isinstance(raw, list | tuple) else [raw]
    for item in items:
        if isinstance(item, list | tuple):
            return _wrong_item(param, item)
        try:
            param.type.convert(item, param, None)
        except click.BadParameter:
            return item
    return raw


def _range(kind: object) -> str:
    """The limits of a range, in words."""
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return ""
    low, high = kind.min, kind.max
    lower = "" if low is None else f" {'above' if kind.min_open else 'from'} {low:g}"
    upper = "" if high is None else f" {'below' if kind.max_open else 'to'} {_plain(high)}"
    return lower + (" and" if lower and upper and (kind.min_open or kind.max_open) else "") + upper


def _plain(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def _kinds(path: click.Path) -> list[tuple[str, bool]]:
    return [("file", path.file_okay), ("folder", path.dir_okay)]
