# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images on their way: taken from CRIU while it writes them, sent in frames, put down as files at the target.

With `--stream` CRIU connects to a socket in the images folder, and sends for each image its name and the reading end of
a pipe (criu's images/img-streamer.proto; the same is spoken by criu-image-streamer). So the memory goes from the tasks
to the network without a file in between. Why this way: docs/handoff.md.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import re
import select
import selectors
import socket
import struct
import time
import zlib
from pathlib import Path
from typing import Callable, Mapping, Protocol, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.memory_folder import make_room
from ansible_collections.fleet.criu.plugins.module_utils._criu.sharing import share_folder, share_image
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

# Both ends check; a name becomes the name of a file.
IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}[.]img\Z")

_SOCKET = "streamer-capture.sock"
# What CRIU writes when all else is written.
_LAST_IMAGE = "inventory.img"
# What CRIU writes before it freezes the tasks (criu(8), --cpu-cap).
_IMAGE_OF_THE_HOST = "cpuinfo.img"
_MEMORY = "pages-"
_PIPE_BYTES = 1 << 20
_MOST_IMAGES = 65535
# Others must have their turn too.
_MOST_FRAMES_AT_ONCE = 32
_F_SETPIPE_SZ = 1031  # fcntl(2); Python has a name for it since 3.10

# Most images are small: what is sent at once, so that it is encrypted, sent and received as one.
_GATHERED = 64 * 1024

# kind, number of the image, length of what follows
FRAME = struct.Struct(">BHI")
NAME, DATA, END, ALL = 1, 2, 3, 4
LONGEST_FRAME = 1 << 20

Checksums = Mapping[str, Sequence[int]]


class Writer(Protocol):
    """Where frames go; blocks until they are on their way."""

    def __call__(self, data: memoryview) -> None: ...


class _Frames:
    # What both ways of the source have in common: images, each with a name and a number, become frames.

    def __init__(self, write: Writer) -> None:
        self._write = write
        self._names: list[str] = []
        self._sums: list[list[int]] = []
        self._buffer = memoryview(bytearray(FRAME.size + LONGEST_FRAME))
        self._gathered = bytearray()
        self.sent_bytes = 0
        # The contents of the last image, which says whose all of them are.
        self.inventory = b""

    @property
    def checksums(self) -> dict[str, list[int]]:
        """Size in bytes and CRC-32 of each image, of memory the size alone, by name."""
        return dict(zip(self._names, self._sums))

    @property
    def has_begun(self) -> bool:
        """Whether CRIU writes images of the workload, which it does not before all tasks are frozen."""
        return any(name != _IMAGE_OF_THE_HOST for name in self._names)

    def _begin_image(self, name: str) -> int:
        if len(self._names) >= _MOST_IMAGES or name in self._names:
            raise CriuError(f"CRIU writes the image {name} twice, or too many images.", "Look at its log, dump.log.")
        number = len(self._names)
        self._names.append(name)
        self._sums.append(_no_sums(name))
        text = name.encode("ascii")
        self._buffer[FRAME.size : FRAME.size + len(text)] = text
        self._send(NAME, number, len(text))
        return number

    def _send_read(self, descriptor: int, number: int) -> bool:
        # Says whether there was something to read.
        length = os.readv(descriptor, [self._buffer[FRAME.size :]])
        if length == 0:
            return False
        _add(self._sums[number], self._buffer[FRAME.size : FRAME.size + length])
        if self._names[number] == _LAST_IMAGE:
            self.inventory += self._buffer[FRAME.size : FRAME.size + length]
        self._send(DATA, number, length)
        self.sent_bytes += length
        return True

    def _send_all_sent(self) -> None:
        if _LAST_IMAGE not in self._names:
            raise CriuError(f"CRIU ended its dump without {_LAST_IMAGE}.", "Look at its log, dump.log.")
        self._send(ALL, 0, 0)
        self._send_gathered()

    def _send(self, kind: int, number: int, length: int) -> None:
        FRAME.pack_into(self._buffer, 0, kind, number, length)
        frame = self._buffer[: FRAME.size + length]
        if len(self._gathered) + len(frame) <= _GATHERED:
            self._gathered += frame
            return
        self._send_gathered()
        self._write(frame)

    def _send_gathered(self) -> None:
        if self._gathered:
            self._write(memoryview(bytes(self._gathered)))
            self._gathered.clear()


class FolderCapture(_Frames):
    """The source's end for CRIU that an engine has started, which cannot stream: sends the images of a folder.

    Memory is sent while CRIU writes it: it only ever appends to those images.
    """

    def __init__(self, folder: Path, write: Writer) -> None:
        super().__init__(write)
        self._folder = folder
        self._growing: dict[str, tuple[int, int]] = {}

    @property
    def has_begun(self) -> bool:
        """Whether CRIU writes images of the workload, which it does not before all tasks are frozen."""
        return any(name != _IMAGE_OF_THE_HOST for name in self._image_names())

    def advance(self) -> bool:
        """Send some of the memory that was written since. Says whether there was any."""
        has_sent = False
        for name in self._image_names():
            if name.startswith(_MEMORY):
                number, descriptor = self._growing.get(name) or self._begin(name)
                for _turn in range(_MOST_FRAMES_AT_ONCE):
                    if not self._send_read(descriptor, number):
                        break
                    has_sent = True
        return has_sent

    def finish(self, _seconds: float) -> None:
        """Send all that is left. CRIU has closed every image by then."""
        for name in self._image_names():
            number, descriptor = self._growing.get(name) or self._begin(name)
            del self._growing[name]
            try:
                while self._send_read(descriptor, number):
                    pass
            finally:
                os.close(descriptor)
            self._send(END, number, 0)
        self._send_all_sent()

    def close(self) -> None:
        """Stop sending."""
        for _number, descriptor in self._growing.values():
            os.close(descriptor)
        self._growing.clear()

    def _begin(self, name: str) -> tuple[int, int]:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(str(self._folder / name), flags)
        self._growing[name] = self._begin_image(name), descriptor
        return self._growing[name]

    def _image_names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._folder) if IMAGE_NAME.match(name))
        except FileNotFoundError:
            return []


class Capture(_Frames):
    """The source's end: serves CRIU's socket in `folder` and sends what comes through it.

    It is driven from outside, by `selector`. `checksums` has size in bytes and CRC-32 of each image that ended, of the
    memory the size alone: TLS checks every record of it, and a sum of our own would take a third of the time in which
    the workload waits.
    """

    def __init__(self, folder: Path, selector: selectors.BaseSelector, write: Writer) -> None:
        super().__init__(write)
        self._selector = selector
        self._numbers: dict[int, int] = {}
        self._connection: socket.socket | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / _SOCKET
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listener.bind(str(self._path))
        self._listener.listen(1)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def finish(self, seconds: float) -> None:
        """Send what is still in the pipes, and that this was all. CRIU has closed every image by then."""
        # CRIU does one thing after the other: whatever it has asked for is in the socket by now.
        while self._connection is not None and select.select([self._connection], [], [], 0)[0]:
            self._take_image(self._connection.fileno())
        until = time.monotonic() + seconds
        while self._numbers:
            if time.monotonic() > until:
                raise CriuError("CRIU ended its dump, but not all of its images.", "Look at its log, dump.log.")
            for key, _events in self._selector.select(0.1):
                if key.fd in self._numbers:
                    self._read(key.fd)
        self._send_all_sent()

    def close(self) -> None:
        """Stop serving; what CRIU still writes fails."""
        for descriptor in list(self._numbers):
            self._forget(descriptor)
        for place in (self._connection, self._listener):
            if place is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(place)
                place.close()
        self._connection = None
        if self._path.exists():
            self._path.unlink()

    def _accept(self, _descriptor: int) -> None:
        self._connection, _address = self._listener.accept()
        self._selector.unregister(self._listener)
        self._selector.register(self._connection, selectors.EVENT_READ, self._take_image)

    def _take_image(self, _descriptor: int) -> None:
        if self._connection is None:
            raise AssertionError
        header = self._connection.recv(4, socket.MSG_WAITALL)
        if len(header) < 4:  # CRIU has no more images
            self._selector.unregister(self._connection)
            self._connection.close()
            self._connection = None
            return
        (length,) = struct.unpack("=I", header)
        request = self._connection.recv(min(length, 4096), socket.MSG_WAITALL)
        name = _name_in(request)
        descriptor = _descriptor_from(self._connection)
        self._numbers[descriptor] = self._begin_image(name)
        with contextlib.suppress(OSError):  # more would be faster; the limit is fs.pipe-max-size
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._selector.register(descriptor, selectors.EVENT_READ, self._read)

    def _read(self, descriptor: int) -> None:
        number = self._numbers[descriptor]
        if not self._send_read(descriptor, number):
            self._send(END, number, 0)
            self._forget(descriptor)

    def _forget(self, descriptor: int) -> None:
        del self._numbers[descriptor]
        with contextlib.suppress(KeyError):
            self._selector.unregister(descriptor)
        os.close(descriptor)


class Store:
    """The target's end: puts frames down as files in a folder that only root can enter.

    Space can be reserved before the freeze: writing to pages that are there already is faster, and a file system that
    is too small is found while the workload still runs. A `group` may read the images, see sharing.py.
    """

    def __init__(self, folder: Path, group: int | None = None) -> None:
        self.folder = folder
        self._group = group
        self._directory = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if group is not None:
            share_folder(self._directory, group)
        self._reserved: dict[str, int | None] = {}
        self._names: dict[int, str] = {}
        self._files: dict[int, int] = {}
        self._sums: dict[str, list[int]] = {}
        self.received_bytes = 0

    @property
    def checksums(self) -> dict[str, list[int]]:
        """Size in bytes and CRC-32 of each image that has ended, of memory the size alone, by name."""
        ended = set(self._names) - set(self._files)
        return {name: self._sums[name] for number, name in self._names.items() if number in ended}

    def reserve(self, memory_bytes: Sequence[int]) -> None:
        """Make room for the memory of each process, in the order in which CRIU dumps them. Raises CriuError."""
        make_room(self.folder, sum(memory_bytes), Proc())
        for number, size in enumerate(memory_bytes, 1):
            name = f"pages-{number}.img"
            # What was reserved is what is written to: it stays open.
            descriptor = self._reserved[name] = self._open(name)
            try:
                if size > 0:
                    os.posix_fallocate(descriptor, 0, size)
            except OSError as error:
                raise CriuError(
                    f"There is no room for {size >> 20} MiB of memory in {self.folder}: {error.strerror}.",
                    "Free some space, or name another folder for images on this host (criu_images).",
                    {"needed_bytes": size},
                ) from error

    def expect(self, name: str) -> None:
        """Let an image take the place of a file of this name that is there already."""
        self._reserved[name] = None

    def take(self, kind: int, number: int, payload: memoryview) -> bool:
        """Put one frame down. Says whether it was the last. Raises BadImageSet if it does not belong here."""
        if kind == NAME:
            self._begin(number, bytes(payload))
        elif kind == DATA:
            self._append(number, payload)
        elif kind == END:
            self._end(number)
        elif kind == ALL:
            if self._files:
                raise _refused("the stream ended before its images")
            self._remove_what_was_reserved_in_vain()
            return True
        else:
            raise _refused(f"a frame of kind {kind}")
        return False

    def check(self, checksums: Checksums) -> None:
        """Raises BadImageSet if what was received is not what was sent."""
        given = {name: list(sums) for name, sums in checksums.items()}
        if given != self.checksums:
            wrong = sorted(name for name in {*given, *self.checksums} if given.get(name) != self.checksums.get(name))
            raise BadImageSet(
                f"Images are not what the source sent: {', '.join(wrong[:5])}.",
                "Try again. If it happens again, check the memory and the network of both hosts.",
                {"images": wrong},
            )

    def close(self) -> None:
        """Close all files."""
        unused = (descriptor for descriptor in self._reserved.values() if descriptor is not None)
        for descriptor in (*self._files.values(), *unused, self._directory):
            os.close(descriptor)
        self._files.clear()
        self._reserved.clear()

    def _begin(self, number: int, text: bytes) -> None:
        name = text.decode("ascii", "replace")
        if not IMAGE_NAME.match(name) or ".." in name:
            raise _refused(f"an image named {name[:80]!r}")
        if number in self._names or name in self._sums:
            raise _refused(f"the image {name} comes twice")
        self._names[number] = name
        self._sums[name] = _no_sums(name)
        self._files[number] = self._take_reserved(name)

    def _append(self, number: int, payload: memoryview) -> None:
        if number not in self._files:
            raise _refused("data of no image")
        written = 0
        try:
            while written < len(payload):
                written += os.write(self._files[number], payload[written:])
        except OSError as error:
            raise CriuError(
                f"The image {self._names[number]} cannot be written to {self.folder}: {error.strerror}.",
                "Free some space there, or name another folder for images on this host (criu_images).",
            ) from error
        _add(self._sums[self._names[number]], payload)
        self.received_bytes += len(payload)

    def _end(self, number: int) -> None:
        if number not in self._files:
            raise _refused("the end of no image")
        descriptor = self._files.pop(number)
        os.ftruncate(descriptor, self._sums[self._names[number]][0])
        os.close(descriptor)

    def _take_reserved(self, name: str) -> int:
        descriptor = self._reserved.get(name)
        if descriptor is None:
            return self._open(name)
        if not os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=self._directory, follow_symlinks=False)):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self._reserved[name] = None
        return descriptor

    def _open(self, name: str) -> int:
        # What is there already is only what we have reserved; a link is never followed.
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if name in self._reserved else os.O_EXCL)
        descriptor = os.open(name, flags, 0o600, dir_fd=self._directory)
        if self._group is not None:
            share_image(descriptor, self._group)
        return descriptor

    def _remove_what_was_reserved_in_vain(self) -> None:
        for name in self._reserved.keys() - set(self._sums):
            os.unlink(name, dir_fd=self._directory)


def read_frames(receive: Callable[[memoryview], int], store: Store) -> Callable[[], bool]:
    """A function that takes what `receive` has (it fills a view and gives the length, 0 at the end) and puts it down.

    It blocks once at most, and says whether the last frame was among it. Raises BadImageSet for a stream that is no
    such stream; what a header announces is never allocated.
    """
    buffer = memoryview(bytearray(2 * (FRAME.size + LONGEST_FRAME)))
    have = 0

    def turn() -> bool:
        nonlocal have
        length = receive(buffer[have:])
        if length == 0:
            raise _refused("the stream ended too early")
        have += length
        start = 0
        while have - start >= FRAME.size:
            kind, number, size = FRAME.unpack_from(buffer, start)
            if size > LONGEST_FRAME:
                raise _refused(f"a frame of {size} bytes")
            if have - start < FRAME.size + size:
                break
            if store.take(kind, number, buffer[start + FRAME.size : start + FRAME.size + size]):
                return True
            start += FRAME.size + size
        if start:
            rest = bytes(buffer[start:have])
            buffer[: len(rest)] = rest
            have = len(rest)
        return False

    return turn


def _no_sums(name: str) -> list[int]:
    return [0] if name.startswith(_MEMORY) else [0, 0]


def _add(sums: list[int], data: memoryview) -> None:
    sums[0] += len(data)
    if len(sums) > 1:
        sums[1] = zlib.crc32(data, sums[1])


def _name_in(request: bytes) -> str:
    # One field: number 1, a string (images/img-streamer.proto).
    if len(request) < 2 or request[0] != 0x0A or request[1] != len(request) - 2 or request[1] > 127:
        raise CriuError("CRIU's streaming protocol is another one here.", "Use CRIU 3.15 or later.")
    name = request[2:].decode("ascii", "replace")
    if not IMAGE_NAME.match(name):
        raise CriuError(f"CRIU writes an image with the name {name!r}.", "Use a version of CRIU that is supported.")
    return name


def _descriptor_from(connection: socket.socket) -> int:
    descriptors = array.array("i")
    _data, ancillary, _flags, _address = connection.recvmsg(1, socket.CMSG_SPACE(descriptors.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if len(descriptors) != 1:
        raise CriuError("CRIU did not send the pipe of an image.", "Look at its log, dump.log.")
    return descriptors[0]


def _refused(what: str) -> BadImageSet:
    return BadImageSet(
        f"The stream of images is refused: {what}.", "Check that both hosts have the same version of the collection."
    )
