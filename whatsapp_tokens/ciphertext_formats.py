"""The formats in which ciphertexts are stored: text to IV, tag and data, and back. No key is used here.

The application that shares the table encrypts in its own way and must be able to read what this program
writes. So parsing a stored text also yields its `CiphertextFormat`: order, separator, encoding, label, member
names. The next ciphertext is rendered in the same one. A text may fit several formats; which one is right is
decided by the authentication tag when the text is decrypted, never guessed here.

To support another format, add a value to `FORMATS`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Protocol, TypeAlias

TAG_BYTES: Final = 16
IV_BYTES: Final = (12, 16)  # the length that GCM recommends, and the one that much Node code uses


@dataclass(frozen=True, slots=True)
class GcmParts:
    """The parts of an AES-256-GCM ciphertext. `data` is as long as the plaintext."""

    iv: bytes
    tag: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class FernetText:
    """A Fernet token, which the cryptography library parses itself."""

    text: str


Encrypted: TypeAlias = GcmParts | FernetText


@dataclass(frozen=True, slots=True)
class Parsed:
    """One way to read a stored text: its format in every detail, and the parts found."""

    format: CiphertextFormat
    encrypted: Encrypted


class CiphertextFormat(Protocol):
    """One way to write a ciphertext as text. Equal formats render alike in every detail."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def iv_bytes(self) -> int | None:
        """The length of the IV; None for Fernet, whose library makes its own."""

    @property
    def is_distinct(self) -> bool:
        """Whether only a ciphertext looks like this: no token does."""

    def parse(self, text: str) -> Iterator[Parsed]:
        """Yield every way to read `text` in this format."""

    def render(self, encrypted: Any) -> str:
        """Return `encrypted` as text."""


# -- Encodings


@dataclass(frozen=True, slots=True)
class Encoding:
    """Bytes as text. `decode` accepts only what `encode` would have written."""

    name: str
    is_upper: bool = False  # of hex digits
    is_padded: bool = False  # of base64

    def encode(self, raw: bytes) -> str:
        """Return the bytes as text."""
        match self.name:
            case "hex":
                return raw.hex().upper() if self.is_upper else raw.hex()
            case "base64":
                text = base64.b64encode(raw).decode("ascii")
            case _:
                text = base64.urlsafe_b64encode(raw).decode("ascii")
        return text if self.is_padded else text.rstrip("=")

    def decode(self, text: str) -> bytes | None:
        """Return the text as bytes, or None if it is not in this encoding."""
        try:
            if self.name == "hex":
                raw = bytes.fromhex(text)
            else:
                standard = text.replace("-", "+").replace("_", "/") if self.name == "base64url" else text
                padded = standard if self.is_padded else standard + "=" * (-len(standard) % 4)
                raw = base64.b64decode(padded, validate=True)
        except ValueError:
            return None
        return raw if self.encode(raw) == text else None


# The first that fits is used: without + / - _ and padding, base64 and base64url look the same. The first of
# each kind is what Node writes.
ENCODINGS: Final = (
    Encoding("hex"),
    Encoding("hex", is_upper=True),
    Encoding("base64", is_padded=True),
    Encoding("base64url"),
    Encoding("base64url", is_padded=True),
    Encoding("base64"),
)


def decodings(texts: Sequence[str]) -> Iterator[tuple[Encoding, list[bytes]]]:
    """Yield the texts as bytes for each encoding that fits all of them; the same bytes only once."""
    seen: list[list[bytes]] = []
    for encoding in ENCODINGS:
        found = [raw for text in texts if (raw := encoding.decode(text))]
        if len(found) == len(texts) and found not in seen:
            seen.append(found)
            yield encoding, found


# -- Formats


@dataclass(frozen=True, slots=True)
class Fernet:
    """Fernet tokens: https://github.com/fernet/spec/blob/master/Spec.md."""

    name: str = "Fernet"
    iv_bytes: None = None
    is_distinct: bool = field(default=True, repr=False)

    def parse(self, text: str) -> Iterator[Parsed]:
        """Yield base64url of version 0x80, 8 bytes of time, 16 of IV, whole blocks and 32 of HMAC."""
        raw = Encoding("base64url", is_padded=True).decode(text)
        overhead = 1 + 8 + 16 + 32
        if raw and raw[0] == 0x80 and len(raw) > overhead and (len(raw) - overhead) % 16 == 0:
            yield Parsed(self, FernetText(text))

    def render(self, encrypted: FernetText) -> str:
        """Return the token, which is text already."""
        return encrypted.text


# A label in front, such as `v1:`, `enc:v1:` or `aes-256-gcm.`: its parts are shorter than any encoded IV.
LABEL: Final = r"((?:[A-Za-z0-9_-]{1,15}[:.]){0,3})"
TEXT: Final = r"([A-Za-z0-9+/=_-]+)"


@dataclass(frozen=True, slots=True)
class Joined:
    """AES-256-GCM in one line, perhaps after a label.

    `order` says how: `iv:tag:data` is three encoded texts with colons between them, `iv+tag+data` is one
    encoded text of all three, and in `iv:data+tag` the tag follows the data, as WebCrypto writes it.
    """

    order: str
    label: str = ""
    encoding: Encoding = ENCODINGS[0]
    iv_bytes: int = IV_BYTES[0]

    @property
    def name(self) -> str:
        """For example `AES-256-GCM as iv:tag:data`."""
        return f"AES-256-GCM as {self.order}"

    @property
    def is_distinct(self) -> bool:
        """Whether it has several parts."""
        return _shape(self.order)[1] != ""

    def parse(self, text: str) -> Iterator[Parsed]:
        """Yield one for each encoding and each length of the IV that fits."""
        shape, separator = _shape(self.order)
        found = re.fullmatch(LABEL + re.escape(separator).join([TEXT] * len(shape)), text)
        if found is None:
            return
        label, *texts = found.groups()
        for encoding, chunks in decodings(texts):
            for iv_bytes in IV_BYTES:
                if parts := _split(chunks, shape, iv_bytes):
                    yield Parsed(Joined(self.order, label, encoding, iv_bytes), parts)

    def render(self, encrypted: GcmParts) -> str:
        """Return the parts in this order, with the label in front."""
        shape, separator = _shape(self.order)
        chunks = (b"".join(getattr(encrypted, part) for part in parts) for parts in shape)
        return self.label + separator.join(self.encoding.encode(chunk) for chunk in chunks)


@cache
def _shape(order: str) -> tuple[tuple[tuple[str, ...], ...], str]:
    """Return the parts of each text, and the separator between the texts."""
    separator = next((mark for mark in ":." if mark in order), "")
    texts = order.split(separator) if separator else [order]
    return tuple(tuple(text.split("+")) for text in texts), separator


def _split(chunks: Sequence[bytes], shape: Sequence[Sequence[str]], iv_bytes: int) -> GcmParts | None:
    """Return the parts in the chunks, or None if a length does not fit or there is no data."""
    sizes = {"iv": iv_bytes, "tag": TAG_BYTES}
    found: dict[str, bytes] = {}
    for chunk, parts in zip(chunks, shape, strict=True):
        data_bytes = len(chunk) - sum(sizes.get(part, 0) for part in parts)
        if data_bytes < 0 or (data_bytes > 0) != ("data" in parts):
            return None
        at = 0
        for part in parts:
            end = at + sizes.get(part, data_bytes)
            found[part], at = chunk[at:end], end
    return GcmParts(**found)


TAG_NAMES: Final = ("tag", "authTag")
DATA_NAMES: Final = ("content", "data", "ciphertext")


@dataclass(frozen=True, slots=True)
class JsonObject:
    """AES-256-GCM as a JSON object. Its other members, their order and the spacing are kept."""

    names: tuple[str, str, str] = ("iv", "tag", "data")
    template: str = '{"iv": "", "tag": "", "data": ""}'
    is_compact: bool = True
    encoding: Encoding = ENCODINGS[0]
    iv_bytes: int = IV_BYTES[0]
    is_distinct: bool = field(default=True, repr=False)

    @property
    def name(self) -> str:
        """For example `AES-256-GCM as JSON {iv, authTag, content}`."""
        return f"AES-256-GCM as JSON {{{', '.join(self.names)}}}"

    def parse(self, text: str) -> Iterator[Parsed]:
        """Yield an object with an IV, one tag and one ciphertext."""
        members = json_object(text)
        tags = [name for name in TAG_NAMES if name in members]
        data = [name for name in DATA_NAMES if name in members]
        if "iv" not in members or len(tags) != 1 or len(data) != 1:
            return
        names = ("iv", tags[0], data[0])
        texts = [members[name] for name in names if isinstance(members[name], str)]
        if len(texts) != len(names):
            return
        template = json.dumps(members | dict.fromkeys(names, ""))
        for encoding, chunks in decodings(texts):
            for iv_bytes in IV_BYTES:
                if parts := _split(chunks, (("iv",), ("tag",), ("data",)), iv_bytes):
                    is_compact = f'"iv":"{texts[0]}"' in text
                    yield Parsed(JsonObject(names, template, is_compact, encoding, iv_bytes), parts)

    def render(self, encrypted: GcmParts) -> str:
        """Return the object with new values for the three members, and the others unchanged."""
        texts = (self.encoding.encode(raw) for raw in (encrypted.iv, encrypted.tag, encrypted.data))
        members = json.loads(self.template) | dict(zip(self.names, texts, strict=True))
        separators = (",", ":") if self.is_compact else (", ", ": ")
        return json.dumps(members, ensure_ascii=False, separators=separators)


def json_object(text: str) -> dict[str, Any]:
    """Return the members of a JSON object; none if the text is no object, or has a member twice."""
    if not text.startswith("{"):
        return {}
    try:
        found = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _without_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("a member is named twice")
    return found


_ORDERS: Final = (
    *("iv:tag:data", "iv:data:tag", "iv.tag.data", "iv.data.tag", "iv:data+tag", "iv.data+tag"),
    *("iv+tag+data", "iv+data+tag"),
)
FERNET: Final = Fernet()
FORMATS: Final[tuple[CiphertextFormat, ...]] = (FERNET, *map(Joined, _ORDERS), JsonObject())


def parse(text: str) -> Iterator[Parsed]:
    """Yield every way to read a stored text, in the order of `FORMATS`."""
    for one in FORMATS:
        yield from one.parse(text)
