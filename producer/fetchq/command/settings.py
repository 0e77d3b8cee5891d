"""Settings of a program: a struct that is filled from `FETCHQ_*` and then from flags."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, Self

import msgspec
from msgspec import inspect

from fetchq.errors import FetchqError, InvalidRedisURL
from fetchq.store.address import RedisAddress, UnusableFile, UrlInEnvironment
from fetchq.units import duration_text, parse_bytes, parse_duration_s, size_text

ENV_PREFIX: Final = "FETCHQ_"
GATEWAY_VARIABLES: Final = frozenset({"FETCHQ_LISTEN", "FETCHQ_ALLOW_HOST", "FETCHQ_METRICS_ONLY"})
"""What the gateway alone reads. Worker and gateway may share an environment."""
_TRUTH: Final = {"yes": True, "on": True, "no": False, "off": False}
"""Beside true, false, 1 and 0."""


class InvalidSetting(FetchqError, ValueError):
    """A setting has an invalid value. The message names its flag and its variable, or the one that was used."""

    def __init__(self, sentence: str, name: str | None = None, problem: str = "") -> None:
        super().__init__(sentence)
        self.name = name
        self.problem = problem

    @classmethod
    def of(cls, name: str, problem: str) -> InvalidSetting:
        """For the field `name`; `problem` is the rest of the sentence."""
        return cls(f"{flag_of(name)} ({variable_of(name)}): {problem}", name, problem)


class Given(NamedTuple):
    """A value of a setting, and where it was given: `FETCHQ_CONCURRENCY` or `--concurrency (-c)`."""

    value: Any
    origin: str


class ProgramSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a program runs. Each field is read from the variable that `variable_of` names; a flag outranks it.

    The type of a field decides how text is read: a tuple has several values, which commas or blanks separate in the
    environment and within one flag; `..._s` is a time with a unit, `..._bytes` a size.
    """

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The fields; the address of Redis without its password."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        if "redis_url" in shown:
            shown["redis_url"] = _without_password(shown["redis_url"])
        return list(shown.items())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **flags: Any) -> Self:
        """The settings in the environment, outranked by those `flags` that are not None; raises `InvalidSetting`."""
        given = given_by(os.environ if environ is None else environ, cls.__struct_fields__)
        given |= {name: Given(value, flag_of(name)) for name, value in flags.items() if value is not None}
        return cls.of(given)

    @classmethod
    def of(cls, given: Mapping[str, Given]) -> Self:
        """The settings with the values in `given`; text has the form of a flag. Raises `InvalidSetting`."""
        try:
            values = {name: _value_of(cls, name, one.value) for name, one in given.items()}
            return msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError as problem:
            if not isinstance(cause := problem.__cause__, InvalidSetting):
                cause = _as_written(cls, str(problem), given)
            if cause.name is not None and cause.name in given:
                cause = InvalidSetting(f"{given[cause.name].origin}: {cause.problem}", cause.name, cause.problem)
            raise cause from None


def variable_of(name: str) -> str:
    """The environment variable of a setting: `FETCHQ_GRACE` for `grace_s`, since its value names the unit."""
    return ENV_PREFIX + name.removesuffix("_s").upper()


def flag_of(name: str) -> str:
    """The flag of a setting: `--grace` for `grace_s`."""
    return "--redis" if name == "redis_url" else f"--{name.removesuffix('_s').replace('_', '-')}"


def given_by(environ: Mapping[str, str], names: Collection[str]) -> dict[str, Given]:
    """The settings among `names` that are in the environment. An empty variable counts as absent."""
    found = ((name, variable_of(name)) for name in names)
    given = {name: Given(text, at) for name, at in found if (text := environ.get(at, "").strip())}
    if "redis_url" in names and (origin := (url := UrlInEnvironment.of(environ)).origin):
        given["redis_url"] = Given(url, origin)
    return given


def split_list(text: str) -> list[str]:
    return [part for part in text.replace(",", " ").split() if part]


def _without_password(redis_url: str) -> str:
    try:
        return str(RedisAddress.parse(redis_url))
    except InvalidRedisURL:
        return "..."


@cache
def _kinds(settings: type[ProgramSettings]) -> dict[str, inspect.Type]:
    """The type of each setting, without its limits and description, which are in the constraints of that type."""
    kinds = {field.name: inspect.type_info(field.type) for field in msgspec.structs.fields(settings)}
    return {name: kind.type if isinstance(kind, inspect.Metadata) else kind for name, kind in kinds.items()}


def _value_of(settings: type[ProgramSettings], name: str, value: Any) -> Any:
    """The value of a flag or a variable with its unit applied; raises `msgspec.ValidationError`."""
    kind = _kinds(settings).get(name)
    try:
        if isinstance(kind, inspect.VarTupleType):
            texts = [value] if isinstance(value, str) else [str(one) for one in value]
            "".join(texts).encode()
            return [part for text in texts for part in split_list(text)]
        if isinstance(value, UrlInEnvironment):
            value = value.read()
        if isinstance(value, str):
            value.encode()  # bytes of the environment that are not UTF-8 are lone surrogates
            if name == "redis_url":
                RedisAddress.parse(value)
            if name.endswith("_s"):
                return parse_duration_s(value)
            if name.endswith("_bytes"):
                return parse_bytes(value)
            if isinstance(kind, inspect.BoolType):
                return _TRUTH.get(value.lower(), value)
            if name.startswith("log_"):
                return value.lower()  # as Python's logging and others write levels
    except UnicodeError:
        raise msgspec.ValidationError from InvalidSetting.of(name, "is not UTF-8")
    except UnusableFile as problem:
        raise msgspec.ValidationError from InvalidSetting(str(problem))  # names another variable than the setting's
    except ValueError as problem:
        raise msgspec.ValidationError from InvalidSetting.of(name, str(problem))
    return value


def _as_written(settings: type[ProgramSettings], problem: str, given: Mapping[str, Given]) -> InvalidSetting:
    """The sentence for msgspec's, which ends in `- at `$.concurrency``."""
    _what, _, where = problem.partition(" - at `$.")
    name = where.rstrip("`").split("[")[0]
    if not name:
        return InvalidSetting(problem)
    value = given[name].value
    shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return InvalidSetting.of(name, f"takes {_takes(settings, name)}, not {str(shown)[:80]!r}")


def _takes(settings: type[ProgramSettings], name: str) -> str:
    """The values that a setting can have, in words."""
    match _kinds(settings)[name]:
        case inspect.BoolType():
            return "true or false"
        case inspect.EnumType(cls=choices):
            *most, last = (str(choice.value) for choice in choices)
            return f"{', '.join(most)} or {last}"
        case inspect.VarTupleType(item_type=inspect.IntType()):
            return "port numbers from 1 to 65535"
        case inspect.VarTupleType(item_type=inspect.StrType(min_length=least, max_length=most_chars)):
            return f"names of {least or 0} to {most_chars} characters"
        case inspect.FloatType(ge=low, le=high):
            return f"a time from {duration_text(low or 0)} to {duration_text(high or 0)}"
        case inspect.IntType(ge=low, le=high) if name.endswith("_bytes"):
            return f"a size from {size_text(low or 0)} to {size_text(high or 0)}"
        case inspect.IntType(ge=low, le=high):
            return f"a whole number from {low} to {high}"
        case inspect.StrType(min_length=least_chars, max_length=most_chars):
            return f"{least_chars or 0} to {most_chars} characters"
    raise AssertionError(f"the setting {name} has a type that no sentence describes")
