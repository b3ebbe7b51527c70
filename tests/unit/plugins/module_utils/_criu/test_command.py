# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import (
    Options,
    check_command,
    dump_command,
    restore_command,
    version_command,
)

DUMP = ["criu", "dump", "--tree", "42", "--images-dir", "/img", "--log-file", "dump.log", "-v2"]
RESTORE = ["criu", "restore", "--restore-detached", "--images-dir", "/img", "--log-file", "restore.log", "-v2"]

BOTH_SIDES = [
    ({"tcp_established": True}, ["--tcp-established"]),
    ({"tcp_close": True}, ["--tcp-close"]),
    ({"shell_job": True}, ["--shell-job"]),
    ({"file_locks": True}, ["--file-locks"]),
    ({"ext_unix_sk": True}, ["--ext-unix-sk"]),
    ({"manage_cgroups": "soft"}, ["--manage-cgroups=soft"]),
    ({"extra_args": ["--weak-sysctls", "-v4", "a b"]}, ["--weak-sysctls", "-v4", "a b"]),
]
DUMP_ALONE = [
    ({"link_remap": True}, ["--link-remap"]),
    ({"ghost_limit": 0}, ["--ghost-limit", "0"]),
    ({"ghost_limit": 1 << 20}, ["--ghost-limit", "1048576"]),
    ({"network_lock": "nftables"}, ["--network-lock", "nftables"]),
    ({"timeout": 30}, ["--timeout", "30"]),
]


def dump(options: dict[str, Any] | None = None, **arguments: Any) -> list[str]:
    given = {"root": None, "dump_map": [], "options": Options.from_dict(options or {}), **arguments}
    return dump_command("criu", 42, "/img", **given)


def restore(options: dict[str, Any] | None = None, **arguments: Any) -> list[str]:
    given = {"root": None, "restore_map": [], "options": Options.from_dict(options or {}), **arguments}
    return restore_command("criu", "/img", **given)


def test_a_dump_without_options() -> None:
    assert dump() == DUMP


def test_a_restore_without_options_is_detached() -> None:
    assert restore() == RESTORE


@pytest.mark.parametrize(("options", "words"), BOTH_SIDES + DUMP_ALONE)
def test_each_option_of_a_dump(options: dict[str, Any], words: list[str]) -> None:
    assert dump(options) == DUMP + words


@pytest.mark.parametrize(("options", "words"), BOTH_SIDES)
def test_each_option_that_a_restore_needs_again(options: dict[str, Any], words: list[str]) -> None:
    assert restore(options) == RESTORE + words


@pytest.mark.parametrize(("options", "words"), DUMP_ALONE)
def test_options_of_a_dump_alone_are_not_given_at_restore(options: dict[str, Any], words: list[str]) -> None:
    assert restore(options) == RESTORE


def test_root_and_action_script_and_leave_running() -> None:
    assert dump(root="/box", action_script="/s", leave_running=True) == [
        *DUMP,
        "--root",
        "/box",
        "--action-script",
        "/s",
        "--leave-running",
    ]
    assert restore(root="/box", action_script="/s") == [*RESTORE, "--root", "/box", "--action-script", "/s"]


def test_extra_arguments_are_last_so_that_they_win() -> None:
    options = {**{name: value for given, _words in BOTH_SIDES + DUMP_ALONE for name, value in given.items()}}
    assert dump(options, root="/box", action_script="/s", leave_running=True)[-3:] == ["--weak-sysctls", "-v4", "a b"]
    assert restore(options, root="/box", action_script="/s")[-3:] == ["--weak-sysctls", "-v4", "a b"]


@pytest.mark.parametrize(
    "text", ["/data", "/a b", "/a:b", "/[a]", "/a]:b", "/a\tb", "/é€", "/#a", "/a,b", "/a'b\"c", "/a\\b", "/"]
)
def test_mountpoints_keys_and_paths_are_given_as_they_are(text: str) -> None:
    assert dump(dump_map=[{"mountpoint": text, "key": "k"}]) == [*DUMP, "--external", f"mnt[{text}]:k"]
    assert dump(dump_map=[{"mountpoint": "/m", "key": text}]) == [*DUMP, "--external", f"mnt[/m]:{text}"]
    assert restore(restore_map=[{"key": text, "path": "/p"}]) == [*RESTORE, "--external", f"mnt[{text}]:/p"]
    assert restore(restore_map=[{"key": "k", "path": text}]) == [*RESTORE, "--external", f"mnt[k]:{text}"]


def test_every_mount_of_the_map_is_given_in_its_order() -> None:
    keys = ["b", "a", "c"]
    assert dump(dump_map=[{"mountpoint": f"/{key}", "key": key} for key in keys])[len(DUMP) :] == [
        "--external",
        "mnt[/b]:b",
        "--external",
        "mnt[/a]:a",
        "--external",
        "mnt[/c]:c",
    ]
    assert restore(restore_map=[{"key": key, "path": f"/{key}"} for key in keys])[len(RESTORE) + 1 :: 2] == [
        "mnt[b]:/b",
        "mnt[a]:/a",
        "mnt[c]:/c",
    ]


def test_options_are_those_known_and_given_in_a_mapping() -> None:
    given = {"tcp_close": True, "shell_job": None, "ghost_limit": 5, "extra_args": ["-v"], "images": "/img", "pid": 3}
    assert Options.from_dict(given) == Options(tcp_close=True, ghost_limit=5, extra_args=("-v",))
    assert Options.from_dict({}) == Options()


def test_options_in_plain_types_read_back_the_same() -> None:
    options = Options(tcp_established=True, network_lock="nftables", timeout=3, extra_args=("-v", "x"))
    assert options.as_dict()["extra_args"] == ["-v", "x"]
    assert Options.from_dict(options.as_dict()) == options


def test_version_and_check() -> None:
    assert version_command("/sbin/criu") == ["/sbin/criu", "--version"]
    assert check_command("/sbin/criu") == ["/sbin/criu", "check"]
    assert check_command("/sbin/criu", "uffd") == ["/sbin/criu", "check", "--feature", "uffd"]


def test_a_device_is_told_by_its_number_and_its_path() -> None:
    dump_map = [{"mountpoint": "/disk", "key": "disk", "device": "8/17"}]
    argv = dump_command("criu", 42, "/images", "/root", dump_map, Options())
    assert argv[argv.index("--external") + 1] == "dev[8/17]:disk"
    restore_map = [{"key": "disk", "path": "/dev/vdb", "device": True}]
    argv = restore_command("criu", "/images", "/root", restore_map, Options())
    assert argv[argv.index("--external") + 1] == "dev[disk]:/dev/vdb"


def test_auto_detection_and_its_flags_are_options_of_their_own() -> None:
    argv = dump_command(
        "criu", 42, "/i", None, [], Options(external_auto=True, external_shared=True, external_masters=True)
    )
    assert [value for value in argv if value.startswith("mnt[]")] == ["mnt[]", "mnt[]:m", "mnt[]:s"]


def test_skipped_mounts_known_file_systems_and_the_older_engine_are_passed_on() -> None:
    options = Options(skip_mnt=("/a",), enable_fs=("ramfs",), mntns_compat_mode=True)
    argv = dump_command("criu", 42, "/i", None, [], options)
    assert argv[argv.index("--skip-mnt") + 1] == "/a"
    assert argv[argv.index("--enable-fs") + 1] == "ramfs"
    assert "--mntns-compat-mode" in argv
    assert "--skip-mnt" not in restore_command("criu", "/i", None, [], options)


def test_a_criu_before_2_8_is_told_by_its_older_option() -> None:
    argv = dump_command("criu", 42, "/i", None, [{"mountpoint": "/d", "key": "k"}], Options(), legacy=True)
    assert argv[argv.index("--ext-mount-map") + 1] == "/d:k"
    argv = restore_command("criu", "/i", None, [{"key": "k", "path": "/srv"}], Options(), legacy=True)
    assert argv[argv.index("--ext-mount-map") + 1] == "k:/srv"
