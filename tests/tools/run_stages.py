# SPDX-License-Identifier: GPL-3.0-or-later
"""Run stages of checks, all of them even after a failure, and count what they found.

usage: run_stages.py STAGE...

The Makefile is the way in. Everything runs on a staged copy of the checkout, except the molecule scenarios. Stages that
need no test hosts run two at a time, and what they say is shown when they are over. Variables: PYTEST_ARGS (unit),
PYTHON (sanity, units: one target Python), MOLECULE_SCENARIOS (molecule: these alone).
"""

from __future__ import annotations

import ast
import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from staging import stage
from tally import NOTHING, PASSED, Tally, failed, of_junit, of_molecule

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
VENV = CACHE / "venv"
HOME = CACHE / "home"
RESULTS = CACHE / "results"

# Scenarios whose hosts must be virtual machines. Without KVM these take minutes.
ON_MACHINES = ("lxc",)
# That of Debian 13, which the test hosts run.
PYTHON_OF_TEST_HOSTS = "3.13"
TARGET_PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# ansible-core 2.19 asks for the first, 2.21 for the second.
GET_PIP_NAMES = ("get_pip_24_2.py", "get_pip_25_2.py")
# Failures that are named at the end.
MOST_SHOWN = 10


@dataclass(frozen=True)
class Place:
    """Where a stage runs: the staged copy below `collections`, and what it says goes to `output` (None: our own)."""

    collections: Path
    output: IO[bytes] | None = None

    @property
    def copy(self) -> Path:
        return self.collections / "ansible_collections" / "fleet" / "criu"

    @property
    def ansible_test_output(self) -> Path:
        return self.copy / "tests" / "output"

    def say(self, line: str) -> None:
        if self.output is None:
            print(line, flush=True)
        else:
            self.output.write(f"{line}\n".encode())
            self.output.flush()


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in STAGES]
    if unknown or not names:
        print(f"usage: run_stages.py {' | '.join(STAGES)} ...", file=sys.stderr)
        return 2
    with one_at_a_time():
        if {"sanity", "units"} & set(names):
            prepare_home()
        beside = [name for name in names if name != "molecule"]
        results = run_beside(beside) if len(beside) > 1 else run_alone(beside)
        results.update(run_alone([name for name in names if name == "molecule"]))
    total = sum((tally for tally, _seconds in results.values()), NOTHING)
    print()
    if len(results) > 1:
        for name in names:
            tally, seconds = results[name]
            print(f"{name:10} {seconds:6.1f} s  {tally}")
    # The last lines are what is read first.
    for failure in total.failures[:MOST_SHOWN]:
        print(f"failed: {failure}")
    print(total)
    return 1 if total.failed else 0


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two runs in one checkout would share the staged copy."""
    with (CACHE / "stages.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run in this checkout", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_alone(names: list[str]) -> dict[str, tuple[Tally, float]]:
    results = {}
    for name in names:
        print(f"\n==> {name}", flush=True)
        results[name] = run_stage(name)
    return results


def run_beside(names: list[str]) -> dict[str, tuple[Tally, float]]:
    """Run each in a copy of its own, two at a time, the longest first."""
    print(f"\n==> {' '.join(names)}: two at a time", flush=True)
    RESULTS.mkdir(exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        running = {pool.submit(run_to_file, name): name for name in sorted(names, key=LONGEST_FIRST.index)}
        for future in as_completed(running):
            name = running[future]
            print(f"\n==> {name}\n{log_of(name).read_text(errors='replace')}", flush=True)
    return {name: future.result() for future, name in running.items()}


def run_to_file(name: str) -> tuple[Tally, float]:
    with log_of(name).open("wb") as output:
        return run_stage(name, output)


def log_of(name: str) -> Path:
    return RESULTS / f"{name}.log"


def run_stage(name: str, output: IO[bytes] | None = None) -> tuple[Tally, float]:
    place = Place(CACHE / f"stage-{name}", output)
    if name != "molecule":  # which runs in the checkout itself
        stage(ROOT, place.copy)
    shutil.rmtree(place.ansible_test_output, ignore_errors=True)
    start = time.monotonic()
    tally = STAGES[name](place).within(name)
    return tally, time.monotonic() - start


# Stages


def lint(place: Place) -> Tally:
    """Each tool counts as one check."""
    tools = sorted(path for path in (place.copy / "tests" / "tools").iterdir() if path.is_file())
    programs = [tool for tool in tools if tool.suffix == ".py"]
    on_hosts = sorted({*place.copy.glob("roles/*/files/*.py"), *place.copy.glob("molecule/*/**/*.py")})
    scripts = [place.copy / ".ci" / "run", *(tool for tool in tools if not tool.suffix)]
    scripts += sorted({*place.copy.glob("roles/*/files/*.sh"), *place.copy.glob("molecule/*/**/*.sh")})
    commands = [
        ["ansible-lint"],
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["mypy", "--package", "ansible_collections.fleet.criu.plugins"],
        ["mypy", *map(str, programs)],
        # Some take functions of the collection, or of each other: what they import must be there.
        ["mypy", "--follow-imports=silent", f"--python-version={PYTHON_OF_TEST_HOSTS}", *map(str, on_hosts)],
        ["shellcheck", *map(str, scripts)],
        ["antsibull-changelog", "lint"],
    ]
    environment = {
        # ansible-lint checks the syntax of playbooks whose groups exist only once they run.
        "ANSIBLE_HOST_PATTERN_MISMATCH": "ignore",
        "MYPYPATH": os.pathsep.join(
            map(str, [place.collections, *sorted({path.parent for path in [*tools, *on_hosts]})])
        ),
        "MYPY_CACHE_DIR": str(CACHE / "mypy"),
        "RUFF_CACHE_DIR": str(CACHE / "ruff"),
    }
    checks = (failed(" ".join(command)) if run(place, command, environment) else PASSED for command in commands)
    return sum(checks, NOTHING)


def unit(place: Place) -> Tally:
    report = RESULTS / "unit.xml"
    report.unlink(missing_ok=True)
    options = [f"--junit-xml={report}", "--override-ini", f"cache_dir={CACHE / 'pytest'}"]
    arguments = shlex.split(os.environ.get("PYTEST_ARGS", ""))
    # ansible-test, which forgets it, runs the same tests once more.
    depth = os.environ.get("EXPLORE", "some")
    status = run(place, ["pytest", *options, *arguments], {"PYTHONPATH": str(place.collections), "EXPLORE": depth})
    return of_junit([report] if report.exists() else []).with_status(status, "pytest")


def sanity(place: Place) -> Tally:
    """The compile and import tests run on each target Python; one that this machine lacks counts as skipped."""
    pythons = interpreters()
    only = os.environ.get("PYTHON")
    wanted = (only,) if only else TARGET_PYTHONS
    missing = [version for version in wanted if version not in pythons]
    if missing:
        place.say(f"not on this machine: Python {', '.join(missing)}")
    present = [version for version in wanted if version in pythons]
    if not present:
        return failed("no Python to check with")
    return Tally(skipped=len(missing)) + ansible_test(place, "sanity", ["--junit"], present, pythons)


def units(place: Place) -> Tally:
    version = os.environ.get("PYTHON") or OWN_PYTHON
    # What the tests need is in the project's own environment; ansible-test makes one for any other Python.
    target = "default" if version == OWN_PYTHON else f"venv/{version}"
    return ansible_test(place, "units", [], [target], interpreters())


def molecule(place: Place) -> Tally:
    """Run the scenarios on shared test hosts; those that need virtual machines only when they are named."""
    wanted = os.environ.get("MOLECULE_SCENARIOS", "").split()
    found = sorted({path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")})
    names = wanted or [name for name in found if name not in ON_MACHINES]
    if not names:
        return failed("no scenario under molecule/")
    tally = run_scenarios([name for name in names if name not in ON_MACHINES], {})
    return tally + run_scenarios([name for name in names if name in ON_MACHINES], {"LAB_KIND": "vm"})


def run_scenarios(names: list[str], extra: Mapping[str, str]) -> Tally:
    """Run them on the same hosts; after a failure, the remaining ones on new hosts."""
    # The hosts are created in the name of "default": only when it comes first does its verdict speak of its own steps.
    remaining = sorted(names, key=lambda name: name != "default")
    tally = NOTHING
    if not remaining:
        return tally
    status = 1
    try:
        while remaining:
            arguments = [argument for name in remaining for argument in ("--scenario-name", name)]
            status, output = run_molecule(extra, "test", *arguments)
            verdicts = {name: verdict for name, verdict in of_molecule(output).items() if name in remaining}
            ran = sum(verdicts.values(), NOTHING) if verdicts else failed("no scenario could run")
            tally += ran.with_status(status, "molecule")
            if status == 0 or not verdicts:
                break  # all have run, or none could
            remaining = [name for name in remaining if name not in verdicts]
    finally:
        if status:  # molecule leaves the hosts alone when creating them failed or was interrupted
            run_molecule(extra, "destroy")
    return tally


STAGES = {"lint": lint, "unit": unit, "sanity": sanity, "units": units, "molecule": molecule}
LONGEST_FIRST = ["sanity", "units", "unit", "lint"]


# Running programs


def ansible_test(
    place: Place, command: str, options: list[str], targets: list[str], pythons: Mapping[str, Path]
) -> Tally:
    for target in targets:
        options = [*options, "--target-python", target]
    # ansible-test finds interpreters on PATH alone and needs real ones, not the shims of a version manager.
    folders = [str(VENV / "bin"), *(str(python.parent) for python in pythons.values()), os.environ["PATH"]]
    environment = {"HOME": str(HOME), "PATH": os.pathsep.join(folders)}
    status = run(place, ["ansible-test", command, "--controller", "origin:python=default", *options], environment)
    reports = sorted((place.ansible_test_output / "junit").glob("*.xml"))
    return of_junit(reports).with_status(status, f"ansible-test {command}")


def run(place: Place, command: list[str], extra: Mapping[str, str] | None = None) -> int:
    place.say(f"--> {command[0]} {command[1] if len(command) > 1 else ''}")
    return subprocess.call(
        command,
        cwd=place.copy,
        stdin=subprocess.DEVNULL,
        stdout=place.output,
        stderr=subprocess.STDOUT if place.output else None,
        env=environment(place.collections, extra),
    )


def run_molecule(extra: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Run in the checkout itself; show the output and return it."""
    lines = []
    with subprocess.Popen(
        ["molecule", "--base-config", "molecule/config.yml", *arguments],
        cwd=ROOT,
        env=environment(CACHE / "collections", {"MOLECULE_COMMAND_BORDERS": "false", **extra}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines)


def environment(collections: Path, extra: Mapping[str, str] | None) -> dict[str, str]:
    """What programs run with: tools from the project's environment, collections from here, leftovers in .cache."""
    result = {
        **os.environ,
        "PATH": os.pathsep.join([str(VENV / "bin"), os.environ["PATH"]]),
        "LC_ALL": "C.UTF-8",
        "XDG_CACHE_HOME": str(CACHE / "xdg"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_HOME": str(HOME / ".ansible"),
        # The path of a socket has little room: not below a checkout that may be anywhere.
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(Path("~/.ansible/cp").expanduser()),
        # Without it a play that matches no host is a success.
        "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
    }
    if not sys.stdout.isatty():
        result["NO_COLOR"] = "1"
    result.update(extra or {})
    return result


# What ansible-test expects to find


def interpreters() -> dict[str, Path]:
    """The real interpreters of target Pythons on this machine, by version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = {OWN_PYTHON: VENV / "bin" / f"python{OWN_PYTHON}"}
    for version in TARGET_PYTHONS:
        on_path = shutil.which(f"python{version}")
        candidates = [on_path] if on_path else []
        candidates += map(str, pyenv.glob(f"versions/{version}.*/bin/python{version}"))
        for candidate in candidates:
            if version not in found and (python := real_interpreter(candidate)):
                found[version] = python
    return found


def real_interpreter(candidate: str) -> Path | None:
    command = [candidate, "-c", "import sys; print(sys.executable)"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return Path(answer.stdout.strip()) if answer.returncode == 0 else None


def prepare_home() -> None:
    """A home folder for ansible-test, which forgets most of the environment.

    It holds a stand-in for the get-pip script, which would be downloaded, and what pip was told about indexes.
    """
    scripts = HOME / ".ansible" / "test" / "cache"
    scripts.mkdir(parents=True, exist_ok=True)
    for name in GET_PIP_NAMES:
        shutil.copyfile(ROOT / "tests" / "tools" / "get_pip.py", scripts / name)
    settings = HOME / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.touch(mode=0o600)
    lines = [f"{name} = {value}" for name, value in pip_settings().items()]
    settings.write_text("\n".join(["[global]", *lines, ""]))


def pip_settings() -> dict[str, str]:
    """What pip was told by its files (it lists ``global.name='value'``) and by PIP_* (``:env:.name='value'``)."""
    lines = subprocess.check_output([str(VENV / "bin" / "pip"), "config", "list"], text=True).splitlines()
    result = {}
    for source in ("global", ":env:"):
        for line in lines:
            name, _equals, value = line.partition("=")
            if name.startswith(f"{source}."):
                result[name[len(source) + 1 :]] = " ".join(str(ast.literal_eval(value)).split())
    return result


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
