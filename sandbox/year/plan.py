"""What happens in a year: when Meta is down, the job is off, secrets change and runs are killed."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass, field
from typing import Final

DOWN_NIGHTS: Final = 14
OFF_NIGHTS: Final = 5
AUDIT_EVERY: Final = 30


@dataclass(frozen=True, slots=True)
class Kill:
    """A deploy ends the run: by this signal, after so many calls of Meta, or (None) when it alerts people."""

    signal: signal.Signals
    after: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The year. A night is a number from 0 on."""

    nights: int
    down: range
    off: range
    secrets: dict[int, int] = field(default_factory=dict)  # the night of the change, and when we follow
    keys: frozenset[int] = frozenset()
    kills: dict[int, Kill] = field(default_factory=dict)
    deaf: frozenset[int] = frozenset()  # Slack takes nothing
    doubled: frozenset[int] = frozenset()  # two runs at once

    @classmethod
    def make(cls, seed: int, nights: int, *, at_once: bool, channels: int) -> Plan:
        """Return the plan that belongs to a seed. `at_once`: two runs may be at work together."""
        rng = random.Random(f"plan {seed}")
        down = rng.randrange(nights // 4, nights // 3 + 1)
        off = rng.randrange(nights * 3 // 5, nights * 2 // 3 + 1)
        plan = cls(nights, range(down, down + DOWN_NIGHTS), range(off, off + OFF_NIGHTS))
        # On the days before and after an outage a token may have one chance only, and must have that.
        calm = [night for night in range(1, nights) if not plan.is_near_an_outage(night)]
        starts = rng.sample(calm, min(len(calm), max(2, nights // 120)))
        follow = {night: night + rng.randint(0, 4) for night in sorted(starts)}
        calls = max(6, channels // 12)
        return cls(
            nights,
            plan.down,
            plan.off,
            secrets=follow,
            keys=frozenset(rng.sample(range(5, nights), max(1, nights // 150))),
            kills={
                night: Kill(
                    rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)),
                    None if rng.random() < 0.2 else rng.randrange(calls),
                )
                for night in rng.sample(calm, len(calm) // 12)
            },
            deaf=frozenset(rng.sample(range(nights), nights // 30)),
            doubled=frozenset(rng.sample(range(nights), nights // 8) if at_once else ()),
        )

    def is_near_an_outage(self, night: int) -> bool:
        """Return whether an outage is on, begins within two weeks, or ended less than a week ago."""
        return any(one.start - 14 <= night < one.stop + 7 for one in (self.down, self.off))

    def is_audit(self, night: int) -> bool:
        """Return whether the operator asks Meta about every token on that night."""
        return night % AUDIT_EVERY == AUDIT_EVERY - 1
