"""Keys: the only room that sees one.

A `KeyRing` is what `TOKEN_ENCRYPTION_KEY` says: its first key encrypts, all of them decrypt. How a
ciphertext is written down is a `Layout` of `layouts`; a row is written back in the layout that it was read
in, so that the application which shares the table goes on understanding it.

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
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from whatsapp_tokens.ciphertext_formats import (
    CBC,
    FERNET,
    TAG_BYTES,
    FernetText,
    GcmParts,
    Layout,
    Sealed,
    looks_like,
    may_be_cbc,
    readings,
)
from whatsapp_tokens.redaction import Secret

KEY_BYTES: Final = 32


class BadKey(ValueError):
    """The key setting is unusable. The message never contains the key."""


class Undecryptable(Exception):
    """No key of the ring opens this ciphertext, or (`is_layout`) it is written in no way that we know."""

    def __init__(self, message: str, *, is_layout: bool = False) -> None:
        super().__init__(message)
        self.is_layout = is_layout


class SealBroken(Exception):
    """A freshly sealed token did not open to itself again."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A decrypted token, the layout to write its successor in, and the place of its key in the ring."""

    token: Secret
    layout: Layout
    key: int = 0


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
        tried: list[Layout] = []
        for reading in readings(ciphertext):
            tried.append(reading.layout)
            for place, key in enumerate(self._keys):
                plaintext = _decrypt(reading.sealed, key)
                if plaintext is not None:
                    return Opened(_as_token(plaintext), reading.layout, place)
        raise Undecryptable(
            _why_not(ciphertext, tried), is_layout=not tried or looks_like(ciphertext) is not None
        )

    def seal(self, token: Secret, layout: Layout = FERNET) -> str:
        """Encrypt with the first key, and prove that it opens to the same token again.

        Raises `SealBroken` if it does not.
        """
        try:
            plaintext = token.reveal().encode()
        except UnicodeEncodeError:
            raise SealBroken("the token is not text that can be encrypted") from None
        ciphertext = layout.render(_encrypt(plaintext, self._keys[0], layout.iv_bytes))
        try:
            again = self.open(ciphertext).token
        except Undecryptable:
            raise SealBroken("the encrypted token does not decrypt again") from None
        if not hmac.compare_digest(again.reveal().encode(), plaintext):
            raise SealBroken("the encrypted token decrypts to something else")
        return ciphertext


def _decrypt(sealed: Sealed, key: bytes) -> bytes | None:
    """The plaintext, or None if this key does not authenticate it. A Fernet token's own age is ignored."""
    match sealed:
        case FernetText(text):
            try:
                return Fernet(base64.urlsafe_b64encode(key)).decrypt(text)
            except InvalidToken:
                return None
        case GcmParts(iv, tag, data):
            try:
                return AESGCM(key).decrypt(iv, data + tag, None)
            except InvalidTag:
                return None
        case _:
            assert_never(sealed)


def _encrypt(plaintext: bytes, key: bytes, iv_bytes: int | None) -> Sealed:
    """AES-256-GCM with a fresh random IV of that length, or a Fernet token."""
    if iv_bytes is None:
        return FernetText(Fernet(base64.urlsafe_b64encode(key)).encrypt(plaintext).decode("ascii"))
    iv = os.urandom(iv_bytes)
    made = AESGCM(key).encrypt(iv, plaintext, None)  # the tag follows the data
    return GcmParts(iv, made[-TAG_BYTES:], made[:-TAG_BYTES])


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


def _why_not(text: str, tried: Sequence[Layout]) -> str:
    """Why no key opened a text, without repeating any of it."""
    if words := looks_like(text):
        # By its lengths alone, AES-CBC may also be a layout in which the tag follows the data.
        other = f"; or another key encrypted it ({tried[0].name})" if words == CBC and tried else ""
        return f"the stored text is {words}, not a known ciphertext layout{other}"
    if not tried:
        return f"the stored text is {len(text)} characters of something else, not a known ciphertext layout"
    # What has a Fernet token's version and length is hardly anything else, though its letters are base64.
    layouts = [FERNET] if FERNET in tried else tried
    names = " or ".join(dict.fromkeys(layout.name for layout in layouts))
    cbc = "; or it is AES-CBC, which nothing authenticates" if may_be_cbc(text) else ""
    return (
        f"no key of TOKEN_ENCRYPTION_KEY opens it ({names}): "
        f"another key encrypted it, or the text was altered{cbc}"
    )
