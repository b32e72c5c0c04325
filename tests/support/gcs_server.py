# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Google Cloud Storage's JSON API in memory, with Google's refusals.

The emulators on the package index accept what Google refuses: gcp-storage-emulator and fake-gcs-server ignore the
preconditions of a resumable upload, and accept chunks of any size. This server follows
https://docs.cloud.google.com/storage/docs/performing-resumable-uploads and .../request-preconditions. It runs inside a
test (:class:`GcsServer`), or as a program behind a proxy that speaks TLS.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import secrets
import signal
import threading
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from itertools import count
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
from google.auth import jwt

from tests.support.http_server import HttpServer, QuietHandler

CHUNK_BYTES = 256 * 1024
_WRITABLE = ("cacheControl", "contentDisposition", "contentEncoding", "contentType", "customTime", "metadata")
_REASONS = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    410: "gone",
    412: "conditionNotMet",
    503: "backendError",
}


class Refusal(Exception):
    """A response other than success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Session:
    """A resumable upload, complete or not."""

    bucket: str
    resource: dict[str, Any]
    query: dict[str, str]
    data: bytearray = field(default_factory=bytearray)
    crc32c: Any = field(default_factory=google_crc32c.Checksum)
    md5: Any = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))
    created: dict[str, Any] | None = None

    def append(self, data: bytes) -> None:
        self.data += data
        self.crc32c.update(data)
        self.md5.update(data)


class Store:
    """Buckets, their objects and unfinished uploads.

    :ivar buckets: objects by bucket and name: the resource and the bytes.
    :ivar sessions: resumable uploads by id; a deleted one is None.
    :ivar tokens: the access tokens that are accepted; None accepts every request, as an emulator does.
    :ivar public_keys: the keys of service accounts by email address; a request signed with one gets a token.
    :ivar refresh_tokens: the refresh tokens of users; a request with one gets a token.
    :ivar denied: permissions that no caller has, such as ``storage.objects.update``.
    :ivar requester_pays: buckets that take only requests with a ``userProject``.
    """

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, tuple[dict[str, Any], bytearray]]] = {}
        self.sessions: dict[str, Session | None] = {}
        self.tokens: set[str] | None = None
        self.public_keys: dict[str, str] = {}
        self.refresh_tokens: set[str] = set()
        self.denied: set[str] = set()
        self.requester_pays: set[str] = set()
        self.lock = threading.RLock()
        self._generations = count(1_700_000_000_000_000)

    def objects(self, bucket: str) -> dict[str, tuple[dict[str, Any], bytearray]]:
        if bucket not in self.buckets:
            raise Refusal(404, "The specified bucket does not exist.")
        return self.buckets[bucket]

    def find(self, bucket: str, name: str, query: dict[str, str]) -> tuple[dict[str, Any], bytearray]:
        found = self.objects(bucket).get(name)
        if found is None or query.get("generation", found[0]["generation"]) != found[0]["generation"]:
            raise Refusal(404, f"No such object: {bucket}/{name}")
        check_preconditions(found[0], query)
        return found

    def create(self, session: Session, sent_hashes: str) -> dict[str, Any]:
        """Publish the bytes of an upload."""
        name, data = session.resource["name"], session.data
        hashes = {
            "crc32c": b64encode(session.crc32c.digest()).decode(),
            "md5Hash": b64encode(session.md5.digest()).decode(),
        }
        expected = {key: session.resource[key] for key in hashes if key in session.resource}
        for part in filter(None, sent_hashes.split(",")):
            kind, _, digest = part.strip().partition("=")
            expected["md5Hash" if kind == "md5" else kind] = digest
        for key, digest in expected.items():
            if hashes[key] != digest:
                raise Refusal(400, f'Provided {key} "{digest}" doesn\'t match calculated {key} "{hashes[key]}".')
        with self.lock:
            objects = self.objects(session.bucket)
            older = objects.get(name)
            check_preconditions(None if older is None else older[0], session.query)
            if older is not None:
                self.permit("storage.objects.delete")
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            resource = {
                "contentType": "application/octet-stream",
                "storageClass": "STANDARD",
                **{key: value for key, value in session.resource.items() if key not in hashes},
                **({"kmsKeyName": session.query["kmsKeyName"]} if "kmsKeyName" in session.query else {}),
                **hashes,
                "kind": "storage#object",
                "id": f"{session.bucket}/{name}",
                "name": name,
                "bucket": session.bucket,
                "generation": str(next(self._generations)),
                "metageneration": "1",
                "size": str(len(data)),
                "timeCreated": now,
                "updated": now,
                "acl_of_test": session.query.get("predefinedAcl", ""),
            }
            objects[name] = (resource, data)
        return resource

    def permit(self, permission: str) -> None:
        if permission in self.denied:
            raise Refusal(403, f"The account does not have {permission} access to the Google Cloud Storage object.")


def check_preconditions(resource: dict[str, Any] | None, query: dict[str, str]) -> None:
    """Refuse a request whose preconditions do not hold with 412; a generation of 0 means no object."""
    state = resource or {"generation": "0", "metageneration": "0"}
    for name in ("generation", "metageneration"):
        wanted = query.get(f"if{name.capitalize()}Match")
        if wanted is not None and wanted != state[name]:
            raise Refusal(412, "At least one of the pre-conditions you specified did not hold.")


class GcsServer(HttpServer):
    """Serves a :class:`Store` at ``url``.

    :param scheme: the scheme of the upload URLs.
    :ivar seen: method and path with query of every request.
    :ivar fault: called first with each request; may change its body, and return a status to respond with.
    :ivar loses_response: whether the connection breaks after a request has been processed.
    """

    def __init__(self, *buckets: str, port: int = 0, scheme: str = "http") -> None:
        self.scheme = scheme
        self.store = Store()
        self.store.buckets.update({bucket: {} for bucket in buckets})
        self.seen: list[str] = []
        self.fault: Callable[[Any], int | None] = lambda request: None
        self.loses_response: Callable[[Any], bool] = lambda request: False
        super().__init__(port=port)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                server.seen.append(f"{self.command} {self.path}")
                url = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
                self.body = self._read()
                try:
                    if status := server.fault(self):
                        raise Refusal(status, "A fault of the test's.")
                    if url.path != "/token":
                        self._check_caller(query)
                    for method, pattern, endpoint in ROUTES:
                        found = re.fullmatch(pattern, url.path)
                        if method == self.command and found:
                            endpoint(self, *map(unquote, found.groups()), query)
                            return
                    raise Refusal(404, f"Not Found: {self.command} {url.path}")
                except Refusal as refusal:
                    error = {"domain": "global", "reason": _REASONS.get(refusal.status, ""), "message": str(refusal)}
                    self.respond_json(
                        {"error": {"code": refusal.status, "message": str(refusal), "errors": [error]}},
                        status=refusal.status,
                    )

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

            @property
            def store(self) -> Store:
                return server.store

            @property
            def url(self) -> str:
                return f"{server.scheme}://{self.headers['Host']}"

            def _read(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def _check_caller(self, query: dict[str, str]) -> None:
                token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                if server.store.tokens is not None and token not in server.store.tokens:
                    raise Refusal(401, "Invalid Credentials" if token else "Anonymous caller does not have access.")
                bucket = re.match(r"(?:/upload|/download)?/storage/v1/b/([^/]+)", self.path)
                if bucket and bucket[1] in server.store.requester_pays and "userProject" not in query:
                    raise Refusal(400, "Bucket is a requester pays bucket but no user project provided.")

            def respond(self, status: int, headers: dict[str, str], body: bytes | bytearray = b"") -> None:
                if server.loses_response(self):
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def respond_json(self, value: object, *, status: int = 200) -> None:
                self.respond(status, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(value).encode())

        return Handler


def _create_bucket(request: Any, query: dict[str, str]) -> None:
    name = json.loads(request.body)["name"]
    if name in request.store.buckets:
        raise Refusal(409, "You already own this bucket. Please select another name.")
    request.store.buckets[name] = {}
    request.respond_json({"kind": "storage#bucket", "name": name})


def _get_bucket(request: Any, bucket: str, query: dict[str, str]) -> None:
    request.store.objects(bucket)
    request.respond_json({"kind": "storage#bucket", "name": bucket})


def _list(request: Any, bucket: str, query: dict[str, str]) -> None:
    request.store.permit("storage.objects.list")
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    names, prefixes = [], set()
    for name in sorted(request.store.objects(bucket)):
        if not name.startswith(prefix) or name <= query.get("pageToken", ""):
            continue
        if delimiter and delimiter in name[len(prefix) :]:
            prefixes.add(prefix + name[len(prefix) :].partition(delimiter)[0] + delimiter)
        else:
            names.append(name)
    page = names[: int(query.get("maxResults", 1000))]
    listing: dict[str, Any] = {"kind": "storage#objects", "items": [request.store.buckets[bucket][n][0] for n in page]}
    if len(page) < len(names):
        listing["nextPageToken"] = page[-1]
    request.respond_json(listing | {"prefixes": sorted(prefixes)})


def _get(request: Any, bucket: str, name: str, query: dict[str, str]) -> None:
    request.store.permit("storage.objects.get")
    resource, data = request.store.find(bucket, name, query)
    if query.get("alt") != "media":
        request.respond_json(resource)
        return
    hashes = f"crc32c={resource['crc32c']},md5={resource['md5Hash']}"
    headers = {"Content-Type": resource["contentType"], "X-Goog-Hash": hashes}
    headers |= {"X-Goog-Generation": resource["generation"], "X-Goog-Metageneration": resource["metageneration"]}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
    if wanted is None:
        request.respond(200, headers, data)
        return
    begin, end = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
    if begin >= len(data):
        raise Refusal(416, "Request range not satisfiable")
    headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
    request.respond(206, headers, data[begin : end + 1])


def _patch(request: Any, bucket: str, name: str, query: dict[str, str]) -> None:
    request.store.permit("storage.objects.update")
    changes = json.loads(request.body or b"{}")
    with request.store.lock:
        resource, data = request.store.find(bucket, name, query)
        changed = resource | {key: value for key, value in changes.items() if key in _WRITABLE}
        if "metadata" in changes:
            merged = (resource.get("metadata") or {}) | (changes["metadata"] or {})
            changed["metadata"] = {key: value for key, value in merged.items() if value is not None}
        changed["metageneration"] = str(int(resource["metageneration"]) + 1)
        request.store.objects(bucket)[name] = (changed, data)
    request.respond_json(changed)


def _delete(request: Any, bucket: str, name: str, query: dict[str, str]) -> None:
    request.store.permit("storage.objects.delete")
    with request.store.lock:
        request.store.find(bucket, name, query)
        del request.store.objects(bucket)[name]
    request.respond(204, {})


def _insert(request: Any, bucket: str, query: dict[str, str]) -> None:
    if "upload_id" in query:
        _put_chunk(request, bucket, query)
        return
    store = request.store
    store.permit("storage.objects.create")
    store.objects(bucket)
    kind = query.get("uploadType")
    if kind == "resumable":
        resource = json.loads(request.body or b"{}")
        resource.setdefault("name", query.get("name"))
        resource.setdefault("contentType", request.headers.get("X-Upload-Content-Type") or "application/octet-stream")
        upload_id = secrets.token_hex(16)
        store.sessions[upload_id] = Session(bucket, resource, query)
        where = f"{request.url}{request.path}&upload_id={upload_id}"
        request.respond(200, {"Location": where, "X-GUploader-UploadID": upload_id})
        return
    if kind == "multipart":
        header = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        parts: Any = BytesParser().parsebytes(header + request.body).get_payload()
        resource = json.loads(parts[0].get_payload(decode=True))
        resource.setdefault("contentType", parts[1].get_content_type())
        boundary = re.search(r'boundary="?([^";]+)', request.headers["Content-Type"])[1].encode()  # type: ignore[index]
        second = request.body.split(b"--" + boundary)[2]
        content = second.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
    elif kind == "media":
        resource, content = {"contentType": request.headers.get("Content-Type")}, request.body
    else:
        raise Refusal(400, f"Unknown uploadType {kind!r}")
    resource.setdefault("name", query.get("name"))
    hashes = request.headers.get("X-Goog-Hash") or ""
    session = Session(bucket, resource, query)
    session.append(content)
    request.respond_json(store.create(session, hashes))


def _put_chunk(request: Any, bucket: str, query: dict[str, str]) -> None:
    """Store a chunk, or report how much has arrived; the last chunk publishes the object."""
    session = _session(request, query)
    if session.created is not None:
        request.respond_json(session.created)
        return
    given = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers.get("Content-Range") or "")
    if given is None:
        raise Refusal(400, "Failed to parse Content-Range header.")
    total = None if given[3] == "*" else int(given[3])
    if given[1] is not None:
        begin, end = int(given[1]), int(given[2])
        if end - begin + 1 != len(request.body):
            raise Refusal(400, "Content-Range does not fit Content-Length.")
        if total is None and len(request.body) % CHUNK_BYTES:
            raise Refusal(400, "Every chunk but the last must be a multiple of 262144 bytes.")
        if total is not None and end >= total:
            raise Refusal(400, "Content-Range ends after the object.")
        if begin > len(session.data):
            raise Refusal(503, "The chunk begins after what has arrived.")
        # Bytes that arrive twice are ignored (resumable-uploads#resent-data).
        session.append(request.body[len(session.data) - begin :])
    if total is not None and len(session.data) == total:
        try:
            session.created = request.store.create(session, request.headers.get("X-Goog-Hash") or "")
        except Refusal:
            # After Google has refused the last chunk, the upload cannot be completed.
            request.store.sessions[query["upload_id"]] = None
            raise
        request.respond_json(session.created)
        return
    # Without a Location, no client follows 308 as a redirect.
    request.respond(308, {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {})


def _cancel(request: Any, bucket: str, query: dict[str, str]) -> None:
    _session(request, query)
    request.store.sessions[query["upload_id"]] = None
    request.respond(499, {})


def _session(request: Any, query: dict[str, str]) -> Session:
    upload_id = query["upload_id"]
    if upload_id not in request.store.sessions:
        raise Refusal(404, "Not Found")
    session = request.store.sessions[upload_id]
    if session is None:
        raise Refusal(410, "The upload was cancelled or refused.")
    assert isinstance(session, Session)
    return session


def _token(request: Any, query: dict[str, str]) -> None:
    """Grant a token to a service account (RFC 7523) or to a user with a refresh token."""
    grant = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
    store = request.store
    if grant["grant_type"] == "refresh_token":
        granted = grant["refresh_token"] in store.refresh_tokens
    else:
        issuer = jwt.decode(grant["assertion"], verify=False)["iss"]
        granted = issuer in store.public_keys
        if granted:
            jwt.decode(
                grant["assertion"], certs=store.public_keys[issuer], audience="https://oauth2.googleapis.com/token"
            )
    if not granted:
        request.respond_json({"error": "invalid_grant", "error_description": "Not a valid email."}, status=400)
        return
    token = f"ya29.{secrets.token_hex(8)}"
    if store.tokens is not None:
        store.tokens.add(token)
    request.respond_json({"access_token": token, "token_type": "Bearer", "expires_in": 3600})


_BUCKET = r"/storage/v1/b/([^/]+)"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("POST", r"/token", _token),
    ("POST", r"/storage/v1/b", _create_bucket),
    ("GET", _BUCKET, _get_bucket),
    ("GET", rf"{_BUCKET}/o", _list),
    ("GET", rf"(?:/download)?{_BUCKET}/o/([^/]+)", _get),
    ("PATCH", rf"{_BUCKET}/o/([^/]+)", _patch),
    ("DELETE", rf"{_BUCKET}/o/([^/]+)", _delete),
    ("POST", rf"/upload{_BUCKET}/o", _insert),
    ("PUT", rf"/upload{_BUCKET}/o", _put_chunk),
    ("DELETE", rf"/upload{_BUCKET}/o", _cancel),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bucket", required=True)
    arguments = parser.parse_args()
    with GcsServer(arguments.bucket, port=arguments.port, scheme="https"):
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
