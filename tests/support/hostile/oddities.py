# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Odd responses and environments: each is understood, or refused with an error that names the place."""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.support.hostile.responses import whole
from tests.support.hostile.vendors import CLIENT_ID, CLIENT_SECRET, ENDPOINTS, Vendors
from tests.support.hostile.wire_server import Seen, Step

RECORDS = ("create", "show", "list")
ENVELOPES = ("account", "accounts", *RECORDS)
TOKENS = ("token", "productiv_token")
JSON = (*ENVELOPES, *TOKENS, "productiv_apps", "productiv_app")
LISTS = ("list", "accounts", "productiv_apps")


@dataclass(frozen=True, kw_only=True)
class Oddity:
    """A response or environment that no vendor documents.

    :param endpoints: the endpoints with odd responses; none if the environment is odd.
    :param respond: returns the odd body for a request and the documented body.
    :param variables: environment variables; ``{proxy}`` is the port of a proxy that refuses everything.
    :param hosts: the hosts of the two connections; ``{url}`` is the vendors' URL.
    :param refused: the text of the error; empty if the result is the documented one.
    :param passing: whether the oddity is transient, so a wait continues.
    :param warning: the text in the log, if there is one.
    """

    endpoints: tuple[str, ...] = ()
    respond: Callable[[Any, Seen], bytes] = lambda valid, _: json.dumps(valid).encode()
    variables: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, str] = ("{url}", "{url}")
    refused: str = ""
    passing: bool = False
    warning: str = ""

    def play_on(self, vendors: Vendors) -> None:
        """Make the vendors send the odd responses."""
        for name in self.endpoints:
            valid = ENDPOINTS[name].valid(vendors.url)

            def play(seen: Seen, valid: Any = valid) -> Iterable[Step]:
                body = self.respond(json.loads(json.dumps(valid)), seen)
                return whole(200 if body else 401, body)

            vendors.spoil(name, play)


def _records(change: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Change each field of each export's record."""

    def respond(valid: Any, _: Seen) -> bytes:
        data = valid["data"]
        changed = [{name: change(name, value) for name, value in one.items()} for one in _as_list(data)]
        return json.dumps({"data": changed if isinstance(data, list) else changed[0], "success": True}).encode()

    return {"endpoints": RECORDS, "respond": respond}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _fields(ending: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    """Change the fields whose names end in a certain way, unless they are null."""
    return _records(lambda name, value: change(value) if name.endswith(ending) and value is not None else value)


def _always(**fields: Any) -> dict[str, Any]:
    return _records(lambda name, value: fields.get(name, value))


def _token(**fields: Any) -> dict[str, Any]:
    return {"endpoints": TOKENS, "respond": lambda valid, _: json.dumps(valid | fields).encode()}


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _checked_credentials(valid: Any, seen: Seen) -> bytes:
    """Issue a token for a secret in plain HTTP Basic or in the form."""
    pair = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode())
    plain = b"Authorization: Basic " + pair in seen.head or seen.form.get("client_secret") == [CLIENT_SECRET]
    return json.dumps(valid).encode() if plain else b""


def _null_list(valid: Any, _: Seen) -> bytes:
    return json.dumps(valid | {"Apps" if "Apps" in valid else "data": None}).encode()


_SCOPES = ("identity", "exports", "salesforce_accounts", "https://api.productiv.com/apps.read")
_READ_AS = "it is read as"
ODDITIES = {
    "sizes as strings": Oddity(**_fields("_bytes", str), warning=_READ_AS),
    "sizes with a fraction": Oddity(**_fields("_bytes", float), warning=_READ_AS),
    "is_expired as text": Oddity(**_always(is_expired="false"), warning=_READ_AS),
    "is_expired as 0": Oddity(**_always(is_expired=0), warning=_READ_AS),
    "empty strings for null": Oddity(
        **_records(lambda _, value: "" if value is None else value), warning=f"{_READ_AS} None|{_READ_AS} null"
    ),
    "times with a blank": Oddity(**_fields("_at", lambda text: text.replace("T", " ")), warning=_READ_AS),
    "times in milliseconds": Oddity(**_fields("_at", _milliseconds), warning=_READ_AS),
    "times in milliseconds as strings": Oddity(**_fields("_at", lambda text: str(_milliseconds(text)))),
    "a status in lower case": Oddity(**_fields("status", str.lower), warning=_READ_AS),
    "an unknown status": Oddity(**_fields("status", lambda text: f"NEARLY_{text}"), warning="it is taken for"),
    "no status": Oddity(**_always(status=None), warning="it is taken for"),
    "success as text": Oddity(
        endpoints=ENVELOPES,
        respond=lambda valid, _: json.dumps(valid | {"success": "true"}).encode(),
        warning=_READ_AS,
    ),
    "a byte order mark": Oddity(endpoints=JSON, respond=lambda valid, _: codecs.BOM_UTF8 + json.dumps(valid).encode()),
    "a token for an empty time": Oddity(**_token(expires_in="")),
    "a token for a time in words": Oddity(**_token(expires_in="one hour")),
    "a token of an empty scope": Oddity(**_token(scope="")),
    "a token of scopes with commas": Oddity(**_token(scope=",".join(_SCOPES))),
    "a token of a list of scopes": Oddity(**_token(scope=list(_SCOPES))),
    "a secret of odd characters": Oddity(endpoints=TOKENS, respond=_checked_credentials),
    "hosts that end in the path": Oddity(hosts=("{url}/api", "{url}/pull")),
    "hosts that end in the version": Oddity(hosts=("{url}/api/v1/", "{url}/pull/v1/")),
    "is_expired as no": Oddity(
        **_always(is_expired="no"), refused="'is_expired' is a string of 2 characters and not true or false"
    ),
    "a time in words": Oddity(
        **_always(created_at="yesterday"), refused="'created_at' is a string of 9 characters and not a time"
    ),
    "a size with a comma": Oddity(
        **_always(download_size_compressed_bytes="1,010"), refused="is a string of 5 characters and not a size"
    ),
    "null for a list": Oddity(endpoints=LISTS, respond=_null_list, refused="is not an array"),
    "a proxy that wants credentials": Oddity(
        variables={"HTTP_PROXY": "http://user:pw@127.0.0.1:{proxy}"},
        refused=r"The proxy 127\.0\.0\.1:\d+ \(set by HTTP_PROXY\) refused a request to http://127.* \(407\)",
    ),
    "a proxy that is not there": Oddity(
        variables={"HTTP_PROXY": "http://127.0.0.1:9"},
        refused=r"the proxy 127\.0\.0\.1:9 \(set by HTTP_PROXY\) did not connect",
        passing=True,
    ),
    "a proxy with a typo": Oddity(
        variables={"ALL_PROXY": "http:/127.0.0.1:9"}, refused="ALL_PROXY does not hold a usable proxy URL"
    ),
    "no certificates": Oddity(
        hosts=("https://127.0.0.1:{port}", "https://127.0.0.1:{port}"),
        variables={"REQUESTS_CA_BUNDLE": "/no/such/bundle.pem"},
        refused="REQUESTS_CA_BUNDLE names '/no/such/bundle.pem', from which no certificates can be read",
    ),
    "hosts that are not known": Oddity(
        hosts=("http://isvapp.invalid", "http://productiv.invalid"),
        refused=r"the host name is unknown\). Check the connection's (host|extra auth_url); if it is right",
        passing=True,
    ),
}
