# SPDX-License-Identifier: GPL-3.0-or-later
"""Try the properties of mountinfo and rules on many generated inputs that were never tried before.

usage: fuzz.py

FUZZ_EXAMPLES is the number of inputs in all (default 100000). The last line says how many were tried and how long it
took. An input for which a property does not hold is made as small as possible, shown, and counts as a failure.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

COLLECTIONS = Path(__file__).resolve().parents[2] / ".cache" / "collections"
PROPERTIES = "ansible_collections.fleet.criu.tests.unit.plugins.filter.test_mount_properties"


def main() -> int:
    wanted = int(os.environ.get("FUZZ_EXAMPLES") or "100000")
    names = property_names(load())
    os.environ["FUZZ_EXAMPLES"] = str(math.ceil(wanted / len(names)))
    # The properties take the number from there when they are made.
    importlib.reload(load())
    start = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork")) as processes:
        results = dict(zip(names, processes.map(try_property, names)))
    seconds = time.monotonic() - start
    tried = sum(count for count, _held in results.values())
    failed = [name for name, (_count, held) in results.items() if not held]
    print(f"{tried} inputs tried in {seconds:.1f} s: {len(names) - len(failed)} properties held, {len(failed)} failed")
    if tried < wanted and not failed:
        print(f"{wanted} were wanted", file=sys.stderr)
    return 1 if failed or tried < wanted else 0


def load() -> ModuleType:
    if str(COLLECTIONS) not in sys.path:
        sys.path.insert(0, str(COLLECTIONS))
    return importlib.import_module(PROPERTIES)


def property_names(module: ModuleType) -> list[str]:
    return [name for name in vars(module) if name.startswith("test_")]


def try_property(name: str) -> tuple[int, bool]:
    """How many inputs were tried, and whether the property held for all of them."""
    count = 0
    test = getattr(load(), name)
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
    print(f"{count:8} {time.monotonic() - start:6.1f} s  {'held  ' if held else 'FAILED'}  {name}", flush=True)
    return count, held


if __name__ == "__main__":
    sys.exit(main())
