"""Say what a stored text is that is no ciphertext, and a plaintext that is no token; repeat neither."""

from __future__ import annotations

import re
from typing import Final

from whatsapp_tokens.ciphertext_formats import (
    DATA_NAMES,
    LABEL,
    TAG_NAMES,
    TEXT,
    decodings,
    json_object,
    parse,
)
from whatsapp_tokens.facts import fact

CBC: Final = fact("the stored text is AES-CBC or similar, without an authentication tag")

# The first that fits. A format without authentication is named and never decrypted: nothing would show that
# the key is wrong or the text was altered.
_LOOKS: Final = (
    (r"\s*$", fact("the stored text is blank")),
    (r"EAA", fact("the stored text is an unencrypted token (plaintext)")),
    (
        r'U2FsdGVk|53616c7465645f5f|Salted__|\{"ct":',
        fact("the stored text was encrypted with a passphrase, by CryptoJS or OpenSSL"),
    ),
    (r"eyJpdiI6", fact("the stored text was encrypted by Laravel")),
    (r"eyJ", fact("the stored text is a JSON Web Token")),
    (r"vault:v\d", fact("the stored text was encrypted by HashiCorp Vault")),
    (r"-----BEGIN ", fact("the stored text is a PEM or PGP block")),
    (r"\\x", fact("the stored text is binary data")),
)


def looks_like(text: str) -> str | None:
    """Return a sentence that says what the text is, without repeating any of it; None if that is unknown."""
    known = next((sentence for pattern, sentence in _LOOKS if re.match(pattern, text)), None)
    return known or (CBC if _is_cbc(text) else None)


def may_be_cbc(text: str) -> bool:
    """Return whether a text of one part may be a 16-byte IV followed by whole blocks."""
    return re.fullmatch(LABEL + TEXT, text) is not None and any(
        len(raw) > 16 and len(raw) % 16 == 0 for _, (raw,) in decodings([re.split("[:.]", text)[-1]])
    )


def _is_cbc(text: str) -> bool:
    """Return whether a text is a 16-byte IV and whole blocks, and nothing that authenticates them."""
    if found := re.fullmatch(f"{LABEL}{TEXT}[:.]{TEXT}", text):
        texts = list(found.groups()[1:])
    else:
        members = json_object(text)
        texts = [members[name] for name in ("iv", *TAG_NAMES, *DATA_NAMES) if name in members]
    return (
        len(texts) == 2
        and all(isinstance(one, str) for one in texts)
        and any(len(iv) == 16 and len(data) % 16 == 0 for _, (iv, data) in decodings(texts))
    )


ENCRYPTED_TWICE: Final = fact("it is encrypted twice")

# What an application stores by mistake instead of a token; the first that fits.
_NO_TOKEN: Final = (
    (r"\s*$", fact("it is empty")),
    (r"(?i)(undefined|null)", fact("it begins with undefined or null")),
    (r"(?i)(none|nan|true|false)$", fact("it is a word of a programming language")),
    (r"(?i)bearer\b", fact("it begins with Bearer")),
    (r"\s*[{\[]", fact("it is JSON")),
    ("\\s*[\"'`\u201c\u201d\u2018\u2019\u00ab]", fact("it is in quotation marks")),
    (r"(?s).*\s", fact("it contains white space")),
    (r"(U2FsdGVk|eyJpdiI6|vault:v\d|-----BEGIN )", ENCRYPTED_TWICE),
    (r"(?s).*[^\x21-\x7e]", fact("it contains characters that no token has")),
    (r"""(?s).*["'`\\<>{}\[\],;]""", fact("it contains characters that no token has")),
)


def is_usual_token(text: str) -> bool:
    """Return whether a text looks like every token of Meta's that was seen in public."""
    return re.fullmatch(r"EAA[A-Za-z0-9_-]*", text) is not None


def why_no_token(text: str) -> str | None:
    """Return why a text is no bare token; None if it can be one.

    A bare token is what `Authorization: Bearer` can carry. Meta documents no other shape.
    """
    why = next((why for pattern, why in _NO_TOKEN if re.match(pattern, text)), None)
    is_ciphertext = why is None and any(one.format.is_distinct for one in parse(text))
    return ENCRYPTED_TWICE if is_ciphertext else why
