"""The URLs of `checks`: what is understood, what is refused, and that no error repeats what it was given."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.check_urls import parse_check_url
from sidecar.config.errors import BadValueError
from sidecar.config.schema import CheckUrl


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://localhost", CheckUrl("redis", "localhost", 6379)),
        ("redis://localhost/", CheckUrl("redis", "localhost", 6379)),
        ("REDIS://Cache.Prod.:6380/15", CheckUrl("redis", "cache.prod", 6380, database=15)),
        ("rediss://10.0.0.8:6380/0", CheckUrl("rediss", "10.0.0.8", 6380)),
        ("redis://[::1]:6379/1", CheckUrl("redis", "::1", 6379, database=1)),
        ("redis://:@cache", CheckUrl("redis", "cache", 6379)),
        ("redis://:p%40ss@cache", CheckUrl("redis", "cache", 6379, password="p@ss")),
        ("rediss://app:a:b@cache/2", CheckUrl("rediss", "cache", 6379, database=2, username="app", password="a:b")),
        # As a password stands in the environment, not encoded:
        ("redis://:a/b@c?d#e@cache:1/0", CheckUrl("redis", "cache", 1, password="a/b@c?d#e")),
        ("tcp://queue:5672", CheckUrl("tcp", "queue", 5672)),
        ("tcp://[fe80::1]:5672/", CheckUrl("tcp", "fe80::1", 5672)),
        ("http://search", CheckUrl("http", "search", 80)),
        ("http://search/health?local=true", CheckUrl("http", "search", 80, target="/health?local=true")),
        ("https://search", CheckUrl("https", "search", 443)),
        ("https://search:9200/a@b", CheckUrl("https", "search", 9200, target="/a@b")),
    ],
)
def test_what_is_understood(text: str, url: CheckUrl) -> None:
    assert parse_check_url(text) == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a URL that begins with"),
        ("localhost:6379", "expected a URL that begins with"),
        ("unix:///run/redis.sock", "expected a URL that begins with"),
        ("redis://", "expected a URL such as redis://"),
        ("redis://a b", "expected a URL such as redis://"),
        ("redis://cache:0", "a port must be a number from 1 to 65535"),
        ("redis://cache:65536", "a port must be a number from 1 to 65535"),
        ("redis://cache:x", "a port must be a number"),
        ("redis://::1", "an IPv6 address must be in brackets"),
        ("redis://cache/x", "only the number of a database"),
        ("redis://cache/01", "only the number of a database"),
        ("redis://cache/0?ssl_cert_reqs=none", "only the number of a database"),
        ("redis://secret@cache", "user:password"),
        ("redis://app:@cache", "user:password"),
        ("redis://@cache", "user:password"),
        ("redis://:50%@cache", "percent-encode spaces"),
        ("redis://:a b@cache", "percent-encode spaces"),
        ("redis://:a\r\nb@cache", "percent-encode spaces"),
        ("tcp://queue", "a port is needed"),
        ("tcp://queue:5672/path", "expected a URL such as tcp://|a port must be a number"),
        ("http://user:secret@search", "only redis:// and rediss:// can have a user name"),
        ("http://search?deep", "a path must begin with /"),
        ("https://search/#top", "fragment"),
        ("https://search/a b", "percent-encode"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadValueError, match=message) as raised:
        parse_check_url(text)
    assert "secret" not in str(raised.value)


def test_a_url_shows_no_password() -> None:
    url = parse_check_url("rediss://app:hunter2@cache:6380/3")
    assert str(url) == repr(url) == f"{url}" == "rediss://cache:6380"
    assert str(parse_check_url("tcp://[::1]:5672")) == "tcp://[::1]:5672"


@given(st.text())
def test_any_password_can_be_written_percent_encoded(password: str) -> None:
    try:
        encoded = quote(password, safe="")
    except UnicodeEncodeError:  # half a surrogate pair
        return
    if encoded:
        assert parse_check_url(f"redis://:{encoded}@cache").password == password


@given(st.one_of(st.text(), st.builds("{}://{}".format, st.sampled_from(["redis", "tcp", "http"]), st.text())))
def test_any_text_is_a_url_or_an_error(text: str) -> None:
    try:
        url = parse_check_url(text)
    except BadValueError:
        return
    assert 1 <= url.port <= 65535
    assert url.host
    assert url.target.startswith("/")
