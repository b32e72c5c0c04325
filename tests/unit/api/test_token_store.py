# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Processes share one token through a real storage, and access to the storage alone gives an attacker nothing."""

from __future__ import annotations

import base64
import multiprocessing
import time as real_time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from airflow_provider_isvapp.api.auth import LEASE, RENEW_BEFORE, IssuedToken, OpenStorage, TokenStore
from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.settings import IsvappSettings
from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, Fault
from airflow_provider_isvapp.errors import AuthenticationRefused
from airflow_provider_isvapp.ratelimit import open_storage
from airflow_provider_isvapp.ratelimit.storage import FileStorage
from tests.support.airflow_connections import isvapp_fields
from tests.support.doubles import FakeTime, RecordingLimiter

SECRET = "s3cret-of-the-client"
SCOPE = "exports"
LIFETIME = 3600.0


@dataclass
class Issuer:
    """A token endpoint that counts requests."""

    issued: list[str] = field(default_factory=list)

    def __call__(self) -> IssuedToken:
        self.issued.append(f"token-{len(self.issued) + 1}")
        return IssuedToken(self.issued[-1], LIFETIME)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def storage_of(tmp_path: Path, time: FakeTime) -> OpenStorage:
    return lambda key: FileStorage(tmp_path, key, clock=time)


def store_of(open_storage: OpenStorage, time: FakeTime | None = None, **changed: str) -> TokenStore:
    """The token store of one process."""
    fields = {"token_url": "https://vendor.example/token", "client_id": "client-id", "client_secret": SECRET} | changed
    return TokenStore(open_storage, **fields, sleep=real_time.sleep if time is None else time.sleep)


def test_one_token_serves_all_processes(storage: str, issuer: Issuer) -> None:
    def opened(key: str) -> object:
        return open_storage(storage, key=key)

    with ThreadPoolExecutor(8) as processes:
        tokens = {*processes.map(lambda _: store_of(opened).get(SCOPE, issuer).value, range(8))}
    assert tokens == {"token-1"}
    assert issuer.issued == ["token-1"]


@pytest.mark.parametrize(
    "changed",
    [{"client_secret": "rotated"}, {"client_id": "other"}, {"token_url": "https://other.example/token"}],
    ids=lambda changed: next(iter(changed)),
)
def test_another_client_finds_no_token(
    storage_of: OpenStorage, issuer: Issuer, time: FakeTime, changed: dict[str, str]
) -> None:
    store_of(storage_of, time).get(SCOPE, issuer)
    assert store_of(storage_of, time, **changed).get(SCOPE, issuer).value == "token-2"
    assert store_of(storage_of, time).get(SCOPE, issuer).value == "token-1"
    assert store_of(storage_of, time).get("another scope", issuer).value == "token-3"


def test_one_process_renews_while_the_others_go_on(storage_of: OpenStorage, issuer: Issuer, time: FakeTime) -> None:
    store_of(storage_of, time).get(SCOPE, issuer)
    time.sleep(LIFETIME - RENEW_BEFORE)
    others = []

    def renew() -> IssuedToken:
        others.append(store_of(storage_of, time).get(SCOPE, issuer).value)
        return issuer()

    assert store_of(storage_of, time).get(SCOPE, renew).value == "token-2"
    assert others == ["token-1"]
    assert store_of(storage_of, time).get(SCOPE, issuer) == IssuedToken("token-2", LIFETIME)


def test_an_expired_token_is_not_used(storage_of: OpenStorage, issuer: Issuer, time: FakeTime) -> None:
    store_of(storage_of, time).get(SCOPE, issuer)
    time.sleep(LIFETIME)
    assert store_of(storage_of, time).get(SCOPE, issuer).value == "token-2"


def test_a_clock_that_was_set_back_makes_a_token_worthless(
    tmp_path: Path, storage_of: OpenStorage, issuer: Issuer, time: FakeTime
) -> None:
    store_of(storage_of, time).get(SCOPE, issuer)
    rebooted = store_of(lambda key: FileStorage(tmp_path, key, clock=lambda: time() - 10), time)
    assert rebooted.get(SCOPE, issuer).value == "token-2"


def _take_lease_and_hang(directory: Path, leased: object) -> None:
    def request() -> IssuedToken:
        leased.set()  # type: ignore[attr-defined]
        real_time.sleep(60)
        raise AssertionError

    store_of(lambda key: FileStorage(directory, key)).get(SCOPE, request)


def test_another_process_takes_over_from_one_that_was_killed(tmp_path: Path, issuer: Issuer) -> None:
    context = multiprocessing.get_context("spawn")
    leased = context.Event()
    process = context.Process(target=_take_lease_and_hang, args=(tmp_path, leased))
    process.start()
    assert leased.wait(60)
    process.kill()
    process.join(60)

    waited = FakeTime(0.0)
    # The file's clock advances as this process sleeps.
    store = store_of(lambda key: FileStorage(tmp_path, key, clock=lambda: real_time.monotonic() + waited()), waited)
    before = waited()
    assert store.get(SCOPE, issuer).value == "token-1"
    assert LEASE - 5 < waited() - before < LEASE + 5


def test_a_failed_request_lets_the_next_process_try(storage_of: OpenStorage, issuer: Issuer, time: FakeTime) -> None:
    def refuse() -> IssuedToken:
        raise AuthenticationRefused("wrong secret", status=401)

    before = time()
    with pytest.raises(AuthenticationRefused):
        store_of(storage_of, time).get(SCOPE, refuse)
    assert store_of(storage_of, time).get(SCOPE, issuer).value == "token-1"
    assert time() == before


def test_a_refused_token_is_dropped_and_a_newer_one_stays(
    storage_of: OpenStorage, issuer: Issuer, time: FakeTime
) -> None:
    first, second = store_of(storage_of, time), store_of(storage_of, time)
    assert first.get(SCOPE, issuer) == second.get(SCOPE, issuer)

    first.drop(SCOPE, "token-1")
    assert first.get(SCOPE, issuer).value == "token-2"
    second.drop(SCOPE, "token-1")
    assert second.get(SCOPE, issuer).value == "token-2"


def stored_files(directory: Path) -> Iterator[tuple[Path, bytes]]:
    return ((path, path.read_bytes()) for path in sorted(directory.iterdir()))


def flip(text: bytes) -> bytes:
    raw = bytearray(base64.b64decode(text.strip()))
    raw[len(raw) // 2] ^= 1
    return base64.b64encode(raw) + b"\n"


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda _: b"\n",
        lambda text: text[: len(text) // 2] + b"\n",
        lambda _: b'{"at": 1}\n',
        lambda _: b"\xff\xfe\n",
    ],
    ids=["a flipped bit", "nothing", "half of it", "text of another program", "no text"],
)
def test_an_unreadable_entry_is_a_miss(
    tmp_path: Path, storage_of: OpenStorage, issuer: Issuer, time: FakeTime, damage: Callable[[bytes], bytes]
) -> None:
    store_of(storage_of, time).get(SCOPE, issuer)
    ((path, text),) = stored_files(tmp_path)
    path.write_bytes(damage(text))

    assert store_of(storage_of, time).get(SCOPE, issuer).value == "token-2"
    assert store_of(storage_of, time).get(SCOPE, issuer).value == "token-2"


def test_an_entry_of_another_scope_is_a_miss(
    tmp_path: Path, storage_of: OpenStorage, issuer: Issuer, time: FakeTime
) -> None:
    store_of(storage_of, time).get(SCOPE, issuer)
    ((_, foreign),) = stored_files(tmp_path)
    store_of(storage_of, time).get("identity", issuer)
    for path, _ in stored_files(tmp_path):
        path.write_bytes(foreign)

    assert store_of(storage_of, time).get("identity", issuer).value == "token-3"


def test_a_refused_token_that_a_storage_restores_is_not_used(
    tmp_path: Path, storage_of: OpenStorage, issuer: Issuer, time: FakeTime
) -> None:
    store = store_of(storage_of, time)
    store.get(SCOPE, issuer)
    ((path, old),) = stored_files(tmp_path)
    store.drop(SCOPE, "token-1")
    path.write_bytes(old)

    assert store.get(SCOPE, issuer).value == "token-2"


def test_a_storage_that_fails_costs_only_a_token(tmp_path: Path, issuer: Issuer, time: FakeTime) -> None:
    (tmp_path / "limiter").write_text("a file where the directory should be")
    store = store_of(lambda key: FileStorage(tmp_path / "limiter", key, clock=time), time)
    assert [store.get(SCOPE, issuer).value for _ in range(2)] == ["token-1", "token-2"]
    store.drop(SCOPE, "token-1")


def test_the_storage_shows_neither_token_nor_client(
    tmp_path: Path, storage_of: OpenStorage, issuer: Issuer, time: FakeTime
) -> None:
    token = store_of(storage_of, time).get(SCOPE, issuer)
    assert token.value not in repr(token)
    ((path, text),) = stored_files(tmp_path)
    seen = path.name.encode() + text + base64.b64decode(text)
    for secret in (token.value, SECRET, "client-id", "vendor.example", SCOPE):
        assert secret.encode() not in seen


def test_clients_share_a_token_until_the_vendor_refuses_it(tmp_path: Path) -> None:
    with Emulator(EmulatorConfig(requests_per_second=None)) as emulator:
        fields = isvapp_fields(emulator)
        settings = IsvappSettings.from_connection(**{name: fields[name] for name in ("login", "password", "host")})

        def client() -> IsvappClient:
            return IsvappClient(
                settings, limiter=RecordingLimiter(), open_storage=lambda key: FileStorage(tmp_path, key)
            )

        for _ in range(3):
            with client() as each:
                each.list_exports()
        assert emulator.request_counts()["token"] == 1

        emulator.inject(Fault(endpoint="list_exports", kind="token_expires"))
        with client() as each:
            each.list_exports()
        with client() as each:
            each.list_exports()
        assert emulator.request_counts()["token"] == 2
