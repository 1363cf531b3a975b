"""Keys are read as people write them, ciphertexts open or are refused, and no refusal shows a secret."""

from __future__ import annotations

import base64
import hashlib
import string
from dataclasses import dataclass

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto import BadKey, Decrypted, EncryptionFailed, KeyRing, NotAToken, Undecryptable
from whatsapp_tokens.ciphertext_formats import FERNET, Joined
from whatsapp_tokens.redaction import Secret

TOKEN = "EAAB-the-token-of-a-customer"
PLAINTEXT = TOKEN.encode()
KEY = bytes([0xFB, 0xFF, *range(30)])  # its base64 holds both + and /
OTHER = bytes(range(100, 132))

FORMS = {
    "hex": KEY.hex(),
    "capital hex": KEY.hex().upper(),
    "base64": base64.b64encode(KEY).decode(),
    "base64 without padding": base64.b64encode(KEY).decode().rstrip("="),
    "base64url, as Fernet writes it": base64.urlsafe_b64encode(KEY).decode(),
    "base64url without padding": base64.urlsafe_b64encode(KEY).decode().rstrip("="),
    "white space around": f" \t{KEY.hex()}\r\n",
}
PASSPHRASES = ["x", "two words", "  space  around  ", "a:b:c", "sha256:", "contraseña 🔑", "=", "#${HOME}'\""]


def ring(*keys):
    return KeyRing.parse(",".join(key.hex() for key in keys))


def encrypted(plaintext=PLAINTEXT, key=KEY, at=1_700_000_000):
    return Fernet(base64.urlsafe_b64encode(key)).encrypt_at_time(plaintext, at).decode()


def decrypted(keys, ciphertext):
    return keys.decrypt(ciphertext).token.reveal()


def refusal(keys, ciphertext):
    with pytest.raises(Undecryptable) as refused:
        keys.decrypt(ciphertext)
    return str(refused.value)


def altered(ciphertext, place, by=0x01):
    raw = bytearray(base64.urlsafe_b64decode(ciphertext))
    raw[place] ^= by
    return base64.urlsafe_b64encode(raw).decode()


# --- Keys


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_key_opens_in_every_position_of_the_ring(form, position):
    entries = [OTHER.hex(), "sha256:another"]
    entries.insert(position, form)
    assert decrypted(KeyRing.parse(",".join(entries)), encrypted()) == TOKEN


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("passphrase", PASSPHRASES)
def test_a_passphrase_is_taken_as_it_stands_in_every_position_of_the_ring(passphrase, position):
    entries = [OTHER.hex()]
    entries.insert(position, f"sha256:{passphrase}")
    key = hashlib.sha256(passphrase.encode()).digest()
    assert decrypted(KeyRing.parse(",".join(entries)), encrypted(key=key)) == TOKEN


def test_white_space_before_sha256_is_no_part_of_the_passphrase():
    keys = KeyRing.parse("sha256:new, sha256:old")
    assert decrypted(keys, encrypted(key=hashlib.sha256(b"old").digest())) == TOKEN


def test_a_passphrase_that_is_not_utf8_counts_as_its_bytes():
    keys = KeyRing.parse(b"sha256:contrase\xf1a".decode(errors="surrogateescape"))
    assert decrypted(keys, encrypted(key=hashlib.sha256(b"contrase\xf1a").digest())) == TOKEN


@given(key=st.binary(min_size=32, max_size=32))
def test_any_32_bytes_are_a_key_in_hex_and_in_both_base64s(key):
    forms = [key.hex(), base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()]
    assert [KeyRing.parse(form) for form in forms] == [KeyRing((key,))] * 3


@pytest.mark.parametrize("size", [1, 16, 24, 31, 33, 48, 64])
@pytest.mark.parametrize(
    "write", [bytes.hex, lambda key: base64.b64encode(key).decode()], ids=["hex", "base64"]
)
def test_a_key_of_another_length_is_refused_with_its_length(write, size):
    with pytest.raises(BadKey, match=rf"^it holds {size} bytes, not 32; give 64 hex digits"):
        KeyRing.parse(write(bytes([0xFA] * size)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        (" \t\n", "it is empty"),
        ("sha256:", "nothing follows sha256:"),
        ("sha256:  ", "nothing follows sha256:"),
        ("SHA256:passphrase", "its 17 characters are neither hex nor base64; "),
        ("a passphrase, sha256:x", "key 1 of 2: its 12 characters are neither hex nor base64; "),
        ("contraseña", "its 10 characters are neither hex nor base64; "),
        (KEY.hex() + "0", "its 65 characters are neither hex nor base64; "),
        (f"'{KEY.hex()}'", "its 66 characters are neither hex nor base64; "),
        (f"0x{KEY.hex()}", "it holds 49 bytes, not 32; "),
        (f"{KEY.hex()[:32]} {KEY.hex()[32:]}", "its 65 characters are neither hex nor base64; "),
        ("====", "it holds 0 bytes, not 32; "),
        (",", "key 1 of 2: it is empty"),
        (f"{KEY.hex()},", "key 2 of 2: it is empty"),
        (f",{KEY.hex()}", "key 1 of 2: it is empty"),
        (f"{KEY.hex()},,{OTHER.hex()}", "key 2 of 3: it is empty"),
        (f"{KEY.hex()}, {OTHER.hex()[:-2]}", "key 2 of 2: it holds 31 bytes, not 32; "),
        (f"{KEY.hex()},sha256:pass, a phrase", "key 3 of 3: its 8 characters are neither hex nor base64; "),
        (f"{KEY.hex()},sha256:", "key 2 of 2: nothing follows sha256:"),
    ],
)
def test_an_unusable_key_is_refused_with_its_place_and_what_is_wrong(text, problem):
    with pytest.raises(BadKey) as refused:
        KeyRing.parse(text)
    advice = "give 64 hex digits, base64 of 32 bytes, or sha256:any passphrase" if "; " in problem else ""
    assert str(refused.value) == problem + advice


@pytest.mark.parametrize(
    "text",
    ["a raw key of thirty-two letters!", "A" * 32, "0123456789abcdef" * 2],
    ids=["text", "base64", "hex"],
)
def test_whoever_gives_32_characters_is_told_how_to_give_a_key_that_is_taken_as_it_stands(text):
    with pytest.raises(BadKey, match=r"takes these characters as they are, .*your-own-table\.md#keys"):
        KeyRing.parse(text)


@settings(deadline=None)
@given(text=st.text(st.sampled_from("Zq7+/-_=é "), min_size=5, max_size=40))
def test_no_refusal_of_a_key_repeats_it(text):
    with pytest.raises(BadKey) as refused:
        KeyRing.parse(f"{OTHER.hex()},{text}")
    assert text not in str(refused.value)


def test_a_ring_shows_how_many_keys_it_has_and_none_of_them():
    keys = ring(KEY, OTHER)
    assert (len(keys), repr(keys)) == (2, "KeyRing()")


# --- Encrypting and decrypting


BARE = string.ascii_letters + string.digits + "-._~+/|=:@!#$%&()*?^"


@settings(deadline=None)
@given(token=st.text(BARE).map("EAA-made-up-".__add__))
def test_any_token_that_is_encrypted_decrypts_to_the_same(token):
    keys = ring(KEY)
    assert decrypted(keys, keys.encrypt(Secret(token))) == token


def test_a_megabyte_of_text_is_encrypted_and_decrypted_too():
    keys, token = ring(KEY), "E" * 2**20
    assert decrypted(keys, keys.encrypt(Secret(token))) == token


def test_the_first_key_encrypts():
    ciphertext = ring(KEY, OTHER).encrypt(Secret(TOKEN))
    assert decrypted(ring(KEY), ciphertext) == TOKEN


def test_the_other_keys_do_not_encrypt():
    ciphertext = ring(KEY, OTHER).encrypt(Secret(TOKEN))
    assert refusal(ring(OTHER), ciphertext).startswith("no key of TOKEN_ENCRYPTION_KEY decrypts it: Fernet;")


@pytest.mark.parametrize("keys", [(KEY,), (KEY, OTHER), (OTHER, KEY), (OTHER, bytes(32), KEY), (KEY, KEY)])
def test_every_key_decrypts_wherever_it_stands(keys):
    assert decrypted(ring(*keys), encrypted()) == TOKEN


def test_a_token_encrypted_twice_gives_two_ciphertexts():
    keys = ring(KEY)
    assert keys.encrypt(Secret(TOKEN)) != keys.encrypt(Secret(TOKEN))


def test_what_another_program_encrypted_by_the_published_standard_opens():
    # https://github.com/fernet/spec/blob/master/generate.json
    keys = KeyRing.parse("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=")
    published = (
        "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="
    )
    assert decrypted(keys, published) == "hello"


@pytest.mark.parametrize("at", [0, 4_000_000_000, 2**63])
def test_the_age_of_a_ciphertext_does_not_matter(at):
    assert decrypted(ring(KEY), encrypted(at=at)) == TOKEN


@pytest.mark.parametrize("space", [("", "\n"), ("", "\r\n"), ("", "     "), (" \n", "")])
def test_white_space_that_the_column_has_around_a_ciphertext_does_not_matter(space):
    assert decrypted(ring(KEY), encrypted().join(space)) == TOKEN


def test_what_was_decrypted_says_in_which_format_it_was_and_does_not_show_the_token():
    found = ring(KEY).decrypt(encrypted())
    assert (found, repr(found)) == (
        Decrypted(Secret(TOKEN), FERNET),
        "Decrypted(token=Secret('***'), format=Fernet(name='Fernet', iv_bytes=None), key_index=0)",
    )


# --- Ciphertexts that are refused


PARTS = {
    "time": 1,
    "end of time": 8,
    "IV": 9,
    "end of IV": 24,
    "text": 25,
    "end of text": -33,
    "HMAC": -32,
    "end": -1,
}


@pytest.mark.parametrize("place", PARTS.values(), ids=PARTS)
def test_a_tampered_ciphertext_is_refused_without_showing_it(place):
    assert refusal(ring(KEY, OTHER), altered(encrypted(), place)) == (
        "no key of TOKEN_ENCRYPTION_KEY decrypts it: Fernet; another key encrypted it, or it was altered"
    )


@settings(deadline=None)
@given(place=st.integers(0, len(base64.urlsafe_b64decode(encrypted())) - 1), bit=st.integers(0, 7))
def test_no_bit_of_a_ciphertext_can_be_turned(place, bit):
    assert TOKEN not in refusal(ring(KEY), altered(encrypted(), place, 1 << bit))


@pytest.mark.parametrize("length", range(0, len(encrypted()), 3))
def test_a_truncated_ciphertext_is_refused(length):
    assert "gAAAA" not in refusal(ring(KEY), encrypted()[:length])


PACKED = "AES-256-GCM as iv+tag+data, AES-256-GCM as iv+data+tag"


@pytest.mark.parametrize("version", [0x00, 0x7F, 0x81, 0xFF])
def test_another_version_of_fernet_is_taken_for_another_format(version):
    ciphertext = altered(encrypted(), 0, 0x80 ^ version)
    assert refusal(ring(KEY), ciphertext) == (
        f"no key of TOKEN_ENCRYPTION_KEY decrypts it: {PACKED}; another key encrypted it, or it was altered"
    )


UNKNOWN = "the stored text is in no known ciphertext format; characters: "


@pytest.mark.parametrize(
    ("text", "looks_like"),
    [
        ("", "the stored text is blank"),
        (" \n\t ", "the stored text is blank"),
        (TOKEN, "the stored text is an unencrypted token (plaintext)"),
        (f" {TOKEN}\n", "the stored text is an unencrypted token (plaintext)"),
        ("EAA", "the stored text is an unencrypted token (plaintext)"),
        ("null", f"{UNKNOWN}4"),
        ("token de España", f"{UNKNOWN}15"),
        ("gAAAAAB", f"{UNKNOWN}7"),
        (
            encrypted()[:-24] + "\n" + encrypted()[-24:],
            f"{UNKNOWN}{len(encrypted()) + 1}",
        ),
        (
            encrypted() + "!",
            f"{UNKNOWN}{len(encrypted()) + 1}",
        ),
        (
            encrypted() * 2,
            f"{UNKNOWN}{len(encrypted()) * 2}",
        ),
        ("high\ud800", f"{UNKNOWN}5"),
    ],
)
def test_what_is_no_ciphertext_is_refused_by_its_looks(text, looks_like):
    assert refusal(ring(KEY), text) == looks_like


@pytest.mark.parametrize(
    ("text", "also"),
    [
        (encrypted().rstrip("="), ""),
        ("x" * 2**20, "; or it is AES-CBC, which is not supported"),
        (base64.b64encode(b"\x80" + bytes(8 + 16 + 32)).decode(), ""),
        (base64.b64encode(b"\x80" + bytes(8 + 16 + 17 + 32)).decode(), ""),
    ],
    ids=["Fernet without padding", "a megabyte", "Fernet without data", "Fernet with half a block"],
)
def test_what_might_be_another_format_is_refused_because_no_key_opens_it(text, also):
    assert refusal(ring(KEY), text) == (
        f"no key of TOKEN_ENCRYPTION_KEY decrypts it: {PACKED}; "
        f"another key encrypted it, or it was altered{also}"
    )


@settings(deadline=None)
@given(text=st.text())
def test_no_text_that_was_not_encrypted_decrypts_or_breaks_anything(text):
    assert refusal(ring(KEY), text).startswith(
        ("the stored text ", "no key of TOKEN_ENCRYPTION_KEY decrypts")
    )


@pytest.mark.parametrize(
    ("plaintext", "problem"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"EAAB\xff\xfe", "it contains characters that no token has"),
        (b"\x80", "it contains characters that no token has"),
        (b"\xed\xa0\x80", "it contains characters that no token has"),
        (b'"EAAB-token"', "it is in quotation marks"),
        (b"'EAAB-token'", "it is in quotation marks"),
        ("\u201cEAAB-token\u201d".encode(), "it is in quotation marks"),
        (b'\n "EAAB-token"', "it is in quotation marks"),
        (b'{"access_token":"EAAB-token"}', "it is JSON"),
        (b' { "access_token": "EAAB-token" }', "it is JSON"),
        (b'["EAAB-token"]', "it is JSON"),
        (b"undefined", "it begins with undefined or null"),
        (b"undefinedEAAB-token", "it begins with undefined or null"),
        (b"null", "it begins with undefined or null"),
        (b"NULL", "it begins with undefined or null"),
        (b"None", "it is a word of a programming language"),
        (b"Bearer EAAB-token", "it begins with Bearer"),
        (b"bearer\tEAAB-token", "it begins with Bearer"),
        (b"EAAB-token\n", "it contains white space"),
        (b"\r\nEAAB-token", "it contains white space"),
        (b"EAAB token", "it contains white space"),
        ("EAAB\u00a0token".encode(), "it contains white space"),
        ("EAAB-token\u200b".encode(), "it contains characters that no token has"),
        ("\ufeffEAAB-token".encode(), "it contains characters that no token has"),
        ("contrase\u00f1a".encode(), "it contains characters that no token has"),
        (b"EAAB\x00token", "it contains characters that no token has"),
        (b"EAAB;token", "it contains characters that no token has"),
        (encrypted().encode(), "it is encrypted twice"),
        (encrypted(key=OTHER).encode(), "it is encrypted twice"),
        (encrypted(key=bytes(32)).encode(), "it is encrypted twice"),
        (f"v1:{'00' * 12}:{'11' * 16}:{'22' * 40}".encode(), "it is encrypted twice"),
        (f"{'00' * 12}.{'11' * 16}.{'22' * 40}".encode(), "it is encrypted twice"),
        (ring(KEY).encrypt(Secret(TOKEN), Joined("iv+tag+data")).encode(), "it is encrypted twice"),
        (b"U2FsdGVkX1/made-up", "it is encrypted twice"),
    ],
    ids=lambda _: None,
)
def test_a_plaintext_that_is_no_token_is_refused_without_showing_it(plaintext, problem):
    with pytest.raises(NotAToken) as refused:
        ring(KEY, OTHER).decrypt(encrypted(plaintext))
    assert str(refused.value) == f"the stored value is no token; {problem}"


def test_the_format_of_what_is_no_token_is_known_all_the_same():
    found = ring(KEY).format_of(encrypted(b"no token"))
    assert found == FERNET


@pytest.mark.parametrize(
    "token",
    [
        "EAAGm0PX4ZCpsBAKZCZBx7ZCnE2",
        "100000000000001|a-secret",
        "AQ.x/y+z==",
        "nothing-null-here",
        "Bearerless",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
    ],
)
def test_a_bare_token_of_any_shape_is_taken(token):
    assert decrypted(ring(KEY), encrypted(token.encode())) == token


# --- Encryption that fails


@dataclass(frozen=True)
class BrokenFormat:
    """A format that writes down something else, or what another key encrypted."""

    plaintext: bytes = PLAINTEXT
    key: bytes = KEY
    name: str = "broken"
    iv_bytes: None = None

    def render(self, _parts):
        return encrypted(self.plaintext, self.key)


@pytest.mark.parametrize(
    ("broken_format", "problem"),
    [
        (BrokenFormat(key=OTHER), "the encrypted token does not decrypt again"),
        (BrokenFormat(plaintext=b""), "the encrypted token does not decrypt again"),
        (BrokenFormat(plaintext=b"\xff"), "the encrypted token does not decrypt again"),
        (BrokenFormat(plaintext=PLAINTEXT[:-1]), "the encrypted token decrypts to something else"),
        (BrokenFormat(plaintext=b"contrase\xc3\xb1a"), "the encrypted token does not decrypt again"),
    ],
)
def test_a_ciphertext_that_does_not_decrypt_to_its_token_is_not_returned(broken_format, problem):
    with pytest.raises(EncryptionFailed) as broken:
        ring(KEY).encrypt(Secret(TOKEN), broken_format)
    assert str(broken.value) == problem


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("", "the encrypted token does not decrypt again"),
        ("  ", "the encrypted token does not decrypt again"),
        ("EAAB\udce9", "the token is not text that can be encrypted"),
    ],
)
def test_a_token_that_could_not_be_read_back_is_not_encrypted(token, problem):
    with pytest.raises(EncryptionFailed) as broken:
        ring(KEY).encrypt(Secret(token))
    assert str(broken.value) == problem
