"""Read environment variables, the `.env` file and files with secrets; collect everything that is wrong."""

from __future__ import annotations

import difflib
import math
import stat
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from dotenv.parser import parse_stream

from whatsapp_tokens.redaction import Secret

T = TypeVar("T")

MAX_DAYS: Final = 3650
MAX_SECRET_BYTES: Final = 64 * 1024
ALIKE: Final = 0.85  # how much a name must look like another one to be a mistake for it; 1 is the same


class BadSettings(Exception):
    """The settings cannot be used. `problems` has a line for each, which begins with the variable's name.

    `steps` are lines that say what to do next, where there are no settings at all yet.
    """

    def __init__(self, problems: list[str], steps: tuple[str, ...] = ()) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        self.steps = steps


class Environment(dict[str, str]):
    """Variables by name, from the environment and from `file`, over which it lies.

    `in_file` are the names in the file; `emptied` those that have a value there, and that the environment
    sets to nothing.
    """

    def __init__(self, real: Mapping[str, str], file: Path, below: Mapping[str, str]) -> None:
        super().__init__({**below, **real})
        self.file = file
        self.in_file = frozenset(below)
        self.emptied = {name for name, value in below.items() if value and real.get(name) == ""}


def read_environment(environment: Mapping[str, str], env_file: Path) -> tuple[Environment, list[str]]:
    """Return the environment with the variables of `env_file` that it lacks, and warnings about that file.

    The file is taken literally, without `${…}` expansion: a password may contain anything.
    Raise `BadSettings` if the file cannot be read.
    """
    try:
        if env_file.is_dir():
            warning = f"{env_file} is a folder and was ignored: settings belong in a file"
            return Environment(environment, env_file, {}), [warning]
        below, warnings = _read_file(env_file)
        if not _is_credential(environment, env_file):
            warnings += _access_warnings(env_file)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings([f"{env_file}: it cannot be read ({_why(error)})"]) from None
    return Environment(environment, env_file, below), warnings


def _read_file(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return the variables of a file, none if it is not there, and warnings about its lines."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            bindings = list(parse_stream(file))
    except FileNotFoundError:
        return {}, []
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    warnings = []
    for binding in bindings:
        name, value, line = binding.key, binding.value, binding.original.line
        if binding.error:
            warnings.append(f"{path}, line {line}: it is not of the form NAME=value and was ignored")
        if name is None or value is None:
            continue
        if name in lines:
            warnings.append(
                f"{path}: {name} is on line {lines[name]} and on line {line}; the last one counts"
            )
        found[name], lines[name] = value, line
    return found, warnings


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "it is no path"


def _is_credential(environment: Mapping[str, str], path: Path) -> bool:
    """Return whether systemd made the file for us: an access list, not its mode, keeps others out."""
    folder = environment.get("CREDENTIALS_DIRECTORY", "")
    return folder != "" and Path(folder).resolve() == path.resolve().parent


def _access_warnings(env_file: Path) -> list[str]:
    """Return a warning if other users of this machine can read or change the file."""
    mode = env_file.stat().st_mode if env_file.is_file() else 0
    rights = [word for word, bits in (("read", 0o044), ("changed", 0o022)) if mode & bits]
    if not rights:
        return []
    can_be = " and ".join(rights)
    return [f"{env_file} can be {can_be} by other users of this machine; run: chmod 600 {env_file}"]


class Reader:
    """Looks up variables. What is wrong with them is added to `problems`; the value returned is then a dummy.

    `secrets` holds the secrets that were found, so that `redact` removes them from every text.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._names: set[str] = set()
        self.problems: list[str] = []
        self.in_files: list[str] = []
        self.secrets: list[Secret] = []

    def text(self, name: str, default: str) -> str:
        """Return a variable, or the default if it is empty."""
        self._names.add(name)
        text = self._environment.get(name, "").strip()
        return self._parse(name, text, utf8) or default

    def parsed(
        self, name: str, default: str | None, parse: Callable[[str], T], *, required: bool = False
    ) -> Any:
        """Return a variable as `parse` reads it, which raises ValueError with what to do."""
        text = self.text(name, default or "")
        if text:
            return self._parse(name, text, parse)
        if required:
            self._missing(name)
        return None

    def number(self, name: str, default: float, *, whole: bool = False, least: float = 0, most: float) -> Any:
        """Return a number between `least` and `most`."""
        text = self.text(name, str(default))
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:  # also refuses nan
            kind = "a whole number" if whole else "a number"
            self.problems.append(f"{name}: it must be {kind} from {least:g} to {most:g}")
            return int(default)
        return value

    def days(self, name: str, default: int) -> timedelta:
        """Return a number of whole days."""
        return timedelta(days=self.number(name, default, whole=True, least=1, most=MAX_DAYS))

    def secret(
        self, name: str, parse: Callable[[str], T], *, required: bool = True, has_parts: bool = True
    ) -> Any:
        """Return a secret from the variable, or from the file that `name`_FILE names.

        `has_parts`: what is between commas is a secret of its own.
        """
        self._names |= {name, f"{name}_FILE"}
        text = self._environment.get(name, "")
        path = self._environment.get(f"{name}_FILE", "")
        if text.strip() and path:
            self.problems.append(f"{name}: it is set, and {name}_FILE is too; keep one of them")
            return None
        if path:
            self.in_files.append(name)
            name = f"{name}_FILE"
            try:
                text = _read_secret_file(Path(path))
            except _BadFile as error:
                self.problems.append(f"{name}: the file that it names {error}")
                return None
        if text.strip():
            parts = {text, *text.split(",")} if has_parts else {text}
            self.secrets += [Secret(part.strip()) for part in parts]
            return self._parse(name, text, parse)
        if required or path:
            self._missing(name)
        return None

    def _parse(self, name: str, text: str, parse: Callable[[str], T]) -> T | None:
        try:
            return parse(text)
        except ValueError as error:
            self.problems.append(f"{name}: {error}")
            return None

    def _missing(self, name: str) -> None:
        self.problems.append(f"{name}: {self._why_missing(name)}")

    def _why_missing(self, name: str) -> str:
        environment = self._environment
        file: Path | str = ".env"
        if isinstance(environment, Environment):
            file = environment.file
            if name in environment.emptied:
                return (
                    f"the environment sets it to nothing, which wins over its value in {file}; unset it there"
                )
        if name.endswith("_FILE"):
            return "the file is empty"
        if name in environment:
            return "it is empty; give it a value (see .env.example)"
        advice = f"it is missing; set it in the environment or in {file} (see .env.example)"
        if alike := difflib.get_close_matches(name, set(environment) - self._names, 1, ALIKE):
            return f"{advice}; there is {alike[0]}, is that meant?"
        return advice

    def misspelt(self) -> list[str]:
        """Return a warning for each name in the file that nothing reads, and that looks like an unset one.

        Other names are no mistake: the file may be the application's, too.
        """
        environment = self._environment
        if not isinstance(environment, Environment):
            return []
        unset = {name for name in self._names if not environment.get(name)}
        return [
            f"{environment.file}: {name} is no setting and is ignored; is {alike[0]} meant?"
            for name in sorted(environment.in_file - self._names)
            if (alike := difflib.get_close_matches(name.upper(), sorted(unset), 1, ALIKE))
        ]


def utf8(text: str) -> str:
    """Return the text. Raise ValueError if it contains bytes that Python could not decode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it contains bytes that are not UTF-8") from None
    return text


class _BadFile(Exception):
    """A file cannot hold a secret. The path is not in the text: by mistake it may be the secret itself."""


def _read_secret_file(path: Path) -> str:
    """Return the text of a file without its last line break. Raise `_BadFile`."""
    try:
        found = path.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise _BadFile("is not a regular file")  # to read a pipe or a device may take for ever
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        if len(content) > MAX_SECRET_BYTES:
            raise _BadFile(f"is larger than {MAX_SECRET_BYTES // 1024} KiB")
        return content.decode("utf-8-sig").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise _BadFile(f"cannot be read ({_why(error)})") from None
