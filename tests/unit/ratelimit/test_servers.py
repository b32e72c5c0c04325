# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Redis and PostgreSQL: outages, hangs, restarts and error messages."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote, quote_plus, urlsplit

import psycopg
import pytest
import redis

from airflow_provider_isvapp.errors import LimiterUnavailable
from airflow_provider_isvapp.ratelimit import open_limiter, open_storage
from airflow_provider_isvapp.ratelimit.algorithm import RateLimit, decode, fully_busy
from airflow_provider_isvapp.ratelimit.limiter import SharedLimiter
from airflow_provider_isvapp.ratelimit.storage import LONGEST_TEXT, Storage, refused, unavailable
from tests.support.services import ESCAPED_PASSWORD, PASSWORD, Server
from tests.unit.ratelimit.harness import shared_state, wait_for_queue


def written(text: str | None, now: float) -> tuple[str, str | None]:
    return "written", text


def unavailable_error(storage: Storage) -> str:
    with pytest.raises(LimiterUnavailable) as raised:
        storage.update(written, timeout=0.2)
    storage.release()
    assert raised.value.__context__ is None
    message = str(raised.value)
    assert PASSWORD not in message
    assert ESCAPED_PASSWORD not in message
    assert f"127.0.0.1:{storage_port(storage)}" in message
    assert "rate_limit_storage" in message
    return message


def storage_port(storage: Storage) -> str:
    return storage.name.partition("127.0.0.1:")[2].partition("/")[0]


def test_time_is_the_servers(server: Server, key: str) -> None:
    storage = open_storage(server.url, key=key)
    assert abs(storage.update(lambda text, now: ("x", now), timeout=1) - time.time()) < 5
    storage.release()


def test_updates_of_many_threads_are_all_kept(server: Server, key: str) -> None:
    storage = open_storage(server.url, key=key)

    def count() -> None:
        for _ in range(20):
            storage.update(lambda text, now: (str(int(text or 0) + 1), None), timeout=30)
        storage.release()

    threads = [threading.Thread(target=count) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.update(written, timeout=1) == "100"
    storage.release()


def test_a_stopped_server_is_an_error_within_the_bound(server: Server, key: str) -> None:
    storage = open_storage(server.url, key=key)
    storage.update(written, timeout=1)
    server.stop()
    start = time.monotonic()
    assert "does not respond" in unavailable_error(storage)
    assert time.monotonic() - start < 15


def test_a_hanging_server_is_an_error_within_the_bound(
    server: Server, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("redis", "postgresql"):
        monkeypatch.setattr(f"airflow_provider_isvapp.ratelimit.storage_{kind}._TIMEOUT", 1)
    fresh, used = open_storage(server.url, key=key), open_storage(server.url, key=key)
    used.update(written, timeout=1)
    server.pause()
    for storage in (used, fresh):
        start = time.monotonic()
        unavailable_error(storage)
        assert time.monotonic() - start < 15


def test_no_permit_without_the_server(server: Server, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_isvapp.ratelimit.limiter.ACQUIRE_TIMEOUT", 0.5)
    server.stop()
    limiter = open_limiter(server.url, key=key, requests_per_second=2)
    with pytest.raises(LimiterUnavailable), limiter.acquire():
        pytest.fail("sent without a permit")


def test_a_waiter_outlasts_a_restart(server: Server, key: str) -> None:
    limiter = open_limiter(server.url, key=key, requests_per_second=2)
    limiter.block_for(2)
    sent = threading.Event()

    def send() -> None:
        with limiter.acquire():
            sent.set()

    waiter = threading.Thread(target=send)
    waiter.start()
    wait_for_queue(server.url, 1, key=key)
    server.stop()
    server.start()
    waiter.join(20)
    assert sent.is_set()


def test_the_error_about_a_wrong_password_contains_no_password(server: Server, key: str) -> None:
    message = unavailable_error(open_storage(server.url.replace(ESCAPED_PASSWORD, "wr0ng-secret"), key=key))
    assert "wr0ng-secret" not in message
    assert "password" in message.lower()


def test_a_name_without_password_in_every_repr(server: Server, key: str) -> None:
    limiter = open_limiter(server.url, key=key, requests_per_second=2)
    assert ESCAPED_PASSWORD not in repr(limiter)
    assert f"127.0.0.1:{server.port}" in repr(limiter)


@pytest.mark.parametrize("text", ["not json", "[" * 2_000_000, ""], ids=["broken", "far too long", "empty"])
def test_a_foreign_text_is_treated_as_lost_and_replaced(server: Server, key: str, text: str) -> None:
    storage = open_storage(server.url, key=key)
    storage.update(lambda _, now: (text, None), timeout=1)
    read = storage.update(written, timeout=1)
    assert read == text[: LONGEST_TEXT + 1]
    assert decode(read, RateLimit.of(2), 5.0) == fully_busy(RateLimit.of(2), 5.0)
    assert storage.update(written, timeout=1) == "written"
    storage.release()


@pytest.mark.parametrize("password", ["p@ss w:rd/ü", "two  spaces+plus", "'quoted\\'", "short", "%41%zz"])
@pytest.mark.parametrize("spelling", [str, quote, quote_plus, repr, lambda text: quote(text, safe="")])
@pytest.mark.parametrize(
    "place", ["redis://user:{}@host/0", "postgresql://host/db?user=u&password={}&sslpassword=yyyyyy"]
)
def test_no_spelling_of_a_password_gets_into_a_message(
    password: str, spelling: Callable[[str], str], place: str
) -> None:
    url = urlsplit(place.format(quote(password, safe="")))
    error = ConnectionError(f"no connection with {spelling(password)} or so {'x' * 1000}")
    for message in (
        str(unavailable(url, error)),
        str(refused(url, error, where="key x")),
    ):
        assert spelling(password).strip("'") not in message
        assert "no connection with" in message
        assert len(message) < 1000


@pytest.mark.parametrize(
    "response", [b"+OK\r\n", b"*2\r\n$1\r\nx\r\n:7\r\n", b"HTTP/1.1 400 No\r\n\r\n", b"$x\r\n", b"R", b""]
)
@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_a_server_of_another_protocol_is_unavailable(scheme: str, response: bytes, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1000)
                        connection.sendall(response)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        unavailable_error(open_storage(f"{scheme}://:s3cret@127.0.0.1:{listener.getsockname()[1]}/0", key=key))
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_an_invalid_host_name_is_unavailable(scheme: str, host: str, key: str) -> None:
    with pytest.raises(LimiterUnavailable, match="rate_limit_storage"):
        open_storage(f"{scheme}://:s3cret@{host}:1/0", key=key).update(written, timeout=0)


class TestRedis:
    @pytest.mark.parametrize("kind", ["list", "hash", "set"])
    def test_a_key_of_another_type_is_refused_by_name(self, redis_server: Server, key: str, kind: str) -> None:
        client = redis.Redis.from_url(redis_server.url)
        name = f"isvapp:rate-limit:{key}"
        match kind:
            case "list":
                client.rpush(name, "a")
            case "hash":
                client.hset(name, "a", "b")
            case "set":
                client.sadd(name, "a")
        message = unavailable_error(open_storage(redis_server.url, key=key))
        assert "WRONGTYPE" in message
        assert f"whether another program uses key {name}" in message
        client.delete(name)
        client.close()

    @pytest.mark.parametrize("state", [b"\xff\xfe\x00", b"\xc3" * 600_000])
    def test_a_state_that_is_not_utf_8_is_replaced(self, redis_server: Server, key: str, state: bytes) -> None:
        with redis.Redis.from_url(redis_server.url) as client:
            client.set(f"isvapp:rate-limit:{key}", state)
        storage = open_storage(redis_server.url, key=key)
        assert storage.update(written, timeout=1) is not None
        assert storage.update(written, timeout=1) == "written"

    def test_a_lost_state_is_not_treated_as_new(self, redis_server: Server, key: str) -> None:
        limiter = open_limiter(redis_server.url, key=key, requests_per_second=2)
        with limiter.acquire():
            pass
        with redis.Redis.from_url(redis_server.url) as client:
            client.flushall()
        start = time.monotonic()
        with limiter.acquire():
            assert 0.99 <= time.monotonic() - start < 5

    def test_an_unused_key_expires(self, redis_server: Server, key: str) -> None:
        open_storage(redis_server.url, key=key).update(written, timeout=1)
        with redis.Redis.from_url(redis_server.url) as client:
            assert 3590 <= client.ttl(f"isvapp:rate-limit:{key}") <= 3600


class TestPostgresql:
    def sessions(self, server: Server, *, expected: int) -> int:
        """Wait for the expected number and return the number: a server notices the end of a connection late."""
        deadline = time.monotonic() + 3
        with psycopg.connect(server.url, autocommit=True) as connection:
            while True:
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'airflow-provider-isvapp'"
                ).fetchone()
                assert row is not None
                count: int = row[0]
                if count == expected or time.monotonic() > deadline:
                    return count
                time.sleep(0.01)

    def test_many_processes_can_create_the_table(self, postgresql_server: Server, key: str) -> None:
        with psycopg.connect(postgresql_server.url) as connection:
            connection.execute("DROP TABLE IF EXISTS isvapp_rate_limit")
        results: list[str | None] = []
        barrier = threading.Barrier(8)

        def first_use() -> None:
            storage = open_storage(postgresql_server.url, key=key)
            barrier.wait()
            results.append(storage.update(written, timeout=5))
            storage.release()

        threads = [threading.Thread(target=first_use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, results)) == ["None"] + ["written"] * 7

    def test_a_locked_row_is_an_error_within_the_bound(self, postgresql_server: Server, key: str) -> None:
        storage = open_storage(postgresql_server.url, key=key)
        storage.update(written, timeout=1)
        with psycopg.connect(postgresql_server.url) as connection:
            connection.execute("SELECT * FROM isvapp_rate_limit WHERE key = %s FOR UPDATE", [key])
            start = time.monotonic()
            assert "lock timeout" in unavailable_error(storage)
            assert time.monotonic() - start < 8

    def test_a_long_wait_occupies_no_connection(self, postgresql_server: Server, key: str) -> None:
        sleeps = []

        def sleep(seconds: float) -> None:
            expected = 0 if seconds > 2 else 1
            assert self.sessions(postgresql_server, expected=expected) == expected
            sleeps.append(expected)

        limiter = SharedLimiter(
            open_storage(postgresql_server.url, key=key),
            rate_limit=RateLimit.of(2),
            wait_timeout=6,
            clock=lambda: len(sleeps) * 2.5,
            on_wait=lambda message: None,
            sleep=sleep,
        )
        limiter.block_for(60)
        with pytest.raises(Exception, match="A request waited"), limiter.acquire():
            pass
        assert sleeps == [0, 0, 1]
        assert self.sessions(postgresql_server, expected=0) == 0

    @pytest.mark.parametrize(
        "column", ["state text", "state bytea", "state json", "state int", "other text"], ids=lambda name: name
    )
    def test_a_foreign_table_is_named_in_the_error_or_used(
        self, postgresql_server: Server, key: str, column: str
    ) -> None:
        with psycopg.connect(postgresql_server.url) as connection:
            connection.execute("DROP TABLE IF EXISTS isvapp_rate_limit")
            connection.execute(f"CREATE TABLE isvapp_rate_limit (key text PRIMARY KEY, {column})")
            connection.execute("INSERT INTO isvapp_rate_limit (key) VALUES (%s)", [key])
        storage = open_storage(postgresql_server.url, key=key)
        try:
            if column == "state text":  # and NULL in it
                assert storage.update(written, timeout=1) == ""
                assert storage.update(written, timeout=1) == "written"
            else:
                assert "table isvapp_rate_limit" in unavailable_error(storage)
        finally:
            storage.release()
            with psycopg.connect(postgresql_server.url) as connection:
                connection.execute("DROP TABLE isvapp_rate_limit")

    def test_two_rows_of_one_key_are_refused(self, postgresql_server: Server, key: str) -> None:
        with psycopg.connect(postgresql_server.url) as connection:
            connection.execute("DROP TABLE IF EXISTS isvapp_rate_limit")
            connection.execute("CREATE TABLE isvapp_rate_limit (key text, state text)")
            connection.execute("INSERT INTO isvapp_rate_limit VALUES (%s, 'a'), (%s, 'b')", [key, key])
        try:
            assert "more than one row" in unavailable_error(open_storage(postgresql_server.url, key=key))
        finally:
            with psycopg.connect(postgresql_server.url) as connection:
                connection.execute("DROP TABLE isvapp_rate_limit")

    def test_a_database_without_an_encoding(self, postgresql_server: Server, key: str) -> None:
        with psycopg.connect(postgresql_server.url, autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS bytes")
            connection.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0")
        url = postgresql_server.url.replace("/postgres", "/bytes")
        storage = open_storage(url, key=key)
        assert storage.update(written, timeout=1) is None
        assert storage.update(written, timeout=1) == "written"
        with psycopg.connect(url, client_encoding="SQL_ASCII") as connection:
            connection.execute("UPDATE isvapp_rate_limit SET state = chr(255)")
        unavailable_error(storage)

    def test_a_missing_privilege_is_named_in_the_error(self, postgresql_server: Server, key: str) -> None:
        with psycopg.connect(postgresql_server.url) as connection:
            connection.execute("DROP TABLE IF EXISTS isvapp_rate_limit")
            connection.execute("DROP ROLE IF EXISTS reader")
            connection.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'")
        url = f"postgresql://reader:reader@127.0.0.1:{postgresql_server.port}/postgres"
        with pytest.raises(LimiterUnavailable, match="permission denied"):
            open_storage(url, key=key).update(written, timeout=0)
        assert shared_state(postgresql_server.url, key=key)["queue"] == []
