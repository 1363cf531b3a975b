"""What `--check` looks at: everything that a run needs, each with what was seen or what to do.

Nothing is changed, no message is sent, and Meta is asked about our own app only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from meta_client import MetaClient
from notify import Target
from whatsapp_tokens.commands.key_check import check_keys
from whatsapp_tokens.commands.no_channels import why_no_channels
from whatsapp_tokens.commands.result import Finding, Level
from whatsapp_tokens.commands.wiring import explained
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import DatabaseError
from whatsapp_tokens.facts import facts
from whatsapp_tokens.http_environment import LocalFault
from whatsapp_tokens.http_session import origin, why_unreachable
from whatsapp_tokens.meta.errors import AppRejected, MetaError
from whatsapp_tokens.renewal.clock_check import are_apart
from whatsapp_tokens.reports.language import ENGLISH
from whatsapp_tokens.settings import Settings
from whatsapp_tokens.signals import Sleep, Stop


def bad_settings(problems: Sequence[str]) -> list[Finding]:
    """Return the findings if the settings cannot be read: then there is nothing else to look at."""
    return [Finding("settings", Level.PROBLEM, problem) for problem in problems]


def preflight(
    settings: Settings, targets: Sequence[Target], stop: Stop, clock: Callable[[], datetime]
) -> Iterator[Finding]:
    """Look at everything that a run needs. Raise `Interrupted` once `stop` is set."""
    clocks = _Clocks(clock)
    yield Finding("settings", Level.OK, "all required settings are there")
    yield from _check_database(settings, stop, clocks)
    yield _check_meta(settings, stop.sleep, clocks)
    yield clocks.finding()
    yield from _check_alerts(settings, targets)


@dataclass(slots=True)
class _Clocks:
    """How far the other clocks are ahead of this machine's. None where unknown."""

    read: Callable[[], datetime]
    database: timedelta | None = None
    meta: timedelta | None = None

    def finding(self) -> Finding:
        """Compare them: Meta's is the one that counts, or without it the database server's."""
        ours = self.read()
        known = {"the database server": self.database, "Meta": self.meta}
        times = {name: ours + ahead for name, ahead in known.items() if ahead is not None}
        shown = [f"{name} {ENGLISH.moment(time)}" for name, time in {"this machine": ours, **times}.items()]
        wrong = [name for name, time in times.items() if are_apart(ours, time)]
        if not wrong:
            return Finding("clocks", Level.OK, ", ".join(shown))
        if "Meta" in wrong or self.meta is None:
            return Finding("clocks", Level.PROBLEM, f"set the clock of this machine: {', '.join(shown)}")
        return Finding("clocks", Level.WARNING, f"set the clock of the database server: {', '.join(shown)}")


def _check_database(settings: Settings, stop: Stop, clocks: _Clocks) -> Iterator[Finding]:
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
            if next(database.queries.candidates(), None) is None:
                yield why_no_channels(database, settings.table.type)
            clocks.database = database.queries.now() - clocks.read()
            yield check_keys(database, settings.keys)
    except DatabaseError as error:
        yield Finding("database", Level.PROBLEM, explained(error))


def _check_meta(settings: Settings, sleep: Sleep, clocks: _Clocks) -> Finding:
    """Check our app's id and secret with a question about the app itself. A limit is not waited for."""
    address = settings.meta.url
    try:
        with closing(MetaClient(replace(settings.meta, rate_limit_wait=0), sleep=sleep)) as meta:
            try:
                meta.check_app()
            finally:
                time_at_meta = meta.time_at_meta()
                clocks.meta = time_at_meta - clocks.read() if time_at_meta else None
    except LocalFault as fault:
        return Finding("meta", Level.PROBLEM, str(fault))
    except AppRejected as error:
        to_do = "check META_APP_ID, META_APP_SECRET and the app"
        return Finding("meta", Level.PROBLEM, facts(ENGLISH.detail(str(error)), to_do))
    except MetaError as error:
        to_do = "check the network and META_GRAPH_URL"
        return Finding("meta", Level.PROBLEM, facts(ENGLISH.detail(str(error)), f"asked: {address}", to_do))
    return Finding("meta", Level.OK, f"{address} accepts the app {settings.meta.app_id}")


def _check_alerts(settings: Settings, targets: Sequence[Target]) -> Iterator[Finding]:
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
