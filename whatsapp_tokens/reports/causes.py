"""What a reason means to people: what happened, and who must do what. Messages to translate."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from whatsapp_tokens.results import AbortReason, Reason


def N_(message: str) -> str:  # noqa: N802 - gettext's own name for it
    """Mark a message that is translated where it is shown."""
    return message


# What happened to a line or, from `app_rejected` on, to the run, as part of a sentence.
CAUSES: Final[Mapping[str, str]] = {
    Reason.RECONNECT_REQUIRED: N_("Meta no longer accepts the token"),
    Reason.MISSING_PERMISSION: N_("the token lacks a permission, or its data access expires soon"),
    Reason.NOT_EXTENDED: N_("Meta answered, but did not extend the token"),
    Reason.UNDECRYPTABLE: N_("the stored token cannot be decrypted"),
    Reason.UNAVAILABLE: N_("Meta could not be reached"),
    Reason.UNEXPECTED_ANSWER: N_("Meta gave an answer that this program does not know"),
    Reason.WRITE_FAILED: N_("the database refused the row"),
    AbortReason.APP_REJECTED: N_("Meta refuses the app"),
    AbortReason.RATE_LIMITED: N_("Meta limits the whole app, and the limit did not pass in time"),
    AbortReason.SYSTEMIC: N_("many lines failed in the same way, and none succeeded"),
    AbortReason.DATABASE_LOST: N_("the database cannot be reached"),
    AbortReason.CONFIGURATION: N_("the configuration is wrong"),
    AbortReason.INTERNAL_ERROR: N_("the program itself failed"),
}

# Who must do what about it.
ADVICE: Final[Mapping[str, str]] = {
    Reason.RECONNECT_REQUIRED: N_("the customer must connect WhatsApp again"),
    Reason.MISSING_PERMISSION: N_("the customer must connect WhatsApp again and grant every permission"),
    Reason.NOT_EXTENDED: N_("the customer must connect WhatsApp again before it expires"),
    Reason.UNDECRYPTABLE: N_(
        "add its key to TOKEN_ENCRYPTION_KEY; if the stored value is no token, store one (--set-token)"
    ),
    Reason.UNAVAILABLE: N_("nothing yet; the next run tries again"),
    Reason.UNEXPECTED_ANSWER: N_("look at the detail; the next run tries again"),
    Reason.WRITE_FAILED: N_("see why the database refuses the row; the old token is untouched"),
    AbortReason.APP_REJECTED: N_(
        "check META_APP_ID, META_APP_SECRET and the app's state in Meta's App Dashboard"
    ),
    AbortReason.RATE_LIMITED: N_(
        "nothing; the next run does the rest; if this happens again, run at another hour"
    ),
    AbortReason.SYSTEMIC: N_(
        "check Meta's status page and the app's settings before you ask a customer to reconnect"
    ),
    AbortReason.DATABASE_LOST: N_("check that the database is up; the next run does the rest"),
    AbortReason.CONFIGURATION: N_("correct the configuration and run again"),
    AbortReason.INTERNAL_ERROR: N_("this is a bug in the program: report it with the log"),
}

# The same on a token's last day and after it, where that differs: there is no next run to wait for.
LAST_DAY_ADVICE: Final[Mapping[str, str]] = {
    Reason.NOT_EXTENDED: N_("the customer must connect WhatsApp again now"),
    Reason.UNAVAILABLE: N_(
        "the customer must connect WhatsApp again: it is too late to wait for the next run"
    ),
    Reason.UNEXPECTED_ANSWER: N_(
        "look at the detail; the customer must connect WhatsApp again: it is too late to wait"
    ),
}

ADVICE_WHERE_UNKNOWN: Final = N_("look at the detail")

# The cause where the detail is only this fact.
CAUSES_BY_FACT: Final[Mapping[str, str]] = {
    "missing permission": N_("the token works, but not for everything"),
    "data access expires": N_("what the customer has allowed ends soon"),
}


class Actor(StrEnum):
    """Who must act next on a line that needs attention."""

    CUSTOMER = N_("the customer")
    TEAM = N_("your team")
    NEXT_RUN = N_("the next run")


_ACTORS: Final[Mapping[str, Actor]] = {
    Reason.RECONNECT_REQUIRED: Actor.CUSTOMER,
    Reason.MISSING_PERMISSION: Actor.CUSTOMER,
    Reason.NOT_EXTENDED: Actor.CUSTOMER,
    Reason.UNAVAILABLE: Actor.NEXT_RUN,
    Reason.UNEXPECTED_ANSWER: Actor.NEXT_RUN,
}


def actor(reason: str, *, is_last_day: bool) -> Actor:
    """Return who must act. On a token's last day, and after it, no next run will help."""
    who = _ACTORS.get(reason, Actor.TEAM)
    return Actor.CUSTOMER if is_last_day and who is Actor.NEXT_RUN else who
