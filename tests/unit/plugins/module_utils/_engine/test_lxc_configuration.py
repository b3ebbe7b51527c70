# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._engine.lxc_configuration import (
    MountEntry,
    last,
    mount_entries,
    read_settings,
    remapped_settings,
    settings_in,
    settings_text,
    without_missing,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError

DATA = ("lxc.mount.entry", "/srv/data data none bind,create=dir 0 0")
CONF = ("lxc.mount.entry", "/srv/web.conf etc/web.conf none ro,bind 0 0")
MEMORY = ("lxc.mount.entry", "tmpfs cache tmpfs nosuid 0 0")
KERNELS = ("lxc.mount.entry", "/sys/fs/fuse/connections sys/fs/fuse/connections none bind,optional 0 0")
OLD_ROOT = ("lxc.rootfs.path", "dir:/srv/roots/web")


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


# Reading


def test_settings_are_what_a_file_says_in_its_order(tmp_path: Path) -> None:
    path = write(
        tmp_path / "config",
        "# a comment = none",
        "",
        "   # indented = none",
        "lxc.uts.name=web",
        "  lxc.init.cmd =  /bin/sh -c 'x = 1'  ",
        "no setting",
        'lxc.environment = "A=b c"',
        "lxc.environment = 'D=e'",
        "lxc.mount.entry =",
        'lxc.single = "',
    )
    assert read_settings(path) == [
        ("lxc.uts.name", "web"),
        ("lxc.init.cmd", "/bin/sh -c 'x = 1'"),
        ("lxc.environment", "A=b c"),
        ("lxc.environment", "D=e"),
        ("lxc.mount.entry", ""),
        ("lxc.single", '"'),
    ]


CONTROL = ["\r", "\v", "\f", "\0", "\x1c", "\x1d", "\x1e", "\x1f", "\x7f", "\x85", "\u2028", "\u2029", "\x1b"]


@pytest.mark.parametrize("character", CONTROL)
@pytest.mark.parametrize("line", ["lxc.uts.name = web{}lxc.hook.start = /x", "lxc.uts.name = web{}", "lxc.a{}b = c"])
def test_a_line_ends_at_a_newline_alone_and_control_characters_are_refused(
    tmp_path: Path, character: str, line: str
) -> None:
    path = tmp_path / "config"
    path.write_bytes(f"a = 1\n# {character} in a comment\n{line.format(character)}\n".encode())
    with pytest.raises(CriuError, match=r"control character .* in line 3 of the configuration") as caught:
        read_settings(path)
    assert caught.value.remedy


@pytest.mark.parametrize("blank", ["\u00a0", "\u2003", "\u3000", "\ufeff"])
def test_only_blanks_and_tabs_are_taken_away_and_part_fields(tmp_path: Path, blank: str) -> None:
    path = tmp_path / "config"
    path.write_text(f"\t a\t= \t{blank}x{blank} \t\n", "utf-8")
    assert read_settings(path) == [("a", f"{blank}x{blank}")]
    (entry,) = mount_entries([("lxc.mount.entry", f"/srv/a{blank}b\tdata \t none bind")])
    assert (entry.source, entry.destination) == (f"/srv/a{blank}b", "/data")


def test_only_what_getmntent_knows_is_an_escape() -> None:
    (entry,) = mount_entries([("lxc.mount.entry", "/a\\040b\\134c\\\\d\\101\\777 data none bind")])
    assert entry.source == "/a b\\c\\d\\101\\777"


def test_folders_that_include_themselves_have_an_end(tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path / f"{number}.conf", f"lxc.include = {tmp_path}")
    with pytest.raises(CriuError, match="includes itself"):
        read_settings(write(tmp_path / "config", f"lxc.include = {tmp_path}"))


@pytest.mark.parametrize("name", ["x" * 5000, "pipe", "zero", "holes"])
def test_what_is_no_file_is_an_error_of_ours(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "holes").touch()
    os.truncate(tmp_path / "holes", 1 << 40)
    with pytest.raises(CriuError, match="cannot be read"):
        read_settings(write(tmp_path / "config", f"lxc.include = {tmp_path}/{name}"))


@pytest.mark.parametrize("character", ["\n", *CONTROL])
def test_no_value_can_become_a_line_of_its_own(character: str) -> None:
    for setting in (("lxc.rootfs.path", f"dir:/mnt/r{character}x"), (f"lxc.a{character}b", "c")):
        with pytest.raises(CriuError, match="control character"):
            settings_text([setting], "A comment.")


@pytest.mark.parametrize("key", ["", "a b", "#a", "a=b", " a"])
def test_no_key_can_be_another_line(key: str) -> None:
    with pytest.raises(CriuError, match="cannot be a key"):
        settings_text([(key, "x")], "A comment.")


@pytest.mark.parametrize("value", ["'a'", '"a"', " a", "a\t", "''", '"', "'a'b'", '"a" "b"'])
def test_a_value_with_quotes_or_blanks_at_its_ends_is_read_again(tmp_path: Path, value: str) -> None:
    path = tmp_path / "config"
    path.write_text(settings_text([("a", value)], "A comment."))
    assert read_settings(path) == [("a", value)]


@pytest.mark.parametrize("value", [None, {}, "ab", [["a"]], [["a", 1]], [["a", "b", "c"]], [1], ["ab"]])
def test_settings_from_elsewhere_that_are_none_are_an_error_of_ours(value: object) -> None:
    with pytest.raises(CriuError, match="no list of keys and values"):
        settings_in(value)
    assert settings_in([["a", "b"]]) == [("a", "b")]


def test_an_include_is_replaced_by_what_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    write(folder / "2.conf", "b = 2")
    write(folder / "1.conf", "a = 1")
    write(folder / "no", "c = 3")
    deeper = write(tmp_path / "deeper", f"lxc.include = {folder}", "d = 4")
    path = write(tmp_path / "config", "first = 0", f"lxc.include = {deeper}", "last = 5")
    assert read_settings(path) == [("first", "0"), ("a", "1"), ("b", "2"), ("d", "4"), ("last", "5")]


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "config", f"lxc.include = {tmp_path}/none")
    with pytest.raises(CriuError, match=f"{tmp_path}/none of a container of LXC cannot be read"):
        read_settings(path)


def test_files_that_include_each_other_have_no_end(tmp_path: Path) -> None:
    path = tmp_path / "config"
    write(path, f"lxc.include = {path}")
    with pytest.raises(CriuError, match=f"{path} of a container of LXC includes itself"):
        read_settings(path)


def test_the_last_value_counts() -> None:
    assert last([("a", "1"), ("b", "2"), ("a", "3")], "a") == "3"
    assert last([("a", "1")], "b") == ""


# Mount entries


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        ("/srv/data data none bind,ro 0 0", MountEntry("/srv/data", "/data", frozenset({"bind", "ro"}), True)),
        ("/a\\040b c\\011d none rbind", MountEntry("/a b", "/c\td", frozenset({"rbind"}), True)),
        ("/srv/data /data none bind", MountEntry("/srv/data", "/data", frozenset({"bind"}), False)),
        ("/srv/data data/ none bind", MountEntry("/srv/data", "/data", frozenset({"bind"}), True)),
        ("tmpfs tmp tmpfs", MountEntry("tmpfs", "/tmp", frozenset({""}), True)),
    ],
)
def test_a_mount_entry_is_read_as_fstab_is(value: str, entry: MountEntry) -> None:
    assert mount_entries([("lxc.mount.entry", value)]) == [entry]


def test_an_empty_entry_takes_away_those_before() -> None:
    assert [entry.destination for entry in mount_entries([DATA, ("lxc.mount.entry", ""), MEMORY])] == ["/cache"]


@pytest.mark.parametrize(
    ("value", "is_bind"),
    [
        ("/srv/data data none bind", True),
        ("/srv/data data none rbind,ro", True),
        ("/device data none bind", True),
        ("tmpfs data tmpfs nosuid", False),
        ("/dev/vdb data ext4 rw", False),
        ("/dev/fuse dev/fuse none bind", False),
        ("/sys sys none rbind", False),
        ("/proc/acpi proc/acpi none bind", False),
    ],
)
def test_binds_are_those_from_the_host_s_own_files(value: str, is_bind: bool) -> None:
    (entry,) = mount_entries([("lxc.mount.entry", value)])
    assert entry.is_bind is is_bind


def test_an_optional_entry_without_a_source_is_none(tmp_path: Path) -> None:
    there = ("lxc.mount.entry", f"{tmp_path} data none bind,optional 0 0")
    gone = ("lxc.mount.entry", f"{tmp_path}/none data none bind,optional 0 0")
    needed = ("lxc.mount.entry", f"{tmp_path}/none data none bind 0 0")
    other = ("lxc.uts.name", "optional")
    assert without_missing([there, gone, needed, other]) == [there, needed, other]


# Remapping


def test_sources_of_binds_and_the_root_become_those_of_the_other_host() -> None:
    settings = [("lxc.uts.name", "web"), OLD_ROOT, DATA, MEMORY, KERNELS, CONF]
    before = list(settings)
    sources = {"/data": "/mnt/my data", "/etc/web.conf": "/mnt/web\\.conf"}
    assert remapped_settings(settings, sources, "/mnt/root") == [
        ("lxc.uts.name", "web"),
        ("lxc.mount.entry", "/mnt/my\\040data data none bind,create=dir 0 0"),
        MEMORY,
        KERNELS,
        ("lxc.mount.entry", "/mnt/web\\134.conf etc/web.conf none ro,bind 0 0"),
        ("lxc.rootfs.path", "dir:/mnt/root"),
    ]
    assert settings == before


def test_every_bind_needs_a_source() -> None:
    with pytest.raises(CriuError, match=r"no source on this host for what is bound at /etc/web\.conf") as caught:
        remapped_settings([DATA, CONF], {"/data": "/mnt/data"}, "/mnt/root")
    assert caught.value.facts == {"mountpoints": ["/etc/web.conf"]}


def test_an_entry_that_was_taken_away_needs_none() -> None:
    empty = ("lxc.mount.entry", "")
    assert remapped_settings([DATA, empty], {}, "/mnt/root") == [DATA, empty, ("lxc.rootfs.path", "dir:/mnt/root")]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    settings = remapped_settings([OLD_ROOT, DATA, KERNELS], {"/data": "/mnt/my data"}, "/mnt/root")
    path = tmp_path / "config"
    path.write_text(settings_text(settings, "A comment."))
    assert path.read_text().startswith("# A comment.\n")
    assert read_settings(path) == settings
    assert mount_entries(read_settings(path))[0].source == "/mnt/my data"
