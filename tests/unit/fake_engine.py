# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine for tests. Its commands are those of playing_engine.py, in the folder `engine` of its runner's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import DUMP_LOG, RESTORE_LOG, Options
from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Arrival, Container, Copy, Engine
from ansible_collections.fleet.criu.plugins.module_utils._errors import WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command
from ansible_collections.fleet.criu.tests.unit import playing_engine, streaming_criu

RESTORED = 5_000_077


class FakeEngine(Engine):
    """Plays an engine; the class attributes are what a test may change."""

    name = "fake"
    placeholders = ("inventory.img",)
    complaints: tuple[str, ...] = ()
    has_copies = False

    def __init__(self, runner: Any, proc: Proc) -> None:
        super().__init__(runner, proc)
        self.folder = Path(runner.folder) / "engine"
        if not self.folder.exists():
            playing_engine.install(self.folder, Path(streaming_criu.__file__))

    def is_present(self) -> bool:
        return True

    def version(self) -> str:
        return "fake 1.0"

    def containers(self) -> list[Container]:
        names = [path.stem for path in sorted(self.folder.glob("*.json")) if path.name != playing_engine.SCRIPT]
        return [self.find(name) for name in names]

    def find(self, name: str) -> Container:
        try:
            row = json.loads((self.folder / f"{name}.json").read_text())
        except FileNotFoundError:
            raise WorkloadNotFound(f"fake knows no container {name} here.") from None
        return Container("fake", name, name, row["state"], row["pid"])

    def facts(self, container: Container | None = None) -> dict[str, Any]:
        return {"engine": "fake", "version": "fake 1.0"}

    def removal(self, name: str) -> str:
        return f"fake erase {name}"

    def remove(self, name: str) -> None:
        playing_engine.note(self.folder, f"remove {name}")
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def own_mountpoints(self, container: Container) -> frozenset[str]:
        return frozenset(["/proc"])

    def problems(self, container: Container) -> list[str]:
        return list(self.complaints)

    def configuration(self, container: Container) -> dict[str, Any]:
        return {"engine": "fake", "secret": "s3cret"}

    def checkpoint(self, container: Container, images: Path, options: Options, leave_running: bool = False) -> Command:
        words = ["dump", "--tree", str(container.pid), "--images-dir", str(images), "--log-file", DUMP_LOG]
        return self._command("checkpoint", container.name, words)

    def forget_checkpoint(self, container: Container, images: Path) -> None:
        playing_engine.note(self.folder, "forget")

    def copies(self, container: Container) -> list[Copy]:
        if not self.has_copies:
            return []
        return [Copy("fake-root", "/source/root"), Copy("fake-memory", "/source/memory", is_late=True)]

    def restore(self, arrival: Arrival) -> Command:
        arrival.images.mkdir(parents=True, exist_ok=True)
        (arrival.images / "inventory.img").touch(mode=0o600)
        given = {"sources": arrival.sources, "root": arrival.root, "configuration": arrival.configuration}
        (self.folder / "arrival").write_text(json.dumps(given))
        words = ["restore", "--images-dir", str(arrival.images), "--log-file", RESTORE_LOG]
        return self._command("restore", arrival.name, words)

    def folders(self, name: str) -> dict[str, str]:
        return {"fake-root": f"/target/{name}/root", "fake-memory": f"/target/{name}/memory"}

    def _command(self, what: str, name: str, words: list[str]) -> Command:
        return Command([str(self.folder / "engine"), what, name, str(RESTORED), *words])
