"""What `--check` looks at: everything that a run needs, each with what was seen or what to do.

Nothing is changed, no message is sent, and Meta is asked about our own app only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from meta_client import MetaClient
from notify import Target
from whatsapp_tokens.commands.alert_check import check_alerts, check_heartbeat
from whatsapp_tokens.commands.key_check import check_keys
from whatsapp_tokens.commands.no_channels import why_no_channels
from whatsapp_tokens.commands.result import Finding, Level
from whatsapp_tokens.commands.wiring import explained
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import DatabaseError
from whatsapp_tokens.facts import facts
from whatsapp_tokens.http_environment import LocalFault
from whatsapp_tokens.meta.errors import AppRejected, MetaError, RateLimited
from whatsapp_tokens.renewal.clock_check import are_apart
from whatsapp_tokens.reports.language import ENGLISH
from whatsapp_tokens.settings import Settings
from whatsapp_tokens.signals import Sleep, Stop


def preflight(
    settings: Settings, targets: Sequence[Target], stop: Stop, clock: Callable[[], datetime]
) -> Iterator[Finding]:
    """Look at everything that a run needs. Raise `Interrupted` once `stop` is set."""
    clocks = _Clocks(clock)
    yield Finding("settings", Level.OK, "all required settings are there")
    yield from _check_database(settings, stop, clocks)
    yield from _check_meta(settings, stop.sleep, clocks)
    yield clocks.finding()
    yield from check_alerts(targets)
    yield from check_heartbeat(settings.healthcheck_url)
    yield from _check_metrics_file(settings.metrics_file)


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
    url = settings.database.url
    if url.drivername == "sqlite" and not Path(url.database or "").is_absolute():
        text = (
            "DATABASE_URL: its path depends on the folder where a run is started, and cron's is another one"
        )
        yield Finding("database", Level.WARNING, f"{text}; write sqlite:////and the absolute path")
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


# What to do about an error that concerns our app, by words in it.
ADVICE: Final = {
    "META_APP_SECRET is wrong": "copy it again from App settings > Basic in Meta's App Dashboard",
    "META_APP_ID is wrong": "copy it again from Meta's App Dashboard",
    "META_GRAPH_VERSION is not accepted": "set one that Meta's App Dashboard offers, or leave it out",
    "Unknown path": "check META_GRAPH_VERSION: set one that Meta's App Dashboard offers, or leave it out",
    "META_GRAPH_URL is wrong": "it must begin with https://",
    "Meta has blocked the app": "see what the App Dashboard asks for",
    "this server's IP is not allowed": "add it to the server IP allowlist in App settings > Advanced",
}


def _check_meta(settings: Settings, sleep: Sleep, clocks: _Clocks) -> Iterator[Finding]:
    """Check our app's id and secret with a question about the app itself. A limit is not waited for."""
    address = settings.meta.url
    warnings: list[str] = []
    try:
        config = replace(settings.meta, rate_limit_wait=0)
        with closing(MetaClient(config, sleep=sleep, warn=warnings.append)) as meta:
            try:
                meta.check_app()
            finally:
                time_at_meta = meta.time_at_meta()
                clocks.meta = time_at_meta - clocks.read() if time_at_meta else None
        found = Finding("meta", Level.OK, f"{address} accepts the app {settings.meta.app_id}")
    except LocalFault as fault:
        found = Finding("meta", Level.PROBLEM, str(fault))
    except AppRejected as error:
        known = [advice for said, advice in ADVICE.items() if said in str(error)]
        to_do = next(iter(known), "check META_APP_ID, META_APP_SECRET and the app")
        found = Finding("meta", Level.PROBLEM, facts(ENGLISH.detail(str(error)), to_do))
    except RateLimited as error:
        to_do = "Meta limits the app now: try again later; a run waits for it"
        found = Finding("meta", Level.WARNING, facts(ENGLISH.detail(str(error)), to_do))
    except MetaError as error:
        to_do = "check the network and META_GRAPH_URL"
        found = Finding("meta", Level.PROBLEM, facts(ENGLISH.detail(str(error)), f"asked: {address}", to_do))
    yield from (Finding("meta", Level.WARNING, warning) for warning in warnings)
    yield found


def _check_metrics_file(path: Path | None) -> Iterator[Finding]:
    """Look whether the metrics can be written, if they are asked for. A run goes on without them."""
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir():
        why = "it names a folder; name a file in it"
    elif not folder.is_dir():
        why = f"there is no folder {folder}; make it, or name another file"
    elif not os.access(folder, os.W_OK | os.X_OK):
        why = f"this user may not write into {folder}"
    elif not path.is_absolute():
        why = (
            f"it depends on the folder where a run is started (here {path.absolute()}); give an absolute path"
        )
    else:
        yield Finding("metrics", Level.OK, f"they go to {path}")
        return
    yield Finding("metrics", Level.WARNING, f"METRICS_FILE: {why}")
