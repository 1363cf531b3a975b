"""Keys and ciphertexts: the only room that sees a key.

A `KeyRing` is what `TOKEN_ENCRYPTION_KEY` says: its first key encrypts, all of them decrypt. How a
ciphertext is written down is a `Layout`; a row is written back in the layout that it was read in,
so that the application which shares the table goes on understanding it. A further layout is one
more class here and one more entry in `LAYOUTS`.

Errors::

    BadKey          the setting does not describe usable keys (a configuration error)
    Undecryptable   this ciphertext cannot be opened; the text says why, never with its content
    SealBroken      what was sealed does not open again: nothing may be written
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography.fernet import Fernet, InvalidToken

from redact import Secret

KEY_BYTES: Final = 32


class BadKey(ValueError):
    """The key setting is unusable. The message never contains the key."""


class Undecryptable(Exception):
    """No key of the ring opens this ciphertext, or its layout is unknown."""


class SealBroken(Exception):
    """A freshly sealed token did not open to itself again."""


class Layout(Protocol):
    """One way to write a ciphertext down."""

    @property
    def name(self) -> str:
        """What people call it."""

    def recognises(self, text: str) -> bool:
        """Whether `text` has this layout's shape. Says nothing about keys."""

    def open(self, text: str, key: bytes) -> bytes | None:
        """The plaintext, or None if this key does not authenticate it."""

    def seal(self, plaintext: bytes, key: bytes) -> str:
        """`plaintext` encrypted with `key`, written down in this layout."""


@dataclass(frozen=True, slots=True)
class FernetLayout:
    """Fernet tokens: https://github.com/fernet/spec/blob/master/Spec.md."""

    name: str = "Fernet"

    def recognises(self, text: str) -> bool:
        """Base64url of version 0x80, 8 bytes of time, 16 of IV, whole blocks, 32 of HMAC."""
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
        except ValueError:
            return False
        overhead = 1 + 8 + 16 + 32
        return raw[:1] == b"\x80" and len(raw) > overhead and (len(raw) - overhead) % 16 == 0

    def open(self, text: str, key: bytes) -> bytes | None:
        """The plaintext, or None if the HMAC does not fit this key. The token's own age is ignored."""
        try:
            return Fernet(base64.urlsafe_b64encode(key)).decrypt(text)
        except InvalidToken:
            return None

    def seal(self, plaintext: bytes, key: bytes) -> str:
        """A fresh Fernet token."""
        return Fernet(base64.urlsafe_b64encode(key)).encrypt(plaintext).decode("ascii")


FERNET: Final = FernetLayout()
LAYOUTS: Final[tuple[Layout, ...]] = (FERNET,)


@dataclass(frozen=True, slots=True)
class Opened:
    """A decrypted token, and what is needed to write its successor the same way."""

    token: Secret
    layout: Layout


@dataclass(frozen=True, slots=True)
class KeyRing:
    """32-byte keys. The first encrypts, all decrypt."""

    _keys: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read a comma-separated list of keys.

        A key is 64 hex digits, base64 or base64url of 32 bytes, or `sha256:` and any passphrase.
        Raises `BadKey`, which names the entry by its number.
        """
        entries = text.split(",")
        keys: list[bytes] = []
        for number, entry in enumerate(entries, start=1):
            try:
                keys.append(_parse_key(entry))
            except BadKey as error:
                if len(entries) == 1:
                    raise
                raise BadKey(f"key {number} of {len(entries)}: {error}") from None
        return cls(tuple(keys))

    def __len__(self) -> int:
        return len(self._keys)

    def open(self, ciphertext: str) -> Opened:
        """Decrypt a stored ciphertext with whichever key fits.

        Raises `Undecryptable`, in words that a person can act on.
        """
        ciphertext = ciphertext.strip()  # CHAR columns pad, and rows written by hand end in a newline
        layouts = [layout for layout in LAYOUTS if layout.recognises(ciphertext)]
        if not layouts:
            raise Undecryptable(
                f"the stored text is {_looks_like(ciphertext)}, not a known ciphertext layout"
            )
        for layout in layouts:
            for key in self._keys:
                plaintext = layout.open(ciphertext, key)
                if plaintext is not None:
                    return Opened(_as_token(plaintext), layout)
        raise Undecryptable(
            f"no key of TOKEN_ENCRYPTION_KEY opens it ({_names(layouts)}): "
            "another key encrypted it, or the text was altered"
        )

    def seal(self, token: Secret, layout: Layout = FERNET) -> str:
        """Encrypt with the first key, and prove that it opens to the same token again.

        Raises `SealBroken` if it does not.
        """
        try:
            plaintext = token.reveal().encode()
        except UnicodeEncodeError:
            raise SealBroken("the token is not text that can be encrypted") from None
        ciphertext = layout.seal(plaintext, self._keys[0])
        try:
            again = self.open(ciphertext).token
        except Undecryptable:
            raise SealBroken("the encrypted token does not decrypt again") from None
        if not hmac.compare_digest(again.reveal().encode(), plaintext):
            raise SealBroken("the encrypted token decrypts to something else")
        return ciphertext


def _parse_key(entry: str) -> bytes:
    """One key of the ring, or `BadKey`."""
    entry = entry.lstrip()
    if entry.startswith("sha256:"):
        passphrase = entry.removeprefix("sha256:")
        if not passphrase.strip():
            raise BadKey("nothing follows sha256:")
        return hashlib.sha256(passphrase.encode(errors="surrogateescape")).digest()
    entry = entry.rstrip()
    if not entry:
        raise BadKey("it is empty")
    if re.fullmatch(r"[0-9A-Fa-f]{64}", entry):
        return bytes.fromhex(entry)
    try:
        standard = entry.rstrip("=").replace("-", "+").replace("_", "/")
        key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadKey(f"its {len(entry)} characters are neither hex nor base64; {_KEY_FORMS}") from None
    if len(key) != KEY_BYTES:
        raise BadKey(f"it holds {_key_length(entry, key)} bytes, not {KEY_BYTES}; {_KEY_FORMS}")
    return key


_KEY_FORMS: Final = "give 64 hex digits, base64 of 32 bytes, or sha256:any passphrase"


def _key_length(entry: str, decoded: bytes) -> int:
    """How long the writer of the key would say that it is: hex digits are valid base64, too."""
    looks_hex = re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", entry)
    return len(entry) // 2 if looks_hex else len(decoded)


def _as_token(plaintext: bytes) -> Secret:
    """The plaintext as a token, if it can be one."""
    try:
        text = plaintext.decode()
    except UnicodeDecodeError:
        raise Undecryptable("it decrypts, but not to text") from None
    if not text.strip():
        raise Undecryptable("it decrypts to nothing")
    return Secret(text)


def _looks_like(text: str) -> str:
    """What an unreadable column seems to hold, without repeating any of it."""
    if not text.strip():
        return "blank"
    if text.startswith("EAA"):
        return "an unencrypted token"
    return f"{len(text)} characters of something else"


def _names(layouts: Sequence[Layout]) -> str:
    return ", ".join(layout.name for layout in layouts)
