"""The pictures of the status page in docs/: `.venv/bin/python tests/reports/pictures.py` makes them anew.

Every line of the page is made up here. Needs Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser import chromium  # noqa: E402 - the paths come first

from models import Channel, fingerprint  # noqa: E402
from whatsapp_tokens.reports.status_files import write  # noqa: E402
from whatsapp_tokens.reports.status_lines import View  # noqa: E402
from whatsapp_tokens.results import ChannelTotals, State  # noqa: E402

NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
TEXT = "a ciphertext"
PICTURES = (("light", 1100, 1010), ("dark", 390, 900))


def days(count: float) -> timedelta:
    return timedelta(days=count)


def line(
    id_: int,
    name: str,
    state: State,
    lives: float | None,
    *,
    error: str | None = None,
    phone: str | None = None,
) -> Channel:
    expires_at = None if lives is None else NOW + days(lives)
    refreshed_at = None if expires_at is None else expires_at - days(60)
    status = "warning" if error else "ok"
    mark = fingerprint(TEXT)
    return Channel(
        id_, name, TEXT, expires_at, refreshed_at, status, error, mark, phone_number=phone, state=state
    )


CHANNELS = [
    line(
        *(11, "Dental Practice", State.DOWN, 9.6),
        error="reconnect_required: the customer's password was changed",
        phone="+34 600 111 222",
    ),
    line(
        *(15, "Taxi Dispatch", State.WARNING, 4.3),
        error="not_extended: the new token does not live longer",
        phone="+34 600 333 444",
    ),
    line(
        *(16, "Museum Tickets", State.WARNING, 5.2),
        error="undecryptable: no key of TOKEN_ENCRYPTION_KEY decrypts it: Fernet",
    ),
    line(
        *(13, "School Office", State.WARNING, 60),
        error="missing_permission: missing permission: whatsapp_business_messaging",
    ),
    line(8, "Gym South", State.ENDING, 12.5),
    *(line(20 + number, f"Bakery {number + 1}", State.OK, 20 + number * 0.9) for number in range(45)),
]


def page(path: Path) -> None:
    """Write the page."""
    states = [one.state for one in CHANNELS]
    ends = [one.expires_at.date() for one in CHANNELS if one.expires_at]
    totals = ChannelTotals(
        {state: states.count(state) for state in State},
        soonest=NOW + days(4.3),
        expiries={day: ends.count(day) for day in ends},
        lacking=1,
    )
    view = View(NOW, days(15), days(60), totals, 1, reconnect_url="https://example.com/lines/{channel_id}")
    write(path, view, CHANNELS, lambda channels: {str(one.id): NOW - days(1.2) for one in channels})


def main() -> None:
    """Make both pictures."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = Path(folder) / "status.html"
        page(path)
        for scheme, width, height in PICTURES:
            context = browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": height}, timezone_id="Europe/Madrid"
            )
            shown = context.new_page()
            shown.clock.install(time=NOW + days(0.1))
            shown.goto(path.as_uri())
            shown.screenshot(path=ROOT / "docs" / f"status-{scheme}.png")
            context.close()


if __name__ == "__main__":
    main()
