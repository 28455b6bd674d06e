"""Finds the proxy for a URL by HTTP_PROXY, HTTPS_PROXY and NO_PROXY, like the AWS SDK (boto3 guide,
Configuration, Using proxies).

aiohttp's `trust_env` would read them, too, but would also send credentials from a `.netrc` file.
"""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def find_proxy(url: str) -> str | None:
    """The proxy's URL; None if there is none, or if the URL is invalid."""
    try:
        parts = urlsplit(url)
        if proxy_bypass(parts.netloc.rpartition("@")[2]):
            return None
    except ValueError:
        return None
    proxy = getproxies().get(parts.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None
