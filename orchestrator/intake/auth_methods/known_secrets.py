"""Compares a sent secret with the known ones: literals, hashes, and references to either."""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Sequence

from orchestrator.core.errors import SecretBlank
from orchestrator.core.secrets.secret_resolver import SecretResolver

_HASHED = "sha256:"
_HASH = re.compile(_HASHED + "([0-9a-f]{64})")


async def find_match(sent: str, known: Sequence[str], credentials: SecretResolver) -> int | None:
    """The index of the known secret that was sent; None if it is none of them.

    All are compared, by their hashes and each in constant time, against timing attacks. White space
    around a secret is ignored, as in a header (RFC 9110, section 5.5). A blank one matches nothing,
    nor does `sha256:` before anything but a hash: a reader of the settings could send it.

    Raises:
        TemporaryError: a secret can't be read, and the sent one is none of the others.
    """
    found = await asyncio.gather(
        *(credentials.resolve(secret) for secret in known), return_exceptions=True
    )
    # A header may contain any bytes; aiohttp decodes those that aren't UTF-8 as surrogates.
    digest = hashlib.sha256(sent.strip().encode("utf-8", "surrogateescape")).digest()
    matches = [
        index
        for index, secret in enumerate(found)
        if isinstance(secret, str) and _is_match(digest, secret.strip())
    ]
    if matches and sent.strip():
        return matches[0]
    for unread in found:
        if isinstance(unread, BaseException) and not isinstance(unread, SecretBlank):
            raise unread
    return None


def _is_match(digest: bytes, secret: str) -> bool:
    hashed = _HASH.fullmatch(secret)
    known = bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(secret.encode()).digest()
    is_usable = hashed is not None or not secret.startswith(_HASHED)
    return hmac.compare_digest(digest, known) and is_usable
