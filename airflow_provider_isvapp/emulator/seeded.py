# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Randomness that is the same in every run."""

from __future__ import annotations

import random


def seeded(*parts: object) -> random.Random:
    """Return a generator whose numbers depend on these values only, not on the process."""
    return random.Random("/".join(str(part) for part in parts))  # noqa: S311 - made-up data, no secrets
