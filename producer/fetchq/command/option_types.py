"""How options are written and shown: times and sizes with units, settings with their variable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from fetchq.units import parse_bytes, parse_duration_s, parse_interval_s

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_GIVEN = "fetchq.command.given"
"""The key of `Context.meta` under which the settings of the command line are."""


class Time(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """Seconds: a number, or one with a unit, as `fetchq.units.parse_duration_s` reads it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._parsed(parse_duration_s, value, param, ctx)

    def _parsed(
        self, parse: Callable[[str], float], value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


class Size(Time):
    """Bytes: a number, or one with a unit, as `fetchq.units.parse_bytes` reads it."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._parsed(parse_bytes, value, param, ctx)


class File(click.Path):
    """The name of a file or folder. The command opens it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("takes a name, not ''", param, ctx)
        return super().convert(value, param, ctx)


class Whole(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A whole number of at least `low`."""

    name = "number"

    def __init__(self, low: int | None = None) -> None:
        self._low = low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = int(value) if re.fullmatch(r"[+-]?[0-9]{1,20}", str(value).strip()) else None
        if number is None or (self._low is not None and number < self._low):
            least = "" if self._low is None else f" of at least {self._low}"
            self.fail(f"takes a whole number{least}, not {value!r}", param, ctx)
        return number


class Number(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(value)
        except ValueError:
            self.fail(f"takes a number, not {value!r}", param, ctx)


class Rate(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A rate, as `fetchq.units.parse_interval_s` reads it, or `none`; the text itself."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value.strip().lower() != "none":
            try:
                parse_interval_s(value)
            except ValueError as problem:
                self.fail(f"{problem}".replace(" or 1/30s", ", 1/30s or none"), param, ctx)
        return str(value)


class Choice(click.Choice[str]):
    """One of some words; the error names them as those of the settings do."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        *most, last = self.choices
        return f"takes {', '.join(most)} or {last}, not {value!r}"


class Group(click.Group):
    """A group whose help lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            if "://" in args[0]:
                similar = f"fetchq fetch {args[0]}"
            elif args[0] == "help":
                similar = f"{ctx.command_path} --help"
            else:
                similar = most_similar(args[0], self.list_commands(ctx))
            ctx.fail(f"no such command {args[0]}{f', did you mean {similar}?' if similar else ''}")
        return super().resolve_command(ctx, args)


class Option(click.Option):
    """An option whose default is shown as `show_default` says it, without parentheses."""

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default
        return extra


class SettingOption(Option):
    """An option that fills a field of `Settings`. Its value is not a parameter of the command; `start` collects it.

    click does not read its variable: `start` does, for the settings that the command uses, so that an invalid variable
    stops no other command.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> None:
        return None


def option(*declarations: str, **attributes: Any) -> Callable[[CommandT], CommandT]:
    return click.option(*declarations, cls=Option, **attributes)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    if parameter.name is not None and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
        given_settings(context)[parameter.name] = (value, spelling(parameter))
    return value


def setting(
    name: str, metavar: str | None, text: str, *, default: str | None, short: tuple[str, ...] = (), **attributes: Any
) -> Callable[[CommandT], CommandT]:
    """The option of a field of `Settings`, named as `settings.flag_of` says; without metavar, a switch."""
    flag = "--redis" if name == "redis_url" else f"--{name.removesuffix('_s').replace('_', '-')}"
    if metavar is None:
        attributes = {"is_flag": True, "default": None, **attributes}
    return click.option(
        *attributes.pop("declarations", (flag, *short)),
        name,
        cls=SettingOption,
        metavar=metavar,
        help=text,
        envvar=f"FETCHQ_{name.removesuffix('_s').upper()}",
        show_envvar=True,
        show_default=False if default is None else default,
        expose_value=False,
        callback=_remember,
        **attributes,
    )


def options(*each: Callable[[CommandT], CommandT]) -> Callable[[CommandT], CommandT]:
    """Several options as one decorator, in the order of the help."""

    def add(command: CommandT) -> CommandT:
        for one in reversed(each):
            command = one(command)
        return command

    return add


START_WAIT: Final = setting(
    "start_wait_s",
    "TIME",
    "Longest wait at start for a Redis that cannot be reached or is not ready.",
    default="20s",
)
LOG_SHAPE: Final = options(
    setting(
        "log_level",
        "LEVEL",
        "The least severe log lines: debug, info, warning or error.",
        default="info",
        type=Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    ),
    setting(
        "log_format",
        "FORMAT",
        "The shape of log lines: text, or json for JSON Lines.",
        default="text",
        type=Choice(["text", "json"], case_sensitive=False),
    ),
)
"""Options of the programs that run until they are stopped."""


def most_similar(word: str, words: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The one of `words` that a person may have meant; empty if none is similar."""
    from difflib import get_close_matches  # noqa: PLC0415  # rarely needed, and every command starts here

    return next(iter(get_close_matches(word, words, 1, cutoff)), "")


def spelling(parameter: click.Parameter) -> str:
    """An option as errors name it: `--concurrency (-c)`; an argument by its name."""
    if not isinstance(parameter, click.Option):
        return parameter.name or ""
    long = [one for one in parameter.opts if one.startswith("--")]
    short = [one for one in parameter.opts if not one.startswith("--")]
    return " ".join([*long[:1], *(f"({one})" for one in short)])


def given_settings(context: click.Context) -> dict[str, tuple[Any, str]]:
    """The settings of the command line, each with the spelling of its option."""
    given: dict[str, tuple[Any, str]] = context.meta.setdefault(_GIVEN, {})
    return given


def setting_names(command: click.Command) -> list[str]:
    """The settings that have an option in `command`."""
    return [one.name for one in command.params if isinstance(one, SettingOption) and one.name is not None]
