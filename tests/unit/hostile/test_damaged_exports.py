# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A few hundred damaged exports; ``make fuzz-exports`` downloads any number of them."""

from __future__ import annotations

from tests.support.hostile.damaged_exports import make_case, run


def test_only_the_vendors_rows_are_published() -> None:
    counts = run(range(300))
    assert not [verdict for verdict in counts if verdict.startswith("WRONG")]
    assert counts["DamagedDownload"] > 200
    # Damage to the file name and date in the gzip header harms no row.
    assert counts["published as the vendor has made it"] > 5


def test_a_case_follows_from_its_number() -> None:
    assert make_case(7) == make_case(7)
