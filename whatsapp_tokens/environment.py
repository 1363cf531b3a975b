"""Read environment variables, the `.env` file and files with secrets; collect everything that is wrong."""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from dotenv import dotenv_values

from whatsapp_tokens.redaction import Secret

T = TypeVar("T")

MAX_DAYS: Final = 3650
MAX_SECRET_BYTES: Final = 64 * 1024


class BadSettings(Exception):
    """The settings cannot be used. `problems` has a line for each, which begins with the variable's name."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read_environment(environment: Mapping[str, str], env_file: Path) -> tuple[dict[str, str], list[str]]:
    """Return the environment with the variables of `env_file` that it lacks, and warnings about that file.

    The file is taken literally, without `${…}` expansion: a password may contain anything.
    Raise `BadSettings` if the file cannot be read.
    """
    try:
        if env_file.is_dir():
            return dict(environment), [f"{env_file} is a folder and was ignored: settings belong in a file"]
        found = dotenv_values(env_file, interpolate=False, encoding="utf-8-sig")
        warnings = [] if _is_credential(environment, env_file) else _access_warnings(env_file)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings([f"{env_file}: it cannot be read ({type(error).__name__})"]) from None
    below = {name: value for name, value in found.items() if value is not None}
    return below | dict(environment), warnings


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
        self.problems: list[str] = []
        self.secrets: list[Secret] = []

    def text(self, name: str, default: str) -> str:
        """Return a variable, or the default if it is empty."""
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
        text = self._environment.get(name, "")
        path = self._environment.get(f"{name}_FILE", "")
        if text.strip() and path:
            self.problems.append(f"{name}: it is set, and {name}_FILE is too; keep one of them")
            return None
        if path:
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
        if name.endswith("_FILE"):
            self.problems.append(f"{name}: the file is empty")
        elif name in self._environment:
            self.problems.append(f"{name}: it is empty; give it a value (see .env.example)")
        else:
            self.problems.append(
                f"{name}: it is missing; set it in the environment or in .env (see .env.example)"
            )


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
        raise _BadFile(f"cannot be read ({type(error).__name__})") from None
