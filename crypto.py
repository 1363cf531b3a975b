"""Decrypt, encrypt and verify tokens. This is the only module that sees a key.

A `KeyRing` holds the keys of `TOKEN_ENCRYPTION_KEY`: the first encrypts, all of them decrypt. A ciphertext is
written back in the `CiphertextFormat` that it was read in, so that the application which shares the table can
still read it. Only authenticated encryption is read and written: AES-256-GCM and Fernet.

Errors::

    BadKey             the setting does not describe usable keys (a configuration error)
    Undecryptable      no key decrypts this ciphertext
    └── NotAToken      a key does, but what it holds is no token
    EncryptionFailed   a new ciphertext does not decrypt to its token: it must not be written

Their texts contain no part of a key, a token or a ciphertext.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from whatsapp_tokens.ciphertext_formats import (
    FERNET,
    TAG_BYTES,
    CiphertextFormat,
    Encrypted,
    FernetText,
    GcmParts,
    parse,
)
from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.token_text import (
    CBC,
    ENCRYPTED_TWICE,
    is_usual_token,
    looks_like,
    may_be_cbc,
    why_no_token,
)

KEY_BYTES: Final = 32
_KEY_FORMS: Final = "give 64 hex digits, base64 of 32 bytes, or sha256:any passphrase"


class BadKey(ValueError):
    """The key setting is unusable."""


class Undecryptable(Exception):
    """There is no token in this ciphertext for us. `is_unknown_format`: it is in none of `FORMATS`."""

    def __init__(self, detail: str, *, is_unknown_format: bool = False) -> None:
        super().__init__(detail)
        self.is_unknown_format = is_unknown_format


class NotAToken(Undecryptable):
    """A key decrypts this ciphertext, but to something that is no bare token."""


class EncryptionFailed(Exception):
    """A new ciphertext does not decrypt to the token that went in."""


@dataclass(frozen=True, slots=True)
class Decrypted:
    """A token, the format of its ciphertext, and the index of its key in the ring."""

    token: Secret
    format: CiphertextFormat
    key_index: int = 0


@dataclass(frozen=True, slots=True)
class KeyRing:
    """32-byte keys. The first encrypts, all decrypt."""

    _keys: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Parse a comma-separated list of keys.

        A key is 64 hex digits, base64 or base64url of 32 bytes, or `sha256:` and a passphrase.
        Raise `BadKey`, which names the key by its number.
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

    def decrypt(self, ciphertext: str) -> Decrypted:
        """Decrypt a stored token with the key that fits. Raise `Undecryptable` or `NotAToken`."""
        plaintext, ciphertext_format, key_index = self._only_decryption(ciphertext)
        text = plaintext.decode(errors="replace")
        if why := self._why_no_token(text):
            raise NotAToken(facts(fact("the stored value is no token"), why))
        return Decrypted(Secret(text), ciphertext_format, key_index)

    def _why_no_token(self, text: str) -> str | None:
        """Return why a plaintext is no bare token; None if it is one."""
        if is_usual_token(text):
            return None
        return ENCRYPTED_TWICE if next(self._decryptions(text), None) else why_no_token(text)

    def format_of(self, ciphertext: str) -> CiphertextFormat:
        """Return the format of what a key decrypts, whether it is a token or not. Raise `Undecryptable`."""
        return self._only_decryption(ciphertext)[1]

    def _only_decryption(self, ciphertext: str) -> tuple[bytes, CiphertextFormat, int]:
        """Return the plaintext, its format and the index of its key. Raise `Undecryptable`."""
        ciphertext = ciphertext.strip()  # CHAR columns pad, and rows written by hand end in a newline
        if found := next(self._decryptions(ciphertext), None):
            return found
        tried = [one.format for one in parse(ciphertext)]
        is_unknown_format = not tried or looks_like(ciphertext) is not None
        raise Undecryptable(_explain(ciphertext, tried), is_unknown_format=is_unknown_format)

    def _decryptions(self, text: str) -> Iterator[tuple[bytes, CiphertextFormat, int]]:
        """Yield what `_only_decryption` returns, if a key decrypts the text."""
        for parsed in parse(text):
            for index, key in enumerate(self._keys):
                plaintext = _decrypt(parsed.encrypted, key)
                if plaintext is not None:
                    yield plaintext, parsed.format, index

    def encrypt(self, token: Secret, ciphertext_format: CiphertextFormat = FERNET) -> str:
        """Encrypt with the first key, and verify the result. Raise `EncryptionFailed`."""
        try:
            plaintext = token.reveal().encode()
        except UnicodeEncodeError:
            raise EncryptionFailed(fact("the token is not text that can be encrypted")) from None
        ciphertext = ciphertext_format.render(_encrypt(plaintext, self._keys[0], ciphertext_format.iv_bytes))
        self._verify(ciphertext, plaintext)
        return ciphertext

    def _verify(self, ciphertext: str, plaintext: bytes) -> None:
        """Check that the ciphertext decrypts to the plaintext. Raise `EncryptionFailed` if not."""
        try:
            found = self.decrypt(ciphertext).token
        except Undecryptable:
            raise EncryptionFailed(fact("the encrypted token does not decrypt again")) from None
        if not hmac.compare_digest(found.reveal().encode(), plaintext):
            raise EncryptionFailed(fact("the encrypted token decrypts to something else"))


def _decrypt(encrypted: Encrypted, key: bytes) -> bytes | None:
    """Return the plaintext, or None if this is not the key. The age of a Fernet token does not matter."""
    match encrypted:
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
            assert_never(encrypted)


def _encrypt(plaintext: bytes, key: bytes, iv_bytes: int | None) -> Encrypted:
    """Encrypt with AES-256-GCM and a fresh random IV of `iv_bytes`, or with Fernet if it is None."""
    if iv_bytes is None:
        return FernetText(Fernet(base64.urlsafe_b64encode(key)).encrypt(plaintext).decode("ascii"))
    iv = os.urandom(iv_bytes)
    made = AESGCM(key).encrypt(iv, plaintext, None)  # the tag follows the data
    return GcmParts(iv, made[-TAG_BYTES:], made[:-TAG_BYTES])


def _parse_key(entry: str) -> bytes:
    """Return one key of the ring. Raise `BadKey`."""
    entry = entry.lstrip()
    if entry.startswith("sha256:"):
        passphrase = entry.removeprefix("sha256:").rstrip("\r\n")  # the end of a line is no part of it
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
        what = f"its {len(entry)} characters are neither hex nor base64; {_key_forms(entry)}"
        raise BadKey(what) from None
    if len(key) != KEY_BYTES:
        is_hex = re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", entry)  # hex digits are valid base64, too
        length = len(entry) // 2 if is_hex else len(key)
        raise BadKey(f"it holds {length} bytes, not {KEY_BYTES}; {_key_forms(entry)}")
    return key


def _key_forms(entry: str) -> str:
    """Return how to give a key. 32 characters may be the key itself, not its sha256:."""
    if len(entry) != KEY_BYTES:
        return _KEY_FORMS
    as_is = "if the application takes these characters as they are, print them as hex"
    return f"{_KEY_FORMS}; {as_is} (docs/your-own-table.md#keys)"


def _explain(text: str, tried: Sequence[CiphertextFormat]) -> str:
    """Return the facts about a text that no key decrypts."""
    # A text with the version and length of a Fernet token is one, although its letters are valid base64, too.
    formats = [FERNET] if FERNET in tried else tried
    names = ", ".join(dict.fromkeys(one.name for one in formats))
    if kind := looks_like(text):
        # By its lengths, AES-CBC may also be a format in which the tag follows the data.
        other_key = fact("or another key encrypted it", tried[0].name) if kind == CBC and tried else ""
        return facts(kind, other_key)
    if not tried:
        return facts(fact("the stored text is in no known ciphertext format"), fact("characters", len(text)))
    return facts(
        fact("no key of TOKEN_ENCRYPTION_KEY decrypts it", names),
        fact("another key encrypted it, or it was altered"),
        fact("or it is AES-CBC, which is not supported") if may_be_cbc(text) else "",
    )
