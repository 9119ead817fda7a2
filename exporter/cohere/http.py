"""The HTTP client: what it sends with each request, and the connections it sends it over."""

from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from exporter.cohere.proxy_transport import Client


def open_http(
    base_url: str, *, client_name: str, user_agent: str, connections: int, trust_env: bool = True
) -> httpx.AsyncClient:
    """Open the HTTP client: no redirects, no cookies, and deadlines left to `Transport`.

    `trust_env` lets the environment name proxies and certificate authorities, as users of httpx expect.
    Raises ImportError, OSError, ValueError or httpx.InvalidURL where it names what cannot be used.
    """
    return Client(
        base_url=base_url,
        verify=httpx.create_ssl_context(trust_env=trust_env),  # read once, for every proxy too
        timeout=None,
        trust_env=trust_env,
        event_hooks={"response": [_forget_location]},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        limits=httpx.Limits(max_connections=connections),
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
