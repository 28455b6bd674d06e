"""Signs requests to AWS's JSON protocols: AWS Signature Version 4 (IAM user guide, Create a signed
AWS API request).

All of these are POSTs to one URL without a query, so that little is left of the general procedure,
which takes botocore's signer ten times as long (docs/performance.md). The tests compare each
signature with botocore's.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from botocore.utils import normalize_url_path

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

_ALGORITHM = "AWS4-HMAC-SHA256"
#: A proxy may change it on the way.
_UNSIGNED = frozenset({"User-Agent"})


class Signer:
    """Signs POST requests to one URL, for a service in a region."""

    def __init__(self, url: str, *, service: str, region: str) -> None:
        self._path = quote(normalize_url_path(urlsplit(url).path), safe="/~")
        self._region, self._service = region, service
        #: The key of a day, which depends on nothing else but the secret.
        self._key = b""
        self._key_of: tuple[str | None, str] = (None, "")

    def sign(
        self,
        headers: Mapping[str, str],
        body: bytes,
        credentials: "ReadOnlyCredentials",
        now: datetime,
    ) -> dict[str, str]:
        """The headers to send: those given, `Host` among them, the time `now` (UTC), the session
        token and the signature."""
        time = now.strftime("%Y%m%dT%H%M%SZ")
        sent = {**headers, "X-Amz-Date": time}
        if credentials.token:
            sent["X-Amz-Security-Token"] = credentials.token
        signed = sorted(
            (name.lower(), " ".join(value.split()))
            for name, value in sent.items()
            if name not in _UNSIGNED
        )
        lines = "".join(f"{name}:{value}\n" for name, value in signed)
        names = ";".join(name for name, _ in signed)
        request = f"POST\n{self._path}\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
        scope = f"{time[:8]}/{self._region}/{self._service}/aws4_request"
        hashed = sha256(request.encode()).hexdigest()
        key = self._signing_key(credentials.secret_key, time[:8])
        signature = _hmac(key, f"{_ALGORITHM}\n{time}\n{scope}\n{hashed}").hex()
        sent["Authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return sent

    def _signing_key(self, secret_key: str | None, day: str) -> bytes:
        if self._key_of != (secret_key, day):
            key = f"AWS4{secret_key}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = _hmac(key, part)
            self._key, self._key_of = key, (secret_key, day)
        return self._key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
