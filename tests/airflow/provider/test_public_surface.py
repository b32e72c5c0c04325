# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What users and stored data rely on is what the record says: a change of either is a decision, not an accident.

``make record-surface`` writes the record again; docs/support.md says what else a change needs.
"""

from __future__ import annotations

import json
from difflib import unified_diff

import pytest
from airflow import __version__ as airflow_version

from tests.support.public_surface import RECORD, public_surface


@pytest.mark.skipif(not airflow_version.startswith("3.3."), reason="the record is of Airflow 3.3's line")
def test_the_public_surface_is_the_recorded_one() -> None:
    found = json.dumps(public_surface(), indent=2, sort_keys=True).splitlines()
    recorded = json.dumps(json.loads(RECORD.read_text()), indent=2, sort_keys=True).splitlines()

    difference = "\n".join(unified_diff(recorded, found, "recorded", "found", lineterm="", n=4))
    assert not difference, f"The public surface has changed; docs/support.md says what that needs.\n{difference}"
