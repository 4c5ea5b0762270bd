"""Configuration: frozen pydantic models, a TOML file under the flags, unknown keys are errors."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import tyro
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rationalrewards.types import InputError

_NO_RESULT = frozenset({"config", "dry_run", "as_json", "out", "cache", "concurrency", "at_once"})


class Config(BaseModel):
    """Base of every verb's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    how_fast: ClassVar[frozenset[str]] = frozenset()
    """Further fields that decide no result of a run, only how fast it goes and how much is kept."""
    shipped: ClassVar[Path | None] = None
    """The folder of configurations that ``--config`` takes by name as well."""

    config: Path | None = None
    """Take settings from this TOML file; flags win over it."""
    dry_run: bool = False
    """Print the resolved configuration and stop."""

    def settings(self) -> dict[str, Any]:
        """JSON-ready values that decide the results of a run: not where it writes, nor how fast it goes."""
        return self.model_dump(mode="json", exclude=set(_NO_RESULT | self.how_fast))


C = TypeVar("C", bound=Config)
JsonFlag = Annotated[bool, tyro.conf.arg(name="json", help="Print the result as JSON.")]


def resolve(kind: type[C], argv: Sequence[str], prog: str) -> C:
    """The configuration that ``argv`` asks for: defaults, then ``--config FILE.toml``, then flags.

    Prints help and exits on ``--help``; exits with 2 on flags that cannot be parsed. Raises InputError for an
    unreadable file, unknown keys, and values that the model refuses.
    """
    path, flags = _split(argv)
    if path is not None and kind.shipped is not None:
        path = {file.stem: file for file in kind.shipped.glob("*.toml")}.get(str(path), path)
    given = {} if path is None else _read(path, kind) | {"config": path}
    start = {
        name: given.get(name, tyro.MISSING if field.default is PydanticUndefined else field.default)
        for name, field in kind.model_fields.items()
    }
    for name, field in kind.model_fields.items():  # flags that add up shall not add to the file's values
        if tyro.conf.UseAppendAction in field.metadata and any(
            f.partition("=")[0] == f"--{name}" for f in flags
        ):
            start[name] = ()
    parsed: Any = tyro.cli(
        kind,
        prog=prog,
        description=inspect.getdoc(kind),  # or a docstring parser takes out the examples
        args=flags,
        default=kind.model_construct(**start),
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return _validated(kind, parsed.model_dump())


def _split(argv: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Take ``--config FILE`` (or ``--config=FILE``) out of the arguments."""
    path, rest, arguments = None, [], iter(argv)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name != "--config":
            rest.append(argument)
            continue
        value = value if equals else next(arguments, "")
        if not value:
            raise InputError("--config needs the path of a TOML file")
        path = Path(value)
    return path, rest


def _read(path: Path, kind: type[Config]) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error
    values = {key.replace("-", "_"): value for key, value in values.items()}
    unknown = sorted(values.keys() - kind.model_fields.keys())
    if unknown:
        known = ", ".join(kind.model_fields)
        raise InputError(f"{path} has the unknown key {unknown[0]!r}; known keys are: {known}")
    return {key: _typed(path, key, kind.model_fields[key], value) for key, value in values.items()}


def _typed(path: Path, key: str, field: FieldInfo, value: Any) -> Any:
    """A TOML value as its field's type, checked now, so that a wrong file is reported as such."""
    try:
        kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{path}: {key} is {value!r}: {error.errors()[0]['msg']}") from error


def _validated(kind: type[C], values: Mapping[str, Any]) -> C:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "the configuration"
        raise InputError(f"{name} is {first['input']!r}: {first['msg']}") from error
