"""The proxy on the way to an address, by HTTP_PROXY, HTTPS_PROXY and NO_PROXY as the AWS SDK reads
them (boto3 guide, Configuration, Using proxies).

aiohttp's `trust_env` would read them, too, but also takes credentials for our requests from a
`.netrc` that happens to lie about.
"""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def find_proxy(url: str) -> str | None:
    """The proxy's address; None: there is none, or the url is none."""
    try:
        parts = urlsplit(url)
        if proxy_bypass(parts.netloc.rpartition("@")[2]):
            return None
    except ValueError:
        return None
    proxy = getproxies().get(parts.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None
