# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Mutated responses of every endpoint, each fed to a client over a real socket: ``make fuzz-responses``.

The seed and the number determine each response, so a finding can be repeated: ``--only NUMBER``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.errors import ProviderError, TransferError
from tests.support.hostile.clients import open_client, secrets_of
from tests.support.hostile.responses import ABSURD_TIMES, ODD_VALUES, STATUSES, foreign_urls
from tests.support.hostile.vendors import DOWNLOAD_PATH, ENDPOINTS, Endpoint, Vendors, every_spelling, spellings_of
from tests.support.hostile.verdict import LogText, chain_of, everything_logged, problems_of_message
from tests.support.hostile.wire_server import Reset, Silence, Step, WireServer

SEED = 12

_HEADERS = (
    *(f"{name}: {value}" for name in ("Date", "Retry-After", "Age") for value in ABSURD_TIMES),
    *("Content-Length: 0", "Content-Length: 7", "Content-Length: -1", "Content-Length: 1e3", "Content-Length: +5"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity"),
    *(f"Content-Encoding: {name}" for name in ("gzip", "deflate", "br", "zstd", "identity", "x-gzip, gzip", "\xff")),
    *("Content-Range: bytes 0-1/2", "Content-Range: bytes 5-/*", 'ETag: "x"', 'ETag: W/"x"', "Accept-Ranges: bytes"),
    *("Connection: close", "Connection: keep-alive", "Set-Cookie: a=b", "Content-Type: text/html", "Location: /"),
    *("WWW-Authenticate: Basic", "Upgrade: h2c", ": ", "\x00: \x00", " folded", "X" * 70_000),
)


def valid_response(endpoint: Endpoint, base_url: str, choice: random.Random) -> tuple[bytes, bytes]:
    """Return headers and body of a documented response, in one of HTTP's framings, or a refusal."""
    status, body = 200, endpoint.body(base_url)
    if choice.random() < 0.3:
        status = choice.choice(STATUSES)
        body = json.dumps({"error": f"no: {every_spelling()}", "success": False}).encode()
    headers = [f"HTTP/1.1 {status} OK", f"Content-Type: {endpoint.content_type}", "Date: Tue, 05 Mar 2024 08:42:30 GMT"]
    if choice.random() < 0.25:
        body = gzip.compress(body, mtime=0)
        headers.append("Content-Encoding: gzip")
    if choice.random() < 0.25:
        middle = choice.randrange(len(body))
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:]) if part)
        body += b"0\r\n\r\n"
        headers.append("Transfer-Encoding: chunked")
    else:
        headers.append(f"Content-Length: {len(body)}")
    return "".join(f"{line}\r\n" for line in headers).encode("latin-1"), body


def _flip(data: bytes, choice: random.Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    for _ in range(choice.choice((1, 1, 2, 8))):
        changed[choice.randrange(len(changed))] ^= 1 << choice.randrange(8)
    return bytes(changed)


def _cut(data: bytes, choice: random.Random) -> bytes:
    return data[: choice.randrange(len(data) + 1)]


def _drop(data: bytes, choice: random.Random) -> bytes:
    start = choice.randrange(len(data) + 1)
    return data[:start] + data[start + choice.choice((1, 2, 16, 200)) :]


def _repeat(data: bytes, choice: random.Random) -> bytes:
    start = choice.randrange(len(data) + 1)
    part = data[start : start + choice.choice((1, 4, 64))]
    return data[:start] + part * choice.choice((2, 3, 1000)) + data[start:]


def _insert(data: bytes, choice: random.Random) -> bytes:
    start = choice.randrange(len(data) + 1)
    return data[:start] + choice.randbytes(choice.choice((1, 2, 8, 64))) + data[start:]


def _odd_token(data: bytes, choice: random.Random) -> bytes:
    """Replace the text between two of JSON's separators by an odd JSON value."""
    places = [at for at, byte in enumerate(data) if byte in b":,[]{}"]
    if not places:
        return data
    at = choice.randrange(len(places))
    end = places[at + 1] if at + 1 < len(places) else len(data)
    return data[: places[at] + 1] + choice.choice(_ODD_TOKENS) + data[end:]


_ODD_TOKENS = tuple(value.encode() for value in ODD_VALUES.values())
_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _flip, _cut, _drop, _repeat, _insert),
    *(_odd_token, _odd_token, _odd_token),
)


def _odd_url(body: bytes, base_url: str, other: str, choice: random.Random) -> bytes:
    """Replace the URL of a record's file by another one."""
    url = choice.choice(foreign_urls(other, base_url.removeprefix("http://"), DOWNLOAD_PATH))
    return body.replace(json.dumps(f"{base_url}{DOWNLOAD_PATH}").encode(), json.dumps(url).encode())


def mutated(endpoint: Endpoint, base_url: str, other: str, choice: random.Random) -> tuple[Step, ...]:
    """Return a response with one to four faults."""
    head, body = valid_response(endpoint, base_url, choice)
    if choice.random() < 0.1:
        body = _odd_url(body, base_url, other, choice)
    for _ in range(choice.choice((1, 1, 1, 2, 3, 4))):
        where = choice.random()
        if where < 0.55:
            body = choice.choice(_MUTATIONS)(body, choice)
        elif where < 0.75:
            head = choice.choice(_MUTATIONS)(head, choice)
        else:
            lines = head.split(b"\r\n")
            at = choice.randrange(1, len(lines) + 1)
            odd = choice.choice(_HEADERS).encode("latin-1", "replace")
            lines[at : at + choice.randrange(2)] = [odd]
            head = b"\r\n".join(lines)
    ending: tuple[Step, ...] = (Reset(),) if choice.random() < 0.05 else ()
    return (head + b"\r\n" + body, *ending)


@dataclass
class Findings:
    """The outcomes of a number of responses.

    :param problems: each with the number of its response.
    :param slowest: seconds of the process's CPU, and the number of the response.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)


def fuzz(numbers: Iterable[int], *, seed: int, log: LogText, progress: Callable[[int], object] = id) -> Findings:
    """Feed mutated responses to clients."""
    findings = Findings()
    endpoints = list(ENDPOINTS.values())
    with Vendors() as vendors, WireServer(lambda _: (Silence(),)) as elsewhere:
        for number in numbers:
            choice = random.Random(f"{seed}:{number}")
            endpoint = choice.choice(endpoints)
            steps = mutated(endpoint, vendors.url, elsewhere.url.removeprefix("http://"), choice)
            started = time.process_time()
            # With an API key, no token is requested.
            api_key = endpoint.vendor is IsvappClient and not endpoint.is_token and choice.random() < 0.5
            outcome, problems = _feed(endpoint, steps, vendors, api_key=api_key)
            findings.slowest = max(findings.slowest, (time.process_time() - started, number))
            findings.outcomes[f"{endpoint.name}: {outcome}"] += 1
            whole = _whole_secret(log.take(), endpoint, api_key=api_key)
            problems += [f"the log has a secret: {whole}"] if whole else []
            if elsewhere.connections:
                problems.append("another origin was connected to")
                elsewhere.connections = 0
            findings.problems += [f"{number}, {endpoint.name}: {problem}" for problem in problems]
            progress(number)
    return findings


def _feed(endpoint: Endpoint, steps: tuple[Step, ...], vendors: Vendors, *, api_key: bool) -> tuple[str, list[str]]:
    vendors.restore()
    vendors.spoil(endpoint.name, lambda _: steps)
    with open_client(endpoint, vendors, api_key=api_key) as client:
        try:
            endpoint.call(client)
        except ProviderError as error:
            problems = list(problems_of_message(str(error), (), next_step=not isinstance(error, TransferError)))
            whole = _whole_secret(chain_of(error), endpoint, api_key=api_key)
            problems += [f"its traceback has a secret: {whole}"] if whole else []
            if type(error) is ProviderError:
                problems.append(f"ends in the root of the tree: {error}")
            outcome = type(error).__name__
        except Exception as error:  # noqa: BLE001 (the finding)
            problems = [f"ends in {type(error).__module__}.{type(error).__name__}: {str(error)[:200]}"]
            outcome = type(error).__name__
        else:
            problems, outcome = [], "a result"
    if endpoint.name == "create" and vendors.count("create") > 2:
        problems.append(f"{vendors.count('create')} requests were sent")
    return outcome, problems


def _whole_secret(text: str, endpoint: Endpoint, *, api_key: bool) -> str | None:
    """Return the spelling of a whole secret in a text; a mutated secret does not count."""
    known = secrets_of(endpoint, api_key=api_key)
    return next((spelling for secret in known for spelling in spellings_of(secret) if spelling in text), None)


def main() -> int:
    parser = argparse.ArgumentParser(description="Feed mutated responses of every endpoint to the clients.")
    parser.add_argument("--responses", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the mutations (default: %(default)s)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="repeat one response")
    arguments = parser.parse_args()
    numbers = range(arguments.responses) if arguments.only is None else [arguments.only]
    started, cpu = time.monotonic(), time.process_time()
    at_start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def progress(number: int) -> None:
        if number and number % 10_000 == 0:
            print(f"{number} responses, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

    with everything_logged() as log:
        findings = fuzz(numbers, seed=arguments.seed, log=log, progress=progress)
    by_outcome: Counter[str] = Counter()
    for name, count in findings.outcomes.items():
        by_outcome[name.partition(": ")[2]] += count
    for outcome, count in by_outcome.most_common():
        print(f"{count:8}  {outcome}")
    seconds, number = findings.slowest
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{len(numbers)} responses with seed {arguments.seed} in {time.monotonic() - started:.0f} s "
        f"({time.process_time() - cpu:.0f} s of CPU); the slowest, number {number}, took {seconds * 1000:.0f} ms; "
        f"memory at most {peak / 1024:.0f} MiB, {at_start / 1024:.0f} MiB at the start"
    )
    for problem in findings.problems[:100]:
        print(problem)
    print(f"{len(findings.problems)} problems")
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
