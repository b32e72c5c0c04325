# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The clients with each hostile response at each endpoint of both vendors."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_isvapp.errors import OutcomeUnknown, ProviderError, TransferError
from tests.support.hostile import responses
from tests.support.hostile.clients import ATTEMPTS, READ_TIMEOUT, open_client, secrets_of
from tests.support.hostile.responses import Fate, HostileResponse
from tests.support.hostile.vendors import (
    DOWNLOAD_PATH,
    ENDPOINTS,
    Endpoint,
    Vendors,
)
from tests.support.hostile.verdict import LogText, chain_of, problems_of_message, problems_of_text
from tests.support.hostile.wire_server import WireServer

# A test that takes longer waits for something without a deadline.
LONGEST = 15.0


def problems(
    endpoint: Endpoint,
    response: HostileResponse,
    vendors: Vendors,
    logged: LogText,
    *,
    api_key: bool,
    read_timeout: float = READ_TIMEOUT,
) -> Iterator[str]:
    """Call an endpoint that sends one response, and return the problems of the outcome."""
    secrets = secrets_of(endpoint, api_key=api_key)
    vendors.restore()
    vendors.spoil(endpoint.name, response.play)
    error: BaseException | None = None
    started = time.monotonic()
    with open_client(endpoint, vendors, api_key=api_key, read_timeout=read_timeout) as client:
        try:
            left = repr(endpoint.call(client)) if response.fate is Fate.JUDGED else endpoint.call(client)
        except ProviderError as problem:
            error = problem
        except Exception as problem:  # noqa: BLE001 (the finding)
            yield f"ends in {type(problem).__module__}.{type(problem).__name__}: {str(problem)[:200]}"
            return
    seconds = time.monotonic() - started
    is_repeated = response.fate is Fate.RETRIED and endpoint.name != "create"
    # A server that closes a connection after its response may receive the next request on it, and not read it.
    unread = "the connection broke" in str(error) and f"after {ATTEMPTS} attempts" in str(error)
    least = ATTEMPTS - unread if is_repeated else 1
    requests = vendors.count(endpoint.name, at_least=least)
    if seconds > LONGEST:
        yield f"took {seconds:.1f} s"
    if error is None:
        if response.fate is not Fate.JUDGED:
            yield f"is taken for a result: {left!r:.200}"
    else:
        if type(error) is ProviderError:
            yield f"ends in the root of the tree: {error}"
        # After a broken download, only the error of the last attempt names the next step.
        yield from problems_of_message(str(error), secrets, next_step=not isinstance(error, TransferError))
        yield from problems_of_text("its traceback", chain_of(error), secrets)
    if endpoint.name == "create":
        # 401 and 429 are clear: nothing was created.
        most = ATTEMPTS if response.name.startswith(("401", "429")) else 1
        if not 1 <= requests <= most:
            yield f"{requests} requests were sent"
        if (
            response.fate is Fate.RETRIED
            and not response.name.startswith("429")
            and not isinstance(error, OutcomeUnknown)
        ):
            yield f"ends in {type(error).__name__}, although the export may be there"
    elif is_repeated and not least <= requests <= ATTEMPTS:
        yield f"{requests} requests in place of {ATTEMPTS} attempts: {error}"
    elif requests > 2 * ATTEMPTS:
        yield f"{requests} requests were sent"
    yield from problems_of_text("the log", logged.take(), secrets)


def examine(
    endpoint: Endpoint,
    cells: Iterable[HostileResponse],
    vendors: Vendors,
    elsewhere: WireServer,
    logged: LogText,
    *,
    api_key: bool = False,
    read_timeout: float = 30 * READ_TIMEOUT,
) -> None:
    """Call an endpoint with each response. Few end by the timeout, so by default a busy machine may take its time."""
    found: list[str] = []
    count = 0
    for cell in cells:
        count += 1
        connections = elsewhere.connections
        ended = problems(endpoint, cell, vendors, logged, api_key=api_key, read_timeout=read_timeout)
        found += [f"{cell.name}: {problem}" for problem in ended]
        if elsewhere.connections != connections:
            found.append(f"{cell.name}: another origin was connected to")
    assert count > 0
    assert not found, f"{endpoint.name}: {len(found)} problems with {count} responses\n" + "\n".join(found)


every_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
Generate = Callable[[Endpoint, str], Iterator[HostileResponse]]


@every_endpoint
@pytest.mark.parametrize(
    "generate",
    [responses.framing, responses.broken_heads, responses.odd_headers, responses.bodies],
    ids=lambda generate: generate.__name__,
)
def test_a_response_ends_in_an_error_of_the_tree(
    endpoint: Endpoint, generate: Generate, vendors: Vendors, elsewhere: WireServer, logged: LogText
) -> None:
    examine(endpoint, generate(endpoint, vendors.url), vendors, elsewhere, logged)


@pytest.mark.parametrize(
    "endpoint", [endpoint for endpoint in ENDPOINTS.values() if not endpoint.is_file], ids=lambda item: item.name
)
def test_a_field_of_another_kind_ends_in_an_error_of_the_tree(
    endpoint: Endpoint, vendors: Vendors, elsewhere: WireServer, logged: LogText
) -> None:
    examine(endpoint, responses.odd_fields(endpoint, vendors.url), vendors, elsewhere, logged)


class TestWithoutEnd:
    """These tests wait for half of this module's time, so a separate process may run them."""

    @every_endpoint
    def test_a_response_that_takes_forever_is_abandoned_in_time(self, endpoint: Endpoint, logged: LogText) -> None:
        def wait(number: int) -> list[str]:
            with Vendors() as vendors:
                cell = list(responses.slow(endpoint, vendors.url))[number]
                found = problems(endpoint, cell, vendors, LogText(), api_key=False)
                return [f"{cell.name}: {problem}" for problem in found]

        # In parallel: they wait and need no processor time.
        count = len(list(responses.slow(endpoint, "http://127.0.0.1:9")))
        with ThreadPoolExecutor(max_workers=count) as pool:
            found = list(itertools.chain.from_iterable(pool.map(wait, range(count))))
        found += problems_of_text("the log", logged.take(), secrets_of(endpoint))
        assert not found, f"{endpoint.name}: {len(found)} problems with {count} responses\n" + "\n".join(found)

    @pytest.mark.parametrize("name", ["token", "create", "list", "download"])
    def test_a_response_that_is_too_large_is_abandoned(
        self, name: str, vendors: Vendors, elsewhere: WireServer, logged: LogText, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_isvapp.api.transport.LARGEST_BODY", 1 << 20)
        endpoint = ENDPOINTS[name]
        examine(endpoint, responses.too_large(endpoint, vendors.url), vendors, elsewhere, logged)

    @pytest.mark.parametrize("name", ["create", "download"])
    def test_a_response_that_never_grows_is_abandoned_in_time(
        self, name: str, vendors: Vendors, elsewhere: WireServer, logged: LogText
    ) -> None:
        """The client computes until the end, so only these two try it: the others read like a create."""
        endpoint = ENDPOINTS[name]
        cells = responses.never_large(endpoint, vendors.url)
        examine(endpoint, cells, vendors, elsewhere, logged, read_timeout=READ_TIMEOUT)


@every_endpoint
def test_a_redirect_is_not_followed(
    endpoint: Endpoint, vendors: Vendors, elsewhere: WireServer, logged: LogText
) -> None:
    other = elsewhere.url.removeprefix("http://")
    examine(endpoint, responses.redirects(endpoint, vendors.url, other), vendors, elsewhere, logged)


@pytest.mark.parametrize("api_key", [False, True], ids=["OAuth2", "API key"])
def test_a_download_url_leads_nowhere_else(
    vendors: Vendors, elsewhere: WireServer, logged: LogText, api_key: bool
) -> None:
    other = elsewhere.url.removeprefix("http://")
    cells = list(responses.download_urls(vendors.url, other))
    examine(ENDPOINTS["show"], cells, vendors, elsewhere, logged, api_key=api_key)


@pytest.mark.parametrize("name", ["account", "create", "show", "list", "download", "accounts"])
def test_no_response_reveals_an_api_key(name: str, vendors: Vendors, elsewhere: WireServer, logged: LogText) -> None:
    endpoint = ENDPOINTS[name]
    cells = itertools.chain(
        responses.bodies(endpoint, vendors.url, statuses=(200, 403)),
        (cell for cell in responses.odd_fields(endpoint, vendors.url) if "secrets" in cell.name),
    )
    examine(endpoint, cells, vendors, elsewhere, logged, api_key=True)


def test_the_documented_responses_are_results(vendors: Vendors, logged: LogText) -> None:
    """Without this test, the tests above would pass with a server that always fails."""
    for endpoint in ENDPOINTS.values():
        vendors.restore()
        with open_client(endpoint, vendors) as client:
            endpoint.call(client)
        assert vendors.count(endpoint.name) == 1
    assert DOWNLOAD_PATH not in logged.take()
