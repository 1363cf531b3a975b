"""What `--check` looks at: everything that a run needs, each with what was seen or what to do.

Nothing is changed, no message is sent, and Meta is asked about our own app only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Final

from crypto import KeyRing, Undecryptable
from meta_client import MetaClient
from models import Channel
from notify import Target
from whatsapp_tokens.commands.wiring import explained
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import DatabaseError
from whatsapp_tokens.http_environment import LocalFault
from whatsapp_tokens.http_session import origin, why_unreachable
from whatsapp_tokens.meta.errors import AppRejected, MetaError
from whatsapp_tokens.results import Finding, Level, facts
from whatsapp_tokens.settings import Settings
from whatsapp_tokens.signals import Sleep, Stop

MOST_NAMED: Final = 3  # channels whose token cannot be decrypted


def bad_settings(problems: Sequence[str]) -> list[Finding]:
    """Return the findings if the settings cannot be read: then there is nothing else to look at."""
    return [Finding("settings", Level.PROBLEM, problem) for problem in problems]


def preflight(settings: Settings, targets: Sequence[Target], stop: Stop) -> Iterator[Finding]:
    """Look at everything that a run needs. Raise `Interrupted` once `stop` is set."""
    yield Finding("settings", Level.OK, "all required settings are there")
    yield from _look_at_database(settings, stop)
    yield _look_at_meta(settings, stop.sleep)
    yield from _look_at_alerts(settings, targets)


def _look_at_database(settings: Settings, stop: Stop) -> Iterator[Finding]:
    """Look at the table with its columns, at what our role may do there, and try the keys on the tokens."""
    try:
        opened = Database(settings.database, settings.table, lease=settings.lease, stop=stop)
        with closing(opened) as database:
            where = database.queries.describe()
            if missing := database.queries.missing_permissions():
                text = f"{where}: the role may not {'; nor '.join(missing)}; grant it"
                yield Finding("database", Level.PROBLEM, text)
            else:
                yield Finding("database", Level.OK, f"{where} has all columns")
            yield _look_at_keys(database, settings.keys)
    except DatabaseError as error:
        yield Finding("database", Level.PROBLEM, explained(error))


@dataclass(slots=True)
class _Tried:
    """How many tokens each key of the ring decrypts, and how many none does, with the first of these."""

    by_key: Counter[int] = field(default_factory=Counter)
    unreadable: int = 0
    named: list[str] = field(default_factory=list)

    @classmethod
    def on(cls, keys: KeyRing, channels: Iterator[Channel]) -> _Tried:
        """Try the keys on the tokens of channels."""
        tried = cls()
        for channel in channels:
            try:
                tried.by_key[keys.decrypt(channel.ciphertext).key_index] += 1
            except Undecryptable as error:
                tried.unreadable += 1
                if len(tried.named) < MOST_NAMED:
                    tried.named.append(f"channel {channel.id}: {error}")
        return tried

    @property
    def examples(self) -> str:
        """The first that cannot be decrypted, with the reason of each, and how many more there are."""
        more = self.unreadable - len(self.named)
        return "; ".join([*self.named, *([f"and {more} more"] if more else [])])


def _look_at_keys(database: Database, keys: KeyRing) -> Finding:
    """Try the keys on every stored token.

    Those of inactive channels count, too: such a channel may be active again after its key has gone.
    """
    active = _Tried.on(keys, database.queries.candidates())
    inactive = _Tried.on(keys, database.queries.inactive())
    if active.unreadable and not active.by_key:
        tokens = _count(active.unreadable, "stored token")
        text = f"TOKEN_ENCRYPTION_KEY opens none of {tokens}: give the application's key ({active.named[0]})"
        return Finding("keys", Level.PROBLEM, text)
    text = _key_use(active.by_key, inactive.by_key, len(keys))
    if inactive.unreadable:
        text += f"; {inactive.unreadable} of inactive channels cannot be opened: {inactive.examples}"
    if active.unreadable:
        text += f"; {active.unreadable} cannot be opened: {active.examples}"
    level = Level.PROBLEM if active.unreadable else Level.WARNING if inactive.unreadable else Level.OK
    return Finding("keys", level, text)


def _key_use(active: Counter[int], inactive: Counter[int], keys: int) -> str:
    """Return how many tokens each key decrypts, and which keys of the ring are no longer needed."""
    if not (active or inactive):
        return f"{_count(keys, 'key')}; there is no stored token to try them on"
    uses = [f"{_count(active.total(), 'stored token')}: {active[0]} open with the first key"]
    uses += [f"{active[key]} still need key {key + 1}" for key in range(1, keys) if active[key]]
    uses += [
        f"{inactive[key]} of inactive channels need key {key + 1} (no run renews them)"
        for key in range(1, keys)
        if inactive[key]
    ]
    uses += [f"key {key + 1} opens none" for key in range(1, keys) if not (active[key] or inactive[key])]
    return ", ".join(uses)


def _look_at_meta(settings: Settings, sleep: Sleep) -> Finding:
    """Check our app's id and secret with a question about the app itself. A limit is not waited for."""
    address = settings.meta.url
    try:
        with closing(MetaClient(replace(settings.meta, rate_limit_wait=0), sleep=sleep)) as meta:
            meta.check_app()
    except LocalFault as fault:
        return Finding("meta", Level.PROBLEM, str(fault))
    except AppRejected as error:
        to_do = "check META_APP_ID, META_APP_SECRET and the app"
        return Finding("meta", Level.PROBLEM, facts(str(error), to_do))
    except MetaError as error:
        to_do = "check the network and META_GRAPH_URL"
        return Finding("meta", Level.PROBLEM, facts(str(error), f"asked: {address}", to_do))
    return Finding("meta", Level.OK, f"{address} accepts the app {settings.meta.app_id}")


def _look_at_alerts(settings: Settings, targets: Sequence[Target]) -> Iterator[Finding]:
    """Look who is told, and whether Slack can be reached. Nothing is sent there, nor to the others."""
    if not targets:
        text = "no one is told when a channel fails: set SLACK_WEBHOOK_URL or NOTIFY_URLS"
        yield Finding("alerts", Level.WARNING, text)
        return
    yield Finding("alerts", Level.OK, f"they go to {', '.join(target.name for target in targets)}")
    if settings.slack_webhook_url:
        address = origin(settings.slack_webhook_url.reveal())
        if why := why_unreachable(address):
            text = f"Slack cannot be reached; asked: {address}; no answer: {why}; check SLACK_WEBHOOK_URL"
            yield Finding("alerts", Level.PROBLEM, text)
        else:
            yield Finding("alerts", Level.OK, f"Slack can be reached: {address}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
