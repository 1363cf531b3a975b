"""What becomes of channels, counted."""

from __future__ import annotations

from whatsapp_tokens.results import Due, DueReason, Failed, Reason, Renewed, Skipped, Tally


def test_a_tally_counts_each_kind_once():
    tally = Tally()
    for outcome in [
        Renewed(id=1, name="x"),
        Failed(id=1, name="x", reason=Reason.UNAVAILABLE, detail="x"),
        Skipped(id=1, name="x", reason=Reason.WAITING_FOR_RECONNECT),
        Skipped(id=1, name="x", reason=Reason.NEVER_EXPIRES),
        Due(id=1, name="x", why=DueReason.OLD),
    ]:
        tally.add(outcome)
    assert (tally.renewed, tally.failed, tally.waiting, tally.skipped) == (1, 1, 1, 1)
    assert tally.reasons == {Reason.NEVER_EXPIRES: 1}
