"""What the commands share: reading the settings, opening the database and the client, errors as results."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from meta_client import MetaClient
from notify import Slack, Target
from whatsapp_tokens.apprise_target import open_targets
from whatsapp_tokens.commands.first_steps import require_settings
from whatsapp_tokens.commands.options import Options
from whatsapp_tokens.commands.uncaught import log_unexpected
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import UPGRADE, BadSchema, DatabaseError, DatabaseLost
from whatsapp_tokens.environment import BadSettings, read_environment
from whatsapp_tokens.http_environment import LocalFault
from whatsapp_tokens.policy import Policy
from whatsapp_tokens.renewal.renewer import Renewer
from whatsapp_tokens.renewal.start import CannotRun
from whatsapp_tokens.reports.console import Console
from whatsapp_tokens.results import Aborted, AbortReason
from whatsapp_tokens.settings import ENV_FILE, Settings
from whatsapp_tokens.signals import Interrupted, Stop, caught_signals

T = TypeVar("T")

logger = logging.getLogger(__name__)
settings_logger = logging.getLogger("whatsapp_tokens.settings")  # also with --quiet


@dataclass(frozen=True, slots=True)
class Invocation:
    """What every command is given. What it opens is closed with `resources`, after `finish`.

    `stop` ends the work, and is set by a signal or by the work itself; `signalled` is set by signals only.
    """

    options: Options
    clock: Callable[[], datetime]
    started_at: datetime
    stop: Stop
    signalled: Stop
    console: Console
    resources: ExitStack


def aborted_by(error: Exception) -> Aborted | None:
    """Return why an error stops the command, logged. None if a signal did: then the exit code says so."""
    match error:
        case Interrupted():
            return None
        case DatabaseLost():
            return Aborted(AbortReason.DATABASE_LOST, str(error))
        case BadSettings():
            return misconfigured(*error.problems, steps=error.steps)
        case DatabaseError():
            return misconfigured(explained(error))
        case CannotRun() | LocalFault():
            return misconfigured(str(error))
        case _:
            log_unexpected(error)
            return Aborted(AbortReason.INTERNAL_ERROR, type(error).__name__)


def explained(error: DatabaseError) -> str:
    """Return what is wrong, and what to do."""
    says_what_to_do = isinstance(error, BadSchema) or UPGRADE in str(error)
    return str(error) if says_what_to_do else f"{error}; check DATABASE_URL"


def read_settings(options: Options, warn: Callable[[str], None] = settings_logger.warning) -> Settings:
    """Read the environment and the env file; `warn` of what is odd. Raise `BadSettings`."""
    env_file = options.env_file or ENV_FILE
    require_settings(os.environ, env_file)
    environment, warnings = read_environment(os.environ, env_file)
    if options.workers is not None:
        environment["WORKERS"] = str(options.workers)
    for warning in warnings:
        warn(warning)
    settings = Settings.from_env(environment)
    for warning in settings.warnings:
        warn(warning)
    return settings


def as_given(text: str, settings: Settings) -> str:
    """Return a text in which a secret that stands in a file is called by the variable that names the file."""
    if not settings.in_files:
        return text
    return re.sub(rf"\b({'|'.join(settings.in_files)})\b", r"\1_FILE", text)


def open_database(invocation: Invocation, settings: Settings) -> Database:
    """Open the database. Raise a `DatabaseError`."""
    database = Database(settings.database, settings.table, lease=settings.lease, stop=invocation.stop)
    invocation.resources.callback(database.close)
    return database


def require_permissions(database: Database) -> None:
    """Raise `CannotRun` if our role may not do what a run needs: what cannot be stored is not fetched."""
    if missing := database.queries.missing_permissions():
        raise CannotRun(f"the database role may not {'; nor '.join(missing)}; grant it")


def open_renewer(invocation: Invocation, settings: Settings, policy: Policy) -> Renewer:
    """Open the client for Meta, and what decides about its answers."""
    sleep = invocation.stop.sleep
    meta = MetaClient(settings.meta, sleep=sleep)
    invocation.resources.callback(meta.close)
    return Renewer(meta, policy, invocation.clock, sleep)


def policy_of(settings: Settings, options: Options) -> Policy:
    """Return the rules that settings and options give."""
    return Policy(
        refresh_after=settings.refresh_after,
        refresh_before_expiry=settings.refresh_before_expiry,
        token_lifetime=settings.token_lifetime,
        required_scopes=settings.required_scopes,
        force=options.force,
        audit=options.audit,
    )


def open_targets_of(settings: Settings, signalled: Stop) -> list[Target]:
    """Return where alerts go. Only a signal keeps a target from being tried again."""
    url = settings.slack_webhook_url
    slack: list[Target] = [] if url is None else [Slack(url, sleep=signalled.sleep)]
    return [*slack, *open_targets(settings.notify_urls, signalled.is_set)]


@contextmanager
def interruptible(invocation: Invocation) -> Iterator[None]:
    """Let a signal raise `Interrupted` at once: while a person is asked, there is nothing to finish first."""

    def interrupt() -> None:
        raise Interrupted

    with caught_signals(invocation.signalled, invocation.stop, then=interrupt):
        yield


def misconfigured(*problems: str, steps: Sequence[str] = ()) -> Aborted:
    """Log what is wrong and return it. No traceback: it would not help the person who mistyped a setting.

    `steps` are lines that say what to do next; they belong to the last problem.
    """
    for problem in problems[:-1]:
        logger.error(problem)
    logger.error("\n".join([*problems[-1:], *steps]))
    return Aborted(AbortReason.CONFIGURATION, "; ".join(problems))
