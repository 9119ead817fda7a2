"""Which proxy leads where: the values of Go's http.ProxyFromEnvironment, and those that containers inject."""

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cohere.proxies import UnusableProxy, address_of, bypasses_proxy, proxy_for

API = httpx.URL("https://api.cohere.com")
PASSWORD = "pass-of-the-proxy"

# NO_PROXY, URL, and whether it is reached directly: all as Go's httpproxy answers (golang.org/x/net 0.50).
NO_PROXY = [
    # Networks and addresses.
    ("10.0.0.0/8", "https://10.1.2.3", True),
    ("10.0.0.0/8", "https://11.1.2.3", False),
    ("10.1.2.3/8", "https://10.9.9.9", True),
    ("10.0.0.0/8,192.168.0.0/16", "https://192.168.7.7", True),
    ("0.0.0.0/0", "https://203.0.113.9", True),
    ("10.0.0.0/255.0.0.0", "https://10.1.2.3", False),
    ("10.0.0.0/33", "https://10.1.2.3", False),
    ("10.0.0.0/8", "https://ten.example.com", False),
    ("10.1.2.3", "https://10.1.2.3", True),
    ("10.1.2.3:443", "https://10.1.2.3", True),
    ("10.1.2.3:8443", "https://10.1.2.3", False),
    ("10.1.2", "https://10.1.2.3", False),
    ("10.", "https://10.1.2.3", False),
    ("fd00::/8", "https://[fd00::1]", True),
    ("fe80::/10", "https://[fe80::1]", True),
    ("fe80::/10", "https://[fd00::1]", False),
    ("::1/128", "https://[fd00::1]", False),
    ("fd00::1", "https://[fd00::1]", True),
    ("fd00::1", "https://[fd00:0::0:1]:8443", True),
    ("[fd00::1]:443", "https://[fd00::1]", True),
    ("[fd00::1]:8443", "https://[fd00::1]", False),
    ("::ffff:10.1.2.3", "https://10.1.2.3", True),
    # Names.
    ("cohere.com", "https://api.cohere.com", True),
    ("cohere.com", "https://cohere.com", True),
    (".cohere.com", "https://api.cohere.com", True),
    (".cohere.com", "https://cohere.com", False),
    ("*.cohere.com", "https://api.cohere.com", True),
    ("*.cohere.com", "https://cohere.com", False),
    ("api.cohere.com", "https://api.cohere.com", True),
    ("API.Cohere.COM", "https://api.cohere.com", True),
    ("ohere.com", "https://api.cohere.com", False),
    ("com", "https://api.cohere.com", True),
    ("cohere.com:443", "https://api.cohere.com", True),
    ("cohere.com:443", "https://api.cohere.com:443", True),
    ("cohere.com:80", "http://api.cohere.com", True),
    ("cohere.com:80", "https://api.cohere.com", False),
    ("cohere.com:8443", "https://api.cohere.com:8443", True),
    ("cohere.com:", "https://api.cohere.com", True),
    ("bücher.example", "https://api.xn--bcher-kva.example", True),
    ("xn--bcher-kva.example", "https://xn--bcher-kva.example", True),
    # Everything, and lists.
    ("*", "https://api.cohere.com", True),
    ("*", "https://10.1.2.3", True),
    ("", "https://api.cohere.com", False),
    (" , ,", "https://api.cohere.com", False),
    ("example.com, cohere.com", "https://api.cohere.com", True),
    # This machine.
    ("", "http://localhost:8080", True),
    ("", "http://127.0.0.1:8080", True),
    ("127.0.0.0/8", "http://127.0.0.1:8080", True),
    ("", "http://[::1]:8080", True),
    ("", "http://localhost.example.com", False),
    # What makes no sense is skipped, and what follows is not.
    ("[::1]", "https://api.cohere.com", False),
    ("::1/128", "https://api.cohere.com", False),
    ("10.0.0.0/8,[::1]", "https://api.cohere.com", False),
    (
        "[::1],::1/128,fe80::/10,:80,[,],*.,.,/,a/b,http://x,%zz,é..ü,cohere.com",
        "https://api.cohere.com",
        True,
    ),
    ("https://api.cohere.com", "https://api.cohere.com", False),
    ("cohere.*", "https://cohere.com", False),
    ("api*.cohere.com", "https://api.cohere.com", False),
]
# As curl has it, and not Go.
BEYOND_GO = [
    ("[fd00::1]", "https://[fd00::1]", True),
    ("[fd00::]/8", "https://[fd00::1]", True),
    ("example.com cohere.com", "https://api.cohere.com", True),
    ("cohere.com", "https://api.cohere.com.", True),
    ("cohere.com.", "https://api.cohere.com", True),
]


@pytest.mark.parametrize(("no_proxy", "url", "direct"), NO_PROXY + BEYOND_GO)
def test_no_proxy(no_proxy: str, url: str, direct: bool) -> None:
    assert bypasses_proxy(httpx.URL(url), no_proxy) is direct


@pytest.mark.parametrize("url", ["https://api.cohere.com", "http://10.1.2.3:8080", "http://[fd00::1]"])
@given(no_proxy=st.text("0123456789abcdef:./*[],%é \x00"))
@settings(deadline=None)
def test_no_value_of_no_proxy_is_an_error(no_proxy: str, url: str) -> None:
    assert bypasses_proxy(httpx.URL(url), no_proxy) in (True, False)


@pytest.mark.parametrize("no_proxy", ["[::1]", "::1/128", "fe80::/10", "10.0.0.0/8,[::1]", "[", "*.*"])
def test_exceptions_without_a_proxy_mean_nothing(no_proxy: str) -> None:
    assert proxy_for(API, {"NO_PROXY": no_proxy}) is None


@pytest.mark.parametrize(
    ("environ", "url", "address"),
    [
        ({}, API, None),
        ({"HTTPS_PROXY": "http://p:3128"}, API, "p:3128"),
        ({"https_proxy": "http://p:3128"}, API, "p:3128"),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:2"}, API, "upper:1"),
        ({"HTTPS_PROXY": " ", "https_proxy": "http://lower:2"}, API, "lower:2"),
        ({"HTTP_PROXY": "http://p:3128"}, API, None),
        ({"HTTP_PROXY": "http://p:3128"}, httpx.URL("http://gw.test"), "p:3128"),
        ({"HTTPS_PROXY": "http://p:3128"}, httpx.URL("http://gw.test"), None),
        ({"ALL_PROXY": "http://p:3128"}, API, "p:3128"),
        ({"all_proxy": "http://a:1", "HTTPS_PROXY": "http://p:3128"}, API, "p:3128"),
        ({"HTTPS_PROXY": "p.corp:3128"}, API, "p.corp:3128"),
        ({"HTTPS_PROXY": "10.0.0.1"}, API, "10.0.0.1:80"),
        ({"HTTPS_PROXY": "https://p.corp"}, API, "p.corp:443"),
        ({"HTTPS_PROXY": "http://[fd00::9]:3128/"}, API, "[fd00::9]:3128"),
        ({"HTTPS_PROXY": f"http://user:{PASSWORD}@p:3128"}, API, "p:3128"),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "cohere.com"}, API, None),
        ({"HTTPS_PROXY": "http://p:3128", "no_proxy": "cohere.com"}, API, None),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "127.0.0.0/8"}, httpx.URL("http://127.0.0.1:9"), None),
        ({"HTTPS_PROXY": "socks5://p", "NO_PROXY": "*"}, API, None),
    ],
)
def test_the_proxy_is_that_of_the_environment(
    environ: dict[str, str], url: httpx.URL, address: str | None
) -> None:
    proxy = proxy_for(url, environ)
    assert (proxy and proxy.address) == address


@pytest.mark.parametrize(
    "value",
    [
        f"http://u:{PASSWORD}@",
        f"http://{PASSWORD}:x",
        f"socks5://{PASSWORD}",
        "http://[::1",
        "ftp://p",
        "http:///x",
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable_alone(value: str) -> None:
    with pytest.raises(UnusableProxy) as refused:
        proxy_for(API, {"https_proxy": value})
    assert str(refused.value).startswith("https_proxy: must be ")
    assert PASSWORD not in str(refused.value)


def test_a_proxy_that_a_client_of_a_cgi_script_may_name_is_not_used() -> None:
    with pytest.raises(UnusableProxy, match="CGI"):
        proxy_for(httpx.URL("http://gw.test"), {"HTTP_PROXY": "http://p", "REQUEST_METHOD": "GET"})


def test_addresses_have_their_port_and_no_password() -> None:
    assert address_of(httpx.URL(f"http://u:{PASSWORD}@gw.test.")) == "gw.test.:80"
    assert address_of(httpx.URL("https://[fd00::1]:8443/x")) == "[fd00::1]:8443"
