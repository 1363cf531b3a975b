"""Which rows: every condition on the channel table, in SQL, for PostgreSQL and SQLite alike.

Why a channel is due and in which state it is are labels that come back with the row, so each rule stands here
and nowhere else. No condition is null where NOT is put before it: NOT of null would drop the row.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

import sqlalchemy as sa

from models import Status, as_stored
from whatsapp_tokens.column_types import comparable
from whatsapp_tokens.policy import Selection
from whatsapp_tokens.results import ChannelId, DueReason, Reason, State


class Section(IntEnum):
    """The sections of what needs attention, in the order in which people see them."""

    STOPPED = 0  # it has stopped working
    IN_TIME = 1  # it works until its token expires
    LACKING = 2  # it works, and is not near its expiry, but lacks a permission
    REPLACED = 3  # another token was stored: nothing is known of it


class Conditions:
    """Conditions on one channel table, as `reflect` found it."""

    def __init__(self, table: sa.Table, type_: str, *, is_sqlite: bool) -> None:
        self._table = table
        self._type = type_
        self._is_sqlite = is_sqlite

    def candidate(self, selection: Selection | None = None) -> sa.ColumnElement[bool]:
        """Whether a row is a WhatsApp channel with a token, not inactive, and one of those asked for."""
        conditions = [self._table.c.type == self._type, self._has_token(), sa.not_(self._is_inactive())]
        if selection:
            conditions.append(self.asked_for(selection))
        return sa.and_(*conditions)

    def inactive(self) -> sa.ColumnElement[bool]:
        """Whether a row would be a candidate if it were active."""
        return sa.and_(self._table.c.type == self._type, self._has_token(), self._is_inactive())

    def of_another_type(self) -> sa.ColumnElement[bool]:
        """Whether a row has a token that is not for us."""
        return sa.and_(sa.func.coalesce(self._table.c.type != self._type, sa.true()), self._has_token())

    def asked_for(self, selection: Selection) -> sa.ColumnElement[bool]:
        """Whether a row is among those that the selection names, if it names any."""
        return sa.true() if selection.ids is None else self._table.c.id.in_(selection.ids)

    def due_reason(self, selection: Selection) -> sa.ColumnElement[str]:
        """Return why a candidate is due, as a `DueReason`; null if it is not."""
        if selection.everything:
            return sa.literal(DueReason.ASKED_FOR, sa.Text())
        c = self._table.c
        expires_at = comparable(c.token_expires_at)
        never_expires = sa.func.coalesce(c.token_status, "") == Status.NEVER_EXPIRES
        failed_before = sa.or_(*(self._failed_by(reason) for reason in Reason if reason.is_retried))
        return sa.case(
            (self.waiting(selection), sa.null()),
            (self._is_replaced(), DueReason.REPLACED),
            (sa.and_(expires_at.is_(None), sa.not_(never_expires)), DueReason.UNKNOWN_EXPIRY),
            (expires_at <= selection.now, DueReason.EXPIRED),
            (expires_at < selection.expires_before, DueReason.EXPIRES_SOON),
            (comparable(c.last_token_refresh_at) < selection.refreshed_before, DueReason.OLD),
            (sa.and_(c.token_status == Status.WARNING, failed_before), DueReason.FAILED_BEFORE),
            else_=sa.null(),
        )

    def due(self, selection: Selection) -> sa.ColumnElement[bool]:
        """Whether a candidate is due."""
        return self.due_reason(selection).is_not(None)

    def waiting(self, selection: Selection) -> sa.ColumnElement[bool]:
        """Whether a candidate only waits for its customer to reconnect: Meta is not asked about it."""
        if selection.everything:
            return sa.false()
        c = self._table.c
        return never_null(
            sa.and_(
                c.token_status == Status.WARNING,
                self._failed_by(Reason.RECONNECT_REQUIRED),
                c.token_fingerprint == self._md5(),
                comparable(c.token_expires_at) <= selection.now,
            )
        )

    def state(self, selection: Selection) -> sa.ColumnElement[str]:
        """Return the `State` of a candidate.

        After a reconnect nothing is known until Meta has been asked: the row describes another token.
        """
        status, expires_at = self._table.c.token_status, comparable(self._table.c.token_expires_at)
        return sa.case(
            (self._is_replaced(), State.UNKNOWN),
            (self.waiting(selection), State.WAITING),
            (self.rejected(), State.DOWN),
            (status == Status.WARNING, State.WARNING),
            (sa.and_(expires_at.is_(None), status == Status.NEVER_EXPIRES), State.NEVER_EXPIRES),
            (expires_at.is_(None), State.UNKNOWN),
            (expires_at <= selection.now, State.ENDED),
            (expires_at < selection.expires_before, State.ENDING),
            else_=State.OK,
        )

    def rejected(self) -> sa.ColumnElement[bool]:
        """Whether Meta said of the stored token that it no longer accepts it."""
        is_warning = self._table.c.token_status == Status.WARNING
        has_failed = self._failed_by(Reason.RECONNECT_REQUIRED)
        return never_null(sa.and_(is_warning, has_failed, sa.not_(self._is_replaced())))

    def in_warning(self) -> sa.ColumnElement[bool]:
        """Whether a channel failed when it was last looked at; never null."""
        return never_null(self._table.c.token_status == Status.WARNING)

    def known_to_fail(self) -> sa.ColumnElement[bool]:
        """Whether people were told that the channel failed; not of a token stored since."""
        c = self._table.c
        was_told = never_null(sa.and_(c.token_status == Status.WARNING, c.token_alerted_at.is_not(None)))
        return sa.and_(was_told, sa.not_(self._is_replaced()))

    def may_be_news(self) -> sa.ColumnElement[bool]:
        """Whether there may be something to tell of a row. Few are: they have an index of their own."""
        c = self._table.c
        return sa.or_(c.token_status == Status.WARNING, c.token_alerted_at.is_not(None))

    def to_remind_of(self) -> sa.ColumnElement[bool]:
        """Whether people were told of a rejected token whose expiry is not known."""
        c = self._table.c
        has_no_expiry = sa.and_(c.token_expires_at.is_(None), c.token_alerted_at.is_not(None))
        return sa.and_(self.may_be_news(), has_no_expiry, self.rejected())

    def to_tell_of(self, soon: datetime, reminders: Collection[ChannelId] = ()) -> sa.ColumnElement[bool]:
        """Whether people may have to be told of a channel; the caller decides.

        It is in `warning` and people were not told, or not since its expiry came near (`soon` bounds
        that), or are to be reminded; or it is well again, and people only know of the failure.
        """
        c = self._table.c
        expires_at, alerted_at = comparable(c.token_expires_at), comparable(c.token_alerted_at)
        is_warning = self.in_warning()
        return sa.and_(
            self.may_be_news(),
            sa.or_(
                sa.and_(is_warning, alerted_at.is_(None)),
                sa.and_(is_warning, expires_at <= soon, alerted_at < expires_at),
                sa.and_(sa.not_(is_warning), alerted_at.is_not(None)),
                c.id.in_(list(reminders)),
            ),
        )

    def needs_attention(self, selection: Selection) -> sa.ColumnElement[bool]:
        """Whether a candidate needs attention by its status or by the clock; never null."""
        has_expired = never_null(self._has_expired(selection))
        return sa.or_(self.in_warning(), sa.and_(has_expired, sa.not_(self._is_replaced())))

    def may_need_attention(self, selection: Selection) -> sa.ColumnElement[bool]:
        """Whether a row is in `warning` or past its expiry: indexes find these."""
        return sa.or_(self._table.c.token_status == Status.WARNING, self._has_expired(selection))

    def section(self, selection: Selection) -> sa.ColumnElement[int]:
        """Return the `Section` of a candidate that needs attention."""
        expires_at = comparable(self._table.c.token_expires_at)
        is_limited = self._failed_by(Reason.MISSING_PERMISSION)
        return sa.case(
            (self._is_replaced(), Section.REPLACED),
            (sa.or_(self.rejected(), never_null(self._has_expired(selection))), Section.STOPPED),
            (never_null(expires_at < selection.expires_before), Section.IN_TIME),
            (never_null(is_limited), Section.LACKING),
            else_=Section.IN_TIME,
        )

    def holds(self, ciphertext: str) -> sa.ColumnElement[bool]:
        """Whether a row still holds the ciphertext that was read; null is read as an empty text."""
        stored = self._table.c.wa_token_encrypted
        if not ciphertext:
            return sa.func.coalesce(stored, "") == ""
        if self._is_sqlite:  # which may hold bytes, or text that is not UTF-8
            return sa.cast(stored, sa.LargeBinary()) == as_stored(ciphertext)
        return stored == ciphertext

    def free(self) -> sa.ColumnElement[bool]:
        """Whether no run holds a row, or no longer: a lease ends by the database's own clock."""
        lease = self._table.c.token_lease_until
        return sa.func.coalesce(comparable(lease) <= self.clock(lease), sa.true(), type_=sa.Boolean())

    def clock(self, column: sa.Column[Any], ahead: timedelta = timedelta(0)) -> sa.ColumnElement[Any]:
        """Return the database's own time, as `column` holds it, in whole milliseconds.

        Prisma's `timestamp(3)` holds no more. A lease is recognised by its exact time, so a run would not
        know its own claims if digits were lost.
        """
        kind: Any = column.type
        if self._is_sqlite:
            text = sa.func.strftime("%Y-%m-%d %H:%M:%f", "now", f"{ahead.total_seconds():+.3f} seconds")
            return sa.type_coerce(text + "000", kind)
        now = sa.func.statement_timestamp()
        if not kind.timezone:
            now = sa.func.timezone("UTC", now)
        return sa.type_coerce(
            sa.func.date_trunc("milliseconds", now) + sa.literal(ahead, sa.Interval()), kind
        )

    def _has_expired(self, selection: Selection) -> sa.ColumnElement[bool]:
        return comparable(self._table.c.token_expires_at) <= selection.now

    def _has_token(self) -> sa.ColumnElement[bool]:
        stored = self._table.c.wa_token_encrypted
        return sa.and_(stored.is_not(None), stored != "")

    def _is_inactive(self) -> sa.ColumnElement[bool]:
        """Whether a row is inactive; never null."""
        active = self._table.c.get("active")
        if active is None:
            return sa.false()
        return (
            active.is_(sa.false())
            if isinstance(active.type, sa.Boolean)
            else sa.func.coalesce(active, 1) == 0
        )

    def _is_replaced(self) -> sa.ColumnElement[bool]:
        """Whether the application has stored another token since state and times were written."""
        return never_null(self._table.c.token_fingerprint != self._md5())

    def _failed_by(self, reason: str) -> sa.ColumnElement[bool]:
        error = self._table.c.token_error
        return sa.or_(error == reason, error.startswith(reason + ":", autoescape=True))

    def _md5(self) -> sa.ColumnElement[str]:
        """Return the `fingerprint` of the stored ciphertext: built into PostgreSQL, registered on SQLite."""
        stored = self._table.c.wa_token_encrypted
        return sa.func.md5(
            sa.cast(stored, sa.LargeBinary() if self._is_sqlite else sa.Text()), type_=sa.Text()
        )


def never_null(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return a condition that is false where the given one is null."""
    return sa.func.coalesce(condition, sa.false(), type_=sa.Boolean())
