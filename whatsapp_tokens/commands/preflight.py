"""Whether a run would work: asked before the first one, and after every change of the settings.

Each `Finding` is one line: what was looked at, and that it is well or what to do. Nothing is changed,
nobody is written to, and Meta is asked about our own app only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace

from crypto import KeyRing, Undecryptable
from meta_client import MetaClient
from notify import Target
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import UPGRADE, DatabaseError
from whatsapp_tokens.meta.errors import MetaError
from whatsapp_tokens.results import Finding
from whatsapp_tokens.settings import Settings
from whatsapp_tokens.signals import Sleep

MOST_NAMED = 3  # channels whose token does not open


def bad_settings(problems: Sequence[str]) -> list[Finding]:
    """The findings where the settings cannot be read: then there is nothing else to look at."""
    return [Finding("settings", ok=False, text=problem) for problem in problems]


def preflight(settings: Settings, targets: Sequence[Target], sleep: Sleep) -> Iterator[Finding]:
    """Look at everything that a run needs. Raises `Interrupted` if `sleep` does."""
    yield Finding("settings", ok=True, text="all that is required is there")
    yield from _look_at_database(settings)
    yield _look_at_meta(settings, sleep)
    yield _look_at_alerts(targets)


def _look_at_database(settings: Settings) -> Iterator[Finding]:
    """The table with its columns, what we may do there, and the keys against the tokens in it."""
    try:
        with closing(Database(settings.database, settings.table, lease=settings.lease)) as database:
            if lacking := database.queries.missing_permissions():
                problem = f"the role may not {'; nor '.join(lacking)}"
                yield Finding(
                    "database", ok=False, text=f"{database.queries.describe()}: {problem}; grant it"
                )
            else:
                yield Finding("database", ok=True, text=f"{database.queries.describe()} has all columns")
            yield _look_at_keys(database, settings.keys)
    except DatabaseError as error:
        hint = "" if UPGRADE in str(error) else "; check DATABASE_URL"
        yield Finding("database", ok=False, text=f"{error}{hint}")


def _look_at_keys(database: Database, keys: KeyRing) -> Finding:
    """Try the ring on every stored token, a page at a time, and count which key opens how many.

    An inactive channel's is counted, too: it may be active again when its key has been taken out.
    """
    opened: Counter[int] = Counter()
    closed = 0
    named: list[str] = []
    asleep: Counter[int] = Counter()
    for channel in database.queries.inactive():
        with suppress(Undecryptable):
            asleep[keys.decrypt(channel.ciphertext).key_index] += 1
    for channel in database.queries.candidates():
        try:
            opened[keys.decrypt(channel.ciphertext).key_index] += 1
        except Undecryptable as error:
            closed += 1
            if len(named) < MOST_NAMED:
                named.append(f"channel {channel.id}: {error}")
    if closed and not opened:
        text = (
            f"TOKEN_ENCRYPTION_KEY opens none of {_count(closed, 'stored token')}: give the application's key"
        )
        return Finding("keys", ok=False, text=f"{text} ({named[0]})")
    if closed:
        named += [f"and {closed - len(named)} more"] if closed > len(named) else []
        return Finding(
            "keys",
            ok=False,
            text=f"{_key_use(opened, asleep, len(keys))}; {closed} cannot be opened: {'; '.join(named)}",
        )
    return Finding("keys", ok=True, text=_key_use(opened, asleep, len(keys)))


def _key_use(opened: Counter[int], asleep: Counter[int], keys: int) -> str:
    """How many tokens each key opens, and which keys of the ring are no longer needed."""
    if not (opened or asleep):
        return f"{_count(keys, 'key')}; there is no stored token to try them on"
    said = [f"{_count(opened.total(), 'stored token')}: {opened[0]} open with the first key"]
    said += [f"{opened[place]} still need key {place + 1}" for place in range(1, keys) if opened[place]]
    said += [
        f"{asleep[place]} of inactive channels need key {place + 1} (no run renews them)"
        for place in range(1, keys)
        if asleep[place]
    ]
    idle = [str(place + 1) for place in range(1, keys) if not (opened[place] or asleep[place])]
    said += [f"key {place} opens none" for place in idle]
    return ", ".join(said)


def _look_at_meta(settings: Settings, sleep: Sleep) -> Finding:
    """Our app's id and secret, with a question about the app itself; a limit is not waited for."""
    with closing(MetaClient(replace(settings.meta, rate_limit_wait=0), sleep=sleep)) as meta:
        try:
            meta.check_app()
        except MetaError as error:
            return Finding("meta", ok=False, text=f"{error}; check META_APP_ID, META_APP_SECRET and the app")
    return Finding("meta", ok=True, text=f"Meta accepts the app {settings.meta.app_id}")


def _look_at_alerts(targets: Sequence[Target]) -> Finding:
    """Who would be told. Nothing is sent to find out whether it would arrive."""
    if not targets:
        return Finding(
            "alerts",
            ok=True,
            text="nobody is told when a channel fails: set SLACK_WEBHOOK_URL or NOTIFY_URLS",
        )
    return Finding("alerts", ok=True, text=f"they go to {', '.join(target.name for target in targets)}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
