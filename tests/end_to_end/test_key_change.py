"""A change of the encryption key as docs/operations.md orders it: the application can read at every step."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from cryptography.fernet import InvalidToken, MultiFernet
from world import KEY, OTHER_KEY, World, days, fernet

OLD, NEW = KEY, OTHER_KEY


@dataclass
class Application:
    """What shares the table: it decrypts with its keys and encrypts with the first one."""

    world: World
    keys: tuple[bytes, ...]

    def reads(self, ids):
        """Return each token as the application decrypts it; raise InvalidToken if it cannot."""
        ring = MultiFernet([fernet(key) for key in self.keys])
        return {id_: ring.decrypt(self.world.rows.get(id_)["wa_token_encrypted"].encode()) for id_ in ids}

    def connects(self):
        """Let a customer connect: the application stores a token that it encrypts itself."""
        return self.world.channel(self.world.token(age=0, lives=60), key=self.keys[0])


def test_the_application_can_read_every_token_at_every_step_and_the_old_key_is_not_needed_then(world):
    application = Application(world, (OLD,))
    well = {"token_expires_at": world.now + days(55), "last_token_refresh_at": world.now - days(5)}
    young = world.channel(world.token(age=5, lives=55), **well)
    ids = [world.channel(), young, world.channel(world.token(expires_at=0)), application.connects()]
    before = application.reads(ids)

    application.keys = (OLD, NEW)  # 1. it can decrypt both, and encrypts with the old one
    ids.append(application.connects())
    world.env["TOKEN_ENCRYPTION_KEY"] = f"{NEW.hex()},{OLD.hex()}"  # 2.
    assert world.run().code == 0
    assert application.reads(ids).keys() == set(ids)

    application.keys = (NEW, OLD)  # 3.
    ids.append(application.connects())
    assert world.run("--audit").code == 0  # 4.
    assert application.reads(ids)[young] == before[young]  # not exchanged, only encrypted again

    assert "key 2 opens none" in world.run("--check").out  # 5.
    world.env["TOKEN_ENCRYPTION_KEY"] = NEW.hex()
    application.keys = (NEW,)
    assert (world.run("--audit").code, application.reads(ids).keys()) == (0, set(ids))


def test_an_application_that_does_not_know_the_new_key_yet_cannot_read_what_a_run_wrote(world):
    # This is why the application comes first.
    id_ = world.channel()
    world.env["TOKEN_ENCRYPTION_KEY"] = f"{NEW.hex()},{OLD.hex()}"
    world.run()
    with pytest.raises(InvalidToken):
        Application(world, (OLD,)).reads([id_])


def test_the_token_of_an_inactive_channel_gets_the_new_key_by_set_token(world):
    world.rows.run('ALTER TABLE "Channel" ADD COLUMN active BOOLEAN')
    world.env["CHANNEL_COLUMNS"] = "active=active"
    token = world.token(age=1, lives=59)
    id_ = world.channel(token, active=False)
    world.env["TOKEN_ENCRYPTION_KEY"] = f"{NEW.hex()},{OLD.hex()}"
    world.run("--audit")
    assert world.stored(id_, OLD) == token
    assert world.run("--set-token", str(id_), stdin=token).code == 0
    assert (world.stored(id_, NEW), "key 2 opens none" in world.run("--check").out) == (token, True)
