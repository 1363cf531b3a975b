"""What our own details say in Spanish: every sentence of ours, with whatever stands in its gaps."""

from __future__ import annotations

import ast
import re

import pytest
from world import ROOT

from whatsapp_tokens.ciphertext_formats import _LOOKS, CBC
from whatsapp_tokens.meta.errors import RULES, GraphError, Rule, wording
from whatsapp_tokens.reports.details import DETAILS
from whatsapp_tokens.reports.translations import EN, Words
from whatsapp_tokens.settings import Language

ES = Words(Language.ES)
RAISED = (
    "Unavailable",
    "UnexpectedAnswer",
    "ReconnectRequired",
    "Undecryptable",
    "EncryptionFailed",
    "RateLimited",
)


@pytest.mark.parametrize(
    ("english", "spanish"),
    [
        (
            "the customer's password was changed: Meta said “It has expired (#1)” (code 190, subcode 460)",
            (
                "se cambió la contraseña del cliente: "
                "Meta dijo “It has expired (#1)” (código 190, subcódigo 460)"
            ),
        ),
        ("the token has expired (code 190)", "el token ha caducado (código 190)"),
        ("Meta said “the token has expired” (HTTP 400)", "Meta dijo “the token has expired” (HTTP 400)"),
        ("no explanation (HTTP 503)", "sin explicación (HTTP 503)"),
        ("an empty answer (HTTP 200)", "una respuesta vacía (HTTP 200)"),
        (
            "the token was revoked: Meta said “a long sente…",  # cut in `token_error`
            "el token fue revocado: Meta dijo “a long sente…",
        ),
        (
            "the permission whatsapp_business_management and whatsapp_business_messaging is missing",
            "falta el permiso whatsapp_business_management y whatsapp_business_messaging",
        ),
        (
            "its data access ends on 2026-11-28, which a renewal does not move",
            "su acceso a datos termina el 28 nov 2026, y una renovación no lo cambia",
        ),
        (
            "the new token ends on 2026-12-03",
            "el token nuevo caduca el 3 dic 2026",
        ),
        ("the new token belongs to another user", "el token nuevo pertenece a otro usuario"),
        ("no answer from Meta (ReadTimeout)", "sin respuesta de Meta (ReadTimeout)"),
        (
            (
                "Meta gave a new token and does not call it good: the token was revoked: "
                "Meta said “no” (code 190, subcode 466)"
            ),
            (
                "Meta dio un token nuevo y no lo da por bueno: el token fue revocado: "
                "Meta dijo “no” (código 190, subcódigo 466)"
            ),
        ),
        (
            "10 channels newly failed with unavailable and none succeeded: no answer from Meta (SSLError)",
            (
                "10 líneas empezaron a fallar (unavailable) y ninguna tuvo éxito: "
                "sin respuesta de Meta (SSLError)"
            ),
        ),
        (
            "Meta refused this channel's call as it refuses an app: META_APP_SECRET is wrong (code 1)",
            (
                "Meta rechazó la llamada de esta línea como rechaza a una app: "
                "META_APP_SECRET no es correcto (código 1)"
            ),
        ),
        (
            (
                "no key of TOKEN_ENCRYPTION_KEY opens it (AES-256-GCM as iv:tag:data or Fernet): another key "
                "encrypted it, or the text was altered; or it is AES-CBC, which nothing authenticates"
            ),
            (
                "ninguna clave de TOKEN_ENCRYPTION_KEY lo abre (AES-256-GCM como iv:tag:data o Fernet): "
                "lo cifró otra clave, o se alteró el texto; o es AES-CBC, que nada autentica"
            ),
        ),
        (
            "the stored text is a JSON Web Token, not a known ciphertext layout",
            "el texto guardado es un JSON Web Token, no un formato de cifrado conocido",
        ),
        (
            "the database refused: a trigger; the stored token is as it was",
            "la base de datos rechazó: a trigger; el token guardado sigue como estaba",
        ),
    ],
)
def test_our_own_words_are_said_in_spanish_and_nobody_elses(english, spanish):
    assert ES.detail(english) == spanish


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a sentence of a later version",
        "Meta said nothing",
        "no answer",
        "x" * 5000,
        "the token has expired: " * 400,
        "; nothing was stored" * 4000,
        "(code 1)" * 100_000,
    ],
)
def test_what_is_not_known_stays_as_it_is(text):
    assert (ES.detail(text), EN.detail(text)) == (text, text)


def test_a_day_that_cannot_be_stays_as_it_is():
    assert ES.detail("the new token ends on 2026-02-31").endswith("caduca el 2026-02-31")


def test_in_english_only_the_days_change():
    changed = "its data access ends on 28 Nov 2026, which a renewal does not move"
    assert EN.detail("its data access ends on 2026-11-28, which a renewal does not move") == changed
    assert [one for one, _ in DETAILS if "{day}" not in one and EN.detail(filled(one)) != filled(one)] == []


def filled(template):
    """A template with something in its gaps."""
    fillings = {"number": "7", "day": "2026-12-01", "list": "a and b", "detail": "blank", "text": "x"}
    return re.sub(r"\{(\w+)\}", lambda gap: fillings[gap.group(1)], template)


# A meaning that comes later is said in English until `details.py` has it: a new code is one row.
MEANINGS = {
    "the token belongs to another app",
    "META_APP_SECRET is wrong",
    "META_APP_ID is wrong",
    "Meta has blocked the app",
    "Meta refuses calls for this app",
    "the app wants an appsecret_proof",
    "the app token is refused",
    "META_GRAPH_URL is wrong",
    "this server's IP is not allowed",
    "META_GRAPH_VERSION is not accepted",
    "the app lacks a capability",
    "Meta refuses the app's credentials or call",
    "Meta refuses our inspection call",
    "the customer removed the app",
    "Facebook asks the customer to log in and confirm",
    "the customer's password was changed",
    "the token has expired",
    "the customer's account is not confirmed",
    "the token was revoked",
    "the customer logged out",
    "the customer lost the role on the page",
    "the customer was idle for 90 days",
    "the token is no longer valid",
    "a permission was withdrawn",
    "Meta has locked the account",
}


def test_the_meanings_of_graph_errors_are_said_in_spanish():
    known = MEANINGS & {rule.meaning for rule in RULES}
    assert (len(known), [one for one in known if ES.detail(one) == one]) == (len(MEANINGS), [])


@pytest.mark.parametrize("rule", [*dict.fromkeys(RULES), Rule(RULES[0].error)])
def test_what_an_error_is_worded_as_is_in_spanish_but_for_the_words_of_meta(rule):
    said = ES.detail(wording(rule, GraphError(400, "Some words", 190, 460)))
    meaning = f"{ES.detail(rule.meaning)}: " if rule.meaning else ""
    assert said == f"{meaning}Meta dijo “Some words” (código 190, subcódigo 460)"


def raised():
    """Every text with which a room raises an error whose words become a detail."""
    for room in ("meta_client", "crypto", "whatsapp_tokens/meta/rate_limiter"):
        for node in ast.walk(ast.parse((ROOT / f"{room}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in RAISED and node.args:
                match node.args[0]:
                    case ast.Constant(value=text):
                        yield text
                    case ast.JoinedStr(values=parts):
                        yield "".join(part.value if isinstance(part, ast.Constant) else "7" for part in parts)


def test_every_error_that_a_room_raises_is_said_in_spanish():
    texts = list(raised())
    assert ([text for text in texts if ES.detail(text) == text], len(texts) > 15) == ([], True)


def test_whatever_a_ciphertext_looks_like_is_said_in_spanish():
    looks = [CBC, *(words for _, words in _LOOKS)]
    assert [one for one in looks if ES.detail(one) == one and one != "a JSON Web Token"] == []


def test_both_languages_have_the_same_gaps():
    gaps = [[sorted(re.findall(r"\{\w+\}", text)) for text in pair] for pair in DETAILS]
    assert [pair for pair, (one, other) in zip(DETAILS, gaps, strict=True) if one != other] == []
