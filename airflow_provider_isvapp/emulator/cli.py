# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The console command ``isvapp-emulator``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, get_args, get_type_hints

from airflow_provider_isvapp import emulator as package
from airflow_provider_isvapp.emulator.config import EmulatorConfig
from airflow_provider_isvapp.emulator.faults import Fault
from airflow_provider_isvapp.emulator.http import RequestRecord

DEFAULT_PORT = 8099
ENVIRONMENT = {"host": "ISVAPP_EMULATOR_HOST", "port": "ISVAPP_EMULATOR_PORT"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator until SIGTERM or Ctrl-C.

    :param arguments: the command line without the program's name; ``sys.argv`` by default.
    :returns: the exit status.
    """
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    faults: list[Fault] = options.pop("fault")
    quiet: bool = options.pop("quiet")
    try:
        emulator = package.Emulator(EmulatorConfig(**options), on_request=None if quiet else _print_request)
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    except ValueError as error:
        parser.error(str(error))
    # Threads inherit this mask, so only sigwait below receives these signals.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        emulator.start()
    except OSError as error:
        print(f"Cannot listen: {error.strerror}.", file=sys.stderr)
        emulator.close()
        return 1
    for fault in faults:
        emulator.inject(fault)
    print(_greeting(emulator.config, emulator.url), flush=True)
    signal.sigwait(signals)
    emulator.close()
    print("Stopped.", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="isvapp-emulator",
        description="A local server that emulates ISVapp and Productiv.",
        usage="%(prog)s [options]",
    )
    types = get_type_hints(EmulatorConfig)
    for item in fields(EmulatorConfig):
        flag = f"--{item.name.replace('_', '-')}"
        help_text = item.metadata["help"]
        default = DEFAULT_PORT if item.name == "port" else item.default
        if item.name in ENVIRONMENT:
            help_text += f"; also {ENVIRONMENT[item.name]}"
            default = os.environ.get(ENVIRONMENT[item.name], default)  # argparse converts a default that is a string
        help_text += f" (default: {'none' if default is None else default})"
        if types[item.name] is bool:
            parser.add_argument(flag, default=default, help=help_text, action=argparse.BooleanOptionalAction)
        elif isinstance(item.default, str) and get_args(types[item.name]):
            parser.add_argument(flag, default=default, help=help_text, choices=get_args(types[item.name]))
        else:
            parser.add_argument(flag, default=default, help=help_text, type=_converter(types[item.name]), metavar="X")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        type=_fault,
        metavar="FAULT",
        help="inject a fault: endpoint=download,kind=cut,at=0.5,times=2, or the same as JSON; repeatable",
    )
    parser.add_argument("--quiet", action="store_true", help="do not log requests")
    return parser


def _converter(kind: Any) -> Callable[[str], Any]:
    """Return a function that converts a string to ``int``, ``float`` or ``str``, or to None where it is allowed."""
    kinds = get_args(kind) or (kind,)

    def convert(text: str) -> Any:
        return None if text == "none" and type(None) in kinds else kinds[0](text)

    convert.__name__ = kinds[0].__name__  # argparse shows this name in its error
    return convert


def _fault(text: str) -> Fault:
    try:
        return Fault.from_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _greeting(config: EmulatorConfig, url: str) -> str:
    isvapp = {"conn_type": "isvapp", "host": url, "login": config.client_id, "password": config.client_secret}
    productiv = {
        "conn_type": "productiv",
        "host": url,
        "login": config.productiv_client_id,
        "password": config.productiv_client_secret,
        "extra": {"auth_url": f"{url}/oauth2/token"},
    }
    return "\n".join(
        (
            f"ISVapp and Productiv emulated at {url}",
            f"  ISVapp     client id {config.client_id}, client secret {config.client_secret}",
            f"             or API key {config.api_key}",
            f"  Productiv  client id {config.productiv_client_id}, client secret {config.productiv_client_secret}",
            "",
            f"export AIRFLOW_CONN_ISVAPP_DEFAULT={shlex.quote(json.dumps(isvapp))}",
            f"export AIRFLOW_CONN_PRODUCTIV_DEFAULT={shlex.quote(json.dumps(productiv))}",
            "",
            "Press Ctrl-C to stop. Requests:",
        )
    )


def _print_request(record: RequestRecord) -> None:
    time = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
    milliseconds = 1000 * (record.seconds or 0)
    caller = record.credential or "-"
    print(f"{time} {record.status or 'reset'} {record.method} {record.path} {caller} {milliseconds:.0f} ms", flush=True)
