"""What our own details say, in English and in Spanish: what follows the reason in `token_error` and alerts.

The rooms that find something out say it in English, and so it is stored and logged; `Words.detail` looks it
up here. What stands between braces is a gap: `{day}` a date, `{number}` a number, `{list}` details with `and`
or `or` between them, `{detail}` another detail, and `{text}` whatever somebody else has said, which stays
as it is. The first that fits counts, so what is made of other details comes first.
"""

from __future__ import annotations

from typing import Final

DETAILS: Final = (
    # Sentences that hold another.
    (
        "{number} channels newly failed with {text} and none succeeded: {detail}",
        "{number} líneas empezaron a fallar ({text}) y ninguna tuvo éxito: {detail}",
    ),
    (
        "Meta refused this channel's call as it refuses an app: {detail}",
        "Meta rechazó la llamada de esta línea como rechaza a una app: {detail}",
    ),
    (
        "Meta gave a new token and does not call it good: {detail}",
        "Meta dio un token nuevo y no lo da por bueno: {detail}",
    ),
    ("{detail}; nothing was stored", "{detail}; no se guardó nada"),
    ("{detail}; the stored token is as it was", "{detail}; el token guardado sigue como estaba"),
    # What Meta said, and its numbers.
    (
        "{detail}: Meta said “{text}” (code {number}, subcode {number})",
        "{detail}: Meta dijo “{text}” (código {number}, subcódigo {number})",
    ),
    ("{detail}: Meta said “{text}” (code {number})", "{detail}: Meta dijo “{text}” (código {number})"),
    ("{detail}: Meta said “{text}” (HTTP {text})", "{detail}: Meta dijo “{text}” (HTTP {text})"),
    ("{detail}: Meta said “{text}", "{detail}: Meta dijo “{text}"),  # cut short in `token_error`
    (
        "Meta said “{text}” (code {number}, subcode {number})",
        "Meta dijo “{text}” (código {number}, subcódigo {number})",
    ),
    ("Meta said “{text}” (code {number})", "Meta dijo “{text}” (código {number})"),
    ("Meta said “{text}” (HTTP {text})", "Meta dijo “{text}” (HTTP {text})"),
    ("Meta said “{text}", "Meta dijo “{text}"),
    (
        "{detail} (code {number}, subcode {number})",
        "{detail} (código {number}, subcódigo {number})",
    ),
    ("{detail} (code {number})", "{detail} (código {number})"),
    # What Meta's errors mean: the meanings of `graph_errors.RULES`.
    ("the token belongs to another app", "el token pertenece a otra app"),
    ("META_APP_SECRET is wrong", "META_APP_SECRET no es correcto"),
    ("META_APP_ID is wrong", "META_APP_ID no es correcto"),
    ("META_GRAPH_URL is wrong", "META_GRAPH_URL no es correcto"),
    ("META_GRAPH_VERSION is not accepted", "Meta no acepta META_GRAPH_VERSION"),
    ("Meta has blocked the app", "Meta ha bloqueado la app"),
    ("Meta refuses calls for this app", "Meta rechaza las llamadas de esta app"),
    ("the app wants an appsecret_proof", "la app exige un appsecret_proof"),
    ("the app token is refused", "Meta rechaza el token de la app"),
    ("this server's IP is not allowed", "la IP de este servidor no está permitida"),
    ("the app lacks a capability", "a la app le falta una capacidad"),
    (
        "Meta refuses the app's credentials or call",
        "Meta rechaza las credenciales o la llamada de la app",
    ),
    ("Meta refuses our inspection call", "Meta rechaza nuestra consulta sobre el token"),
    ("the customer removed the app", "el cliente eliminó la app"),
    (
        "Facebook asks the customer to log in and confirm",
        "Facebook pide al cliente que inicie sesión y confirme",
    ),
    ("the customer's password was changed", "se cambió la contraseña del cliente"),
    ("the token has expired", "el token ha caducado"),
    ("the customer's account is not confirmed", "la cuenta del cliente no está confirmada"),
    ("the token was revoked", "el token fue revocado"),
    ("the customer logged out", "el cliente cerró la sesión"),
    ("the customer lost the role on the page", "el cliente perdió su función en la página"),
    ("the customer was idle for 90 days", "el cliente estuvo inactivo 90 días"),
    ("the token is no longer valid", "el token ya no es válido"),
    ("a permission was withdrawn", "se retiró un permiso"),
    ("Meta has locked the account", "Meta ha bloqueado la cuenta"),
    ("no explanation", "sin explicación"),
    # What an answer of Meta's lacks, or that there was none.
    ("the token belongs to another app ({text})", "el token pertenece a otra app ({text})"),
    ("no answer from Meta ({text})", "sin respuesta de Meta ({text})"),
    ("the answer came too slowly", "la respuesta llegó demasiado despacio"),
    (
        "an answer of more than {number} KiB was refused",
        "se rechazó una respuesta de más de {number} KiB",
    ),
    (
        "a redirect (HTTP {number}), which is never followed",
        "una redirección (HTTP {number}), que nunca se sigue",
    ),
    ("JSON that is not an object (HTTP {number})", "JSON que no es un objeto (HTTP {number})"),
    ("an empty answer (HTTP {number})", "una respuesta vacía (HTTP {number})"),
    (
        "a cut or broken JSON answer (HTTP {number})",
        "una respuesta JSON cortada o dañada (HTTP {number})",
    ),
    ("an answer that is not JSON (HTTP {number})", "una respuesta que no es JSON (HTTP {number})"),
    ("an inspection without data", "una consulta sin datos"),
    (
        "an inspection that does not say whether the token is valid",
        "una consulta que no dice si el token es válido",
    ),
    ("an inspection with an impossible date", "una consulta con una fecha imposible"),
    ("an exchange without a token", "un intercambio sin token"),
    (
        "an exchange whose token holds spaces or control characters",
        "un intercambio cuyo token contiene espacios o caracteres de control",
    ),
    ("{number} % of the app's allowance is used", "se ha usado el {number} % del cupo de la app"),
    # What is wrong with a token, old or new.
    ("the permission {list} is missing", "falta el permiso {list}"),
    (
        "its data access ends on {day}, which a renewal does not move",
        "su acceso a datos termina el {day}, y una renovación no lo cambia",
    ),
    ("the new token belongs to another user", "el token nuevo pertenece a otro usuario"),
    ("the new token lost {list}", "el token nuevo perdió {list}"),
    (
        "the new token ends on {day}",
        "el token nuevo caduca el {day}",
    ),
    (
        "the new token ends when the old one does",
        "el token nuevo caduca cuando el anterior",
    ),
    # What is wrong with a ciphertext.
    ("it decrypts, but not to text", "se descifra, pero no es texto"),
    ("it decrypts to nothing", "se descifra, pero está vacío"),
    (
        "the stored text is {number} characters of something else, not a known ciphertext layout",
        "el texto guardado son {number} caracteres de otra cosa, no un formato de cifrado conocido",
    ),
    (
        "the stored text is {detail}, not a known ciphertext layout; or another key encrypted it ({list})",
        "el texto guardado es {detail}, no un formato de cifrado conocido; o lo cifró otra clave ({list})",
    ),
    (
        "the stored text is {detail}, not a known ciphertext layout",
        "el texto guardado es {detail}, no un formato de cifrado conocido",
    ),
    (
        "{detail}; or it is AES-CBC, which nothing authenticates",
        "{detail}; o es AES-CBC, que nada autentica",
    ),
    (
        "no key of TOKEN_ENCRYPTION_KEY opens it ({list}): another key encrypted it, or the text was altered",
        "ninguna clave de TOKEN_ENCRYPTION_KEY lo abre ({list}): lo cifró otra clave, o se alteró el texto",
    ),
    ("AES-256-GCM as {text}", "AES-256-GCM como {text}"),
    (
        "AES-CBC or the like, without an authentication tag",
        "AES-CBC o similar, sin etiqueta de autenticación",
    ),
    ("blank", "un espacio en blanco"),
    ("an unencrypted token (plaintext)", "un token sin cifrar (texto plano)"),
    (
        "a passphrase ciphertext of CryptoJS or OpenSSL",
        "un cifrado con contraseña de CryptoJS u OpenSSL",
    ),
    ("a ciphertext of Laravel", "un cifrado de Laravel"),
    ("a JSON Web Token", "un JSON Web Token"),
    ("a ciphertext of HashiCorp Vault", "un cifrado de HashiCorp Vault"),
    ("a PEM or PGP block", "un bloque PEM o PGP"),
    ("binary data", "datos binarios"),
    # What is wrong with what was written.
    ("the token is not text that can be encrypted", "el token no es texto que se pueda cifrar"),
    ("the encrypted token does not decrypt again", "el token cifrado no se vuelve a descifrar"),
    ("the encrypted token decrypts to something else", "el token cifrado se descifra a otra cosa"),
    (
        "the database leaves the row as it is, and does not say why (a policy? a trigger?)",
        "la base de datos deja la fila como está y no dice por qué (¿una política? ¿un trigger?)",
    ),
    ("the database refused: {text}", "la base de datos rechazó: {text}"),
    ("the database cannot be reached ({text})", "no se puede acceder a la base de datos ({text})"),
    ("an internal error ({text})", "un error interno ({text})"),
    ("{detail} (HTTP {number})", "{detail} (HTTP {number})"),
)
