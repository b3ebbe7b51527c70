# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fails today; each test belongs into the file that its heading names once the code is mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import read_manifest, verify_files
from ansible_collections.fleet.criu.plugins.module_utils._engine import discover as discover_module
from ansible_collections.fleet.criu.plugins.module_utils._engine.crun import Crun
from ansible_collections.fleet.criu.plugins.module_utils._engine.runc import Runc
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Outcome
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.tests.unit import playing_engine
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._engine import test_oci, test_podman
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff.conftest import ends, pair  # noqa: F401
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff.pair import SOURCE, TARGET
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff.test_engine import (
    MOVED,
    Engines,
    engines,  # noqa: F401
    expect_back,
    logs,
)

# test_podman.py


@pytest.fixture
def podman(tmp_path: Path) -> test_podman.Bench:
    return test_podman.Bench(tmp_path)


def test_a_container_that_was_never_started_has_no_bundle_and_hides_no_other(podman: test_podman.Bench) -> None:
    podman.row["State"] = {"Status": "created", "Pid": 0}
    del podman.row["OCIConfigPath"], podman.row["OCIRuntime"]
    assert [(each.name, each.state) for each in podman.engine.containers()] == [("web", "created")]


def test_the_beginning_of_another_container_s_identifier_is_not_its_name(podman: test_podman.Bench) -> None:
    # What podman does with "4f" if there is a container with the ID 4f4f... (LookupContainer).
    podman.runner.answers["podman", "container", "exists", "4f"] = Completed(0)
    with pytest.raises(WorkloadNotFound):
        podman.engine.find("4f")
    podman.engine.remove("4f")
    assert [argv for argv in podman.asked("rm") if argv[-1] == "4f"] == []


def test_podman_cannot_pass_on_how_control_groups_are_restored(podman: test_podman.Bench) -> None:
    with pytest.raises(CriuError, match="manage_cgroups"):
        podman.engine.checkpoint(podman.web(), podman.images, Options(manage_cgroups="strict"))


def test_a_real_checkpoint_folder_of_podman_s_own_is_said_so(podman: test_podman.Bench) -> None:
    (podman.bundle / "checkpoint").mkdir()
    with pytest.raises(CriuError):
        podman.engine.checkpoint(podman.web(), podman.images, Options())


# test_oci.py


@pytest.mark.parametrize("kind", [Runc, Crun])
def test_systemd_gets_no_path_for_its_control_group(kind: Any, tmp_path: Path, monkeypatch: Any) -> None:
    # With --systemd-cgroup it must be SLICE:PREFIX:NAME, or empty for the default by the container's name.
    bench = test_oci.Bench(kind, tmp_path, monkeypatch)
    bench.configure(test_oci.changed(cgroupsPath=""))
    bench.remember(is_systemd=True)
    path = bench.engine.configuration(bench.web())["config.json"]["linux"].get("cgroupsPath", "")
    assert path == "" or path.count(":") == 2


@pytest.mark.parametrize("kind", [Runc, Crun])
def test_a_state_that_is_gone_is_an_error_of_ours(kind: Any, tmp_path: Path, monkeypatch: Any) -> None:
    bench = test_oci.Bench(kind, tmp_path, monkeypatch)
    for name in ("state.json", "status"):
        (bench.root / "web" / name).unlink()
    with pytest.raises(CriuError):
        bench.engine.configuration(bench.web())


# test_discover.py


def test_a_container_without_a_bundle_hides_no_other(tmp_path: Path, monkeypatch: Any) -> None:
    bench = test_oci.Bench(Runc, tmp_path, monkeypatch)
    bench.runner.answers["runc", "--version"] = Completed(0, "runc 1.2\n")
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(discover_module, "ENGINES", {"runc": Runc})
    monkeypatch.setattr(discover_module, "has_unsupported", lambda name: False)
    bench.list([bench.row(), bench.row(id="old", bundle="/gone")])
    found = discover_module.discover(bench.runner, bench.proc)
    assert [each["name"] for each in found["workloads"]] == ["web", "old"]


# test_engine.py (handoff)


def test_storage_that_both_have_is_written_by_the_engine(engines: Engines) -> None:  # noqa: F811
    pair = engines.pair  # noqa: F811
    pair.ask(SOURCE, transport="shared", images=str(pair.images))
    pair.ask(TARGET, transport="shared", keep_images=True)
    pair.run()
    assert pair.lives() == MOVED, logs(pair)
    verify_files(pair.images, read_manifest(pair.images))
    assert pair.source.result()["image_bytes"] == 300_018


def test_a_criu_at_the_source_that_is_too_old_is_found_before_the_freeze(
    engines: Engines,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = engines.pair  # noqa: F811
    call = type(pair.source).__call__

    def old(host: Any, command: Any, while_running: Any = None) -> Completed:
        if list(command.argv) == [str(pair.source.criu), "--version"]:
            return Completed(0, "Version: 3.18\n")
        return call(host, command, while_running)

    monkeypatch.setattr(type(pair.source), "__call__", old)
    pair.run()
    assert "does not run an action script" in expect_back(engines)["reason"]
    assert "freezing" not in pair.source.steps()


def test_the_settlement_removes_no_container_that_the_engine_has_not_made(engines: Engines) -> None:  # noqa: F811
    # The receiver dies before it has come to its engine; somebody's stopped container has the name.
    pair = engines.pair  # noqa: F811
    playing_engine.put(engines.at[TARGET].folder, "redis", "exited", 0)
    pair.arm()
    pair.stop(TARGET, 9)
    pair.wait()
    assert pair.settle(TARGET, Outcome.BACK).outcome is Outcome.NOT_RUN
    assert engines.containers(TARGET) == {"redis": ("exited", 0)}


def test_the_settlement_removes_no_folder_that_the_sender_has_not_made(engines: Engines) -> None:  # noqa: F811
    pair = engines.pair  # noqa: F811
    engines.images.mkdir()
    (engines.images / "pages-1.img").write_text("of another image set")
    pair.run()
    assert "is not empty" in pair.source.result()["reason"]
    assert (engines.images / "pages-1.img").exists()
    assert pair.settle_both() == (Outcome.BACK, Outcome.NOT_RUN)
    assert (engines.images / "pages-1.img").exists()
