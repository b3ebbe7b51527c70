# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of which kind each value in a manifest must be, so that no other place has to check what somebody else wrote."""

from __future__ import annotations

from typing import Any, Callable, Mapping

Check = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    """Whether it is a text."""
    return isinstance(value, str)


def is_whole(value: Any) -> bool:
    """Whether it is a number from 0 on. True is an int too, and none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_texts(value: Any) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, (list, tuple)) and all(map(is_text, value))


def is_truth(value: Any) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_file_name(value: Any) -> bool:
    return is_text(value) and value not in ("", ".", "..") and "/" not in value and "\0" not in value


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_text, value))


def _is_host_paths(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(_is_object(row) and is_text(row.get("path", "")) for row in value)


_WORKLOAD: Mapping[str, Check] = {"name": is_text, "pid": is_whole, "start_time": is_whole, "command": is_texts}
_TOP: Mapping[str, Check] = {
    **dict.fromkeys(("host", "boot_id", "kernel", "architecture", "criu_version", "created", "root"), is_text),
    "options": _is_object,
    "leave_running": is_truth,
    "generation": is_whole,
}
_FILE: Mapping[str, Check] = {"size": is_whole, "sha256": is_text, "crc32": is_whole}
_ENTRY: Mapping[str, Check] = {"mountpoint": is_text, "key": is_text, "path": is_text}
_MOUNT: Mapping[str, Check] = {
    **dict.fromkeys(("mount_id", "parent_id", "major", "minor"), is_whole),
    **dict.fromkeys(("root", "mountpoint", "fstype", "source", "kind"), is_text),
    **dict.fromkeys(("mount_options", "optional_fields", "super_options"), is_texts),
    **dict.fromkeys(("shared", "master", "propagate_from"), _or_none(is_whole)),
    **dict.fromkeys(("unbindable", "deleted"), is_truth),
    **dict.fromkeys(("key", "auto_path", "host_path"), _or_none(is_text)),
    "host_paths": _is_host_paths,
}


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and "size" in value and all(_FILE[key](value[key]) for key in _FILE if key in value)


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raises ValueError, with a clause that names what is malformed, for the fields of a manifest."""
    _check_fields(manifest["workload"], _WORKLOAD, "its workload")
    _check_fields({name: manifest[name] for name in _TOP}, _TOP, "it")
    _check_files(manifest["files"])
    _check_rows(manifest["mount_map"], {"mountpoint", "key"}, _ENTRY, "mount_map")
    _check_rows(manifest["mounts"], {"mountpoint", "kind"}, _MOUNT, "mounts")
    _check_id_maps(manifest["id_maps"])


def _check_fields(fields: Any, checks: Mapping[str, Check], where: str) -> None:
    for name, value in fields.items():
        if name in checks and not checks[name](value):
            raise ValueError(f"{where} has {str(value)[:40]!r} as '{name}'")


def _check_files(files: Any) -> None:
    if not isinstance(files, dict) or not all(map(_is_file_name, files)) or not all(map(_is_file, files.values())):
        raise ValueError("its list of files is malformed")


def _check_rows(rows: Any, needed: set[str], checks: Mapping[str, Check], name: str) -> None:
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, dict) and needed <= set(row) for row in rows):
        raise ValueError(f"its '{name}' is no list of mounts")
    for row in rows:
        _check_fields(row, checks, f"a mount in its '{name}'")


def _check_id_maps(maps: Any) -> None:
    if maps is None:
        return
    rows = [row for name in ("uid_map", "gid_map") for row in maps[name]]
    if not all(len(row) == 3 and all(is_whole(number) and number < 1 << 32 for number in row) for row in rows):
        raise ValueError("its 'id_maps' are malformed")
