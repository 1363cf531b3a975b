"""Settings: a mapping of environment variables in, one frozen value out, and every problem at once.

Nothing is read at import: `environment.read_environment` gives the mapping.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from crypto import KeyRing
from meta_client import MetaConfig
from models import COLUMNS, OPTIONAL_COLUMNS, TableMap
from whatsapp_tokens.apprise_secrets import secret_parts
from whatsapp_tokens.apprise_target import parse_addresses
from whatsapp_tokens.database.errors import BadUrl
from whatsapp_tokens.database.url import DatabaseUrl, parse_url, warning_of
from whatsapp_tokens.environment import BadSettings, Reader, utf8
from whatsapp_tokens.http_environment import is_loopback
from whatsapp_tokens.meta.permissions import KNOWN_PERMISSIONS
from whatsapp_tokens.redaction import Secret

_ROOT: Final = Path(__file__).resolve().parent.parent
ENV_FILE: Final = _ROOT / ".env"  # beside the script
ENGLISH_CODE: Final = "en"  # the language of every text in the source, which needs no catalogue
REQUIRED: Final = ("DATABASE_URL", "META_APP_ID", "META_APP_SECRET", "TOKEN_ENCRYPTION_KEY")
MAX_WORKERS: Final = 256
SCOPES: Final = "whatsapp_business_management,whatsapp_business_messaging"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment decides. Secrets in it do not print."""

    database: DatabaseUrl = field(repr=False)  # its options may hold an sslpassword
    secrets: tuple[Secret, ...]  # as given; held, so that `redact` finds them in every text
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
    status_page_url: str | None
    metrics_file: Path | None
    warnings: tuple[str, ...] = ()
    in_files: tuple[str, ...] = field(
        default=(), compare=False
    )  # the names of the secrets that were given as files

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Settings:
        """Read and check everything. Raise `BadSettings` with all problems, none of which shows a value."""
        read = Reader(environment)
        workers = read.number("WORKERS", 16, whole=True, least=1, most=MAX_WORKERS)
        scopes = read.parsed("REQUIRED_SCOPES", SCOPES, _scopes) or frozenset()
        settings = {
            "database": read.secret("DATABASE_URL", _database_url),
            "keys": read.secret("TOKEN_ENCRYPTION_KEY", KeyRing.parse),
            "table": _table_map(read),
            "refresh_after": read.days("REFRESH_AFTER_DAYS", 45),
            "refresh_before_expiry": read.days("REFRESH_BEFORE_EXPIRY_DAYS", 15),
            "token_lifetime": read.days("TOKEN_LIFETIME_DAYS", 60),
            "required_scopes": scopes,
            "workers": workers,
            "lease": timedelta(seconds=read.number("LEASE_SECONDS", 300, whole=True, least=1, most=86400)),
            "slack_webhook_url": read.secret("SLACK_WEBHOOK_URL", _secret_url, required=False),
            "notify_urls": read.secret("NOTIFY_URLS", _addresses, required=False, has_parts=False) or (),
            "reconnect_url": read.parsed("RECONNECT_URL", None, _link),
            "alert_language": read.parsed("ALERT_LANGUAGE", ENGLISH_CODE, _language),
            "healthcheck_url": read.secret("HEALTHCHECK_URL", _secret_url, required=False),
            "status_page_url": read.parsed("STATUS_PAGE_URL", None, _link),
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
        ignored = warning_of(settings["database"])
        warnings = (*read.misspelt(), *_unknown_scopes(scopes), *([ignored] if ignored else []))
        held = (
            *read.secrets,
            *_passwords(settings["database"]),
            *_path_and_query(settings["slack_webhook_url"]),
            *_path_and_query(settings["healthcheck_url"]),
            *chain.from_iterable(map(secret_parts, settings["notify_urls"])),
        )
        return cls(
            **settings,
            meta=MetaConfig(**meta),
            secrets=held,
            warnings=warnings,
            in_files=tuple(read.in_files),
        )


def read_database(environment: Mapping[str, str]) -> tuple[DatabaseUrl, TableMap]:
    """Return where the database and its channels are, for the migrations. Raise `BadSettings`."""
    read = Reader(environment)
    database: DatabaseUrl = read.secret("DATABASE_URL", _database_url)
    mapping = _table_map(read)
    if read.problems:
        raise BadSettings(read.problems)
    return database, mapping


def _database_url(text: str) -> DatabaseUrl:
    try:
        return parse_url(utf8(text))
    except BadUrl as error:
        raise ValueError(str(error)) from None


def _addresses(text: str) -> tuple[Secret, ...]:
    return parse_addresses(utf8(text))


def _table_map(read: Reader) -> TableMap:
    return TableMap(
        table=read.text("CHANNEL_TABLE", TableMap().table),
        type=read.text("CHANNEL_TYPE", TableMap().type),
        columns=read.parsed("CHANNEL_COLUMNS", None, _columns) or {},
    )


def _columns(text: str) -> dict[str, str]:
    """Read `ours=theirs,…` as our column names and theirs. Raise ValueError with what to do."""
    known = (*COLUMNS, *OPTIONAL_COLUMNS)
    found: dict[str, str] = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        ours, equals, theirs = (part.strip() for part in entry.partition("="))
        theirs = theirs.strip('"')
        if not (ours and equals and theirs):
            raise ValueError(f'"{entry[:60]}" is not of the form our_name=their_name')
        if ours not in known:
            raise ValueError(f'"{ours[:60]}" is none of the names on the left: {", ".join(known)}')
        if ours in found:
            raise ValueError(f'"{ours}" is given twice')
        found[ours] = theirs
    users: dict[str, list[str]] = {}
    for ours in known:
        if ours in COLUMNS or ours in found:
            users.setdefault(found.get(ours, ours), []).append(ours)
    for theirs, several in users.items():
        if len(several) > 1:
            raise ValueError(f'the column "{theirs}" is used twice: as {" and as ".join(several)}')
    return found


def _passwords(database: DatabaseUrl) -> tuple[Secret, ...]:
    given = (database.url.password, database.url.query.get("sslpassword"))
    return tuple(Secret(str(password)) for password in given if password)


def _path_and_query(url: Secret | None) -> tuple[Secret, ...]:
    """Return the secret parts of an address: HTTP libraries print them without the host."""
    parts = urlsplit(url.reveal()) if url else None
    return (Secret(parts.path), Secret(parts.query)) if parts else ()


def _secret_url(text: str) -> Secret:
    _split_url(utf8(text))
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


def _link(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:  # its text may repeat parts of the address
        usable = False
    if not usable or re.search(r"\s", text):
        raise ValueError("it must be a link that begins with https://")
    if "@" in parts.netloc:
        raise ValueError("it must hold no user or password: people are shown this link")
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


def _scopes(text: str) -> frozenset[str]:
    """Return the names of permissions, none for `none`."""
    names = frozenset(re.split(r"[\s,]+", text.strip(", \t\n")))
    if names == {"none"}:
        return frozenset()
    if "none" in names or not all(re.fullmatch(r"[a-z][a-z0-9_]+", name) for name in names):
        raise ValueError("it must be names of permissions with commas between them, or none")
    return names


def _unknown_scopes(scopes: frozenset[str]) -> tuple[str, ...]:
    """Return a warning if some are no permissions of Meta's."""
    unknown = ", ".join(sorted(scopes - KNOWN_PERMISSIONS))
    warning = f"REQUIRED_SCOPES: it names permissions that are not known ({unknown}); check the spelling"
    return (warning,) if unknown else ()


def _is_host(host: str) -> bool:
    """Return whether a host can be looked up at all."""
    try:
        if ":" in host:
            return bool(ipaddress.ip_address(host))
        return re.fullmatch(rb"[A-Za-z0-9_.-]+", host.encode("idna")) is not None
    except ValueError:
        return False


def _split_url(text: str) -> SplitResult:
    """Return the parts of an address to which secrets may be sent: https, or http to this machine."""
    try:
        parts = urlsplit(text.strip())
        usable = bool(parts.hostname) and parts.scheme in {"http", "https"} and parts.port != 0
    except ValueError:  # its text may repeat parts of the address
        usable = False
    if not usable or re.search(r"[\s\\]", text.strip()):  # libraries disagree about what a \ ends
        raise ValueError("it must be an address that begins with https://")
    if not _is_host(parts.hostname or ""):
        raise ValueError("its host is no name that can be looked up")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("plain http is accepted for a loopback address only; use https://")
    return parts
