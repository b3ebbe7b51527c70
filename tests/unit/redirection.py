# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder in the place of the host's /run, /var/lib and /var/log."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Callable

from ansible_collections.fleet.criu.plugins.module_utils import _own_folders, _trusted
from ansible_collections.fleet.criu.plugins.module_utils._criu import (
    cgroup_mount,
    generation,
    log,
    memory_folder,
    stage,
)
from ansible_collections.fleet.criu.plugins.module_utils._engine import oci
from ansible_collections.fleet.criu.plugins.module_utils._handoff import (
    archive,
    begin,
    holding,
    journal,
    open_records,
    request,
    reviver,
    same_files,
    start,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts import contents

HANDOFFS = "run/handoff"
JOURNALS = "lib/handoffs"


def redirect(folder: Path, set_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let the collection keep its things in this folder from now on."""
    trust_temporary_folders(set_attribute)
    for module in (request, start):
        set_attribute(module, "RUN_FOLDER", folder / HANDOFFS)
    set_attribute(reviver, "RUN_FOLDER", folder / "run" / "restore")
    set_attribute(stage, "RUN_FOLDER", folder / "run" / "stages")
    set_attribute(memory_folder, "FOLDER", folder / "run" / "images")
    set_attribute(cgroup_mount, "FOLDER", folder / "run" / "cgroup_mount")
    set_attribute(log, "LOG_FOLDER", folder / "log")
    set_attribute(oci, "BUNDLES", folder / "lib" / "bundles")
    set_attribute(archive, "CODE_FOLDER", folder / "lib" / "code")
    for function in (journal.Journal.__init__, journal.journal_path, journal.read_record, journal.all_records):
        set_attribute(function, "__defaults__", (folder / JOURNALS,))
    set_attribute(open_records.read_all, "__defaults__", (folder / JOURNALS,))
    set_attribute(begin, "LOCK", folder / JOURNALS / "begin.lock")
    set_attribute(holding, "AT_WORK", folder / "run" / "at_work")
    own = (folder / "lib", folder / JOURNALS, folder / "run", folder / "log")
    set_attribute(_own_folders, "OWN_FOLDERS", own)
    set_attribute(generation.Generations.__init__, "__defaults__", (folder / "lib" / "generations.json",))
    set_attribute(contents.Contents.__init__, "__defaults__", (folder / "lib" / "contents.json",))
    set_attribute(same_files.Records.__init__, "__defaults__", (folder / "lib" / "same_files",))


def trust_temporary_folders(set_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """All users may write where temporary folders are; what the tests have there is their own."""
    set_attribute(_trusted, "TOP", tempfile.gettempdir())
