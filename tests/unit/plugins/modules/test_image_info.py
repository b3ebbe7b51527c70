# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import json
import platform
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.fleet.criu.plugins.modules import image_info
from ansible_collections.fleet.criu.tests.unit.synthetic_images import write_image_set


class Exited(Exception):
    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__()
        self.result = result


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def end(module: AnsibleModule, **result: Any) -> None:
        raise Exited(result)

    monkeypatch.setattr(AnsibleModule, "exit_json", end)
    monkeypatch.setattr(AnsibleModule, "fail_json", end)
    monkeypatch.setattr(platform, "node", lambda: "node7")
    return write_image_set(tmp_path / "images")


def run(**arguments: Any) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(Exited) as caught:
        image_info.main()
    return caught.value.result


def documented() -> dict[str, Any]:
    yaml = importlib.import_module("yaml")
    return dict(yaml.safe_load(image_info.RETURN))


@pytest.mark.parametrize("check_mode", [False, True])
def test_it_tells_what_is_in_the_set_and_changes_nothing(images: Path, check_mode: bool) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    result = run(images=str(images), _ansible_check_mode=check_mode)
    assert result["changed"] is False
    assert result["manifest"]["present"] is False
    assert [mount["key"] for mount in result["mounts"]] == ["data", None]
    assert json.loads(json.dumps(result)) == result
    assert {path.name: path.stat().st_mtime_ns for path in images.iterdir()} == before


def test_every_value_is_documented_and_the_other_way_round(images: Path) -> None:
    result = run(images=str(images))
    del result["changed"]
    described = documented()
    assert set(result) == set(described)
    for name, value in result.items():
        sample = value[0] if isinstance(value, list) else value
        if isinstance(sample, dict):
            assert set(sample) == set(described[name]["contains"]), name


def test_a_damaged_image_fails_and_says_where(images: Path) -> None:
    (images / "pstree.img").write_bytes((images / "pstree.img").read_bytes()[:-1])
    result = run(images=str(images))
    assert result["msg"].startswith(f"node7: The image {images}/pstree.img is damaged at byte ")
    assert "Copy the image set again" in result["remedy"]
    assert (result["file"], result["offset"], result["manifest"]["present"]) == ("pstree.img", 28, False)


def test_files_need_not_be_compared(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    whole = image_info.read_image_set

    def read(folder: Path, compare_files: bool) -> Any:
        asked.append(compare_files)
        return whole(folder, compare_files)

    monkeypatch.setattr(image_info, "read_image_set", read)
    run(images=str(images), compare_files=False)
    run(images=str(images))
    assert asked == [False, True]
