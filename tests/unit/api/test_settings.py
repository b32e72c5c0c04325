# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The error for a wrong field of a connection names the field."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_isvapp.api.settings import IsvappSettings, ProductivSettings
from airflow_provider_isvapp.errors import InvalidConnection

GOOD: dict[str, Any] = {"login": "client", "password": "sentinel-secret"}


def isvapp(**fields: Any) -> IsvappSettings:
    return IsvappSettings.from_connection(**(GOOD | fields))


def productiv(**fields: Any) -> ProductivSettings:
    return ProductivSettings.from_connection(**(GOOD | fields))


def test_defaults_are_the_vendors():
    settings = isvapp()
    assert settings.transport.base_url == "https://api.isvapp.com"
    assert settings.requests_per_second == 2
    assert settings.client_id == "client"

    other = productiv()
    assert other.transport.base_url == "https://public-api.productiv.com"
    assert other.auth_url == "https://login.api.productiv.com/oauth2/token"
    assert (other.scope, other.api_version) == ("https://api.productiv.com/apps.read", "v1")


@pytest.mark.parametrize(
    ("login", "chosen"),
    [("client", None), ("client", ""), ("client", "oauth2"), (None, None), (None, "api_key"), (" ", "api_key")],
)
def test_the_authentication_that_is_chosen_agrees_with_the_login(login, chosen):
    settings = isvapp(login=login, extra={"authentication": chosen})

    assert settings == isvapp(login=login)


def test_a_password_alone_is_an_api_key():
    assert isvapp(login=None).client_id is None
    assert isvapp(login="  ").client_id is None


@pytest.mark.parametrize(
    ("host", "port", "schema", "url"),
    [
        ("", None, None, "https://api.isvapp.com"),
        ("eu.isvapp.test", None, None, "https://eu.isvapp.test"),
        ("eu.isvapp.test", 8443, None, "https://eu.isvapp.test:8443"),
        ("emulator", 8099, "http", "http://emulator:8099"),
        ("http://127.0.0.1:8099", None, None, "http://127.0.0.1:8099"),
        ("http://127.0.0.1:8099/", 8099, "https", "http://127.0.0.1:8099"),
        ("http://127.0.0.1", 8099, None, "http://127.0.0.1:8099"),
        ("http://[::1]:8099", None, None, "http://[::1]:8099"),
        (" https://gateway.test/isvapp/ ", None, None, "https://gateway.test/isvapp"),
        ("https://api.isvapp.com/api", None, None, "https://api.isvapp.com"),
        ("https://api.isvapp.com//", None, None, "https://api.isvapp.com"),
        ("api.isvapp.com", 443, "api/v1", "https://api.isvapp.com:443"),
        ("https://api.isvapp.com", None, "/api/v1/", "https://api.isvapp.com"),
        ("gateway.test", 8443, "isvapp/api/v1", "https://gateway.test:8443/isvapp"),
        ("https://api.isvapp.com/api/v1/", None, None, "https://api.isvapp.com"),
        ("https://gateway.test/isvapp/api/v1", None, None, "https://gateway.test/isvapp"),
        ("https://gateway.test/v1", None, None, "https://gateway.test/v1"),
        ("https://gateway.test/my-api", None, None, "https://gateway.test/my-api"),
    ],
)
def test_host_may_be_a_name_or_a_full_url(host, port, schema, url):
    assert isvapp(host=host, port=port, schema=schema).transport.base_url == url


@pytest.mark.parametrize(
    ("host", "version", "url"),
    [
        ("https://public-api.productiv.com/pull", None, "https://public-api.productiv.com"),
        ("https://public-api.productiv.com/pull/v1/", None, "https://public-api.productiv.com"),
        ("https://public-api.productiv.com/pull/v3", "v3", "https://public-api.productiv.com"),
        ("https://gateway.test/pulley", None, "https://gateway.test/pulley"),
    ],
)
def test_the_host_may_end_in_the_path_of_the_api(host, version, url):
    assert productiv(host=host, extra={"api_version": version}).transport.base_url == url


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"login": "a:b"}, "login: a client id with a colon cannot be sent as HTTP Basic"),
        ({"password": ""}, "password: empty; it takes the client secret that belongs to the login"),
        ({"login": "", "password": None}, "password: empty; it takes an API key"),
        ({"password": "two\nlines"}, "password: contains a character that cannot be sent"),
        ({"host": "ftp://files.test"}, "host: the scheme must be http or https, not 'ftp'"),
        ({"host": "https://"}, "host: 'https://' has no host"),
        ({"host": "two words"}, "has no host"),
        ({"host": "https://user:sentinel@host.test"}, "host: credentials do not belong in a URL"),
        ({"host": "https://host.test:port"}, "host: not a valid URL"),
        ({"host": "https://host.test?x=1"}, "host: the URL must not contain"),
        ({"host": "https://host.test:1", "port": 2}, "port: 2 contradicts the port 1 in host"),
        ({"extra": {"requests_per_second": 0}}, "extra requests_per_second: must be a number above 0"),
        (
            {"extra": {"requests_per_second": "fast"}},
            "extra requests_per_second: must be a number above 0 and at most 1000, not 'fast'",
        ),
        ({"extra": {"requests_per_second": True}}, "extra requests_per_second: must be a number"),
        ({"extra": {"requests_per_second": [2]}}, "extra requests_per_second: must be a number"),
        ({"extra": {"connect_timeout": -1}}, "extra connect_timeout: must be a number above 0, not -1"),
        ({"extra": {"read_timeout": "nan"}}, "extra read_timeout: must be a number above 0"),
        ({"extra": {"read_timeout": "inf"}}, "extra read_timeout: must be a number above 0, not 'inf'"),
        ({"extra": {"requests_per_second": 10**400}}, "extra requests_per_second: must be a number above 0"),
        ({"extra": {"requests_per_second": "1e999"}}, "extra requests_per_second: must be a number above 0"),
        ({"extra": {"requests_per_second": -1}}, "extra requests_per_second: must be a number above 0"),
        ({"extra": {"requests_per_second": float("nan")}}, "extra requests_per_second: must be a number above 0"),
        ({"extra": {"attempts": 2.5}}, "extra attempts: must be an integer, not 2.5"),
        ({"extra": {"attempts": 0}}, "extra attempts: must be a number above 0 and at most 100, not 0"),
        (
            {"login": " ", "extra": {"authentication": "oauth2"}},
            "login: empty, but the extra authentication is 'oauth2': enter the client id here",
        ),
        (
            {"extra": {"authentication": "api_key"}},
            "login: must be empty, as the extra authentication is 'api_key'",
        ),
        ({"extra": {"authentication": "key"}}, "extra authentication: must be one of oauth2, api_key, not 'key'"),
        ({"extra": {"authentication": ["oauth2"]}}, "extra authentication: must be one of"),
        ({"extra": {"rate_limit_storage": 7}}, "extra rate_limit_storage: must be a string, not 7"),
        (
            {"extra": {"request_per_second": 1}},
            "extra: unknown field 'request_per_second'; known are attempts, authentication, ",
        ),
    ],
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(InvalidConnection) as caught:
        isvapp(**fields)

    assert message in str(caught.value)
    assert "sentinel" not in str(caught.value)
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"login": None}, "login: empty; it takes the client id"),
        ({"password": " "}, "password: empty; it takes the client secret"),
        ({"extra": {"auth_url": "login.test/token"}}, "extra auth_url: 'login.test/token' is not a full URL"),
        ({"extra": {"auth_url": "ftp://login.test"}}, "extra auth_url: the scheme must be http or https"),
        ({"extra": {"api_version": "v4"}}, "extra api_version: must be one of v1, v2, v3, not 'v4'"),
        ({"host": "https://host.test/pull/v3"}, "host: the URL ends in /pull/v3, but the API version is v1"),
        ({"extra": {"scope": ["a"]}}, "extra scope: must be a string"),
        ({"extra": {"rate_limit": 1}}, "extra: unknown field 'rate_limit'"),
    ],
)
def test_a_wrong_productiv_field_is_named(fields, message):
    with pytest.raises(InvalidConnection) as caught:
        productiv(**fields)
    assert message in str(caught.value)


def test_fields_that_the_form_left_empty_are_as_if_absent():
    settings = isvapp(extra={"requests_per_second": None, "read_timeout": "", "rate_limit_storage": None})

    assert settings == isvapp()


def test_numbers_may_come_as_strings():
    assert isvapp(extra={"requests_per_second": "1.5", "attempts": "3"}).requests_per_second == 1.5


def test_the_quota_belongs_to_origin_and_credential():
    key = isvapp().limiter_key

    assert isvapp(password="another secret of the same client").limiter_key == key
    assert isvapp(host="https://api.isvapp.com:443/").limiter_key == key
    assert isvapp(login="other").limiter_key != key
    assert isvapp(host="https://eu.isvapp.test").limiter_key != key
    api_key = isvapp(login=None)
    assert api_key.limiter_key != isvapp(login=None, password="other key").limiter_key
    assert "sentinel" not in api_key.limiter_key


def test_no_secret_in_a_repr():
    assert "sentinel" not in repr(isvapp()) + repr(productiv())
