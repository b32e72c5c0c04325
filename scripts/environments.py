# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The virtual environments of this checkout: one table, their lock files, and how they are made.

``python scripts/environments.py sync NAME...`` makes environments (a no-op when nothing changed),
``... lock`` rewrites ``requirements/*.txt``. Runs on the bootstrap environment's Python and its pinned uv.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venvs"
UV = VENVS / "bootstrap" / "bin" / "uv"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One virtual environment: the project with some of its extras and dependency groups.

    :param airflow: requirements that choose the Airflow line; empty leaves every ``apache-airflow*`` dependency out.
    :param pythons: interpreters in order of preference; the first one found on this machine is taken.
    :param like: name of another environment whose pinned versions this one shares.
    """

    name: str
    airflow: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ("3.11", "3.12", "3.13")
    like: str | None = None

    @property
    def path(self) -> Path:
        return VENVS / self.name

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def lock(self) -> Path:
        return ROOT / "requirements" / f"{self.name}.txt"


# Each environment prefers another interpreter, so that a machine which has all three tests all three.
ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        Environment(
            name="core",
            extras=("fast", "emulator", "parquet", "redis", "postgresql"),
            groups=("test", "test-azure", "test-gcs", "test-s3", "test-services"),
        ),
        Environment(
            name="airflow-3.3",
            airflow=("apache-airflow==3.3.*",),
            # All that mypy has to know, and all that the Airflow parts' tests use.
            extras=("fast", "emulator", "parquet", "redis", "postgresql", "s3"),
            groups=(
                "test",
                "test-s3",
                "test-services",
                "test-browser",
                "test-kubernetes",
                "test-lineage",
                "test-metrics",
                "lint",
                "package",
            ),
            pythons=("3.13", "3.12", "3.11"),
        ),
        Environment(
            name="airflow-2.11",
            # universal-pathlib 0.3 breaks ObjectStoragePath of Airflow 2.11, which has no upper bound of its own.
            airflow=("apache-airflow==2.11.*", "universal-pathlib<0.3"),
            extras=("fast", "emulator", "s3"),
            groups=("test", "test-s3", "test-lineage", "test-metrics"),
            pythons=("3.12", "3.11"),
        ),
        # The lines between, with what Airflow's own constraints would keep away: later releases of these break them.
        Environment(
            name="airflow-3.0",
            airflow=("apache-airflow==3.0.*", "cadwyn<5.5", "fastapi<0.117", "universal-pathlib<0.3"),
            extras=("fast", "emulator", "s3"),
            groups=("test", "test-s3"),
            pythons=("3.11", "3.12"),
        ),
        Environment(
            name="airflow-3.1",
            airflow=("apache-airflow==3.1.*", "sqlalchemy<2.1"),
            extras=("fast", "emulator", "s3"),
            groups=("test", "test-s3"),
            pythons=("3.12", "3.13", "3.11"),
        ),
        Environment(
            name="airflow-3.2",
            airflow=("apache-airflow==3.2.*", "cadwyn<7", "fastapi<0.130", "sqlalchemy<2.1"),
            extras=("fast", "emulator", "s3"),
            groups=("test", "test-s3"),
            pythons=("3.13", "3.12", "3.11"),
        ),
        Environment(
            name="demo",
            airflow=("apache-airflow==3.3.*",),
            extras=("fast", "emulator"),
            pythons=(f"{sys.version_info.major}.{sys.version_info.minor}", "3.13", "3.12", "3.11"),
            like="airflow-3.3",
        ),
        Environment(
            name="cluster",
            airflow=("apache-airflow==3.3.*",),
            extras=("fast", "emulator", "redis", "postgresql", "s3"),
            groups=("test", "test-s3", "test-services", "cluster"),
            # As in docker/Dockerfile.
            pythons=("3.12", "3.13", "3.11"),
            like="airflow-3.3",
        ),
        Environment(
            name="docs",
            # The reference is made of docstrings, which are read by importing the package.
            airflow=("apache-airflow==3.3.*",),
            groups=("docs",),
            pythons=("3.13", "3.12", "3.11"),
        ),
        Environment(
            name="bench",
            extras=("fast", "emulator", "parquet", "redis", "postgresql"),
            groups=("bench", "test-s3", "test-services"),
            like="core",
        ),
    )
}


def ensure(environment: Environment) -> Path:
    """Make the environment match its lock file and the checkout; return its Python."""
    VENVS.mkdir(exist_ok=True)
    stamp = environment.path / ".inputs"
    with _exclusive(environment.path.with_suffix(".lock")):
        inputs = _fingerprint(environment)
        if stamp.exists() and stamp.read_text() == inputs and environment.python.exists():
            return environment.python
        started = time.monotonic()
        _say(f"setting up .venvs/{environment.name} from {environment.lock.relative_to(ROOT)}")
        _uv("venv", "--quiet", "--allow-existing", "--python", _interpreter(environment), environment.path)
        _uv(
            *("pip", "sync", "--quiet", "--strict", "--compile-bytecode"),
            *("--python", environment.python, environment.lock),
        )
        _uv(
            *("pip", "install", "--quiet", "--no-deps", "--python", environment.python),
            *("--build-constraints", ROOT / "requirements" / "bootstrap.txt", "--editable", ROOT),
        )
        stamp.write_text(inputs)
        _say(f"ready in {time.monotonic() - started:.0f} s")
    return environment.python


def lock(environments: Sequence[Environment], *, upgrade: bool) -> None:
    """Rewrite the lock files. Pins that are already there stay, unless ``upgrade``."""
    bootstrap = ROOT / "requirements" / "bootstrap.txt"
    _compile(_group("bootstrap"), bootstrap, upgrade=upgrade)
    for environment in environments:
        constraints = ["--constraints", ENVIRONMENTS[environment.like].lock] if environment.like else []
        _compile(_requirements(environment), environment.lock, *constraints, upgrade=upgrade)


def _compile(requirements: Sequence[str], target: Path, *options: str | Path, upgrade: bool) -> None:
    _say(f"locking {target.relative_to(ROOT)}")
    _uv(
        *("pip", "compile", "--quiet", "--universal", "--python-version", "3.11"),
        *("--custom-compile-command", "make lock", "--output-file", target),
        *(["--upgrade"] if upgrade else []),
        *options,
        "-",
        stdin="\n".join(requirements),
    )


def _requirements(environment: Environment) -> list[str]:
    project = _pyproject()["project"]
    wanted = list(project["dependencies"])
    for extra in environment.extras:
        wanted += project["optional-dependencies"][extra]
    if not environment.airflow:
        wanted = [requirement for requirement in wanted if not requirement.startswith("apache-airflow")]
    for group in environment.groups:
        wanted += _group(group)
    return [*wanted, *environment.airflow]


def _group(name: str) -> list[str]:
    return list(_pyproject()["dependency-groups"][name])


def _pyproject() -> dict[str, dict]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _fingerprint(environment: Environment) -> str:
    digest = hashlib.sha256(f"{ROOT} {environment}".encode())
    for path in (ROOT / "pyproject.toml", ROOT / "airflow_provider_isvapp" / "__init__.py", environment.lock):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _interpreter(environment: Environment) -> str:
    """Return the first preferred interpreter of this machine, else a version for uv to fetch."""
    for version in environment.pythons:
        # --system: not the virtual environment that this script runs in.
        found = subprocess.run(
            [UV, "python", "find", "--no-python-downloads", "--system", version],
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode == 0:
            return found.stdout.strip()
    return environment.pythons[0]


def _uv(*arguments: str | Path, stdin: str | None = None) -> None:
    environ = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    subprocess.run([UV, *arguments], cwd=ROOT, env=environ, input=stdin, text=True, check=True)


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Let one of several concurrent ``make`` calls do the work and the others wait for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(message: str) -> None:
    print(f"[environments] {message}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sync = commands.add_parser("sync", help="make environments")
    sync.add_argument("names", nargs="+", choices=ENVIRONMENTS, metavar="NAME")
    relock = commands.add_parser("lock", help="rewrite the lock files")
    relock.add_argument("names", nargs="*", metavar="NAME")
    relock.add_argument("--upgrade", action="store_true", help="take the newest versions")
    arguments = parser.parse_args()
    chosen = [ENVIRONMENTS[name] for name in arguments.names or ENVIRONMENTS]
    try:
        if arguments.command == "lock":
            lock(chosen, upgrade=arguments.upgrade)
        else:
            for environment in chosen:
                ensure(environment)
    except subprocess.CalledProcessError as error:
        _say(
            f"failed: uv {' '.join(map(str, error.cmd[1:3]))} ended with status {error.returncode}, its words are above"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
