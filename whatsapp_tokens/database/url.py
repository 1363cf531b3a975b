"""DATABASE_URL: what people paste, and what the driver is given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from whatsapp_tokens.database.errors import BadUrl

# What libpq understands in a URL; other parameters are Prisma's or another driver's.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
LIBPQ_OPTIONS: Final = frozenset(
    {
        "application_name", "channel_binding", "client_encoding", "connect_timeout", "gssencmode", "host",
        "hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname",
        "options", "passfile", "port", "require_auth", "service", "sslcert", "sslcertmode", "sslcrl",
        "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert", "sslsni",
        "ssl_max_protocol_version", "ssl_min_protocol_version", "target_session_attrs", "tcp_user_timeout",
    }
)  # fmt: skip

# What Prisma adds for its own engine. Not needed here, and no reason to warn every night.
# https://www.prisma.io/docs/orm/overview/databases/postgresql#arguments
PRISMA_OPTIONS: Final = frozenset(
    {
        "connection_limit", "max_connection_lifetime", "max_idle_connection_lifetime", "pgbouncer",
        "pool_timeout", "socket_timeout", "sslaccept", "sslidentity", "statement_cache_size",
    }
)  # fmt: skip
# What node-postgres says in its own way: https://node-postgres.com/features/ssl
SSL_MODES: Final = {
    "no-verify": "require",
    "true": "require",
    "1": "require",
    "false": "disable",
    "0": "disable",
}


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """What DATABASE_URL says. Its `repr` shows nothing of the address, which may hold several secrets.

    `ignored` are the names of the parameters that neither libpq nor Prisma knows.
    """

    url: URL = field(repr=False)
    schema: str | None = None
    ignored: tuple[str, ...] = ()


def parse_url(text: str) -> DatabaseUrl:
    """Read what people paste as DATABASE_URL: PostgreSQL in any spelling, with Prisma's options, or SQLite.

    Raise `BadUrl`, without repeating the text: it holds the password.
    """
    text = text.strip()
    if text[:1] in {'"', "'"} and text[:1] == text[-1:]:  # a file read by Docker keeps them
        text = text[1:-1].strip()
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme in {"postgres", "postgresql"} or scheme.startswith("postgresql+"):
        driver = "postgresql+psycopg2"
    elif scheme == "sqlite" or scheme.startswith("sqlite+"):
        driver = "sqlite"
    else:
        raise BadUrl("it must begin with postgresql:// or sqlite:///")
    if "\0" in text or "%00" in text:
        raise BadUrl("it holds a null character (%00), which no part of it can have")
    try:
        url = make_url(text).set(drivername=driver)
    except (ArgumentError, ValueError):
        raise BadUrl("it is not a valid URL; special characters in the password must be %-encoded") from None
    if driver == "sqlite":
        if url.host or url.database in {None, "", ":memory:"}:
            raise BadUrl("it names no file; write sqlite:///path or, absolute, sqlite:////path")
        return DatabaseUrl(url.set(query={}), ignored=_unknown(url))
    if text.count("@") > 1:  # what follows the first would be shown as the host, and may be half a password
        raise BadUrl("an @ within the password or any other part of it must be written as %40")
    return _postgresql(url)


def _postgresql(url: URL) -> DatabaseUrl:
    """Return a PostgreSQL URL with the parameters that libpq knows, and without the others."""
    several = [name for name, value in url.query.items() if not isinstance(value, str)]
    if set(several) - {"host"}:  # of hosts there may be several
        raise BadUrl(f"it gives {_named(several)} more than once")
    query: dict[str, Any] = dict(url.query)
    if url.host and "%" in url.host:  # libpq's own way to write the path of a socket
        url = url.set(host=unquote(url.host))
    # libpq takes these from anywhere, and what stands here wins.
    url = url.set(
        username=query.pop("user", url.username),
        password=query.pop("password", url.password),
        database=query.pop("dbname", url.database),
    )
    if not url.database:
        raise BadUrl("it names no database; write postgresql://user:password@host/database")
    mode = query.get("sslmode", query.pop("ssl", ""))
    if mode:
        query["sslmode"] = SSL_MODES.get(mode, mode)
    schema = query.pop("schema", None)
    known = {name: value for name, value in query.items() if name in LIBPQ_OPTIONS}
    target = DatabaseUrl(url.set(query=known), schema, _unknown(url.set(query=query)))
    try:
        target.url.get_dialect()().create_connect_args(target.url)  # as the engine does later
    except (ArgumentError, ValueError):
        raise BadUrl("one of its hosts or ports cannot be one; a port is a number") from None
    return target


def _unknown(url: URL) -> tuple[str, ...]:
    return tuple(sorted(set(url.query) - LIBPQ_OPTIONS - PRISMA_OPTIONS))


def _named(names: Iterable[str]) -> str:
    """Return names of parameters; what does not look like a name may be half a password, and is not shown."""
    return ", ".join(name if re.fullmatch(r"\w{1,40}", name) else "a parameter" for name in names)


def warning_of(target: DatabaseUrl) -> str | None:
    """Return a warning that names the parameters that are ignored, or None."""
    return f"DATABASE_URL: {_named(target.ignored)} is not known and is ignored" if target.ignored else None
