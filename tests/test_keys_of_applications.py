"""Keys and packages of Node applications, as docs/your-own-table.md says: with Node itself, and with vectors.

`tests/node/packages.json` was made with the packages that it names, in these versions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from documents import Document, machine_words
from world import ROOT

from crypto import KeyRing, Undecryptable

PAGE = Document(ROOT / "docs/your-own-table.md")
PACKAGES = json.loads((ROOT / "tests/node/packages.json").read_text(encoding="utf-8"))
TOKEN = "EAA-made-up-1234567890"

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not on this machine")

(KEY_ROWS,) = [table[1:] for table in PAGE.tables if table[0][0] == "the application's key is"]
EXPRESSIONS = [machine_words(row[0])[0] for row in KEY_ROWS]
ENCRYPT = """
const { createHash, createCipheriv, randomBytes, scryptSync } = require("crypto");
const iv = randomBytes(12), cipher = createCipheriv("aes-256-gcm", KEY, iv);
const data = Buffer.concat([cipher.update(process.env.TOKEN), cipher.final()]);
console.log([iv, cipher.getAuthTag(), data].map((part) => part.toString("hex")).join(":"));
"""


def shell(command, **environment):
    """What a command line prints."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def given(row, secret):
    """What the page says to give as TOKEN_ENCRYPTION_KEY."""
    words = KEY_ROWS[row][1]
    for at, number in enumerate(("first", "second", "third")):
        if f"what the {number} " in words:
            return shell(PAGE.commands[at], ENCRYPTION_KEY=secret)
    return ("sha256:" if "`sha256:`" in words else "") + secret


@needs_node
@pytest.mark.parametrize("row", range(len(EXPRESSIONS)), ids=EXPRESSIONS)
def test_a_key_given_as_the_page_says_opens_what_the_application_encrypted(row):
    expression = EXPRESSIONS[row]
    secret = {'"hex")': "5e" * 32, '"base64")': "A/+" * 14 + "A="}.get(expression.split(", ")[-1])
    secret = secret or "what is 32 characters in length."
    script = ENCRYPT.replace("KEY,", f"{expression},")
    text = shell('node -e "$SCRIPT"', SCRIPT=script, ENCRYPTION_KEY=secret, TOKEN=TOKEN)
    assert KeyRing.parse(given(row, secret)).decrypt(text).token.reveal() == TOKEN


@needs_node
def test_the_text_itself_may_be_the_key_of_32_characters():
    script = ENCRYPT.replace("KEY,", "process.env.ENCRYPTION_KEY,")
    secret = "0123456789abcdef0123456789abcdef"
    text = shell('node -e "$SCRIPT"', SCRIPT=script, ENCRYPTION_KEY=secret, TOKEN=TOKEN)
    printed = shell(PAGE.commands[0], ENCRYPTION_KEY=secret)
    assert KeyRing.parse(printed).decrypt(text).token.reveal() == TOKEN


def name_of(vector):
    return f"{vector['package']} {vector['version']}" + ("" if vector["token"] else ", refused")


@pytest.mark.parametrize("vector", [one for one in PACKAGES if one["token"]], ids=name_of)
def test_what_a_supported_package_encrypted_opens_and_keeps_its_label(vector):
    keys = KeyRing.parse(vector["key"])
    found = keys.decrypt(vector["text"])
    again = keys.encrypt(found.token, found.format)
    label = vector["text"].rpartition(".")[0].rpartition(".")[0]  # cloak's own, and its key's fingerprint
    assert (found.token.reveal(), again.startswith(label), len(again)) == (
        vector["token"],
        True,
        len(vector["text"]),
    )


@pytest.mark.parametrize("vector", [one for one in PACKAGES if not one["token"]], ids=name_of)
def test_what_another_package_encrypted_is_refused(vector):
    with pytest.raises(Undecryptable):
        KeyRing.parse(vector["key"]).decrypt(vector["text"])


def test_the_page_names_the_packages_of_the_vectors_and_no_other():
    (table,) = [table[1:] for table in PAGE.tables if table[0][0] == "package"]
    answers = {name: row[1].partition(":")[0] for row in table for name in machine_words(row[0])}
    ours = {f"{one['package']}": "yes" if one["token"] else "no" for one in PACKAGES}
    settings = {"aes-256-gcm", "aes-256-cbc", "prisma-field-encryption"}
    assert {name: answer for name, answer in answers.items() if name not in settings} == ours
