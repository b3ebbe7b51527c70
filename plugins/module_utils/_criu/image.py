# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole image set, read without CRIU: what is in it, and whether it is what its manifest says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import INVENTORY, read_record
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_manifest import ManifestReport, report_manifest
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_memory import ImageMemory, read_memory
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_mounts import ImageMount, read_mounts
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_namespaces import (
    MOUNT,
    ImageNamespace,
    read_namespaces,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_processes import ImageProcess, read_processes
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_statistics import (
    read_dump_statistics,
    read_restore_statistics,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import Message
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet

_VERSIONS = (1, 2)
_NETWORK_LOCKS = {0: "iptables", 1: "nftables", 2: "skip"}
_SECURITY_MODULES = {0: "none", 1: "selinux", 2: "apparmor"}


@dataclass(frozen=True)
class Inventory:
    """What `inventory.img` says of the whole set.

    `version` is that of the images, not of CRIU, which is not kept. `network_lock` and `security_module` are None if
    the CRIU that made the set did not keep them.
    """

    version: int
    security_module: str | None
    network_lock: str | None
    tcp_close: bool


@dataclass(frozen=True)
class ImageSet:
    """All that can be told of an image set. Statistics are None where CRIU wrote none."""

    images: Path
    manifest: ManifestReport
    inventory: Inventory
    processes: list[ImageProcess]
    namespaces: list[ImageNamespace]
    mounts: list[ImageMount]
    memory: ImageMemory
    dump_statistics: dict[str, int | None] | None
    restore_statistics: dict[str, int | None] | None

    def as_dict(self) -> dict[str, Any]:
        """The image set in plain JSON types."""
        return {
            "images": str(self.images),
            "manifest": self.manifest.as_dict(),
            "inventory": asdict(self.inventory),
            "processes": [process.as_dict() for process in self.processes],
            "namespaces": [namespace.as_dict() for namespace in self.namespaces],
            "mounts": [mount.as_dict() for mount in self.mounts],
            "memory": self.memory.as_dict(),
            "statistics": {"dump": self.dump_statistics, "restore": self.restore_statistics},
        }


def read_image_set(images: Path, compare_files: bool = True) -> ImageSet:
    """Read an image set; with `compare_files` every file is held against the manifest, if there is one.

    Raises BadImageSet if an image cannot be read, with the file, the offset and the manifest's report in its facts.
    """
    _require_folder(images)
    manifest = report_manifest(images, compare_files)
    try:
        return _read(images, manifest)
    except BadImageSet as error:
        raise BadImageSet(error.message, error.remedy, {**error.facts, "manifest": manifest.as_dict()}) from error


def _require_folder(images: Path) -> None:
    try:
        next(images.iterdir(), None)
    except OSError as error:
        raise BadImageSet(
            f"The image folder {images} cannot be read: {error.strerror}.",
            "Name the folder of an image set on this host. It is for root alone: use become.",
        ) from error


def _read(images: Path, manifest: ManifestReport) -> ImageSet:
    # The version comes first: it says whether the other files can be understood at all.
    inventory, criu_ids = _inventory(images / "inventory.img")
    processes = read_processes(images)
    namespaces = read_namespaces(images, [process.pid for process in processes], criu_ids)
    own_mounts = [namespace.id for namespace in namespaces if namespace.type == MOUNT and namespace.own is not False]
    return ImageSet(
        images=images,
        manifest=manifest,
        inventory=inventory,
        processes=processes,
        namespaces=namespaces,
        mounts=[mount for number in own_mounts for mount in read_mounts(images, number)],
        memory=read_memory(images),
        dump_statistics=read_dump_statistics(images),
        restore_statistics=read_restore_statistics(images),
    )


def _inventory(path: Path) -> tuple[Inventory, Message | None]:
    record = read_record(path, INVENTORY)
    version = record.number(1, "img_version")
    if version not in _VERSIONS:
        raise BadImageSet(
            f"The image set {path.parent} is of version {version}, says {path.name}; "
            f"versions {' and '.join(map(str, _VERSIONS))} are known here.",
            "Use a newer fleet.criu; crit, which comes with the CRIU that made the images, may know them.",
            {"file": path.name, "offset": record.offset, "version": version},
        )
    inventory = Inventory(
        version=version,
        security_module=_named(record.optional_number(6, "lsmtype"), _SECURITY_MODULES),
        network_lock=_named(record.optional_number(11, "network_lock_method"), _NETWORK_LOCKS),
        tcp_close=record.flag(10, "tcp_close"),
    )
    return inventory, record.message(3, "root_ids")


def _named(number: int | None, names: dict[int, str]) -> str | None:
    return None if number is None else names.get(number, f"unknown ({number})")
