# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import MalformedMountinfo
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import (
    MountRow,
    check_tree,
    format_table,
    is_decodable,
    parse,
    printable,
)

LINE = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"


def row(line: str) -> MountRow:
    (only,) = parse(line + "\n")
    return only


def test_every_field_of_a_line_is_read() -> None:
    assert row(LINE) == MountRow(
        mount_id=36,
        parent_id=35,
        major=98,
        minor=0,
        root="/mnt1",
        mountpoint="/mnt2",
        mount_options=("rw", "noatime"),
        optional_fields=("master:1",),
        fstype="ext3",
        source="/dev/root",
        super_options=("rw", "errors=continue"),
        deleted=False,
    )


def test_rows_keep_the_order_of_the_file_and_need_no_last_newline() -> None:
    text = "2 1 8:1 / / rw - ext4 a rw\n1 2 8:1 / /b rw - ext4 a rw"
    assert [found.mount_id for found in parse(text)] == [2, 1]
    assert parse("") == []


def test_the_device_is_as_mountinfo_prints_it() -> None:
    assert row("1 0 259:12 / / rw - ext4 a rw").device == "259:12"


@pytest.mark.parametrize(
    ("optional", "shared", "master", "propagate_from", "unbindable"),
    [
        ("", None, None, None, False),
        ("shared:7 ", 7, None, None, False),
        ("master:3 ", None, 3, None, False),
        ("shared:7 master:3 ", 7, 3, None, False),
        ("master:3 propagate_from:2 ", None, 3, 2, False),
        ("unbindable ", None, None, None, True),
        ("shared:x ", None, None, None, False),
        ("unshared:7 ", None, None, None, False),
    ],
)
def test_optional_fields_give_peer_groups(
    optional: str, shared: int | None, master: int | None, propagate_from: int | None, unbindable: bool
) -> None:
    found = row(f"1 0 8:1 / / rw {optional}- ext4 a rw")
    assert (found.shared, found.master, found.propagate_from) == (shared, master, propagate_from)
    assert found.unbindable is unbindable


def test_unknown_optional_fields_are_kept() -> None:
    found = row("1 0 8:1 / / rw new_thing shared:2 other:3:4 - ext4 a rw")
    assert found.optional_fields == ("new_thing", "shared:2", "other:3:4")
    assert found.shared == 2


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        (r"/a\040b", "/a b"),
        (r"/a\011b", "/a\tb"),
        (r"/a\012b", "/a\nb"),
        (r"/a\134b", "/a\\b"),
        (r"/a\134040b", "/a\\040b"),
        (r"/a\043b", "/a#b"),
        (r"/\303\251", "/é"),
        (r"/\342\202\254\040", "/€ "),
        ("/é", "/é"),
        (r"/é\303\251", "/éé"),
        (r"/a\8b", r"/a\8b"),
        (r"/a\400", r"/a\400"),
        (r"/\377", "/\udcff"),
        ("/\udcff", "/\udcff"),
    ],
)
def test_octal_escapes_stand_for_bytes(escaped: str, plain: str) -> None:
    found = row(f"1 0 8:1 {escaped} {escaped} rw - ext4 {escaped} rw")
    assert (found.root, found.mountpoint, found.source) == (plain, plain, plain)


def test_the_file_system_type_is_unescaped_and_super_options_are_not() -> None:
    found = row(r"1 0 8:1 / / rw - fuse.a\040b a rw,lowerdir=/a\054b\040c")
    assert found.fstype == "fuse.a b"
    assert found.super_options == ("rw", r"lowerdir=/a\054b\040c")


def test_an_empty_source_is_a_field_too() -> None:
    found = row("1 0 0:5 / /mnt rw - tmpfs  rw,size=1k")
    assert found.source == ""
    assert found.super_options == ("rw", "size=1k")


def test_a_hyphen_as_source_or_in_a_path_is_no_separator() -> None:
    found = row("1 0 0:5 /- /- rw - tmpfs - rw")
    assert (found.root, found.mountpoint, found.source) == ("/-", "/-", "-")


def test_deleted_is_taken_from_the_root_and_kept_apart() -> None:
    found = row("1 0 8:1 /srv/conf//deleted /etc/conf rw - ext4 a rw")
    assert found.root == "/srv/conf"
    assert found.deleted


def test_only_the_end_of_the_root_says_deleted() -> None:
    found = row("1 0 8:1 /srv/deleted /x//deleted rw - ext4 a rw")
    assert (found.root, found.mountpoint, found.deleted) == ("/srv/deleted", "/x//deleted", False)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("garbage", "separator '-' is missing"),
        ("1 0 8:1 / / rw ext4 a rw", "separator '-' is missing"),
        ("1 0 8:1 / / - ext4 a rw", "separator '-' is missing"),
        ("1 0 8:1 / / rw - ext4 a", "three fields"),
        ("1 0 8:1 / / rw - ext4 a rw more", "three fields"),
        ("1 0 8 / / rw - ext4 a rw", "device number"),
        ("1 0 8:1:2 / / rw - ext4 a rw", "device number"),
        ("1 0 x8:1 / / rw - ext4 a rw", "device number"),
        ("x 0 8:1 / / rw - ext4 a rw", "'x' is no mount ID"),
        ("-1 0 8:1 / / rw - ext4 a rw", "'-1' is no mount ID"),
        ("\u0664 0 8:1 / / rw - ext4 a rw", "is no mount ID"),
        (" 0 8:1 / / rw - ext4 a rw", "'' is no mount ID"),
        ("1 0 :1 / / rw - ext4 a rw", "device number"),
        ("1 0 8: / / rw - ext4 a rw", "device number"),
        ("1 y 8:1 / / rw - ext4 a rw", "'y' is no parent ID"),
        ("1 0 8:1 / data rw - ext4 a rw", "not absolute"),
    ],
)
def test_a_malformed_line_is_named_with_its_number_and_reason(line: str, reason: str) -> None:
    with pytest.raises(MalformedMountinfo, match=r"^Line 3 ") as caught:
        parse(f"{LINE}\n{LINE}\n{line}\n{LINE}\n")
    assert reason in caught.value.message
    assert caught.value.facts == {"line_number": 3, "line": line}
    assert caught.value.remedy


def test_a_malformed_line_with_undecodable_bytes_can_be_shown() -> None:
    with pytest.raises(MalformedMountinfo) as caught:
        parse("bad \udcff")
    assert caught.value.facts["line"] == r"bad \xff"
    assert str(caught.value).isascii()


@pytest.mark.parametrize(
    "line",
    [
        LINE,
        "1 0 8:1 / / rw shared:1 master:2 propagate_from:1 unbindable new - ext4 /dev/sda1 rw",
        r"1 0 8:1 /a\040\011\012\134 /b\040\011\012\134 rw - ext4 c\040\043 rw",
        "1 0 0:5 / /mnt rw - tmpfs  rw",
        "1 0 8:1 /srv/é//deleted /é rw - ext4 a rw",
        "1 0 0:4 net:[4026532000] /run/netns/a rw - nsfs nsfs rw",
        "1 0 8:1 / /a\udcff rw - ext4 a rw",
    ],
)
def test_a_table_that_is_read_and_written_is_the_same(line: str) -> None:
    assert format_table(parse(line + "\n" + LINE)) == line + "\n" + LINE + "\n"


@pytest.mark.parametrize("text", ["/a b\t\n\\c", "/é€", "/\udcff", "/a\rb", "/#a", "/\\040", "/\u2028\x85"])
def test_a_table_that_is_written_and_read_is_the_same(text: str) -> None:
    rows = [MountRow(1, 0, 8, 1, text, text, ("rw",), ("shared:1",), "ext4", text, ("rw",), deleted=True)]
    assert parse(format_table(rows)) == rows


def test_a_row_in_plain_types_has_every_field() -> None:
    found = row("36 35 98:0 /a\udcff//deleted /m\udcff rw,ro shared:2 master:1 - ext3 /s\udcff rw,x=\udcff").as_dict()
    assert found == {
        "mount_id": 36,
        "parent_id": 35,
        "major": 98,
        "minor": 0,
        "root": r"/a\xff",
        "mountpoint": r"/m\xff",
        "mount_options": ["rw", "ro"],
        "optional_fields": ["shared:2", "master:1"],
        "shared": 2,
        "master": 1,
        "propagate_from": None,
        "unbindable": False,
        "fstype": "ext3",
        "source": r"/s\xff",
        "super_options": ["rw", r"x=\xff"],
        "deleted": True,
    }


def test_a_row_is_read_back_from_plain_types_with_whatever_else_is_there() -> None:
    found = row("36 35 98:0 /a//deleted /m rw,ro shared:2 master:1 - ext3 /s rw,x=1")
    assert MountRow.from_dict({**found.as_dict(), "kind": "external", "host_paths": []}) == found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mount_id", "36"),
        ("major", None),
        ("root", 3),
        ("mountpoint", None),
        ("mount_options", "rw"),
        ("optional_fields", [1]),
        ("super_options", None),
        ("deleted", "no"),
    ],
)
def test_a_field_that_mountinfo_cannot_have_is_named(field: str, value: object) -> None:
    with pytest.raises(MalformedMountinfo, match=f"as '{field}', which mountinfo cannot have") as caught:
        MountRow.from_dict({**row(LINE).as_dict(), field: value})
    assert caught.value.facts == {"field": field}


def test_a_field_that_is_missing_is_named() -> None:
    fields = row(LINE).as_dict()
    del fields["fstype"]
    with pytest.raises(MalformedMountinfo, match="as 'fstype'"):
        MountRow.from_dict(fields)


def test_only_bytes_that_are_no_utf8_are_shown_as_escapes() -> None:
    assert printable("/é\udcfe\\x") == r"/é\xfe\x"
    assert is_decodable("/é\\xfe")
    assert not is_decodable("/\udc80")
    assert not is_decodable("/\udcff")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([(1, 0), (2, 1), (1, 2)], "mount ID 1 is there twice"),
        ([(1, 2), (2, 1)], "lead round in a circle"),
        ([(1, 0), (2, 4), (3, 2), (4, 3)], "lead round in a circle"),
    ],
)
def test_rows_that_are_no_tree_are_refused(ids: list[tuple[int, int]], said: str) -> None:
    rows = parse("".join(f"{mount} {parent} 8:1 / /m{mount} rw - ext4 /dev/sda1 rw\n" for mount, parent in ids))
    with pytest.raises(MalformedMountinfo, match=said):
        check_tree(rows)


@pytest.mark.parametrize("ids", [[(1, 1), (2, 1), (3, 2), (4, 2)], [(5, 9), (6, 5)], [(3, 2), (2, 1), (1, 0)], []])
def test_a_tree_is_accepted(ids: list[tuple[int, int]]) -> None:
    check_tree(parse("".join(f"{mount} {parent} 8:1 / /m{mount} rw - ext4 /dev/sda1 rw\n" for mount, parent in ids)))
