# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image set's manifest says, and how its files compare, as a report instead of an error."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import (
    MANIFEST,
    Manifest,
    read_manifest,
    verify_files,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet

_TOLD = ("workload", "host", "kernel", "architecture", "criu_version", "created", "root", "leave_running")


@dataclass(frozen=True)
class ManifestReport:
    """Whether there is a manifest, what it tells, and which files are not as it says.

    `intact` is None if there is no manifest or the files were not compared.
    """

    present: bool
    intact: bool | None = None
    missing: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    told: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report in plain JSON types."""
        return asdict(self)


def report_manifest(images: Path, compare_files: bool = True) -> ManifestReport:
    """Report on the manifest. Raises BadImageSet if there is one but it is damaged or of a format not known here.

    `compare_files` reads every file of the image set, to take its digest.
    """
    # A link that leads nowhere is a damaged manifest, not an absent one.
    if not os.path.lexists(images / MANIFEST):
        return ManifestReport(present=False)
    manifest = read_manifest(images)
    told = {name: value for name, value in manifest.as_dict().items() if name in _TOLD}
    if not compare_files:
        return ManifestReport(present=True, told=told)
    differences = _differences(images, manifest)
    return ManifestReport(present=True, intact=not any(differences.values()), told=told, **differences)


def _differences(images: Path, manifest: Manifest) -> dict[str, list[str]]:
    try:
        verify_files(images, manifest)
    except BadImageSet as error:
        return {name: list(error.facts[name]) for name in ("missing", "added", "altered")}
    except OSError as error:
        raise BadImageSet(
            f"A file of the image set {images} cannot be compared with the manifest: {error}.",
            "Images are for root alone: use become.",
        ) from error
    return {}
