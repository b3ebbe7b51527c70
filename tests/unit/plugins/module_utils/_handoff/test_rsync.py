# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

from ansible_collections.fleet.criu.plugins.module_utils._handoff import rsync as subject


def test_what_rsync_says_it_did_is_read_with_its_escapes() -> None:
    output = (
        "*deleting   old/\n.d..tp..... ./\n<f+++++++++ new \\#012\\#303\\#251\ncd+++++++++ sub/\n"
        "hf+++++++++ link\n*deleting   a\\#134#012\n\nNumber of files: 8 (reg: 7, dir: 1)\n"
    )
    made, deleted = subject.itemized(output)
    assert {os.fsencode(name) for name in made} == {b"new \n\xc3\xa9", b"sub", b"link"}
    assert deleted == {"old", "a\\#012"}
