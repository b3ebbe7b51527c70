# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of an image set: what was dumped, where, with which map, and the digest of every file.

CRIU's own images hold no version, kernel, host name or date. The manifest is written last; without it an image set is
incomplete.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest_shape import check_manifest
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json, write_json
from ansible_collections.fleet.criu.plugins.module_utils._foreign import UnfitFile, opened

MANIFEST = "manifest.json"
RESTORED = "restored.json"
FORMAT = 1

_CHUNK = 1 << 20
_IMAGE_SUFFIX = ".img"
# To read a hole takes as long as to read data, and costs whoever made it nothing. Memory of one value is no hole, and
# what a file system packs it packs less than this.
_MAY_BE_HOLES = 1 << 30
_MOST_HOLES = 64
_BLOCK = 512


@dataclass(frozen=True)
class Workload:
    """Whose image set it is. `start_time` is in clock ticks after boot (proc(5), /proc/PID/stat, field 22)."""

    name: str
    pid: int
    start_time: int
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Manifest:
    """All that a manifest says.

    `created` is UTC in ISO 8601; `mounts` are the workload's mounts as the module mount_info returns them;
    `generation` is what generation.py says it is, 0 in an image set of something that does not count; `id_maps` are
    those of the workload's own user namespace as `Proc.id_maps` gives them, None if it has none.
    """

    workload: Workload
    host: str
    boot_id: str
    kernel: str
    architecture: str
    criu_version: str
    created: str
    root: str
    mount_map: Sequence[Mapping[str, str]]
    mounts: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    leave_running: bool = False
    generation: int = 0
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    id_maps: Mapping[str, Sequence[Sequence[int]]] | None = None
    format: int = FORMAT

    @property
    def keys(self) -> list[str]:
        """The keys that a restore must give a path for."""
        return [entry["key"] for entry in self.mount_map]

    @property
    def size(self) -> int:
        """The bytes of all images together."""
        return sum(int(entry["size"]) for entry in self.files.values())

    @property
    def image_group(self) -> int | None:
        """The group on the host that must read the images at a restore, see sharing.py; None if root alone does."""
        rows = (self.id_maps or {}).get("gid_map", ())
        return next((outside for inside, outside, _count in rows if inside == 0), None)

    def as_dict(self) -> dict[str, Any]:
        """The manifest in plain JSON types."""
        return asdict(self)


def digests(images: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size in bytes of every image file in the folder, by name."""
    return {
        path.name: {"sha256": _sha256(path), "size": path.stat().st_size}
        for path in sorted(images.iterdir())
        if path.suffix == _IMAGE_SUFFIX
    }


def digests_from(checksums: Mapping[str, Sequence[int]]) -> dict[str, dict[str, Any]]:
    """The same from size and CRC-32 (if known) of every image, for a set that is needed before it could be read."""
    return {
        name: {"size": sums[0], **({"crc32": sums[1]} if len(sums) > 1 else {})}
        for name, sums in sorted(checksums.items())
    }


def checksums_of(images: Path) -> dict[str, list[int]]:
    """Size in bytes and CRC-32 of every image file in the folder, by name."""
    return {path.name: _size_and_crc(path) for path in images.iterdir() if path.suffix == _IMAGE_SUFFIX}


def write_manifest(images: Path, manifest: Manifest) -> None:
    """Write the manifest into the image folder, atomically, mode 0600."""
    write_json(images / MANIFEST, manifest.as_dict())


def read_manifest(images: Path) -> Manifest:
    """The manifest of an image set. Raises BadImageSet if it is missing, damaged or of a format that we do not know."""
    path = images / MANIFEST
    try:
        value = read_json(path)
    except FileNotFoundError:
        raise BadImageSet(
            f"{images} is no complete image set: it has no {MANIFEST}, which is written last.",
            "Look for the folder of a dump that succeeded. A dump that was interrupted left its workload running.",
        ) from None
    except (OSError, ValueError) as error:
        raise BadImageSet(f"{path} cannot be read: {error}.", "Use another copy of this image set.") from error
    return manifest_of(value, str(path))


def manifest_of(value: Any, where: str = "the manifest of the source") -> Manifest:
    """The manifest that was a JSON value. Raises BadImageSet if it is damaged or of a format that we do not know."""
    try:
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        if value.get("format") != FORMAT:
            raise BadImageSet(
                f"{where} is of format {value.get('format')!r}; this version knows format {FORMAT}.",
                "Use the version of fleet.criu that made the image set, or a later one.",
            )
        manifest = Manifest(**{**value, "workload": Workload(**value["workload"])})
        check_manifest({**vars(manifest), "workload": vars(manifest.workload)})
        return manifest
    except (ValueError, TypeError, KeyError) as error:
        raise BadImageSet(f"{where} cannot be read: {error}.", "Use another copy of this image set.") from error


def verify_files(images: Path, manifest: Manifest) -> None:
    """Raises BadImageSet, which names each file that is missing, altered or was added since the manifest, and OSError.

    A file is read only if it has the size that the manifest says.
    """
    found = {path.name for path in images.iterdir() if path.suffix == _IMAGE_SUFFIX}
    # CRIU writes its statistics after the workload is gone, and once more at restore.
    added = sorted(name for name in found - set(manifest.files) if not name.startswith("stats-"))
    missing = sorted(set(manifest.files) - found)
    altered = sorted(
        name for name in found & set(manifest.files) if not _is_as_told(images / name, manifest.files[name])
    )
    if added or missing or altered:
        parts = (("missing", missing), ("altered", altered), ("added", added))
        listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
        raise BadImageSet(
            f"The image set {images} is not what its manifest says: {listed}.",
            "Copy it again from where it was dumped.",
            {"missing": missing, "altered": altered, "added": added},
        )


def _is_as_told(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        with opened(path) as stream:
            return os.fstat(stream.fileno()).st_size == int(entry["size"]) and _has_digest(path, stream, entry)
    except UnfitFile:
        return False


def _has_digest(path: Path, stream: IO[bytes], entry: Mapping[str, Any]) -> bool:
    # Of memory that came by a handoff the size is known alone, unless it was to be kept.
    if not {"sha256", "crc32"} & set(entry):
        return True
    status = os.fstat(stream.fileno())
    if status.st_size > _MAY_BE_HOLES and status.st_size > status.st_blocks * _BLOCK * _MOST_HOLES:
        raise BadImageSet(
            f"The image {path} has {status.st_size} bytes, of which it holds {status.st_blocks * _BLOCK}: it is nearly "
            "all holes, and no dump writes such images.",
            "Copy the image set again from where it was dumped, or use another one.",
            {"file": path.name},
        )
    if "sha256" in entry:
        return bool(_digest_of(stream) == entry["sha256"])
    return bool(_checksum_of(stream)[1] == entry["crc32"])


def _sha256(path: Path) -> str:
    with opened(path) as stream:
        return _digest_of(stream)


def _size_and_crc(path: Path) -> list[int]:
    with opened(path) as stream:
        return _checksum_of(stream)


def _digest_of(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(_CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()


def _checksum_of(stream: IO[bytes]) -> list[int]:
    size, checksum = 0, 0
    for chunk in iter(lambda: stream.read(_CHUNK), b""):
        size += len(chunk)
        checksum = zlib.crc32(chunk, checksum)
    return [size, checksum]
