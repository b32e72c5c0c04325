# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A select in Airflow 2.11's connection form, which accepts text, password, integer and boolean fields only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SelectWidget:
    """Draws a text field of wtforms as a select.

    :param choices: what is stored, and how the form words it.
    """

    choices: Mapping[str, str]

    def __call__(self, field: Any, **_: Any) -> Any:
        """Return the field's HTML."""
        from markupsafe import Markup, escape
        from wtforms.widgets import html_params  # type: ignore[import-untyped]

        chosen = field.data or ""
        # What was stored by other means is offered as well, so that saving the form does not lose it unseen.
        offered = {**self.choices, **({} if chosen in self.choices else {chosen: chosen})}
        options = [
            f"<option {html_params(value=value, selected=value == chosen)}>{escape(words)}</option>"
            for value, words in offered.items()
        ]
        parameters = html_params(id=field.id, name=field.name, class_="form-control")
        return Markup(f"<select {parameters}>{''.join(options)}</select>")  # noqa: S704 - its parts are escaped
