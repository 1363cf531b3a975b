"""`--test-alert`: would anybody hear of a failure? It needs no database and touches no channel."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

from notify import Target, broadcast
from whatsapp_tokens.commands.result import CommandResult, Finding, Level
from whatsapp_tokens.commands.wiring import (
    Invocation,
    aborted_by,
    as_given,
    interruptible,
    open_targets_of,
    read_settings,
)
from whatsapp_tokens.delivery import DeliveryError
from whatsapp_tokens.monitoring.heartbeat import Heartbeat
from whatsapp_tokens.renewal.start import CannotRun
from whatsapp_tokens.reports.alert_message import Style
from whatsapp_tokens.reports.language import Language
from whatsapp_tokens.reports.trial_message import Origin, trial_message, trial_text
from whatsapp_tokens.settings import Settings
from whatsapp_tokens.signals import Interrupted


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of one message. `detail` says why it did not arrive, and what to do; None if it did."""

    target: str
    delivered: bool
    detail: str | None = None

    @property
    def line(self) -> str:
        """The line for people."""
        level = Level.OK if self.delivered else Level.PROBLEM
        return Finding(self.target, level, self.detail or "delivered").line()


def trial_alert(invocation: Invocation) -> CommandResult:
    """Send a test message to every alert target and to the heartbeat."""
    deliveries: list[Delivery] = []
    aborted = settings = None
    try:
        settings = read_settings(invocation.options)
        for delivery in _deliveries(invocation, settings):
            deliveries.append(delivery)
            if not (delivery.delivered and invocation.options.quiet):
                invocation.console.line(delivery.line)
    except Exception as error:  # noqa: BLE001 - also a mistake of ours gets its exit code
        aborted = aborted_by(error)
    return CommandResult(
        aborted,
        settings,
        undelivered=not all(one.delivered for one in deliveries),
        document={"deliveries": [asdict(one) for one in deliveries]},
    )


def _deliveries(invocation: Invocation, settings: Settings) -> Iterator[Delivery]:
    """Deliver to one target after the other. Raise `CannotRun` if there is none, or `Interrupted`."""
    targets = open_targets_of(settings, invocation.signalled)
    if not targets and settings.healthcheck_url is None:
        raise CannotRun("there is no one to tell: set SLACK_WEBHOOK_URL, NOTIFY_URLS or HEALTHCHECK_URL")
    origin = Origin(socket.gethostname(), settings.table, settings.database)
    style = Style(Language(settings.alert_language), settings.reconnect_url, settings.status_page_url)
    message = trial_message(origin, style, invocation.started_at)

    def tell(target: Target) -> None:
        for error in broadcast([target], message):
            raise error

    for target in targets:
        setting = as_given("SLACK_WEBHOOK_URL" if target.name == "Slack" else "NOTIFY_URLS", settings)
        yield _delivery(invocation, target.name, setting, partial(tell, target))
    if settings.healthcheck_url:
        heartbeat = Heartbeat(settings.healthcheck_url, sleep=invocation.signalled.sleep)
        setting = as_given("HEALTHCHECK_URL", settings)
        yield _delivery(invocation, "heartbeat", setting, lambda: heartbeat.log(trial_text(message)))


def _delivery(invocation: Invocation, name: str, setting: str, deliver: Callable[[], None]) -> Delivery:
    """Deliver, and return what came of it. A signal does not wait for a slow target: raise `Interrupted`."""
    failure = None
    with interruptible(invocation):
        try:
            deliver()
        except DeliveryError as error:
            failure = error
    if invocation.signalled.is_set():
        raise Interrupted
    if failure is None:
        return Delivery(name, delivered=True)
    said = str(failure).removeprefix(name).strip(":. ")
    if failure.is_local:  # it says what to do
        return Delivery(name, delivered=False, detail=said)
    to_do = f"check {setting}" if failure.permanent else f"check {setting} and the network, or try again"
    return Delivery(name, delivered=False, detail=f"{said}; {to_do}")
