"""The classes of commands: flags that every command accepts, options in sections, and old spellings."""

from __future__ import annotations

import errno
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from flowprep.cli import usage
from flowprep.cli.output import (
    JSON,
    QUIET,
    CommandFailed,
    Stopped,
    WrongUse,
    describe_os_error,
    print_error,
    warn,
)
from flowprep.corpus.names import is_corpus
from flowprep.errors import FlowprepError, UsageError, VideoMissing
from flowprep.system.paths import check_no_address
from flowprep.system.signals import stopped

VERBOSITY = "flowprep.verbosity"
LOG_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return a callback that keeps the value of a flag for the command that runs in the end."""

    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            context.meta[name] = value

    return callback


def _shared_options() -> list[click.Parameter]:
    """Return the flags that stand before the name of a command as well as after it."""
    flags: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
        JSON: (("--json",), {"is_flag": True, "help": "Print one JSON object on standard output."}),
        QUIET: (("-q", "--quiet"), {"is_flag": True, "help": "Print warnings and results only."}),
        VERBOSITY: (
            ("-v", "--verbose"),
            {"count": True, "help": "Report each step; -vv for debugging."},
        ),
    }
    return [
        click.Option(names, expose_value=False, callback=_remember(key), **settings)
        for key, (names, settings) in flags.items()
    ]


_ADDRESS_OPTIONS = frozenset({"--scheduler"})  # their values are addresses

SHARED_FLAGS = frozenset({"--json", "-q", "--quiet", "-v", "-vv", "--verbose"})


class LogHandler(logging.Handler):
    """Prints lines of the log on standard error, above a progress bar. Warnings and errors begin as such."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        line = self.format(record)
        if record.levelno >= logging.WARNING:
            line = f"{record.levelname.lower()}: {line}"
        if sys.stderr.isatty() and "tqdm" in sys.modules:  # there may be a bar
            sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
        else:
            click.echo(line, err=True)


class Option(click.Option):
    """An option that `--help` lists in a section.

    Attributes:
        section: the heading.
    """

    def __init__(self, *args: Any, section: str = "Options", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section


class Command(click.Command):
    """A command with the shared flags, options in sections, and old spellings that still work.

    Args:
        renamed: old name of an option -> its name now.
        old_destination: the place that the destination had among the arguments, before `--out` named it.
    """

    def __init__(
        self,
        *args: Any,
        renamed: Mapping[str, str] | None = None,
        old_destination: Literal["first", "last"] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        for param in self.params:
            if param.metavar is None and isinstance(param.type, click.types.IntParamType | click.FloatRange):
                param.metavar = "N"  # "INTEGER RANGE" says no more
        self.params += _shared_options()
        self._renamed = dict(renamed or {})
        self._old_destination = old_destination

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, after old names of options were replaced.

        Raises:
            click.UsageError: the message has one line, with the wrong value and with the allowed ones.
        """
        refuse_addresses(args)
        args = replace_old_names(args, self._renamed)
        try:
            return super().parse_args(ctx, list(args))
        except click.MissingParameter:
            raise
        except click.BadParameter as exc:
            if exc.param and exc.param.name:
                values = super().make_parser(ctx).parse_args(list(args))[0]
                message = usage.describe_value(exc.param, values.get(exc.param.name), exc.message)
                raise click.BadParameter(message, ctx, exc.param) from exc
            raise

    def make_parser(self, ctx: click.Context) -> Any:
        """Return a parser that also accepts the destination where it used to stand."""
        parser: Any = super().make_parser(ctx)
        if self._old_destination:
            parse = parser.parse_args

            def parse_old(args: list[str]) -> tuple[dict[str, Any], list[str], list[click.Parameter]]:
                values, extra, order = parse(args)
                self._move_destination(values, extra)
                return values, extra, order

            parser.parse_args = parse_old
        return parser

    def _move_destination(self, values: dict[str, Any], extra: list[str]) -> None:
        """Take a destination without `--out` from the arguments, if it stands there."""
        if values.get("out") is not None:
            return
        if self._old_destination == "last" and len(extra) == 1:
            values["out"] = extra.pop()
        elif self._old_destination == "first":
            name = next(p.name for p in self.params if isinstance(p, click.Argument))
            if name and isinstance(values.get(name), list | tuple) and len(values[name]) > 1:
                if is_corpus(Path(values[name][0])):
                    return  # a source whose --out was forgotten: it must not be written to
                values["out"], *values[name] = values[name]
        if values.get("out") is not None:
            warn_old_spelling(f"the argument {values['out']}", f"--out {values['out']}")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with messages as its flags say. Messages about settings name the options."""
        level = LOG_LEVELS[min(ctx.meta.get(VERBOSITY, 0), len(LOG_LEVELS) - 1)]
        logging.basicConfig(level=level, handlers=[LogHandler()], format="%(message)s")
        logging.getLogger("PIL").setLevel(logging.INFO)  # its debug messages list every part of an image
        try:
            return super().invoke(ctx)
        except UsageError as exc:
            raise WrongUse(usage.name_options(str(exc), self.params)) from exc

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each section below its heading."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                sections.setdefault(getattr(param, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Group(click.Group):
    """A group of commands with the shared flags. It lists its commands in the order of their definition."""

    command_class = Command

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params += _shared_options()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. The message about an unknown one suggests the nearest."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            ctx.fail(f"no command {name}{usage.nearest(name, self.commands)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        list_commands(formatter, "Commands", self.commands.values())


class Program(Group):
    """The program itself: it lists its commands in sections, and turns errors into one line and a code.

    Args:
        sections: heading -> commands.
    """

    def __init__(
        self, *args: Any, sections: Mapping[str, Sequence[click.Command]] | None = None, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self._sections = dict(sections or {})
        for commands in self._sections.values():
            for command in commands:
                self.add_command(command)

    def main(  # type: ignore[override]  # click has overloads for the two modes
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Parse the command line, run the command, and exit."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        try:
            result = super().main(args, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as exc:  # its message is the help itself
            click.echo(exc.ctx.get_help() if exc.ctx else str(exc), err=True)
            sys.exit(exc.exit_code)
        except click.ClickException as exc:
            print_error(exc)
            sys.exit(exc.exit_code)
        except click.Abort:
            click.echo("error: stopped", err=True)
            sys.exit(1)
        sys.exit(result if isinstance(result, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Errors that flowprep raises on purpose become errors of the command line."""
        try:
            return super().invoke(ctx)
        except (Stopped, SystemExit):
            raise
        except BaseException as exc:
            if was_interrupted(exc):
                raise Stopped("stopped") from exc
            self.raise_in_words(exc)
            raise

    def raise_in_words(self, exc: BaseException) -> None:
        """Raise the error of the command line that stands for an error of flowprep, if it is one."""
        if isinstance(exc, UsageError | VideoMissing):
            raise WrongUse(str(exc)) from exc
        if isinstance(exc, FlowprepError):
            raise CommandFailed(str(exc)) from exc
        if isinstance(exc, OSError) and exc.errno != errno.EPIPE:  # `flowprep info | head` ends quietly
            raise CommandFailed(describe_os_error(exc)) from exc

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in their sections."""
        for title, commands in self._sections.items():
            list_commands(formatter, title, commands)


def was_interrupted(exc: BaseException) -> bool:
    """Whether an error follows from Ctrl-C: some libraries end an interrupted call with their own error."""
    return bool(stopped()) or any(isinstance(cause, KeyboardInterrupt) for cause in causes(exc))


def causes(exc: BaseException) -> Iterator[BaseException]:
    """An error, the error that it follows from, and so on."""
    cause: BaseException | None = exc
    while cause:
        yield cause
        cause = cause.__cause__ or cause.__context__


def list_commands(formatter: click.HelpFormatter, title: str, commands: Iterable[click.Command]) -> None:
    """Write commands below a heading, each with the first sentence of its help."""
    with formatter.section(title):
        formatter.write_dl([(str(command.name), command.get_short_help_str(120)) for command in commands])


def refuse_addresses(args: Sequence[str]) -> None:
    """Refuse addresses such as s3://bucket/name as inputs, outputs and values.

    Raises:
        WrongUse: an argument, or the value of an option, is an address.
    """
    for option, arg in zip(["", *args], args, strict=False):
        value = re.sub(r"^(--?[\w-]+=|-\w(?=\w)|[\w.]+=)", "", arg, count=1)
        if option not in _ADDRESS_OPTIONS and arg.partition("=")[0] not in _ADDRESS_OPTIONS:
            try:
                check_no_address("", value)
            except UsageError as exc:
                raise WrongUse(str(exc)) from exc


def replace_old_names(args: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """Return arguments with old names of options replaced, and warn of each."""
    end = args.index("--") if "--" in args else len(args)
    replaced = []
    for arg in args[:end]:
        name, equals, value = arg.partition("=")
        if name in renamed:
            warn_old_spelling(name, renamed[name])
            arg = renamed[name] + equals + value
        replaced.append(arg)
    return [*replaced, *args[end:]]


def warn_old_spelling(old: str, new: str) -> None:
    """Say on standard error that a spelling ends with the next version."""
    warn(f"{old} is an old spelling that the next version will not accept; use {new}")
