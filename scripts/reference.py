# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Write the docstrings into the pages of docs/reference: ``make reference``.

A page has a line ``<!-- reference: dotted.name -->``, and this script writes the text from there to ``<!-- end -->``.
The reference then reads the same on a code hosting site and through Sphinx. After the name, ``members`` adds the public
methods of a class or the public objects of a module; other words add single members.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

PACKAGE = "airflow_provider_isvapp"
PAGES = Path(__file__).parent.parent / "docs" / "reference"
REGION = re.compile(r"(<!-- reference: (\S+)(.*?) -->\n)(.*?)(<!-- end -->)", re.S)
# Attributes that Airflow reads from the hooks.
HIDDEN = {"get_ui_field_behaviour", "get_connection_form_widgets"}
LONGEST_DEFAULT = 40


def rewritten(page: Path) -> str:
    """Return a page with the reference as the docstrings have it now."""

    def region(match: re.Match[str]) -> str:
        head, name, members, _, end = match.groups()
        described = "\n\n".join(_described(_resolve(name), members.split()))
        return f"{head}\n{described}\n\n{end}"

    return REGION.sub(region, page.read_text())


def _resolve(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return getattr(_resolve(module), attribute)


def _described(thing: Any, members: list[str]) -> Iterator[str]:
    if inspect.isclass(thing):
        yield from _class(thing, members)
        return
    if inspect.isfunction(thing):
        yield from _function(thing)
        return
    yield from _docstring(inspect.getdoc(thing) or "", {})
    if members:
        own = [value for value in vars(thing).values() if getattr(value, "__module__", None) == thing.__name__]
        for value in own:
            if not value.__name__.startswith("_"):
                yield f"### {value.__name__}"
                yield from _class(value, []) if inspect.isclass(value) else _function(value)


def _class(kind: type, members: list[str]) -> Iterator[str]:
    yield f"`{kind.__module__}.{kind.__name__}`{_bases(kind)}"
    yield from _docstring(inspect.getdoc(kind) or "", _arguments(kind))
    if issubclass(kind, Enum):
        yield "\n".join(f"- `{member.name}` = `{member.value!r}`" for member in kind)
        return
    for name, member in vars(kind).items():
        chosen = name in members or ("members" in members and not name.startswith("_") and name not in HIDDEN)
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if chosen and inspect.isfunction(inspect.unwrap(function)):
            yield f"**{_signature(name, function, is_property=isinstance(member, property))}**"
            yield from _docstring(inspect.getdoc(function) or "", {})


def _function(function: Any) -> Iterator[str]:
    yield f"`{_signature(function.__name__, function, is_property=False)}`"
    yield from _docstring(inspect.getdoc(function) or "", {})


def _bases(kind: type) -> str:
    names = [base.__name__ for base in kind.__bases__ if base.__module__ == kind.__module__]
    return f", a kind of {' and '.join(f'`{name}`' for name in names)}" if names else ""


def _signature(name: str, function: Any, *, is_property: bool) -> str:
    """Write a call as its caller does: the arguments, without their types."""
    if is_property:
        return f"`{name}`"
    taken = inspect.signature(inspect.unwrap(function)).parameters.values()
    arguments = [parameter for parameter in taken if parameter.name not in ("self", "cls")]
    shown = [
        parameter.name if parameter.default is parameter.empty else f"{parameter.name}={_value(parameter.default)}"
        for parameter in arguments
    ]
    return f"`{name}({', '.join(shown)})`"


def _value(value: object) -> str:
    return repr(value.value) if isinstance(value, Enum) else repr(value)


def _arguments(kind: type) -> dict[str, str]:
    """Return type and default of each argument of a constructor, as a user would write them."""
    if "__init__" not in vars(kind):
        return {}
    constructor: Any = vars(kind)["__init__"]
    parameters = list(inspect.signature(constructor).parameters.values())[1:]
    written = {} if "__dataclass_fields__" in vars(kind) else _written_defaults(constructor)
    found = {}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        default = "required"
        if parameter.default is not parameter.empty:
            default = f"default: {_default(parameter.default, written.get(parameter.name))}"
        found[parameter.name] = f"`{_annotation(parameter.annotation)}`, {default}"
    return found


def _annotation(written: object) -> str:
    """Write a type without our own aliases, which a user does not have."""
    from airflow_provider_isvapp.transfer import options

    text = written if isinstance(written, str) else getattr(written, "__name__", str(written))
    if text == "PathArgument":
        return "ObjectStoragePath | str"
    return re.sub(r"\w+", lambda name: _literal(getattr(options, name[0], None)) or name[0], text)


def _literal(alias: object) -> str:
    return f"Literal[{', '.join(map(repr, get_args(alias)))}]" if get_origin(alias) is Literal else ""


def _written_defaults(function: Any) -> dict[str, ast.expr]:
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    arguments = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.arguments))
    return {
        argument.arg: default
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is not None
    }


def _default(value: object, written: ast.expr | None) -> str:
    # Not what the configuration of this machine says.
    if isinstance(written, ast.Call) and ast.unparse(written.func) == "conf.getboolean":
        section, option = (ast.literal_eval(argument) for argument in written.args)
        return f"Airflow's option `[{section}] {option}`"
    shown = "empty" if repr(value) == "<factory>" else _value(value)
    if len(shown) > LONGEST_DEFAULT and isinstance(written, ast.Name):
        return f"the {written.id.lower().replace('_', ' ')}"
    return f"`{shown}`"


_FIELD = re.compile(r"^:(param|ivar|raises|returns?)(?: ([\w.]+))?: *(.*)$")


def _docstring(text: str, arguments: dict[str, str]) -> Iterator[str]:
    """Convert the reStructuredText of our docstrings into paragraphs of Markdown."""
    paragraphs, fields = _split(text)
    yield from paragraphs
    items = []
    for role, name, body in fields:
        if role in ("param", "ivar"):
            about = f" ({arguments[name]})" if name in arguments else ""
            items.append(f"- **`{name}`**{about}: {body}")
        elif role == "raises":
            items.append(f"- Raises `{name}`: {body}")
        else:
            items.append(f"- Returns {body}")
    if items:
        yield "\n".join(items)


def _split(text: str) -> tuple[list[str], list[tuple[str, str, str]]]:
    paragraphs: list[str] = []
    fields: list[list[str]] = []
    for block in re.split(r"\n\n(?=\S)|\n\n(?= )", text):
        lines = block.split("\n")
        if _FIELD.match(lines[0]):
            for line in lines:
                if match := _FIELD.match(line):
                    fields.append(
                        [match[1].removesuffix("s") if match[1] == "returns" else match[1], match[2] or "", match[3]]
                    )
                else:
                    fields[-1][2] += f" {line.strip()}"
        elif block.startswith("    "):
            paragraphs.append(f"```text\n{textwrap.dedent(block)}\n```")
        elif block.strip() != "::":
            paragraphs.append(_inline(re.sub(r"::$", ":", block)))
    return paragraphs, [(role, name, _inline(body)) for role, name, body in fields]


def _inline(text: str) -> str:
    """Convert roles and literals into code; a role without a target is an error."""

    def role(match: re.Match[str]) -> str:
        target = match[2].lstrip("~")
        if target.startswith(PACKAGE):
            _resolve(target)
        return f"`{target.rpartition('.')[2] if match[2].startswith('~') or '.' not in target else target}`"

    text = re.sub(r":(\w+):`([^`]+)`", role, text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def main() -> int:
    """Rewrite the pages that are out of date, and name them."""
    # Airflow writes a configuration file when it is imported.
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home
        for page in sorted(PAGES.glob("*.md")):
            text = rewritten(page)
            if text != page.read_text():
                page.write_text(text)
                print(f"wrote {page.relative_to(PAGES.parent.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
