"""How ciphertexts are written down: texts in, their parts out, and the other way round. No key comes here.

The table is shared with an application that encrypts in its own way and must go on reading what this
program writes. So a stored text is taken apart into an IV, a tag and encrypted data, and what is found on
the way (order, separator, encoding, label, member names) makes a `Layout` in which the next ciphertext is
written. One text may fit several layouts; which of them is right is shown by the authentication tag when
it is decrypted, and never guessed here.

A further layout is one more value in `LAYOUTS`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol, TypeAlias

TAG_BYTES: Final = 16
IV_BYTES: Final = (12, 16)  # the length that GCM is made for, and the one that much code for Node uses


@dataclass(frozen=True, slots=True)
class GcmParts:
    """What AES-256-GCM made. `data` is as long as its plaintext."""

    iv: bytes
    tag: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class FernetText:
    """A whole Fernet token, which its library takes apart itself."""

    text: str


Sealed: TypeAlias = GcmParts | FernetText


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to understand a stored text: the layout, down to its details, and what it holds then."""

    layout: Layout
    sealed: Sealed


class Layout(Protocol):
    """One way to write a ciphertext down. Equal ones write the same way, to the last detail."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def iv_bytes(self) -> int | None:
        """How long the IV is in its ciphertexts; None if the cipher itself decides."""

    def parse(self, text: str) -> Iterator[Reading]:
        """Every way in which `text` can be read in this layout."""

    def render(self, sealed: Any) -> str:
        """`sealed` written down in this layout."""


# -- Encodings


@dataclass(frozen=True, slots=True)
class Encoding:
    """Bytes as text. `decode` takes nothing but what `encode` would have written."""

    name: str
    is_upper: bool = False  # of hex digits
    is_padded: bool = False  # of base64

    def encode(self, raw: bytes) -> str:
        """The bytes as text."""
        match self.name:
            case "hex":
                return raw.hex().upper() if self.is_upper else raw.hex()
            case "base64":
                text = base64.b64encode(raw).decode("ascii")
            case _:
                text = base64.urlsafe_b64encode(raw).decode("ascii")
        return text if self.is_padded else text.rstrip("=")

    def decode(self, text: str) -> bytes | None:
        """The text as bytes, or None if it is not in this encoding."""
        try:
            if self.name == "hex":
                raw = bytes.fromhex(text)
            else:
                padded = text if self.is_padded else text + "=" * (-len(text) % 4)
                raw = base64.b64decode(padded, b"-_" if self.name == "base64url" else None, validate=True)
        except ValueError:
            return None
        return raw if self.encode(raw) == text else None


# Where several fit, the first is taken: without + / - _ and where no padding is needed, base64 and base64url
# look the same. The first of each kind is what Node writes.
ENCODINGS: Final = (
    Encoding("hex"),
    Encoding("hex", is_upper=True),
    Encoding("base64", is_padded=True),
    Encoding("base64url"),
    Encoding("base64url", is_padded=True),
    Encoding("base64"),
)


def _decoded(texts: Sequence[str]) -> Iterator[tuple[Encoding, list[bytes]]]:
    """The texts as bytes, in each encoding that fits all of them; the same bytes only once."""
    seen: list[list[bytes]] = []
    for encoding in ENCODINGS:
        found = [raw for text in texts if (raw := encoding.decode(text))]
        if len(found) == len(texts) and found not in seen:
            seen.append(found)
            yield encoding, found


# -- Layouts


@dataclass(frozen=True, slots=True)
class Fernet:
    """Fernet tokens: https://github.com/fernet/spec/blob/master/Spec.md."""

    name: str = "Fernet"
    iv_bytes: None = None

    def parse(self, text: str) -> Iterator[Reading]:
        """At most one: base64url of version 0x80, 8 bytes of time, 16 of IV, whole blocks, 32 of HMAC."""
        raw = Encoding("base64url", is_padded=True).decode(text)
        overhead = 1 + 8 + 16 + 32
        if raw and raw[0] == 0x80 and len(raw) > overhead and (len(raw) - overhead) % 16 == 0:
            yield Reading(self, FernetText(text))

    def render(self, sealed: FernetText) -> str:
        """As it is."""
        return sealed.text


# A version or the like in front: `v1:`, `enc:v1:`, `aes-256-gcm.`. Shorter than any IV that is written down.
_LABEL: Final = r"((?:[A-Za-z0-9_-]{1,15}[:.]){0,3})"
_TEXT: Final = r"([A-Za-z0-9+/=_-]+)"


@dataclass(frozen=True, slots=True)
class Joined:
    """AES-256-GCM in one line, perhaps after a label.

    `order` says how: `iv:tag:data` is three texts with colons between them, `iv+tag+data` is one text of all
    three in a row, and in `iv:data+tag` the tag follows the data at once, as WebCrypto puts it.
    """

    order: str
    label: str = ""
    encoding: Encoding = ENCODINGS[0]
    iv_bytes: int = IV_BYTES[0]

    @property
    def name(self) -> str:
        """Such as `AES-256-GCM as iv:tag:data`."""
        return f"AES-256-GCM as {self.order}"

    def parse(self, text: str) -> Iterator[Reading]:
        """A reading for each encoding, and each length of the IV, that fits."""
        shape, separator = _shape(self.order)
        found = re.fullmatch(_LABEL + re.escape(separator).join([_TEXT] * len(shape)), text)
        if found is None:
            return
        label, *texts = found.groups()
        for encoding, chunks in _decoded(texts):
            for iv_bytes in IV_BYTES:
                if parts := _take_apart(chunks, shape, iv_bytes):
                    yield Reading(Joined(self.order, label, encoding, iv_bytes), parts)

    def render(self, sealed: GcmParts) -> str:
        """With the label in front."""
        shape, separator = _shape(self.order)
        chunks = (b"".join(getattr(sealed, part) for part in parts) for parts in shape)
        return self.label + separator.join(self.encoding.encode(chunk) for chunk in chunks)


@cache
def _shape(order: str) -> tuple[tuple[tuple[str, ...], ...], str]:
    """An order as the parts of each text, and what stands between the texts."""
    separator = next((mark for mark in ":." if mark in order), "")
    texts = order.split(separator) if separator else [order]
    return tuple(tuple(text.split("+")) for text in texts), separator


def _take_apart(chunks: Sequence[bytes], shape: Sequence[Sequence[str]], iv_bytes: int) -> GcmParts | None:
    """The parts in the chunks, or None if their lengths do not fit. There is always some data."""
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

    @property
    def name(self) -> str:
        """Such as `AES-256-GCM as JSON {iv, authTag, content}`."""
        return f"AES-256-GCM as JSON {{{', '.join(self.names)}}}"

    def parse(self, text: str) -> Iterator[Reading]:
        """At most one: an object with an IV, one tag and one ciphertext."""
        members = _json_object(text)
        tags = [name for name in TAG_NAMES if name in members]
        data = [name for name in DATA_NAMES if name in members]
        if "iv" not in members or len(tags) != 1 or len(data) != 1:
            return
        names = ("iv", tags[0], data[0])
        texts = [members[name] for name in names if isinstance(members[name], str)]
        if len(texts) != len(names):
            return
        template = json.dumps(members | dict.fromkeys(names, ""))
        for encoding, chunks in _decoded(texts):
            for iv_bytes in IV_BYTES:
                if parts := _take_apart(chunks, (("iv",), ("tag",), ("data",)), iv_bytes):
                    is_compact = f'"iv":"{texts[0]}"' in text
                    yield Reading(JsonObject(names, template, is_compact, encoding, iv_bytes), parts)

    def render(self, sealed: GcmParts) -> str:
        """With new values for the three members, and the others as they were."""
        texts = (self.encoding.encode(raw) for raw in (sealed.iv, sealed.tag, sealed.data))
        members = json.loads(self.template) | dict(zip(self.names, texts, strict=True))
        separators = (",", ":") if self.is_compact else (", ", ": ")
        return json.dumps(members, ensure_ascii=False, separators=separators)


def _json_object(text: str) -> dict[str, Any]:
    """The members of a JSON object; none if the text is no such object, or names a member twice."""
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


FERNET: Final = Fernet()

LAYOUTS: Final[tuple[Layout, ...]] = (
    FERNET,
    Joined("iv:tag:data"),
    Joined("iv:data:tag"),
    Joined("iv.tag.data"),
    Joined("iv.data.tag"),
    Joined("iv:data+tag"),
    Joined("iv.data+tag"),
    Joined("iv+tag+data"),
    Joined("iv+data+tag"),
    JsonObject(),
)


def readings(text: str) -> Iterator[Reading]:
    """Every way in which a stored text can be understood, in the order of the table."""
    for layout in LAYOUTS:
        yield from layout.parse(text)


# -- What is refused

CBC: Final = "AES-CBC or the like, without an authentication tag"

# The first that fits. Formats without authentication are named and never opened: nothing would show that the
# key is wrong or that the text was altered.
_LOOKS: Final = (
    (r"\s*$", "blank"),
    (r"EAA", "an unencrypted token (plaintext)"),
    (r'U2FsdGVk|53616c7465645f5f|Salted__|\{"ct":', "a passphrase ciphertext of CryptoJS or OpenSSL"),
    (r"eyJpdiI6", "a ciphertext of Laravel"),
    (r"eyJ", "a JSON Web Token"),
    (r"vault:v\d", "a ciphertext of HashiCorp Vault"),
    (r"-----BEGIN ", "a PEM or PGP block"),
    (r"\\x", "binary data"),
)


def looks_like(text: str) -> str | None:
    """What a text that no key opens seems to be, without repeating any of it; None if that is not known."""
    words = next((words for pattern, words in _LOOKS if re.match(pattern, text)), None)
    return words or (CBC if _is_cbc(text) else None)


def may_be_cbc(text: str) -> bool:
    """Whether a text of one part might be a 16-byte IV and whole blocks in a row."""
    return re.fullmatch(_LABEL + _TEXT, text) is not None and any(
        len(raw) > 16 and len(raw) % 16 == 0 for _, (raw,) in _decoded([re.split("[:.]", text)[-1]])
    )


def _is_cbc(text: str) -> bool:
    """Whether a text is a 16-byte IV and whole blocks, with nothing else that could prove them."""
    if found := re.fullmatch(f"{_LABEL}{_TEXT}[:.]{_TEXT}", text):
        texts = list(found.groups()[1:])
    else:
        members = _json_object(text)
        texts = [members[name] for name in ("iv", *TAG_NAMES, *DATA_NAMES) if name in members]
    return (
        len(texts) == 2
        and all(isinstance(one, str) for one in texts)
        and any(len(iv) == 16 and len(data) % 16 == 0 for _, (iv, data) in _decoded(texts))
    )
