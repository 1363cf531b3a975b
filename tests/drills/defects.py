"""Defects to plant in the program: each makes it break a promise that the simulated year must notice.

A defect is applied in the process of a run, just before the program begins.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

from sandbox.year import job

play = job.run  # the real one


def run_with(defect, *arguments):
    """Be a run of the program that has this defect."""
    defect()
    play(*arguments)


def stores_nothing():
    from whatsapp_tokens.database.writes import Writer

    update = Writer._update

    def forget_new_tokens(self, connection, change, row):
        if change.ciphertext == row.ciphertext:
            update(self, connection, change, row)

    Writer._update = forget_new_tokens


def seals_with_a_lost_key():
    from crypto import KeyRing

    lost = KeyRing.parse("ab" * 32)
    seal = KeyRing.encrypt
    KeyRing.encrypt = lambda _self, token, kind: seal(lost, token, kind)


def stores_the_token_of_another():
    from whatsapp_tokens.renewal import updates

    tokens, build = [], updates._new_token

    def mix_up(verdict, *rest):
        tokens.append(verdict.token)
        return build(replace(verdict, token=tokens[0]), *rest)

    updates._new_token = mix_up


def asks_about_nothing():
    from whatsapp_tokens.database.queries import Queries

    Queries.due_ids = lambda *_: iter(())


def keeps_its_claims():
    from whatsapp_tokens.database.writes import Writer

    Writer._give_back = lambda *_: {}


def keeps_no_log():
    from whatsapp_tokens.database.writes import Writer

    Writer._log = lambda *_: None


def notes_a_day_too_many():
    from whatsapp_tokens.renewal.decision import Proof

    expiry = Proof.expiry
    Proof.expiry = lambda self, lifetime: expiry(self, lifetime) + timedelta(days=1)


def stays_silent():
    from whatsapp_tokens.commands import finish

    finish.send_alerts = lambda *_: []


def forgets_that_it_told():
    from whatsapp_tokens.database.claims import Claims

    Claims.mark_alerted = lambda self, ids, _at: self.release(ids)


def tells_of_a_failure_only_once():
    from whatsapp_tokens import policy
    from whatsapp_tokens.renewal import updates

    policy.must_tell = updates.must_tell = lambda told_at, *_: told_at is None


def finds_fault_with_good_tokens():
    from whatsapp_tokens.renewal import decision

    decision.lacks = lambda *_: "missing permission: all"


def exits_with_zero():
    from whatsapp_tokens.commands import finish

    finish._exit_code = lambda *_args, **_options: 0


def says_that_all_is_well():
    from whatsapp_tokens.monitoring.heartbeat import Heartbeat

    end = Heartbeat.end
    Heartbeat.end = lambda self, _code, text: end(self, 0, text)


def stops_for_no_reason():
    from whatsapp_tokens.renewal.run import Run
    from whatsapp_tokens.results import Aborted, AbortReason

    Run.execute = lambda *_: Aborted(AbortReason.RATE_LIMITED, "x")


def calls_every_warning_well_again():
    from whatsapp_tokens.reports import alert_message, alerts

    alerts.is_news = lambda *_: True
    alerts.is_well_again = alert_message.is_well_again = lambda _: True


def exits_with_one():
    from whatsapp_tokens.commands import finish

    codes = itertools.repeat(1)
    finish._exit_code = lambda *_args, **_options: next(codes)
