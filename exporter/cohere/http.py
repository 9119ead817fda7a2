"""The HTTP client: what it sends with each request, and over which connections.

It follows no redirect, keeps no cookie and leaves timeouts to `Transport`.
"""

import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from exporter.cohere.client_tls import TlsContexts
from exporter.cohere.pool import RenewedPool
from exporter.cohere.proxies import Proxy


def parse_base_url(text: str) -> httpx.URL:
    """Return the URL; raise ValueError when no request to it could ever be sent."""
    try:
        url = httpx.URL(text)
        url.host.encode("idna")  # what the resolver does with it
        httpx.Request("GET", url)
    except (httpx.InvalidURL, ValueError):
        raise ValueError("the host is not a valid name or address") from None
    return url


def open_http(
    base_url: httpx.URL,
    *,
    client_name: str,
    user_agent: str,
    connections: int,
    tls: TlsContexts,
    proxy: Proxy | None = None,
) -> httpx.AsyncClient:
    """Open the client for `base_url`, through `proxy` if there is one."""

    def proxied(context: ssl.SSLContext) -> httpx.Proxy | None:
        if proxy is None:
            return None
        return httpx.Proxy(proxy.url, ssl_context=context if proxy.url.scheme == "https" else None)

    def open_pool(context: ssl.SSLContext) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            proxy=proxied(context),
            limits=httpx.Limits(max_connections=connections),
        )

    return httpx.AsyncClient(
        base_url=base_url,
        transport=RenewedPool(open_pool, tls, renewed_on_failure=proxy is not None),
        timeout=None,  # noqa: S113 - Transport has one of its own
        trust_env=False,
        event_hooks={"response": [_forget_location]},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": user_agent,
            "X-Client-Name": client_name,
        },
    )


async def _forget_location(response: httpx.Response) -> None:
    # httpx reads where a redirect leads even if it is not followed, and raises what it likes when it cannot.
    response.headers.pop("location", None)
