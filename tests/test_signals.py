"""A request to stop."""

from __future__ import annotations

import threading

from whatsapp_tokens.signals import Stop


def test_a_request_to_stop_ends_every_wait_and_may_interrupt_itself():
    stop = Stop()
    before = stop.wait(0.001)
    done = []
    waiting = threading.Thread(target=lambda: done.append(stop.wait(600)))
    waiting.start()
    stop.set()
    stop.set()
    waiting.join(30)
    assert (before, done, stop.wait(600), stop.is_set()) == (False, [True], True, True)
