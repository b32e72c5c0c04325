# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Write .env for docker-compose.yaml: .env.example with a random secret for each variable that has no value there."""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def with_secrets(example: str) -> str:
    """Return the text of .env.example with a new secret for each variable without a value."""
    return re.sub(r"^\w+=$", lambda line: line[0] + _secret(), example, flags=re.MULTILINE)


def _secret() -> str:
    # The format of a Fernet key. It needs no escaping in a URL, in JSON or in .env, so it suits the other secrets too.
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def main() -> int:
    path = ROOT / ".env"
    try:
        # For the user's eyes only, and never over a file that a database was set up with.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(
            f"{path} exists and was not changed. The volumes were created with its secrets: to start over, run "
            "'docker compose down --volumes', delete the file and run this command again.",
            file=sys.stderr,
        )
        return 1
    with open(descriptor, "w") as file:
        file.write(with_secrets((ROOT / ".env.example").read_text()))
    print(f"Wrote {path}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
