"""What `--check` says of alerts and heartbeat: whether their servers answer. Nothing is sent there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from notify import Slack, Target
from whatsapp_tokens.commands.result import Finding, Level
from whatsapp_tokens.http_session import origin, why_unreachable
from whatsapp_tokens.redaction import Secret

NOT_SENT: Final = "nothing was sent, --test-alert does that"


def check_alerts(targets: Sequence[Target]) -> Iterator[Finding]:
    """Look who is told when a channel fails, and whether the servers that take the alerts answer."""
    if not targets:
        text = "no one is told when a channel fails: set SLACK_WEBHOOK_URL or NOTIFY_URLS"
        yield Finding("alerts", Level.WARNING, text)
    for target in targets:
        if target.server is None:
            text = f"they go to {target.name}; whether its server answers was not tried; {NOT_SENT}"
            yield Finding("alerts", Level.OK, text)
        elif why := why_unreachable(target.server):
            variable = "SLACK_WEBHOOK_URL" if isinstance(target, Slack) else "NOTIFY_URLS"
            text = f"{target.name} cannot be reached at {target.server} ({why}); check {variable}"
            yield Finding("alerts", Level.PROBLEM, text)
        else:
            text = f"they go to {target.name}, and {target.server} answers; {NOT_SENT}"
            yield Finding("alerts", Level.OK, text)


def check_heartbeat(url: Secret | None) -> Iterator[Finding]:
    """Look whether the server of the heartbeat answers, if there is one."""
    if url is None:
        return
    address = origin(url.reveal())
    if why := why_unreachable(address):
        text = f"it cannot be reached at {address} ({why}); check HEALTHCHECK_URL"
        yield Finding("heartbeat", Level.PROBLEM, text)
    else:
        yield Finding("heartbeat", Level.OK, f"{address} answers; nothing was pinged, --test-alert does that")
