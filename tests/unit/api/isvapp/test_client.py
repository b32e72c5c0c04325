# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.models import ExportRequest
from airflow_provider_isvapp.api.settings import IsvappSettings
from airflow_provider_isvapp.errors import (
    BrokenTransfer,
    ContractBroken,
    ExportError,
    ExportExpired,
    ExportFailed,
    ForeignURL,
    InvalidArgument,
    OutcomeUnknown,
    RequestRefused,
    UnexpectedResponse,
)
from tests.support.scripted_server import ScriptedResponse, ScriptedServer, data, token
from tests.unit.api.conftest import FakeTime, RecordingLimiter

REQUEST = ExportRequest.checked(timeframe="2024-02", taxonomy_ids=["t1"])
FILE = b"\x1f\x8b not really gzip, but bytes are bytes here"


@pytest.fixture
def client(server: ScriptedServer, limiter: RecordingLimiter, time: FakeTime) -> Iterator[IsvappClient]:
    settings = IsvappSettings.from_connection(login="client", password="secret", host=server.url, extra={"attempts": 2})
    with IsvappClient(settings, limiter=limiter, clock=time, sleep=time.sleep) as running:
        yield running


def completed(
    server: ScriptedServer, path: str = "/api/v1/exports/e1/download/t", **fields: object
) -> ScriptedResponse:
    return data({"id": "e1", "status": "COMPLETED", "download_url": f"{server.url}{path}"} | fields)


def test_each_endpoint_requests_only_its_own_scope(server, client):
    server.script("/api/oauth2/token", token("a"), token("b"), token("c"))
    server.script("/api/v1/account", data({"id": 7, "company_name": "Example GmbH", "plan": "gold"}))
    server.script("/api/v1/exports", data([]))
    server.script("/api/v1/salesforce_accounts", data([]))

    account = client.get_account()
    assert (account.id, account.company_name, dict(account.extra)) == ("7", "Example GmbH", {"plan": "gold"})
    assert client.list_exports() == []
    assert client.list_salesforce_accounts() == []

    assert [seen.form["scope"] for seen in server.seen if seen.method == "POST"] == [
        "identity",
        "exports",
        "salesforce_accounts",
    ]


def test_a_create_sends_the_request_and_returns_the_record(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports", data({"id": "e1", "status": "PENDING", "type": "TAXONOMY_ITEM"}))

    assert client.create_export(REQUEST).id == "e1"

    assert json.loads(server.seen[-1].body) == REQUEST.payload()


def test_a_create_without_a_response_is_not_sent_again(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports", ScriptedResponse(fault="reset"), data({"id": "second", "status": "PENDING"}))

    with pytest.raises(OutcomeUnknown, match="ISVapp did not confirm POST /api/v1/exports"):
        client.create_export(REQUEST)
    assert server.paths().count("/api/v1/exports") == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome</html>",
        b'{"data": ',
        b'{"success": true, "data": {"id": "e1", "x": 1e999999}}',
        b" " * 2**27,
    ],
    ids=["empty", "a web page", "cut off", "a number out of range", "128 MiB"],
)
def test_a_create_with_an_unreadable_response_has_an_unknown_outcome(server, client, body):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports", ScriptedResponse(201, body), data({"id": "second", "status": "PENDING"}))

    with pytest.raises(OutcomeUnknown, match="may have been carried out"):
        client.create_export(REQUEST)
    assert server.paths().count("/api/v1/exports") == 1


def test_a_byte_order_mark_is_ignored(server, client):
    server.script("/api/oauth2/token", ScriptedResponse(body=b"\xef\xbb\xbf" + token().body))
    server.script("/api/v1/account", ScriptedResponse(body=b"\xef\xbb\xbf" + data({"id": 1}).body))

    assert client.get_account().id == "1"


def test_an_oddity_of_every_record_is_logged_once(server, client, caplog):
    server.script("/api/oauth2/token", token())
    records = [{"id": f"e{number}", "status": "LIMBO", "is_expired": "false"} for number in range(3)]
    server.script("/api/v1/exports", *[data(records, success="true")] * 2)

    for _ in range(2):
        assert [(export.status, export.is_expired) for export in client.list_exports()] == [("PENDING", False)] * 3

    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 3
    assert "ISVapp sends 'success' as a string of 4 characters" in warned[0]
    assert "Export e0 has the status 'LIMBO', which is not documented; it is taken for PENDING" in warned[1]
    assert "Export e0: the field 'is_expired' is a string of 5 characters" in warned[2]


def test_another_export_than_requested_is_loud(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", data({"id": "e2", "status": "PENDING"}))

    with pytest.raises(ContractBroken, match="responded to a request for export e1 with export e2"):
        client.get_export("e1")


@pytest.mark.parametrize(
    ("export_id", "message"),
    [
        ("", "export_id: must be a non-empty string, not ''"),
        ("  ", "export_id: must be a non-empty string"),
        (True, "export_id: must be a non-empty string, not True"),
        (["e1"], "export_id: must be a non-empty string"),
        (5, "export_id: must be a string, not the number 5. render_template_as_native_obj turns an id"),
        (1e5, "export_id: must be a string, not the number"),
        (None, "export_id: must be an id, not None. A template that finds nothing"),
        ("None", "export_id: must be an id, not 'None'. A template that finds nothing renders to 'None'"),
        ("{{ ti.xcom_pull('create') }}", "the template .* is not rendered"),
    ],
)
def test_an_id_that_is_none_is_an_error_before_anything_is_sent(server, client, export_id, message):
    with pytest.raises(InvalidArgument, match=message):
        client.get_export(export_id)
    assert server.seen == []


def test_an_export_id_cannot_change_the_path(server, client):
    server.script("/api/oauth2/token", token())
    server.script(
        "/api/v1/exports/..%2Faccount", ScriptedResponse(404, b'{"error": "no such export", "success": false}')
    )

    with pytest.raises(RequestRefused, match="no such export"):
        client.get_export("../account")


@pytest.mark.parametrize(
    ("response", "kind", "message"),
    [
        (
            ScriptedResponse(body=b'{"error": "maintenance", "success": false}'),
            RequestRefused,
            "refused GET /api/v1/account: maintenance",
        ),
        (ScriptedResponse(body=b'{"success": false}'), RequestRefused, "without a message"),
        (ScriptedResponse(body=b""), UnexpectedResponse, "an empty body"),
        (ScriptedResponse(body=b"  \n"), UnexpectedResponse, "an empty body"),
        (
            ScriptedResponse(body=b"<html>hi</html>", headers={"Content-Type": "text/html"}),
            UnexpectedResponse,
            "a web page (text/html, 15 bytes)",
        ),
        (ScriptedResponse(body=b'{"data": '), UnexpectedResponse, "something that is not a JSON object"),
        (ScriptedResponse(body=b"\xff\xfe"), UnexpectedResponse, "something that is not a JSON object"),
        (ScriptedResponse(body=b"[1]"), ContractBroken, "something that is not a JSON object"),
        (ScriptedResponse(body=b'{"data": {"id": 1}}'), ContractBroken, "documented envelope"),
        (ScriptedResponse(body=b'{"success": true}'), ContractBroken, "documented envelope"),
        (ScriptedResponse(body=b'{"success": "yes", "data": 1}'), ContractBroken, "documented envelope"),
        (
            ScriptedResponse(body=b'{"success": "false", "error": "no"}'),
            RequestRefused,
            "refused GET /api/v1/account: no",
        ),
        (data({"company_name": "x"}), ContractBroken, "an account without an id"),
        (data([]), ContractBroken, "an account without an id"),
        (ScriptedResponse(204), UnexpectedResponse, "status 204 and an empty body"),
    ],
)
def test_undocumented_responses(server, client, response, kind, message):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/account", response)

    with pytest.raises(kind) as caught:
        client.get_account()
    assert message in str(caught.value)


def test_accounts_take_both_parameters_and_keep_the_vendors_bytes(server, client):
    rows = [
        b'{"salesforce_id":"001", "score":1.50,"name":"Caf\\u00e9","name":"twice"}',
        b'{\n  "big": 12345678901234567890,\r\n  "text": "a  b\\n"\n}',
    ]
    server.script("/api/oauth2/token", token())
    server.script(
        "/api/v1/salesforce_accounts",
        ScriptedResponse(body=b'{"data": [' + b" ,\n".join(rows) + b'], "success": true}'),
    )

    lines = client.salesforce_account_lines(include_health_scores=True, include_subscriber_orgs=True).lines

    assert lines == (rows[0], b'{"big":12345678901234567890,"text":"a  b\\n"}')
    assert server.seen[-1].query == {"includeHealthScores": "1", "includeSubscriberOrgs": "1"}


def test_accounts_without_parameters_send_none(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/salesforce_accounts", data([{"salesforce_id": "001"}]))

    assert client.list_salesforce_accounts() == [{"salesforce_id": "001"}]
    assert server.seen[-1].query == {}


@pytest.mark.parametrize(
    ("value", "message"), [({}, "'data' is not an array"), ([{}, 5], "element 1 of 'data' is not an object")]
)
def test_accounts_of_another_shape_are_loud(server, client, value, message):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/salesforce_accounts", data(value))

    with pytest.raises(ContractBroken, match=message):
        client.salesforce_account_lines()


def test_a_download_requests_the_url_and_streams_the_bytes_on_the_wire(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", completed(server, download_size_compressed_bytes=len(FILE)))
    answer_headers = {"ETag": '"v1"', "Accept-Ranges": "bytes", "Content-Encoding": "gzip"}
    server.script("/api/v1/exports/e1/download/t", ScriptedResponse(body=FILE, headers=answer_headers))

    with client.open_download("e1") as body:
        assert (body.start, body.content_length, body.validator, body.accepts_ranges) == (0, len(FILE), '"v1"', True)
        assert body.export.download_size_compressed_bytes == len(FILE)
        assert body.read(10) + body.read(1000) + body.read(1000) == FILE

    assert "range" not in server.seen[-1].headers
    assert server.seen[-1].headers["authorization"] == "Bearer token-1"


def test_the_log_of_the_http_library_shows_no_download_token(server, client, caplog):
    caplog.set_level("DEBUG")
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", completed(server, "/api/v1/exports/e1/download/sentinel"))
    server.script("/api/v1/exports/e1/download/sentinel", ScriptedResponse(body=FILE))

    with client.open_download("e1") as body:
        body.read(1000)

    assert "GET /api/v1/exports/e1/download/*** " in caplog.text
    assert "sentinel" not in caplog.text


def test_a_download_continues_where_it_was_if_the_file_is_the_same(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", completed(server))
    headers = {"Content-Range": f"bytes 5-{len(FILE) - 1}/{len(FILE)}", "ETag": '"v1"'}
    server.script("/api/v1/exports/e1/download/t", ScriptedResponse(206, FILE[5:], headers))

    with client.open_download("e1", offset=5, validator='"v1"') as body:
        assert body.start == 5
        assert body.read(1000) == FILE[5:]
    assert server.seen[-1].headers["range"] == "bytes=5-"
    assert server.seen[-1].headers["if-range"] == '"v1"'


def test_without_a_validator_a_download_starts_again(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", completed(server))
    server.script("/api/v1/exports/e1/download/t", ScriptedResponse(body=FILE))

    with client.open_download("e1", offset=5) as body:
        assert body.start == 0
    assert "range" not in server.seen[-1].headers


def test_another_part_than_requested_is_loud(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", completed(server))
    server.script("/api/v1/exports/e1/download/t", ScriptedResponse(206, FILE[4:], {"Content-Range": "bytes 4-9/10"}))

    with pytest.raises(UnexpectedResponse, match="status 206 and not with the file"):
        client.open_download("e1", offset=5, validator='"v1"')


def test_a_range_that_no_longer_exists_starts_again(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", completed(server))
    server.script("/api/v1/exports/e1/download/t", ScriptedResponse(416), ScriptedResponse(body=FILE))

    with client.open_download("e1", offset=500, validator='"v1"') as body:
        assert body.start == 0
        assert body.read(1000) == FILE


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_url_that_died_is_renewed_from_the_record(server, client, status):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", completed(server, "/old"), completed(server, "/new"))
    server.script("/old", ScriptedResponse(status, b'{"error": "link expired"}'))
    server.script("/new", ScriptedResponse(body=FILE))

    with client.open_download("e1") as body:
        assert body.read(1000) == FILE


def test_an_export_that_expired_meanwhile_has_its_own_error(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", completed(server, "/old"), completed(server, "/old", is_expired=True))
    server.script("/old", ScriptedResponse(410, b'{"error": "gone"}'))

    with pytest.raises(ExportExpired, match="Export e1 expired"):
        client.open_download("e1")


def test_a_url_that_is_refused_twice_is_the_vendors_refusal(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", completed(server, "/sentinel-1"), completed(server, "/sentinel-2"))
    server.script("*", *[ScriptedResponse(404, b'{"error": "no such file"}')] * 2)

    with pytest.raises(RequestRefused, match=r"refused the download of export e1 .*no such file") as caught:
        client.open_download("e1")
    assert "sentinel" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "kind", "message"),
    [
        ({"status": "PENDING"}, ExportError, "Export e1 is still PENDING and has no file yet"),
        ({"status": "ERRORED", "error_message": "too large"}, ExportFailed, "too large"),
        ({"status": "COMPLETED", "is_expired": True}, ExportExpired, "expired"),
        ({"status": "COMPLETED"}, ContractBroken, "has no download_url"),
    ],
)
def test_the_error_has_the_reason_why_an_export_cannot_be_downloaded(server, client, record, kind, message):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", data({"id": "e1"} | record))

    with pytest.raises(kind, match=message):
        client.open_download("e1")


@pytest.mark.parametrize(
    "url",
    ["https://evil.test/api/v1/exports/e1/download/sentinel", "/relative/sentinel", "file:///etc/passwd?sentinel"],
)
def test_a_download_url_elsewhere_gets_no_token(server, client, url):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", data({"id": "e1", "status": "COMPLETED", "download_url": url}))

    with pytest.raises(ForeignURL, match="the download of export e1 would lead to") as caught:
        client.open_download("e1")
    assert "sentinel" not in str(caught.value)
    assert server.paths() == ["/api/oauth2/token", "/api/v1/exports/e1"]


@pytest.mark.parametrize(
    "response",
    [
        ScriptedResponse(body=FILE[:20], headers={"Content-Length": str(len(FILE))}),
        ScriptedResponse(body=FILE[:20], headers={"Content-Length": "4000000"}),
    ],
)
def test_a_body_that_ends_early_is_broken_and_not_short(server, client, response):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", completed(server))
    server.script("/api/v1/exports/e1/download/t", response)

    broken = pytest.raises(BrokenTransfer, match="download of export e1 broke off")
    with client.open_download("e1") as body, broken as caught:
        list(iter(lambda: body.read(8), b""))
    assert caught.value.__context__ is None


def test_a_weak_validator_is_not_used(server, client):
    server.script("/api/oauth2/token", token())
    server.script("/api/v1/exports/e1", completed(server))
    server.script("/api/v1/exports/e1/download/t", ScriptedResponse(body=FILE, headers={"ETag": 'W/"v1"'}))

    with client.open_download("e1") as body:
        assert body.validator is None
