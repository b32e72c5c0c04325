# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The architecture diagram matches the code: it shows every part, and imports only point downwards."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

from tests.support import ROOT

PACKAGE = ROOT / "airflow_provider_isvapp"
DIAGRAM = ROOT / "docs" / "images" / "architecture.svg"


def parts_of_the_package() -> set[str]:
    """Return the folders and top-level modules of the package, except those that only declare something."""
    folders = {path.parent.name + "/" for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "get_provider_info.py"}
    return folders | modules


def heights() -> dict[str, float]:
    """Return the upper edge of each box of the diagram, by the part that it shows."""
    boxes = ElementTree.parse(DIAGRAM).getroot().iter("{http://www.w3.org/2000/svg}rect")
    return {box.get("data-part", ""): float(box.get("y", "nan")) for box in boxes if "data-part" in box.attrib}


def test_the_diagram_has_every_part_of_the_package() -> None:
    assert set(heights()) == parts_of_the_package()
    labels = {text.text for text in ElementTree.parse(DIAGRAM).getroot().iter("{http://www.w3.org/2000/svg}text")}
    assert parts_of_the_package() <= labels


@cache
def imports() -> set[tuple[str, str]]:
    """Return which part of the package imports which."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        importer = part_of(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ImportFrom(module=str(module), names=names) if module == PACKAGE.name:
                    modules = [f"{module}.{alias.name}" for alias in names]
                case ast.ImportFrom(module=str(module)):
                    modules = [module]
                case ast.Import(names=names):
                    modules = [alias.name for alias in names]
                case _:
                    continue
            for module in modules:
                package, *rest = module.split(".")
                if package == PACKAGE.name and rest:
                    found.add(
                        (importer, part_of(Path(*rest) if (PACKAGE / rest[0]).is_dir() else Path(rest[0] + ".py")))
                    )
    return {(importer, imported) for importer, imported in found if importer != imported}


def part_of(path: Path) -> str:
    return path.parts[0] if path.suffix == ".py" and len(path.parts) == 1 else path.parts[0] + "/"


def test_imports_only_point_downwards() -> None:
    height = heights()
    inner = {(importer, imported) for importer, imported in imports() if importer in height and imported in height}
    assert ("operators/", "transfer/") in inner
    assert [pair for pair in inner if not height[pair[0]] < height[pair[1]]] == []


def test_nothing_below_the_line_imports_airflow() -> None:
    line = ElementTree.parse(DIAGRAM).getroot().find(".//*[@id='line-without-airflow']")
    assert line is not None
    below = {part for part, height in heights().items() if height > float(line.get("y1", "nan"))}
    assert {"api/", "ratelimit/", "transfer/", "emulator/", "errors.py"} <= below
    for part in below:
        path = PACKAGE / part
        for module in [path] if path.suffix else path.rglob("*.py"):
            imported = {
                name.partition(".")[0]
                for node in ast.walk(ast.parse(module.read_text()))
                if isinstance(node, ast.Import | ast.ImportFrom)
                for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
            }
            assert "airflow" not in imported, module
            assert not any(importer == part and not is_below(target, below) for importer, target in imports()), part


def is_below(part: str, below: set[str]) -> bool:
    return part in below or part == "__version__.py"


def test_the_page_names_existing_files() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = {name for name in re.findall(r"`(\w+(?:/[\w.]*)+)`", page) if not name.startswith(("docs", "tests"))}
    assert len(named) > 12
    assert [name for name in sorted(named) if not (PACKAGE / name).exists()] == []


def test_both_walks_have_at_most_eight_stops_at_existing_files() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    _, _, section = page.partition("## Two walks through the files\n")
    section = section.partition("\n## ")[0]
    walks = [
        re.findall(r"^\d+\. `([^`]+)`", walk, re.M) for walk in re.split(r"^An export|^The bytes", section, flags=re.M)
    ]
    assert [0 < len(walk) <= 8 for walk in walks[1:]] == [True, True]
    assert section.count("\n1. ") == 2
    assert [stop for walk in walks for stop in walk if not (PACKAGE / stop).is_file()] == []
    assert sum(map(len, walks)) == len(re.findall(r"^\d+\. ", section, re.M))
