# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that reads what somebody else may have written, and inputs for it: good ones, changed a little.

An input may be read or refused with an error of our own. Any other exception is a fault, and so are much time and much
memory. `make fuzz` tries many, a unit test a few; the number of an input and the name of its reader make it again.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.image import read_image_set
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_timers import descriptors_of, read_timers
from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import errors_in, first_and_last
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import (
    MANIFEST,
    RESTORED,
    Manifest,
    Workload,
    read_manifest,
    verify_files,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.restore import RestoreRequest, places_of, recorded
from ansible_collections.fleet.criu.plugins.module_utils._engine import oci
from ansible_collections.fleet.criu.plugins.module_utils._engine.lxc_configuration import (
    mount_entries,
    read_settings,
    remapped_settings,
    settings_in,
    settings_text,
    without_missing,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._foreign import parse_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import PROGRESS, RESULT, follow
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import all_records, read_record
from ansible_collections.fleet.criu.plugins.module_utils._handoff.messages import (
    HEADER,
    MAXIMUM_HELLO,
    Message,
    body_length,
    decode,
    encode,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.rsync import itemized
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import check_tree, format_table, parse
from ansible_collections.fleet.criu.plugins.module_utils._pid_file import process_of
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.tests.unit.synthetic_images import varint, write_image_set

# Seconds that an input of some hundred bytes may take, on a machine that is busy otherwise.
MOST_SECONDS = 5.0

Change = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Reader:
    """What reads, from a folder of its own; `begin` puts a good input there and gives the files that may be changed."""

    name: str
    begin: Callable[[Path], Sequence[Path]]
    read: Callable[[Path], Any]
    change: Change


class Fault(Exception):
    """An input that was neither read nor refused as it should be."""


def try_inputs(reader: Reader, numbers: Sequence[int], folder: Path) -> tuple[int, int]:
    """Try the inputs of these numbers: how many were read and how many refused. Raises Fault for the first fault."""
    place = folder / reader.name.replace(" ", "_")
    place.mkdir(parents=True)
    good = [(path, path.read_bytes()) for path in reader.begin(place)]
    reader.read(place)  # or all would be refused
    read = refused = 0
    for number in numbers:
        chance = random.Random(f"{reader.name} {number}")
        path, contents = chance.choice(good)
        changed = reader.change(contents, chance)
        for _turn in range(chance.choice((0, 0, 1, 3))):
            changed = reader.change(changed, chance)
        path.write_bytes(changed)
        started = time.thread_time()
        try:
            reader.read(place)
            read += 1
        except CriuError:
            refused += 1
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise Fault(f"{reader.name}, input {number} ({path.name}, {changed[:300]!r}): {what}") from error
        if time.thread_time() - started > MOST_SECONDS:
            raise Fault(f"{reader.name}, input {number} took {time.thread_time() - started:.1f} s")
        path.write_bytes(contents)
    shutil.rmtree(place)
    return read, refused


# Changes

ODD_BYTES = [
    b"",
    b"\0",
    b"\n",
    b"\r",
    b"\v",
    b"\x85",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xff\xfe",
    b" ",
    b"\t",
    b"=",
    b"/",
]
ODD_BYTES += [b"-1", b"0", b"9" * 30, b"../", b"\\012", b"\\#012", b"%n", b"\xed\xb2\x80", b"x" * 300]
ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1 << 63,
    1 << 64,
    1.5,
    1e300,
    "",
    "\0",
    "\n",
    "\udc80",
    "/",
    "..",
    "x",
]
ODD_VALUES += [[], {}, [[]], [None], [1], ["x"], {"x": 1}, {"": None}, [{}], "9" * 30]


def change_bytes(data: bytes, chance: random.Random) -> bytes:
    """Take bytes out, put others in, or double a part."""
    start = chance.randrange(len(data) + 1)
    end = min(len(data), start + chance.choice((0, 1, 1, 2, 4, 16)))
    middle = chance.choice((chance.choice(ODD_BYTES), bytes([chance.randrange(256)]), data[start:end] * 2))
    return data[:start] + middle + data[end:]


def change_words(data: bytes, chance: random.Random) -> bytes:
    """Change, exchange or double words and lines."""
    if chance.random() < 0.3:
        return change_bytes(data, chance)
    mark = chance.choice((b" ", b"\n", b":", b"="))
    words = data.split(mark)
    one, other = chance.randrange(len(words)), chance.randrange(len(words))
    way = chance.randrange(4)
    if way == 0:
        words[one], words[other] = words[other], words[one]
    elif way == 1:
        words[one] = chance.choice(ODD_BYTES)
    elif way == 2:
        words.insert(one, words[other])
    else:
        del words[one]
    return mark.join(words)


def change_json(data: bytes, chance: random.Random) -> bytes:
    """Change a value somewhere in lines of JSON."""
    lines = data.rstrip(b"\n").split(b"\n") if b"}\n{" in data else [data]
    at = chance.randrange(len(lines))
    try:
        value = json.loads(lines[at])
    except (ValueError, RecursionError):
        return change_bytes(data, chance)
    if chance.random() < 0.15:
        return change_bytes(data, chance)
    text = json.dumps(_changed(value, chance)).encode("ascii")
    if chance.random() < 0.1:
        text = text.replace(b"1e+300", chance.choice((b"1e999", b"NaN", b"-Infinity", b"1" * 5000)))
    if chance.random() < 0.02:
        text = b"[" * 3000 + text
    return b"\n".join([*lines[:at], text, *lines[at + 1 :]]) + (b"\n" if data.endswith(b"\n") else b"")


def change_message(data: bytes, chance: random.Random) -> bytes:
    """The same for one message of a handoff, with a header that fits mostly."""
    body = change_json(data[HEADER:], chance)
    length = len(body) if chance.random() < 0.9 else chance.choice((0, 1 << 31, len(body) + 1))
    return length.to_bytes(HEADER, "big") + body


def change_image(data: bytes, chance: random.Random) -> bytes:
    """Change a field of a record of an image, with lengths that fit mostly."""
    if chance.random() < 0.2 or len(data) < 12:
        return change_bytes(data, chance)
    start = 4 if data[4:6] == data[2:4] else 8
    records = list(_records(data[start:]))
    if not records:
        return change_bytes(data, chance)
    at = chance.randrange(len(records))
    way = chance.randrange(6)
    odd = chance.choice((0, 1, 127, 1 << 31, (1 << 64) - 1))
    number = chance.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 18, 1 << 20))
    if way == 0:
        records[at] += varint(number << 3) + varint(odd)
    elif way == 1:
        text = chance.choice(ODD_BYTES)
        records[at] += varint(number << 3 | 2) + varint(len(text)) + text
    elif way == 2:
        records[at] = change_bytes(records[at], chance)
    elif way == 3:
        records.insert(at, chance.choice(records))
    elif way == 4:
        del records[at]
    else:
        records[at] = records[at] * chance.choice((0, 2, 50))
    packed = b"".join(
        (len(record) + chance.choice((0,) * 30 + (1, 1 << 30))).to_bytes(4, "little") + record for record in records
    )
    return data[:start] + packed


def _records(data: bytes) -> Iterator[bytes]:
    while len(data) >= 4:
        length = int.from_bytes(data[:4], "little")
        yield data[4 : 4 + length]
        data = data[4 + length :]


def _changed(value: Any, chance: random.Random) -> Any:
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.1:
        return chance.choice(ODD_VALUES)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [*value[:at], _changed(value[at], chance), *value[at + chance.choice((0, 1, 1)) :]]
    name = chance.choice(list(value))
    way = chance.randrange(8)
    rest = {key: other for key, other in value.items() if key != name}
    if way == 0:
        return rest
    if way == 1:
        return {**rest, chance.choice(("", "x", f"{name}x", "\n")): value[name]}
    return {**rest, name: _changed(value[name], chance)}


# Readers

MOUNTS = [
    {
        "mount_id": 350,
        "parent_id": 256,
        "major": 8,
        "minor": 1,
        "root": "/srv",
        "mountpoint": "/",
        "kind": "root",
        "mount_options": ["rw"],
        "optional_fields": [],
        "shared": None,
        "master": None,
        "propagate_from": None,
        "unbindable": False,
        "fstype": "ext4",
        "source": "/dev/sda1",
        "super_options": ["rw"],
        "deleted": False,
        "host_paths": [{"path": "/srv"}],
    }
]
MANIFEST_VALUE = Manifest(
    workload=Workload("redis", 42, 5000, ("redis-server",)),
    **dict.fromkeys(("host", "boot_id", "kernel", "architecture", "criu_version", "created"), "x"),
    root="/srv/root",
    mount_map=[{"mountpoint": "/data", "key": "/data"}],
    mounts=MOUNTS,
    options={"tcp_established": True, "timeout": 10, "external": []},
    generation=3,
    files={"pages-1.img": {"sha256": "0", "size": 1}, "core-1.img": {"crc32": 1, "size": 2}},
    id_maps={"uid_map": [[0, 1000, 1]], "gid_map": [[0, 1000, 1]]},
).as_dict()

MOUNTINFO = b"""350 256 8:1 /srv/box / rw,relatime shared:1 master:2 - ext4 /dev/sda1 rw,errors=remount-ro
351 350 8:1 /data\\040x /data rw - ext4 /dev/sda1 rw
352 350 0:5 / /proc rw,nosuid propagate_from:3 unbindable - proc proc rw
"""

LXC = b"""# a comment
lxc.uts.name = web
lxc.rootfs.path = dir:/srv/roots/web
lxc.environment = "A=b c"
lxc.mount.entry = /srv/my\\040data data none bind,create=dir 0 0
lxc.mount.entry = tmpfs cache tmpfs nosuid 0 0
lxc.net.0.type = veth
"""

OCI = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs", "readonly": True},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "rw"]},
    ],
    "annotations": {"a": "b"},
    "linux": {
        "namespaces": [{"type": "user"}, {"type": "mount", "path": "/x"}],
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
    },
}

ITEMIZED = b""">f+++++++++ data/a
cd+++++++++ data/
*deleting   data/old\\#012x
hf+++++++++ data/b => data/a
Total bytes sent: 1,234
"""

LOG = b"""(00.000100) Version: 4.1.1
(00.010000)      1: Error (criu/files-reg.c:2258): Can't open file /x on restore: No such file or directory
(00.010001) Error (criu/cr-restore.c:2557): Restoring FAILED.
"""

JOURNAL = b"""{"facts": {"workload": "redis", "pid": 42, "options": {}}, "step": "armed", "time": 1767225600.5}
{"step": "freezing", "time": 1767225601.5}
{"step": "back", "time": 1767225602.5}
"""

MESSAGES = [
    Message("hello", {"version": 1, "handoff": "h", "purpose": "copy", "ticket": "t", "number": 1, "folder": "k1"}),
    Message("refused", {"reason": "not now"}),
    Message("ready", {"pid": 1, "start_time": 2, "timings": {"restore": 0.5}}),
    Message("failed", {"reason": "x", "remedy": "y", "facts": {"a": [1]}}),
]


def _one(name: str, contents: bytes) -> Callable[[Path], Sequence[Path]]:
    def begin(folder: Path) -> Sequence[Path]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents)
        return [folder / name]

    return begin


def _json(name: str, value: Any) -> Callable[[Path], Sequence[Path]]:
    return _one(name, json.dumps(value).encode("ascii"))


def _begin_images(folder: Path) -> Sequence[Path]:
    write_image_set(folder)
    return sorted(path for path in folder.iterdir() if not path.name.startswith("pages-"))


def _begin_messages(folder: Path) -> Sequence[Path]:
    for number, message in enumerate(MESSAGES):
        (folder / f"{number}").write_bytes(encode(message))
    return sorted(folder.iterdir())


def _begin_pid_file(folder: Path) -> Sequence[Path]:
    # Whose process it is does not matter here, and there is none with this number.
    return _one("redis.pid", b"4194303\n")(folder)


def _read_images(folder: Path) -> None:
    read_image_set(folder, compare_files=False)
    read_timers(folder)
    descriptors_of(folder, 1)


def _read_manifest(folder: Path) -> None:
    manifest = read_manifest(folder)
    places_of(RestoreRequest(folder, "/srv", [{"key": "/data", "path": "/x"}], {}, None, None), manifest, None)
    Options.from_dict({name: value for name, value in manifest.options.items() if name in Options.__dataclass_fields__})
    assert manifest.size >= 0
    assert all(isinstance(key, str) for key in manifest.keys)
    json.dumps(dataclasses.asdict(manifest))
    verify_files(folder, dataclasses.replace(manifest, files={}))


def _read_journals(folder: Path) -> None:
    for record in all_records(folder):
        json.dumps([record.is_settled, str(record.damage), record.facts, record.steps])
    read_record("redis-1", "source", folder)


def _read_messages(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        size = body_length(data[:HEADER], MAXIMUM_HELLO)
        decode(data[HEADER : HEADER + size])


def _read_pid_file(folder: Path) -> None:
    try:
        process_of(folder / "redis.pid", Proc())
    except CriuError as error:
        if "there is no process 4194303" not in str(error):
            raise


def _read_lxc(folder: Path) -> None:
    settings = read_settings(folder / "config")
    without_missing(settings)
    sources = {entry.destination: "/mnt/x y" for entry in mount_entries(settings)}
    text = settings_text(remapped_settings(settings, sources, "/mnt/root"), "A comment.")
    (folder / "again").write_text(text, "utf-8", "surrogateescape")
    assert settings_text(read_settings(folder / "again"), "A comment.") == text


def _read_oci(folder: Path) -> None:
    configuration = oci._read_configuration(str(folder))
    oci.hidden_paths(configuration)
    oci.bound_devices(configuration)
    places = [mount["destination"] for mount in configuration.get("mounts") or []]
    oci.remapped(configuration, dict.fromkeys(places, "/x"), "/mnt/root")


def _read_mountinfo(folder: Path) -> None:
    rows = parse((folder / "mountinfo").read_bytes().decode("utf-8", "surrogateescape"))
    format_table(rows)
    check_tree(rows)


def _read_settings_in(folder: Path) -> None:
    try:
        value = parse_json((folder / "engine.json").read_bytes())
    except ValueError:
        return
    settings_text(settings_in(value), "A comment.")


def _read_text(read: Callable[[str], Any]) -> Callable[[Path], Any]:
    return lambda folder: [read(path.read_bytes().decode("utf-8", "replace")) for path in folder.iterdir()]


def _read_log(text: str) -> None:
    errors_in(text)
    first_and_last(text)


def _read_proc(folder: Path) -> None:
    proc = Proc(str(folder))
    proc.status(42)
    proc.control_groups(42)


STATE = {"phase": "sending", "bytes": 1, "port": 41873}
SETTINGS = [["lxc.uts.name", "web"], ["lxc.environment", "A=b c"]]

READERS = [
    Reader("image set", _begin_images, _read_images, change_image),
    Reader("manifest", _json(MANIFEST, MANIFEST_VALUE), _read_manifest, change_json),
    Reader("journal", _one("redis-1.source.jsonl", JOURNAL), _read_journals, change_json),
    Reader("protocol", _begin_messages, _read_messages, change_message),
    Reader("pid file", _begin_pid_file, _read_pid_file, change_words),
    Reader("configuration of LXC", _one("config", LXC), _read_lxc, change_words),
    Reader("settings of LXC in JSON", _json("engine.json", SETTINGS), _read_settings_in, change_json),
    Reader("configuration of OCI", _json("config.json", OCI), _read_oci, change_json),
    Reader("mountinfo", _one("mountinfo", MOUNTINFO), _read_mountinfo, change_words),
    Reader("rsync's items", _one("items", ITEMIZED), _read_text(itemized), change_words),
    Reader("log of CRIU", _one("log", LOG), _read_text(_read_log), change_words),
    Reader(
        "restored.json",
        _json(RESTORED, {"pid": 42, "start_time": 5000, "boot_id": "x"}),
        lambda folder: recorded(folder, Proc()),
        change_json,
    ),
    Reader(
        "generations.json",
        _json("generations.json", {"redis": {"generation": 3, "spent": 2}}),
        lambda folder: Generations(folder / "generations.json").current("redis"),
        change_json,
    ),
    Reader(
        "contents.json",
        _json("contents.json", {"/srv/data": "redis"}),
        lambda folder: Contents(folder / "contents.json").belongs_to("/srv/data", "redis"),
        change_json,
    ),
    Reader("progress", _json(PROGRESS, STATE), lambda folder: follow(folder, 0), change_json),
    Reader("result", _json(RESULT, {"outcome": "moved", "pid": 1}), lambda folder: follow(folder, 0), change_json),
    Reader(
        "status of a process",
        lambda folder: [
            *_one("42/status", b"Name:\tx\nUid:\t1\t1\t1\t1\nSigBlk:\tfffffffffffbfeff\n")(folder),
            *_one("42/cgroup", b"1:cpu:/a\n0::/system.slice/x.service\n")(folder),
        ],
        _read_proc,
        change_words,
    ),
]
