"""Settings: a mapping of environment variables in, one frozen value out, every problem at once.

Nothing is read at import. `read_environment` puts a `.env` file under the real environment, and
`Settings.from_env` makes sense of the result; a secret `X` may instead stand in a file named by
`X_FILE`, as Docker and Kubernetes mount them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from dotenv import dotenv_values

from crypto import KeyRing
from meta_client import MetaConfig
from models import TableMap, parse_columns
from whatsapp_tokens.apprise_target import parse_addresses, secret_parts
from whatsapp_tokens.database.errors import BadUrl
from whatsapp_tokens.database.url import DatabaseUrl, parse_url
from whatsapp_tokens.http_environment import is_loopback
from whatsapp_tokens.redaction import Secret

T = TypeVar("T")

_ROOT: Final = Path(__file__).resolve().parent.parent
ENV_FILE: Final = _ROOT / ".env"  # beside the script
ENGLISH_CODE: Final = "en"  # the language of every text in the source, which needs no catalogue
MAX_WORKERS: Final = 256
MAX_DAYS: Final = 3650
SCOPES: Final = "whatsapp_business_management,whatsapp_business_messaging"


class BadSettings(Exception):
    """The settings cannot be used. `problems` has a line for each, which begins with the variable's name."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the environment decides. Secrets in it do not print."""

    database: DatabaseUrl = field(repr=False)  # its options may hold an sslpassword
    secrets: tuple[Secret, ...]  # as they were given; held, so that `redact` finds them wherever they turn up
    meta: MetaConfig
    keys: KeyRing
    table: TableMap
    refresh_after: timedelta
    refresh_before_expiry: timedelta
    token_lifetime: timedelta
    required_scopes: frozenset[str]
    workers: int
    lease: timedelta
    slack_webhook_url: Secret | None
    notify_urls: tuple[Secret, ...]
    reconnect_url: str | None
    alert_language: str
    healthcheck_url: Secret | None
    metrics_file: Path | None

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Settings:
        """Read and check everything. Raises `BadSettings` with all problems, none of which shows a value."""
        read = _Reader(environment)
        workers = read.number("WORKERS", 16, whole=True, least=1, most=MAX_WORKERS)
        settings = {
            "database": read.secret("DATABASE_URL", parse_url),
            "keys": read.secret("TOKEN_ENCRYPTION_KEY", KeyRing.parse),
            "table": read.table_map(),
            "refresh_after": read.days("REFRESH_AFTER_DAYS", 45),
            "refresh_before_expiry": read.days("REFRESH_BEFORE_EXPIRY_DAYS", 15),
            "token_lifetime": read.days("TOKEN_LIFETIME_DAYS", 60),
            "required_scopes": frozenset(read.text("REQUIRED_SCOPES", SCOPES).replace(",", " ").split()),
            "workers": workers,
            "lease": timedelta(seconds=read.number("LEASE_SECONDS", 300, whole=True, least=1, most=86400)),
            "slack_webhook_url": read.secret("SLACK_WEBHOOK_URL", _secret_url, required=False),
            "notify_urls": read.secret("NOTIFY_URLS", parse_addresses, required=False) or (),
            "reconnect_url": read.parsed("RECONNECT_URL", None, _reconnect_url),
            "alert_language": read.parsed("ALERT_LANGUAGE", ENGLISH_CODE, _language),
            "healthcheck_url": read.secret("HEALTHCHECK_URL", _secret_url, required=False),
            "metrics_file": read.parsed("METRICS_FILE", None, Path),
        }
        meta = {
            "app_id": read.parsed("META_APP_ID", None, _app_id, required=True),
            "app_secret": read.secret("META_APP_SECRET", _one_word),
            "version": read.parsed("META_GRAPH_VERSION", "v26.0", _version),
            "url": read.parsed("META_GRAPH_URL", "https://graph.facebook.com", _graph_url),
            "timeout": read.number("META_TIMEOUT_SECONDS", 30, least=0.01, most=3600),
            "retries": read.number("META_RETRIES", 3, whole=True, most=100),
            "retry_wait": read.number("META_RETRY_WAIT_SECONDS", 1, most=3600),
            "rate_limit_wait": read.number("RATE_LIMIT_WAIT_SECONDS", 600, most=86400),
            "connections": workers,
        }
        if read.problems:
            raise BadSettings(read.problems)
        held = (
            *read.secrets,
            *_passwords(settings["database"]),
            *_path_and_query(settings["slack_webhook_url"]),
            *_path_and_query(settings["healthcheck_url"]),
            *chain.from_iterable(map(secret_parts, settings["notify_urls"])),
        )
        return cls(**settings, meta=MetaConfig(**meta), secrets=held)


def read_environment(environment: Mapping[str, str], env_file: Path) -> tuple[dict[str, str], list[str]]:
    """The environment with `env_file`, if there is one, underneath; and warnings about that file.

    The file is taken literally, without `${…}` expansion: a password may contain anything.
    Raises `BadSettings` if the file cannot be read.
    """
    warnings = []
    try:
        found = dotenv_values(env_file, interpolate=False, encoding="utf-8-sig")
        if env_file.is_file() and env_file.stat().st_mode & 0o044:
            warnings.append(
                f"{env_file} can be read by other users of this machine; run: chmod 600 {env_file}"
            )
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings([f"{env_file}: it cannot be read ({type(error).__name__})"]) from None
    below = {name: value for name, value in found.items() if value is not None}
    return below | dict(environment), warnings


def read_database(environment: Mapping[str, str]) -> tuple[DatabaseUrl, TableMap]:
    """Where the database and its channels are, for the migrations. Raises `BadSettings`."""
    read = _Reader(environment)
    database: DatabaseUrl = read.secret("DATABASE_URL", parse_url)
    mapping = read.table_map()
    if read.problems:
        raise BadSettings(read.problems)
    return database, mapping


class _Reader:
    """Looks settings up and collects what is wrong with them. After a problem the value given is a dummy."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []
        self.secrets: list[Secret] = []

    def text(self, name: str, default: str) -> str:
        """A setting as it stands; one that is empty counts as not set."""
        return self._environment.get(name, "").strip() or default

    def parsed(
        self, name: str, default: str | None, parse: Callable[[str], T], *, required: bool = False
    ) -> Any:
        """A setting made sense of by `parse`, which raises ValueError with what to do."""
        text = self.text(name, default or "")
        if text:
            return self._parse(name, text, parse)
        if required:
            self._missing(name)
        return None

    def number(self, name: str, default: float, *, whole: bool = False, least: float = 0, most: float) -> Any:
        """A number between `least` and `most`."""
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
        """A number of whole days."""
        return timedelta(days=self.number(name, default, whole=True, least=1, most=MAX_DAYS))

    def table_map(self) -> TableMap:
        """Where the channels are, from the three settings that say it."""
        return TableMap(
            table=self.text("CHANNEL_TABLE", TableMap().table),
            type=self.text("CHANNEL_TYPE", TableMap().type),
            columns=self.parsed("CHANNEL_COLUMNS", None, parse_columns) or {},
        )

    def secret(self, name: str, parse: Callable[[str], T], *, required: bool = True) -> Any:
        """A secret from `name`, or from the file that `name`_FILE names, without the end of its line."""
        text = self._environment.get(name, "")
        path = self._environment.get(f"{name}_FILE", "")
        if text.strip() and path:
            self.problems.append(f"{name}: it is set, and {name}_FILE is too; keep one of them")
            return None
        if path:
            try:
                text = Path(path).read_text(encoding="utf-8-sig").rstrip("\r\n")
            except (OSError, ValueError) as error:
                # The path is not shown: by mistake it may be the secret itself.
                self.problems.append(
                    f"{name}_FILE: the file that it names cannot be read ({type(error).__name__})"
                )
                return None
            name = f"{name}_FILE"
        if text.strip():
            # Addresses may hold commas, and what is between them need not be secret.
            parts = {text} if parse is parse_addresses else {text, *text.split(",")}
            self.secrets += [Secret(part.strip()) for part in parts]
            return self._parse(name, text, parse)
        if required or path:
            self._missing(name)
        return None

    def _parse(self, name: str, text: str, parse: Callable[[str], T]) -> T | None:
        try:
            return parse(text)
        except (ValueError, BadUrl) as error:
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


def _passwords(database: DatabaseUrl) -> tuple[Secret, ...]:
    given = (database.url.password, database.url.query.get("sslpassword"))
    return tuple(Secret(str(password)) for password in given if password)


def _path_and_query(url: Secret | None) -> tuple[Secret, ...]:
    """What is secret of an address that is one: HTTP libraries print it without the host."""
    parts = urlsplit(url.reveal()) if url else None
    return (Secret(parts.path), Secret(parts.query)) if parts else ()


def _secret_url(text: str) -> Secret:
    _split_url(text)
    return Secret(text.strip())


def _one_word(text: str) -> Secret:
    if re.search(r"\s", text.strip()):
        raise ValueError("it contains white space")
    if not text.isascii():
        raise ValueError("it contains characters that no app secret has")
    return Secret(text.strip())


def _app_id(text: str) -> str:
    if not re.fullmatch(r"[\w.-]{1,31}", text, re.ASCII):  # an app secret put here by mistake has 32 digits
        raise ValueError("it must be the app's id, as the App Dashboard shows it")
    return text


def _version(text: str) -> str:
    if not re.fullmatch(r"v\d{1,3}\.\d{1,2}", text):
        raise ValueError("it must look like v26.0")
    return text


def _graph_url(text: str) -> str:
    _split_url(text)
    if set("@?#") & set(text):
        raise ValueError("it must be a plain address such as https://graph.facebook.com")
    return text.rstrip("/")


def _reconnect_url(text: str) -> str:
    try:
        usable = urlsplit(text).scheme in {"http", "https"} and bool(urlsplit(text).netloc)
    except ValueError:  # its text may repeat parts of the address
        usable = False
    if not usable or re.search(r"\s", text):
        raise ValueError("it must be a link that begins with https://")
    return text


def catalogue_path(language: str) -> Path:
    """Return where the texts of a language are: one file per language is all that it takes."""
    return _ROOT / "locale" / language / "LC_MESSAGES" / "messages.po"


def languages() -> list[str]:
    """Return the languages that there are texts for, English first."""
    found = catalogue_path("*").relative_to(_ROOT)
    return [ENGLISH_CODE, *sorted(path.parent.parent.name for path in _ROOT.glob(str(found)))]


def _language(text: str) -> str:
    found = [one for one in languages() if one.casefold() == text.casefold()]
    if not found:
        raise ValueError(f"it must be one of {', '.join(languages())}")
    return found[0]


def _split_url(text: str) -> SplitResult:
    """The parts of an address to which secrets may be sent: https, or http to this machine."""
    try:
        parts = urlsplit(text.strip())
        usable = bool(parts.hostname) and parts.scheme in {"http", "https"} and parts.port != 0
    except ValueError:  # its text may repeat parts of the address
        usable = False
    if not usable or re.search(r"[\s\\]", text.strip()):  # libraries disagree about what a \ ends
        raise ValueError("it must be an address that begins with https://")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("plain http is accepted for a loopback address only; use https://")
    return parts
