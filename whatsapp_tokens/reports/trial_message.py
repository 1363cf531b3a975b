"""What `--test-alert` sends: a message that says that it is a test, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from models import TableMap
from notify import Message
from whatsapp_tokens.apprise_target import as_text
from whatsapp_tokens.database.url import DatabaseUrl
from whatsapp_tokens.reports.alert_message import Style
from whatsapp_tokens.reports.labels import safe_link


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message comes from: a machine, and the table whose channels it renews there."""

    machine: str
    table: TableMap
    database: DatabaseUrl

    @property
    def place(self) -> str:
        """The database without user, password and options: `shop (db.example.com)`, or a file."""
        url = self.database.url
        hosts = url.query.get("host", "")
        host = url.host or (hosts if isinstance(hosts, str) else ", ".join(hosts))
        if url.database and host:
            return f"{url.database} ({host})"  # no word, for a message in any language
        return url.database or host or "PostgreSQL"


def trial_message(origin: Origin, style: Style, now: datetime) -> Message:
    """Return the message, in the language of alerts, with the link to the status page."""
    _ = style.language.gettext
    nothing_to_do = _("This is only a test: no line failed, and there is nothing to do.")
    where = _("Sent by the WhatsApp token renewal on {machine}, for the table {table} in {database}.").format(
        machine=origin.machine, table=origin.table.full_name, database=origin.place
    )
    return Message(
        title=_("Test: alerts about WhatsApp tokens arrive here"),
        summary=f"{nothing_to_do} {where}",
        footer=style.language.moment(now),
        link=safe_link(style.status_page_url) if style.status_page_url else None,
        link_label=_("Status page"),
    )


def trial_text(message: Message) -> str:
    """Return the same as plain text, for the heartbeat."""
    return f"{message.title}\n\n{as_text(message)}"
