# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRIU's command line as argument lists. Options and their versions are those of criu(8)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Iterable, Mapping, Sequence

DUMP_LOG = "dump.log"
RESTORE_LOG = "restore.log"


@dataclass(frozen=True)
class Options:
    """What a user may ask of CRIU; the same words as the modules' options.

    An image set keeps those it was made with, because most must be given again at restore. `ghost_limit` is in bytes,
    `timeout` in seconds.
    """

    tcp_established: bool = False
    tcp_close: bool = False
    shell_job: bool = False
    file_locks: bool = False
    ext_unix_sk: bool = False
    link_remap: bool = False
    ghost_limit: int | None = None
    network_lock: str | None = None
    manage_cgroups: str | None = None
    timeout: int | None = None
    external_auto: bool = False
    external_shared: bool = False
    external_masters: bool = False
    skip_mnt: Sequence[str] = ()
    enable_fs: Sequence[str] = ()
    mntns_compat_mode: bool = False
    extra_args: Sequence[str] = ()

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> Options:
        """The options found in a mapping, for example a module's parameters; other keys are passed over."""
        known = {name: options[name] for name in cls.__dataclass_fields__ if options.get(name) is not None}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in known.items()
        }
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """The options in plain JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def version_command(criu: str) -> list[str]:
    """`criu --version`."""
    return [criu, "--version"]


def check_command(criu: str, feature: str | None = None) -> list[str]:
    """`criu check`, or `criu check --feature NAME`."""
    return [criu, "check"] if feature is None else [criu, "check", "--feature", feature]


def dump_command(
    criu: str,
    pid: int,
    images: str,
    root: str | None,
    dump_map: Sequence[Mapping[str, str]],
    options: Options,
    leave_running: bool = False,
    action_script: str | None = None,
    legacy: bool = False,
) -> list[str]:
    """`criu dump` of the tree below `pid` into the folder `images`, with a key for each mount of `dump_map`.

    `legacy` is for CRIU before 2.8, which has `--ext-mount-map` instead of `--external mnt[]`.
    """
    argv = [criu, "dump", "--tree", str(pid), *_common(images, DUMP_LOG, root, action_script)]
    argv += _external(
        (
            (
                ("dev", entry["device"], entry["key"])
                if entry.get("device")
                else ("mnt", entry["mountpoint"], entry["key"])
            )
            for entry in dump_map
        ),
        legacy,
    )
    if leave_running:
        argv.append("--leave-running")
    if options.link_remap:
        argv.append("--link-remap")
    if options.ghost_limit is not None:
        argv += ["--ghost-limit", str(options.ghost_limit)]
    if options.network_lock is not None:
        argv += ["--network-lock", options.network_lock]
    if options.timeout is not None:
        argv += ["--timeout", str(options.timeout)]
    for mountpoint in options.skip_mnt:
        argv += ["--skip-mnt", mountpoint]
    return argv + _both_sides(options)


def restore_command(
    criu: str,
    images: str,
    root: str | None,
    restore_map: Sequence[Mapping[str, Any]],
    options: Options,
    action_script: str | None = None,
    legacy: bool = False,
) -> list[str]:
    """`criu restore` from the folder `images` below `root`, detached, with a path for each key of `restore_map`."""
    argv = [criu, "restore", "--restore-detached", *_common(images, RESTORE_LOG, root, action_script)]
    argv += _external(
        (("dev" if entry.get("device") else "mnt", entry["key"], entry["path"]) for entry in restore_map), legacy
    )
    return argv + _both_sides(options)


def _common(images: str, log_file: str, root: str | None, action_script: str | None) -> list[str]:
    argv = ["--images-dir", images, "--log-file", log_file, "-v2"]
    if root is not None:
        argv += ["--root", root]
    if action_script is not None:
        argv += ["--action-script", action_script]
    return argv


def _external(resources: Iterable[tuple[str, str, str]], legacy: bool) -> list[str]:
    argv = []
    for kind, name, value in resources:
        argv += ["--ext-mount-map", f"{name}:{value}"] if legacy else ["--external", f"{kind}[{name}]:{value}"]
    return argv


def _both_sides(options: Options) -> list[str]:
    argv = []
    if options.external_auto:
        argv += ["--external", "mnt[]"]
        # Since CRIU 3.11 the two flags in one option set the first alone.
        argv += ["--external", "mnt[]:m"] if options.external_masters else []
        argv += ["--external", "mnt[]:s"] if options.external_shared else []
    for file_system in options.enable_fs:
        argv += ["--enable-fs", file_system]
    for flag, wanted in (
        ("--tcp-established", options.tcp_established),
        ("--tcp-close", options.tcp_close),
        ("--shell-job", options.shell_job),
        ("--file-locks", options.file_locks),
        ("--ext-unix-sk", options.ext_unix_sk),
        ("--mntns-compat-mode", options.mntns_compat_mode),
    ):
        if wanted:
            argv.append(flag)
    if options.manage_cgroups is not None:
        argv.append(f"--manage-cgroups={options.manage_cgroups}")
    return [*argv, *options.extra_args]
