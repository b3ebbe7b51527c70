# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff import images as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.images import (
    ALL,
    DATA,
    END,
    FRAME,
    LONGEST_FRAME,
    NAME,
    Capture,
    FolderCapture,
    Store,
    read_frames,
)


def frame(kind: int, number: int, payload: bytes = b"") -> bytes:
    return FRAME.pack(kind, number, len(payload)) + payload


def image(number: int, name: str, data: bytes) -> bytes:
    return frame(NAME, number, name.encode()) + frame(DATA, number, data) + frame(END, number)


# The target's end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    made = Store(folder)
    yield made
    with contextlib.suppress(OSError):
        made.close()


def test_a_group_may_read_the_images_if_it_must(folder: Path) -> None:
    store = Store(folder, os.getgid())
    store.reserve([5])
    put(store, image(0, "pages-1.img", b"m") + image(1, "core-1.img", b"c") + frame(ALL, 0))
    store.close()
    assert (folder.stat().st_mode & 0o777, folder.stat().st_gid) == (0o710, os.getgid())
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}


def put(store: Store, stream: bytes, piece: int = 1 << 16) -> bool:
    """Give the stream to the store as it could come over the network; says whether it was all."""
    rest = memoryview(stream)

    def receive(view: memoryview) -> int:
        nonlocal rest
        length = min(len(view), len(rest), piece)
        view[:length] = rest[:length]
        rest = rest[length:]
        return length

    turn = read_frames(receive, store)
    while rest:
        if turn():
            return True
    return False


@pytest.mark.parametrize("piece", [1, 6, 7, 8, 1 << 20])
def test_images_are_put_down_however_the_stream_is_cut_into_pieces(store: Store, folder: Path, piece: int) -> None:
    stream = frame(NAME, 0, b"core-1.img") + frame(NAME, 1, b"mm-1.img")
    stream += frame(DATA, 1, b"mm") + frame(DATA, 0, b"regis") + frame(DATA, 0, b"ters")
    stream += frame(END, 0) + frame(DATA, 1, b"!") + frame(END, 1) + frame(NAME, 2, b"ids-1.img") + frame(END, 2)
    assert put(store, stream + frame(ALL, 0), piece)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "core-1.img": b"registers",
        "mm-1.img": b"mm!",
        "ids-1.img": b"",
    }
    assert store.checksums == {
        "core-1.img": [9, zlib.crc32(b"registers")],
        "mm-1.img": [3, zlib.crc32(b"mm!")],
        "ids-1.img": [0, 0],
    }
    assert store.received_bytes == 12
    store.check({name: tuple(sums) for name, sums in store.checksums.items()})


def test_nobody_else_can_read_them(store: Store, folder: Path) -> None:
    old = os.umask(0)
    try:
        store.reserve([4096])
        put(store, image(0, "core-1.img", b"x") + image(1, "pages-1.img", b"y"))
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 2


BAD_NAMES = [
    *(b"../evil.img", b"/etc/evil.img", b"a/b.img", b"..img", b"a..b.img", b".hidden.img", b".img", b""),
    *(b"passwd", b"evil.img\n", b"evil.img\0", b"\xff.img", b"-rf.img", b"manifest.json", b"x" * 300 + b".img"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_no_image_s_is_refused(store: Store, folder: Path, name: bytes) -> None:
    before = sorted(path for path in folder.parent.rglob("*"))
    with pytest.raises(BadImageSet, match="an image named"):
        put(store, frame(NAME, 0, name) + frame(DATA, 0, b"evil"))
    assert sorted(path for path in folder.parent.rglob("*")) == before


@pytest.mark.parametrize("reserved", [False, True])
def test_a_link_is_not_followed(store: Store, folder: Path, tmp_path: Path, reserved: bool) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    if reserved:
        store.reserve([10])
        (folder / "pages-1.img").unlink()
    (folder / "pages-1.img").symlink_to(outside)
    with pytest.raises(OSError, match=r"exist|symbolic"):
        put(store, image(0, "pages-1.img", b"evil"))
    assert outside.read_text() == "precious"


def test_a_file_that_is_there_already_is_not_written_to(store: Store, folder: Path) -> None:
    (folder / "core-1.img").write_text("of another image set")
    with pytest.raises(FileExistsError):
        put(store, image(0, "core-1.img", b"x"))
    assert (folder / "core-1.img").read_text() == "of another image set"


REFUSED = {
    "a name twice": (image(0, "a.img", b"x") + image(1, "a.img", b"y"), "a.img comes twice"),
    "a number twice": (image(0, "a.img", b"x") + image(0, "b.img", b"y"), "b.img comes twice"),
    "data of no image": (frame(DATA, 3, b"x"), "data of no image"),
    "data after the end": (image(0, "a.img", b"x") + frame(DATA, 0, b"y"), "data of no image"),
    "the end of no image": (frame(END, 0), "the end of no image"),
    "the end twice": (image(0, "a.img", b"x") + frame(END, 0), "the end of no image"),
    "an unknown kind": (frame(9, 0, b"x"), "a frame of kind 9"),
    "all before the end": (frame(NAME, 0, b"a.img") + frame(ALL, 0), "ended before its images"),
    "a frame that is too long": (FRAME.pack(DATA, 0, LONGEST_FRAME + 1), f"a frame of {LONGEST_FRAME + 1} bytes"),
    "a frame of 4 GiB": (FRAME.pack(DATA, 0, 0xFFFFFFFF), "a frame of 4294967295 bytes"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_stream_that_is_none_is_refused(store: Store, what: str) -> None:
    stream, why = REFUSED[what]
    with pytest.raises(BadImageSet, match=why) as caught:
        put(store, stream)
    assert "same version of the collection" in caught.value.remedy


@pytest.mark.parametrize("length", [0, 3, 7, 12, 22])
def test_a_stream_that_ends_too_early_is_refused(store: Store, length: int) -> None:
    stream = image(0, "core-1.img", b"registers")[:length]
    parts = iter([stream, b""] if stream else [b""])

    def receive(view: memoryview) -> int:
        part = next(parts)
        view[: len(part)] = part
        return len(part)

    turn = read_frames(receive, store)
    for _part in range(1 if stream else 0):
        assert not turn()
    with pytest.raises(BadImageSet, match="the stream ended too early"):
        turn()


def test_the_longest_frame_may_come_in_any_place(store: Store, folder: Path) -> None:
    data = os.urandom(LONGEST_FRAME)
    stream = frame(NAME, 0, b"pages-1.img") + frame(DATA, 0, b"abc") + frame(DATA, 0, data) + frame(DATA, 0, data)
    assert put(store, stream + frame(END, 0) + frame(ALL, 0), 1 << 19)
    assert (folder / "pages-1.img").read_bytes() == b"abc" + data + data


def test_too_many_images_do_not_fit_into_a_frame() -> None:
    with pytest.raises(struct.error):
        FRAME.pack(NAME, subject._MOST_IMAGES + 1, 0)


CHANGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda sums: sums.update({"a.img": [1, 5]}), "a.img"),
    (lambda sums: sums.update({"a.img": [2, sums["a.img"][1]]}), "a.img"),
    (lambda sums: sums.update({"c.img": [0, 0]}), "c.img"),
    (lambda sums: sums.pop("b.img"), "b.img"),
]


@pytest.mark.parametrize(("change", "name"), CHANGES)
def test_what_is_not_as_it_was_sent_is_named(store: Store, change: Callable[[Any], Any], name: str) -> None:
    put(store, image(0, "a.img", b"x") + image(1, "b.img", b"y"))
    sums = store.checksums
    change(sums)
    with pytest.raises(BadImageSet, match=f"not what the source sent: {name}") as caught:
        store.check(sums)
    assert caught.value.facts == {"images": [name]}


def test_an_image_that_has_not_ended_is_not_right(store: Store) -> None:
    put(store, frame(NAME, 0, b"a.img") + frame(DATA, 0, b"x"))
    with pytest.raises(BadImageSet, match=r"a\.img"):
        store.check({"a.img": [1, zlib.crc32(b"x")]})


def test_room_is_taken_before_the_freeze_and_given_back_after_it(store: Store, folder: Path) -> None:
    store.reserve([8192, 0, 4096])
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == {
        "pages-1.img": 8192,
        "pages-2.img": 0,
        "pages-3.img": 4096,
    }
    put(store, image(0, "pages-1.img", b"short") + image(1, "pages-2.img", b"longer than thought") + frame(ALL, 0))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "pages-1.img": b"short",
        "pages-2.img": b"longer than thought",
    }


@pytest.mark.parametrize("at", ["reserve", "write"])
def test_a_full_file_system_is_named_with_what_to_do(
    store: Store, at: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    def fail(*_arguments: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    if at == "write":
        put(store, frame(NAME, 0, b"a.img"))
        monkeypatch.setattr(os, "write", fail)
    work = {"write": lambda: put(store, frame(DATA, 0, b"x")), "reserve": lambda: store.reserve([5 << 20])}[at]
    with pytest.raises(CriuError, match="No space left on device") as caught:
        work()
    assert str(folder) in caught.value.message
    assert "criu_images" in caught.value.remedy


def test_a_write_that_takes_a_part_is_gone_on_with(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    put(store, image(0, "a.img", b"12345"))
    assert (folder / "a.img").read_bytes() == b"12345"


# The source's end


class Bench:
    """A capture and somebody who writes images like CRIU. `sent` is what went to the peer."""

    def __init__(self, folder: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.sent = bytearray()
        self.folder = folder
        self.capture = Capture(folder, self.selector, self.sent.extend)
        self.criu = socket.socket(socket.AF_UNIX)

    def connect(self) -> None:
        self.criu.connect(str(self.folder / "streamer-capture.sock"))
        self.turn()

    def announce(self, request: bytes, count: int = 1) -> int:
        """Ask for an image as CRIU does; gives the writing end of its pipe."""
        reading, writing = os.pipe()
        self.criu.sendall(struct.pack("=I", len(request)) + request)
        fds = struct.pack(f"{count}i", *[reading] * count)
        self.criu.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if count else [])
        os.close(reading)
        return writing

    def write(self, name: str, data: bytes) -> None:
        writing = self.announce(b"\x0a" + bytes([len(name)]) + name.encode())
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    def turn(self) -> None:
        for key, _events in self.selector.select(0.2):
            if key.fd in self.selector.get_map():
                key.data(key.fd)

    def turn_until_idle(self) -> None:
        while self.selector.select(0.0):
            self.turn()

    def close(self) -> None:
        self.criu.close()
        self.capture.close()
        self.selector.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="capture.") as folder:
        made = Bench(Path(folder) / "dump")
        yield made
        made.close()


def test_what_criu_writes_comes_out_at_the_other_side(bench: Bench, store: Store, folder: Path) -> None:
    data = os.urandom(300_000)
    bench.connect()

    def write() -> None:
        bench.write("core-1.img", b"registers")
        bench.write("pages-1.img", data)
        bench.write("ids-1.img", b"")
        bench.write("inventory.img", b"inventory")

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        bench.turn()
    bench.capture.finish(1.0)
    assert put(store, bytes(bench.sent))
    store.check(bench.capture.checksums)
    assert (folder / "pages-1.img").read_bytes() == data
    assert sorted(path.name for path in folder.iterdir()) == sorted(bench.capture.checksums)
    assert bench.capture.sent_bytes == 300_018
    assert bench.capture.has_begun


def test_the_socket_is_in_a_folder_that_nobody_else_can_enter(bench: Bench) -> None:
    assert bench.folder.stat().st_mode & 0o777 == 0o700


def test_what_criu_has_asked_for_is_taken_also_if_nobody_has_looked_since(bench: Bench) -> None:
    bench.connect()
    bench.write("core-1.img", b"registers")
    bench.write("inventory.img", b"inventory")
    bench.capture.finish(1.0)
    assert set(bench.capture.checksums) == {"core-1.img", "inventory.img"}
    assert bench.sent.endswith(frame(ALL, 0))


def test_a_dump_without_its_last_image_is_not_all(bench: Bench) -> None:
    bench.connect()
    bench.write("core-1.img", b"registers")
    with pytest.raises(CriuError, match=r"without inventory\.img"):
        bench.capture.finish(1.0)
    assert not bench.sent.endswith(frame(ALL, 0))


def test_an_image_that_never_ends_is_not_waited_for_for_ever(bench: Bench) -> None:
    bench.connect()
    writing = bench.announce(b"\x0a\x0dinventory.img")
    with pytest.raises(CriuError, match="not all of its images"):
        bench.capture.finish(0.1)
    os.close(writing)


@pytest.mark.parametrize("name", ["../x.img", "/x.img", "a/b.img", "x.json", ".img"])
def test_criu_s_own_names_are_checked_too(bench: Bench, name: str) -> None:
    bench.connect()
    writing = bench.announce(b"\x0a" + bytes([len(name)]) + name.encode())
    with pytest.raises(CriuError, match="with the name"):
        bench.turn()
    os.close(writing)


@pytest.mark.parametrize("request_", [b"\x0a", b"\x12\x05a.img", b"\x0a\x04a.img", b"\x0a\x05a.img?"])
def test_another_protocol_is_said_to_be_one(bench: Bench, request_: bytes) -> None:
    bench.connect()
    writing = bench.announce(request_)
    with pytest.raises(CriuError, match="streaming protocol is another one"):
        bench.turn()
    os.close(writing)


def test_a_request_without_a_pipe_is_refused(bench: Bench) -> None:
    bench.connect()
    os.close(bench.announce(b"\x0a\x05a.img", count=0))
    with pytest.raises(CriuError, match="did not send the pipe"):
        bench.turn()


def test_criu_may_not_write_an_image_twice(bench: Bench) -> None:
    bench.connect()
    bench.write("a.img", b"x")
    bench.turn_until_idle()
    writing = bench.announce(b"\x0a\x05a.img")
    with pytest.raises(CriuError, match="twice"):
        bench.turn()
    os.close(writing)


def test_too_many_images_are_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_MOST_IMAGES", 1)
    bench.connect()
    bench.write("a.img", b"x")
    bench.turn_until_idle()
    writing = bench.announce(b"\x0a\x05b.img")
    with pytest.raises(CriuError, match="too many"):
        bench.turn()
    os.close(writing)


def test_once_it_is_closed_criu_cannot_write_any_more(bench: Bench) -> None:
    bench.connect()
    writing = bench.announce(b"\x0a\x05a.img")
    bench.turn()
    bench.capture.close()
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)
    assert list(bench.folder.iterdir()) == []
    assert len(bench.selector.get_map()) == 0


# The source's end for CRIU that writes into a folder


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    made = tmp_path / "dump"
    made.mkdir()
    return made


def test_the_images_of_a_folder_come_out_at_the_other_side(dump: Path, store: Store, folder: Path) -> None:
    data = os.urandom(3 * LONGEST_FRAME + 7)
    given = {"core-1.img": b"registers", "pages-1.img": data, "ids-1.img": b"", "inventory.img": b"inventory"}
    for name, content in given.items():
        (dump / name).write_bytes(content)
    for name in ("dump.log", "stats-dump", "descriptors.json", "engine.json", ".x.img"):
        (dump / name).write_text("of no use there")
    sent = bytearray()
    capture = FolderCapture(dump, sent.extend)
    capture.finish(0.0)
    assert put(store, bytes(sent))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == given
    assert capture.checksums == {
        "core-1.img": [9, zlib.crc32(b"registers")],
        "pages-1.img": [len(data)],
        "ids-1.img": [0, 0],
        "inventory.img": [9, zlib.crc32(b"inventory")],
    }
    store.check(capture.checksums)
    assert capture.sent_bytes == len(data) + 18
    capture.close()


def test_memory_is_sent_while_it_is_written(dump: Path, store: Store, folder: Path) -> None:
    sent = bytearray()
    capture = FolderCapture(dump, sent.extend)
    assert not capture.advance()
    (dump / "core-1.img").write_text("registers")
    assert not capture.advance(), "it may still be written anew"
    with (dump / "pages-1.img").open("wb", buffering=0) as pages:
        pages.write(b"a" * 200_000)
        assert capture.advance()
        assert capture.sent_bytes == 200_000
        assert len(sent) > 200_000
        assert not capture.advance()
        pages.write(b"b" * 100_000)
        assert capture.advance()
        (dump / "pages-2.img").write_bytes(b"c" * 10)
        assert capture.advance()
        pages.write(b"d" * 10)
    (dump / "inventory.img").write_text("inventory")
    capture.finish(0.0)
    assert put(store, bytes(sent))
    assert (folder / "pages-1.img").read_bytes() == b"a" * 200_000 + b"b" * 100_000 + b"d" * 10
    assert (folder / "pages-2.img").read_bytes() == b"c" * 10
    store.check(capture.checksums)
    assert capture.sent_bytes == 300_038


def test_what_is_sent_in_part_is_closed_at_the_end(dump: Path) -> None:
    capture = FolderCapture(dump, bytearray().extend)
    (dump / "pages-1.img").write_bytes(b"memory")
    before = len(os.listdir("/proc/self/fd"))
    capture.advance()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    capture.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_without_the_last_image_is_not_all(dump: Path) -> None:
    (dump / "core-1.img").write_text("registers")
    sent = bytearray()
    with pytest.raises(CriuError, match=r"without inventory\.img"):
        FolderCapture(dump, sent.extend).finish(0.0)
    assert not sent.endswith(frame(ALL, 0))


def test_a_link_in_a_folder_of_images_is_not_followed(dump: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    (dump / "core-1.img").symlink_to(tmp_path / "secret")
    (dump / "inventory.img").touch()
    sent = bytearray()
    with pytest.raises(OSError, match="symbolic links"):
        FolderCapture(dump, sent.extend).finish(0.0)
    assert b"s3cret" not in sent


def test_a_dump_into_a_folder_has_begun_with_the_first_image_of_the_workload(dump: Path) -> None:
    capture = FolderCapture(dump, bytearray().extend)
    assert not FolderCapture(dump / "missing", bytearray().extend).has_begun
    for name, has_begun in (("dump.log", False), ("cpuinfo.img", False), ("core-1.img", True)):
        assert not capture.has_begun
        (dump / name).touch()
        assert capture.has_begun == has_begun


def test_an_image_may_take_the_place_of_a_file_that_is_expected(store: Store, folder: Path) -> None:
    (folder / "inventory.img").write_text("longer than what comes")
    store.expect("inventory.img")
    assert put(store, image(0, "inventory.img", b"inventory") + frame(ALL, 0))
    assert (folder / "inventory.img").read_bytes() == b"inventory"


def test_what_was_expected_in_vain_is_removed(store: Store, folder: Path) -> None:
    (folder / "inventory.img").touch()
    store.expect("inventory.img")
    assert put(store, image(0, "core-1.img", b"x") + frame(ALL, 0))
    assert [path.name for path in folder.iterdir()] == ["core-1.img"]
