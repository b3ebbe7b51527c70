# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.fleet.criu.plugins.filter.takes import FilterModule

takes = FilterModule().filters()["takes"]
INFO = {"usable": True, "version": "4.2", "kernel": "6.12", "architecture": "x86_64"}


def test_it_gives_a_row_for_each_source() -> None:
    assert takes({"a": INFO, "b": {}}) == [
        {"from": "a", "a": "-", "b": "no: not asked here"},
        {"from": "b", "a": "no: not asked there", "b": "-"},
    ]


@pytest.mark.parametrize("wrong", [7, [], {"a": 7, "b": 8}, {"a": {"usable": True}, "b": {"usable": True}}])
def test_what_is_nothing_of_the_kind_is_refused(wrong: Any) -> None:
    if wrong == []:
        assert takes({}) == []
        return
    with pytest.raises(AnsibleFilterError, match="takes needs what criu_info returned"):
        takes(wrong)
