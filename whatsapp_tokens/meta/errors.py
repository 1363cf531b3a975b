"""What Meta's error answers mean: the tree of errors, and the table that assigns answers to them.

Each error says what to do::

    MetaError
    ├── ReconnectRequired      this customer must connect again          never retried
    │   ├── ForeignToken       it is a token of another app
    │   └── UnreadableToken    Meta cannot read it
    ├── Unavailable            Meta could not answer for this channel    retried a few times
    │   └── Throttled          a limit of this user or business only     not retried in this run
    ├── UnexpectedAnswer       an answer that fits no rule               never retried
    ├── AppRejected            our app is refused, so is every channel   never retried
    └── RateLimited            the app as a whole is limited             waited for, within a budget

To support another Graph code, add a row to `RULES` and one to its test. A new meaning is a new phrase for
the translators, so reuse one that is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.redaction import quote_foreign

Endpoint: TypeAlias = Literal["debug_token", "exchange"]


class MetaError(Exception):
    """What went wrong at Meta, as facts (`phrase; phrase: value`) without secrets."""

    retryable = False

    def __init__(
        self, message: str, *, expires_at: datetime | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.expires_at = expires_at  # of the dead token, if Meta gives it
        self.retry_after = retry_after  # seconds, if Meta gives them


class ReconnectRequired(MetaError):
    """The token is dead, foreign or lost its rights: the customer must connect again.

    `names_app`: the answer names our app, so Meta accepts it. `has_cause`: Meta says why this token died.
    """

    names_app = False
    has_cause = False


class ForeignToken(ReconnectRequired):
    """The token belongs to another app; if every token does, it is our app id that is wrong."""


class UnreadableToken(ReconnectRequired):
    """Meta cannot read the token; if it cannot read any, the fault is Meta's or ours."""


class Unavailable(MetaError):
    """Meta could not answer now: timeouts, resets, 5xx, its transient codes."""

    retryable = True


class Throttled(Unavailable):
    """A limit of this user, page or business only; another call would lengthen it."""

    retryable = False


class UnexpectedAnswer(MetaError):
    """An answer that fits no rule."""


class AppRejected(MetaError):
    """Our app id, secret, IP, version or app state is refused."""


class RateLimited(MetaError):
    """The app as a whole has reached its limit."""


@dataclass(frozen=True, slots=True)
class GraphError:
    """An error answer by its shape. `message` is Meta's and may contain a token."""

    status: int
    message: str = ""
    code: int | None = None
    subcode: int | None = None
    is_transient: bool = False
    explained: bool = False  # has a text for the end user
    inner_status: int | None = None
    shaped: bool = False  # came as Graph's `error` member, not as a bare status or a page

    @classmethod
    def parse(cls, status: int, error: object) -> GraphError:
        """Read Graph's `error` member, of any type: https://developers.facebook.com/docs/graph-api/guides/error-handling."""
        if isinstance(error, str):
            return cls(status=status, message=error, code=_code_in(error), shaped=True)
        if not isinstance(error, dict):
            return cls(status=status)
        message = error.get("message")
        text = message if isinstance(message, str) else ""
        code = as_int(error.get("code"))
        subcode = as_int(error.get("error_subcode"))
        return cls(
            status=status,
            message=text,
            code=_code_in(text) if code is None else code,
            subcode=as_int(error.get("subcode")) if subcode is None else subcode,
            is_transient=error.get("is_transient") is True,
            explained=bool(error.get("error_user_title") or error.get("error_user_msg")),
            inner_status=as_int(error.get("status_code")),
            shaped=True,
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of answer. All that is given must match; texts are compared without case."""

    error: type[MetaError]
    meaning: str = ""
    endpoint: Endpoint | None = None
    codes: tuple[int, ...] = ()
    subcode: int | None = None
    status: range | None = None
    text: tuple[str, ...] = ()
    transient: bool = False
    explained: bool | None = None
    without_code: bool = False
    contradictory: bool = False
    shaped: bool = False

    def matches(self, endpoint: Endpoint, answer: GraphError) -> bool:
        """Return whether `answer` of `endpoint` is of this kind."""
        message = answer.message.casefold()
        return (
            (self.endpoint is None or self.endpoint == endpoint)
            and (not self.codes or answer.code in self.codes)
            and (self.subcode is None or answer.subcode == self.subcode)
            and (self.status is None or answer.status in self.status)
            and (not self.text or any(text in message for text in self.text))
            and (not self.transient or answer.is_transient)
            and (self.explained is None or answer.explained == self.explained)
            and (not self.without_code or answer.code is None)
            and (not self.contradictory or answer.inner_status not in {None, answer.status})
            and (not self.shaped or answer.shaped)
        )


# The first match wins; an answer without a match is an UnexpectedAnswer. The code alone misleads (1 is "wrong
# app secret" and "try again", 190 is "dead token" and "wrong app id"), so the order matters: limits, Meta's
# own failures, foreign tokens, our app, then this customer.
RULES: Final[tuple[Rule, ...]] = (
    # Limits, of one user, page or business, and of the whole app.
    # https://developers.facebook.com/docs/graph-api/overview/rate-limiting
    Rule(Throttled, codes=(9, 17, 32, *range(80000, 80015), 131048, 131056, 133016)),
    Rule(RateLimited, codes=(4, 341, 613, 130429)),
    Rule(RateLimited, codes=(368,), text=("too fast",)),
    Rule(RateLimited, status=range(429, 430)),
    # Meta's own failures. `is_transient: true` outranks any text; `false` proves nothing.
    Rule(Unavailable, transient=True),
    Rule(Unavailable, status=range(500, 600)),
    # A token of another app concerns one channel, although the text names an application.
    Rule(
        ForeignToken,
        "the token belongs to another app",
        text=("does not belong to application", "did not match the viewing app"),
    ),
    # Our app is refused, and with it every channel.
    Rule(AppRejected, "META_APP_SECRET is wrong", text=("validating client secret",)),
    Rule(AppRejected, "META_APP_ID is wrong", text=("error validating application", "provide valid app id")),
    Rule(
        AppRejected,
        "META_APP_SECRET is wrong",
        endpoint="debug_token",
        text=("invalid oauth access token signature",),
    ),
    Rule(
        AppRejected,
        "Meta has blocked the app",
        text=(
            "api access blocked",
            "api access deactivated",
            "api access disrupted",
            "data use checkup",
            "temporarily disabled for non-active apps",
            "app is currently unavailable",
        ),
    ),
    Rule(AppRejected, "Meta refuses calls for this app", text=("cannot call api for app",)),
    Rule(AppRejected, "the app wants an appsecret_proof", text=("appsecret_proof", "app secret proof")),
    Rule(AppRejected, "the app token is refused", text=("must provide an app access token",)),
    Rule(AppRejected, "META_GRAPH_URL is wrong", text=("must use https",)),
    Rule(AppRejected, "this server's IP is not allowed", text=("this ip can't make requests",)),
    Rule(AppRejected, "this server's IP is not allowed", codes=(5,)),
    Rule(AppRejected, "META_GRAPH_VERSION is not accepted", codes=(12, 2635)),
    Rule(AppRejected, "the app lacks a capability", codes=(3,)),
    Rule(AppRejected, "Meta refuses the app's credentials or call", codes=(101, 104, 191, 2500)),
    # Codes that pass without a change.
    Rule(Unavailable, codes=(2, 131000, 131016, 131057)),
    Rule(Unavailable, codes=(1,), text=("unknown error", "reduce the amount of data"), explained=False),
    # debug_token answers 200 about a token; its errors are about the caller.
    Rule(AppRejected, "Meta refuses our inspection call", endpoint="debug_token", shaped=True),
    # This customer must connect again.
    Rule(UnexpectedAnswer, codes=(190,), contradictory=True),
    Rule(ReconnectRequired, "the customer removed the app", subcode=458),
    Rule(ReconnectRequired, "Facebook asks the customer to log in and confirm", subcode=459),
    Rule(ReconnectRequired, "the customer's password was changed", subcode=460),
    Rule(ReconnectRequired, "the token has expired", subcode=463),
    Rule(ReconnectRequired, "the customer's account is not confirmed", subcode=464),
    Rule(ReconnectRequired, "the token was revoked", subcode=466),
    Rule(ReconnectRequired, "the customer logged out", subcode=467),
    Rule(ReconnectRequired, "Facebook asks the customer to log in and confirm", subcode=490),
    Rule(ReconnectRequired, "the customer lost the role on the page", subcode=492),
    Rule(ReconnectRequired, "the customer was idle for 90 days", subcode=493),
    Rule(
        UnreadableToken,
        "Meta cannot read the token",
        text=("malformed access token", "cannot parse access token", "token could not be decrypted"),
    ),
    Rule(ReconnectRequired, "the token is no longer valid", codes=(190, 102, 450, 452)),
    Rule(ReconnectRequired, "a permission was withdrawn", codes=(10, 25, *range(200, 300), 131005)),
    Rule(ReconnectRequired, "Meta has locked the account", codes=(131031, 368)),
    Rule(
        ReconnectRequired,
        "the customer removed the app",
        codes=(0,),
        text=("unable to authenticate the app user",),
    ),
    Rule(
        ReconnectRequired,
        "the token is no longer valid",
        without_code=True,
        text=(
            "session has expired",
            "session is invalid",
            "error validating access token",
            "invalid oauth access token",
            "user logged out",
            "not authorized application",
            "hasn't authorized the application",
            "permissions error",
            "requires extended permission",
        ),
    ),
)


def classify(endpoint: Endpoint, answer: GraphError) -> Rule:
    """Return the first rule that matches, else one for an `UnexpectedAnswer`. Pure."""
    return next((rule for rule in RULES if rule.matches(endpoint, answer)), Rule(UnexpectedAnswer))


def wording(rule: Rule, answer: GraphError) -> str:
    """Return the facts: `meaning; Graph error: 190/463; Meta said: “…”`, as far as there are any."""
    code = "/".join(str(number) for number in (answer.code, answer.subcode) if number is not None)
    said = quote_foreign(answer.message)
    return facts(
        rule.meaning,
        fact("Graph error", code) if code else fact("HTTP", answer.status),
        fact("Meta said", f"“{said}”") if said else "",
    )


def as_int(value: object) -> int | None:
    """Return a whole number of at most 18 digits, which may have come as text, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 10**18 else None
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", digits := value.strip()):
        return int(digits)
    return None


def _code_in(message: str) -> int | None:
    """Return a code that stands only in the text: "(#4) Application request limit reached"."""
    match = re.search(r"\(#(\d{1,9})\)", message)
    return int(match.group(1)) if match else None
