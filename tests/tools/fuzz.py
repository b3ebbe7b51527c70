# SPDX-License-Identifier: GPL-3.0-or-later
"""Try the readers of what somebody else may have written, and the properties of mounts and rules, on many new inputs.

usage: fuzz.py [FIRST]

FUZZ_INPUTS is the number of inputs for each reader (default 50000), FUZZ_EXAMPLES that for all properties together
(default 100000). The inputs of readers have numbers, from FIRST on (default 0): the same number is the same input. The
last line says how many were tried and how long it took. An input that ends with another exception than one of ours,
takes more than 5 s, or more than 1 GiB of memory, is shown and counts as a failure; so does one for which a property
does not hold, made as small as possible.
"""

from __future__ import annotations

import importlib
import math
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

COLLECTIONS = Path(__file__).resolve().parents[2] / ".cache" / "collections"
UNIT = "ansible_collections.fleet.criu.tests.unit"
PROPERTIES = f"{UNIT}.plugins.filter.test_mount_properties"
READERS = f"{UNIT}.foreign_readers"
MOST_MEMORY = 1 << 30
# In memory, because each input is a file.
FOLDER = Path("/dev/shm")


def main() -> int:
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    inputs = int(os.environ.get("FUZZ_INPUTS") or "50000")
    wanted = int(os.environ.get("FUZZ_EXAMPLES") or "100000")
    names = property_names(load(PROPERTIES))
    os.environ["FUZZ_EXAMPLES"] = str(math.ceil(wanted / len(names)))
    # The properties take the number from there when they are made.
    importlib.reload(load(PROPERTIES))
    readers = [reader.name for reader in load(READERS).READERS]
    start = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork")) as processes:
        begun = [processes.submit(try_reader, name, first, inputs) for name in readers]
        results = dict(zip(names, processes.map(try_property, names)))
        read = dict(zip(readers, (future.result() for future in begun)))
    seconds = time.monotonic() - start
    tried = sum(count for count, _held in results.values())
    failed = [name for name, (_count, held) in {**results, **read}.items() if not held]
    print(
        f"{sum(count for count, _held in read.values())} inputs of {len(readers)} readers and {tried} of {len(names)} "
        f"properties tried in {seconds:.1f} s, {len(failed)} failed"
    )
    too_few = (tried < wanted or any(count < inputs for count, _held in read.values())) and not failed
    if too_few:
        print(f"{wanted} and {inputs} for each reader were wanted", file=sys.stderr)
    return 1 if failed or too_few else 0


def load(name: str) -> ModuleType:
    if str(COLLECTIONS) not in sys.path:
        sys.path.insert(0, str(COLLECTIONS))
    return importlib.import_module(name)


def property_names(module: ModuleType) -> list[str]:
    return [name for name in vars(module) if name.startswith("test_")]


def try_reader(name: str, first: int, inputs: int) -> tuple[int, bool]:
    """How many inputs were tried, and whether all of them were read or refused as they should be."""
    module = load(READERS)
    (reader,) = (reader for reader in module.READERS if reader.name == name)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, before[1]))
    start, read, refused, held = time.monotonic(), 0, 0, True
    try:
        with tempfile.TemporaryDirectory(dir=FOLDER if FOLDER.is_dir() else None) as folder:
            read, refused = module.try_inputs(reader, range(first, first + inputs), Path(folder))
    except module.Fault:
        traceback.print_exc()
        held = False
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    seconds = time.monotonic() - start
    show(read + refused, seconds, held, f"{name}: {read} were read, {refused} refused")
    return read + refused, held


def try_property(name: str) -> tuple[int, bool]:
    """How many inputs were tried, and whether the property held for all of them."""
    count = 0
    test = getattr(load(PROPERTIES), name)
    check: Callable[..., None] = test.hypothesis.inner_test

    def counted(*arguments: Any, **named: Any) -> None:
        nonlocal count
        count += 1
        check(*arguments, **named)

    # The place that hypothesis documents for wrapping what it calls for each input.
    test.hypothesis.inner_test = counted
    start = time.monotonic()
    try:
        test()
    except Exception:
        traceback.print_exc()
        held = False
    else:
        held = True
    show(count, time.monotonic() - start, held, name)
    return count, held


def show(count: int, seconds: float, held: bool, what: str) -> None:
    rate = count / max(seconds, 0.001)
    print(f"{count:8} {seconds:6.1f} s {rate:7.0f}/s  {'held  ' if held else 'FAILED'}  {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
