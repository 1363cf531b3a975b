"""Ciphertexts of real applications: vectors by Node's own `crypto`, and Node as the one that reads ours.

`tests/node/ciphers.mjs` makes the vectors and knows each shape as an application does, strictly: what it
decrypts is written as that application would have written it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from world import KEY, OTHER_KEY, ROOT

from crypto import KeyRing, Undecryptable
from whatsapp_tokens.ciphertext_formats import ENCODINGS, FORMATS, IV_BYTES, GcmParts, Joined, parse
from whatsapp_tokens.redaction import Secret

FOLDER = ROOT / "tests" / "node"
SCRIPT = FOLDER / "ciphers.mjs"
MADE = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))
KEYS = KeyRing.parse(MADE["key"])
# Of a length that leaves base64 some padding: without any, base64url without - and _ is the very same text.
NEW_TOKEN = "EAA-made-up-and-somewhat-longer-than-the-old-onexx-EUR"

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not on this machine")


def name_of(shape: dict[str, Any]) -> str:
    """What the format of a shape is called."""
    match shape:
        case {"kind": "fernet"}:
            return "Fernet"
        case {"kind": "json", "names": names}:
            return f"AES-256-GCM as JSON {{{', '.join(names)}}}"
        case {"order": order}:
            return f"AES-256-GCM as {order}"
    raise AssertionError(shape)


def details_of(shape: dict[str, Any]) -> tuple[Any, ...]:
    """What a format has to keep of a shape: label, encoding and length of the IV."""
    return shape.get("label"), shape.get("encoding"), shape.get("ivBytes")


def shown(shape: dict[str, Any]) -> str:
    parts = (name_of(shape), *map(str, filter(None, details_of(shape))))
    return " ".join(parts) + (" +" if shape.get("more") else "")


def ask_node(command: str, given: Any = None) -> Any:
    done = subprocess.run(
        ["node", str(SCRIPT), command], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("vector", MADE["vectors"], ids=lambda vector: shown(vector["shape"]))
def test_what_node_encrypted_opens_and_its_format_is_recognised(vector):
    decrypted = KEYS.decrypt(vector["text"])
    shape, found_format = vector["shape"], decrypted.format
    encoding = getattr(found_format, "encoding", None)
    found = (getattr(found_format, "label", None), encoding and encoding.name, found_format.iv_bytes)
    assert (decrypted.token.reveal(), found_format.name, found) == (
        vector["token"],
        name_of(shape),
        details_of(shape),
    )


@pytest.mark.parametrize("vector", MADE["vectors"], ids=lambda vector: shown(vector["shape"]))
def test_what_is_written_back_is_read_in_the_very_same_format(vector):
    found_format = KEYS.decrypt(vector["text"]).format
    again = KEYS.decrypt(KEYS.encrypt(Secret(NEW_TOKEN), found_format))
    assert (again.token.reveal(), again.format) == (NEW_TOKEN, found_format)


@needs_node
def test_node_reads_what_is_written_back_in_every_format():
    shapes = [vector["shape"] for vector in MADE["vectors"]]
    formats = [KEYS.decrypt(vector["text"]).format for vector in MADE["vectors"]]
    encrypted = [
        {"shape": shape, "text": KEYS.encrypt(Secret(NEW_TOKEN), found_format)}
        for shape, found_format in zip(shapes, formats, strict=True)
    ]
    assert ask_node("open", encrypted) == [NEW_TOKEN] * len(encrypted)


@needs_node
def test_the_vectors_are_those_that_the_script_makes():
    assert ask_node("make") == MADE


def test_there_is_a_vector_for_every_format_of_the_table():
    proved = {type(KEYS.decrypt(vector["text"]).format) for vector in MADE["vectors"]}
    orders = {vector["shape"].get("order") for vector in MADE["vectors"]} - {None}
    assert (proved, orders) == (
        {type(one) for one in FORMATS},
        {one.order for one in FORMATS if hasattr(one, "order")},
    )


@pytest.mark.parametrize("refused", MADE["refused"], ids=lambda refused: refused["name"])
def test_what_no_tag_proves_is_refused_in_words_that_name_it(refused):
    with pytest.raises(Undecryptable) as raised:
        KEYS.decrypt(refused["text"])
    said = str(raised.value)
    assert (refused["looks"] in said, refused["text"] in said) == (True, False)


@pytest.mark.parametrize("vector", MADE["vectors"][1::7], ids=lambda vector: shown(vector["shape"]))
def test_a_turned_bit_anywhere_opens_in_no_format(vector):
    text = vector["text"]
    places = range(len(vector["shape"].get("label") or ""), len(text), 5)
    other = {
        place: text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :] for place in places
    }
    assert [place for place, turned in other.items() if opens(turned)] == []


def opens(text: str) -> bool:
    try:
        KEYS.decrypt(text)
    except Undecryptable:
        return False
    return True


@pytest.mark.parametrize("vector", MADE["vectors"][::5], ids=lambda vector: shown(vector["shape"]))
def test_with_a_new_key_in_front_the_old_text_opens_and_the_new_one_is_of_the_new_key(vector):
    ring = KeyRing.parse(f"{OTHER_KEY.hex()},{MADE['key']}")
    decrypted = ring.decrypt(vector["text"])
    again = KeyRing.parse(OTHER_KEY.hex()).decrypt(ring.encrypt(Secret(NEW_TOKEN), decrypted.format))
    assert (decrypted.key_index, again.token, again.format) == (1, Secret(NEW_TOKEN), decrypted.format)


def test_a_text_may_fit_several_formats_and_the_tag_decides():
    orders = ("iv+tag+data", "iv+data+tag")
    packed = [vector for vector in MADE["vectors"] if vector["shape"].get("order") in orders]
    ways = [len(list(parse(vector["text"]))) for vector in packed]
    assert min(ways) >= len(orders) * 2  # and with an IV of 12 or of 16 bytes


# -- Details, of which Node would write some in one way only


RING = KeyRing.parse(KEY.hex())
IV, TAG = "00" * 12, "00" * 16


def gcm(plaintext: bytes, iv_bytes: int = 12) -> GcmParts:
    iv = bytes(range(200, 200 + iv_bytes))  # whose base64 holds the letters in which the alphabets differ
    made = AESGCM(KEY).encrypt(iv, plaintext, None)
    return GcmParts(iv, made[-16:], made[:-16])


def refusal(text: str) -> str:
    with pytest.raises(Undecryptable) as raised:
        RING.decrypt(text)
    return str(raised.value)


def outline(text: str) -> str:
    """A ciphertext with the length of each part instead of the part."""
    return re.sub(r"[0-9A-Za-z+/_-]{16,}", lambda part: f"<{len(part[0])}>", text)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
@pytest.mark.parametrize("iv_bytes", IV_BYTES)
@pytest.mark.parametrize("label", ["", "enc:v1:", "aes-256-gcm.", "a.b:c_1:"])
@pytest.mark.parametrize("order", [one.order for one in FORMATS if isinstance(one, Joined)])
def test_every_order_is_read_and_kept_in_every_encoding_and_after_any_label(order, label, iv_bytes, encoding):
    found_format = Joined(order, label, encoding, iv_bytes)
    text = found_format.render(gcm(b"EAA-made-up-token1", iv_bytes))
    decrypted = RING.decrypt(text)
    again = RING.encrypt(Secret("EAA-made-up-token2"), decrypted.format)
    assert (decrypted.token.reveal(), decrypted.format, outline(again)) == (
        "EAA-made-up-token1",
        found_format,
        outline(text),
    )


def test_where_two_orders_fit_in_every_length_the_tag_decides():
    parts = gcm(b"EAA-16-letters!!")  # as long as a tag
    texts = {order: Joined(order).render(parts) for order in ("iv:tag:data", "iv:data:tag")}
    assert {len(list(parse(text))) for text in texts.values()} == {2}
    assert {order: RING.decrypt(text).format.order for order, text in texts.items()} == {
        order: order for order in texts
    }


@pytest.mark.parametrize(
    "template",
    [
        '{{"iv": "{iv}", "tag": "{tag}", "data": "{data}"}}',
        '{{"v":1,"content":"{data}","authTag":"{tag}","iv":"{iv}"}}',
        '{{"alg":"aes-256-gcm","iv":"{iv}","tag":"{tag}","ciphertext":"{data}","kid":"clé"}}',
        '{{"iv":"{iv}","authTag":"{tag}","data":"{data}","aad":null,"more":{{"a":[1]}}}}',
    ],
)
def test_an_object_keeps_its_other_members_their_order_and_its_spacing(template):
    parts = gcm(b"EAA-made-up-token1")
    text = template.format(iv=parts.iv.hex(), tag=parts.tag.hex(), data=parts.data.hex())
    again = RING.encrypt(Secret("EAA-made-up-token2"), RING.decrypt(text).format)
    assert (outline(again), again == text) == (outline(text), False)


@pytest.mark.parametrize(
    "text",
    [
        *("{", "{}", "[]", "{" * 100_000, '{"iv":1,"tag":2,"data":3}', '{"iv":"00","tag":"00","data":"00"}'),
        f'{{"iv":null,"tag":"{TAG}","data":"00"}}',
        f'{{"tag":"{TAG}","data":"00"}}',
        f'{{"iv":"{IV}","tag":"{TAG}","data":""}}',
        f'{{"iv":"{IV}","tag":"{TAG}","authTag":"{TAG}","data":"00"}}',
        f'{{"iv":"{IV}","tag":"{TAG}","data":"00","content":"00"}}',
        f'{{"iv":"{IV}","iv":"{IV}","tag":"{TAG}","data":"00"}}',
    ],
    ids=lambda text: text[:60],
)
def test_an_object_of_another_kind_is_no_ciphertext(text):
    assert (list(parse(text)), "in no known ciphertext format" in refusal(text)) == ([], True)


@pytest.mark.parametrize(
    "parts",
    [
        ["00" * 11, TAG, "00" * 5],
        ["00" * 13, TAG, "00" * 5],
        [IV, "00" * 15, "00" * 5],
        [IV, TAG, ""],
        ["", TAG, "00" * 5],
        [IV, TAG, "0"],
        [IV, TAG, "00 00"],
        [IV, TAG, "00" * 5, "00"],
    ],
)
def test_parts_of_other_lengths_are_no_ciphertext(parts):
    assert list(parse(":".join(parts))) == []


@pytest.mark.parametrize("vector", MADE["vectors"][::7], ids=lambda vector: shown(vector["shape"]))
def test_a_text_that_was_cut_opens_in_no_format(vector):
    assert [cut for cut in range(0, len(vector["text"]), 11) if opens(vector["text"][:cut])] == []


def test_what_may_be_two_things_by_its_lengths_is_called_both():
    text = KeyRing.parse(OTHER_KEY.hex()).encrypt(Secret("E" * 32), Joined("iv:data+tag", iv_bytes=16))
    assert refusal(text) == (
        "the stored text is AES-CBC or similar, without an authentication tag; "
        "or another key encrypted it: AES-256-GCM as iv:data+tag"
    )


@settings(deadline=None)
@given(text=st.text(st.sampled_from('0aF:.+/-_={}",v1 é'), max_size=120))
def test_every_format_that_can_be_read_is_written_as_it_was(text):
    found = list(parse(text))
    assert [one.format.render(one.encrypted) for one in found] == [text] * len(found)
