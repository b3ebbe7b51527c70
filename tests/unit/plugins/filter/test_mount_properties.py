# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for every mountinfo and every set of rules, tried on generated ones.

It stands with the filters because one of them is tried too, which needs ansible-core. The same inputs each time, unless
FUZZ_EXAMPLES says how many new ones to try for each property (`make fuzz`).
"""

from __future__ import annotations

import json
import os
from pathlib import PurePosixPath
from typing import Any, Callable, Sequence, TypeVar

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.fleet.criu.plugins.filter.external_map import external_map
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadRule, CriuError, MalformedMountinfo
from ansible_collections.fleet.criu.plugins.module_utils._mounts.mount_map import mount_map
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import (
    folders_of,
    is_below,
    join,
    problem,
    relative,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import Mount, Plan, make_plan
from ansible_collections.fleet.criu.plugins.module_utils._mounts.rules import Rule, decide, parse_rules
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow, format_table, parse
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import EXTERNAL, INTERNAL, ROOT, classify

Failure = TypeVar("Failure", bound=Exception)

FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or "0")
GENERATED = settings(
    max_examples=FUZZ_EXAMPLES or 100,
    derandomize=not FUZZ_EXAMPLES,
    database=None,
    # The machine may be busy with other things.
    deadline=None,
)


def attempt(expected: type[Failure], function: Callable[..., Any], *arguments: Any) -> tuple[Any, Failure | None]:
    """What the function returns, or the one sort of error that it may raise."""
    try:
        return function(*arguments), None
    except expected as error:
        return None, error


# Mountinfo as the kernel writes it

# The kernel knows bytes; what is no UTF-8 among them is read as surrogates.
name_bytes = st.one_of(
    st.sampled_from([b"a", b"ab", b"data", b"srv", b"-", b" ", b"\\", b"\t", b"\n", b"#", b"\\040", b"deleted"]),
    st.lists(st.sampled_from(b'ab.-,:;[]#\\ \t\n\r"\xc3\xa9\xff\x7f'), min_size=1, max_size=4).map(bytes),
)
paths_in_bytes = st.lists(name_bytes, max_size=3).map(lambda names: b"/" + b"/".join(names))
numbers = st.integers(0, 6)
# One draw for four numbers, because drawing is what takes time.
four_numbers = st.integers(0, 7**4 - 1).map(lambda drawn: [drawn // 7**place % 7 for place in range(4)])
options = st.sampled_from([["rw"], ["ro"], ["rw", "nosuid", "relatime"], ["ro", "idmapped"], ["rw", "rw"]])
optional_fields = st.lists(
    st.sampled_from(
        [f"{tag}:{number}" for tag in ("shared", "master", "propagate_from", "new") for number in range(3)]
        + ["unbindable", "shared:", "shared:x", "unknown", "a:b:c"]
    ),
    max_size=3,
)
file_systems = st.sampled_from([b"ext4", b"tmpfs", b"overlay", b"proc", b"nfs4", b"cgroup2", b"fuse.a b#\\"])


@st.composite
def kernel_lines(draw: st.DrawFn) -> tuple[MountRow, str]:
    """A row, and its line put together here, by the escapes of the kernel's seq_file."""
    mount_id, parent_id, major, minor = draw(four_numbers)
    root = draw(st.one_of(st.just(b"/"), paths_in_bytes, st.just(b"net:[4026532000]")))
    deleted = draw(st.booleans())
    mountpoint, fstype = draw(paths_in_bytes), draw(file_systems)
    source = draw(st.one_of(st.just(b""), name_bytes, paths_in_bytes))
    mount_options, fields, super_options = draw(options), draw(optional_fields), draw(options)
    row = MountRow(
        mount_id,
        parent_id,
        major,
        minor,
        decoded(root),
        decoded(mountpoint),
        tuple(mount_options),
        tuple(fields),
        decoded(fstype),
        decoded(source),
        tuple(super_options),
        deleted,
    )
    columns = [
        f"{mount_id} {parent_id} {major}:{minor}",
        decoded(escaped(root + b"//deleted" * deleted, b" \t\n\\")),
        decoded(escaped(mountpoint, b" \t\n\\")),
        ",".join(mount_options),
        *fields,
        "-",
        decoded(escaped(fstype, b" \t\n\\#")),
        decoded(escaped(source, b" \t\n\\#")),
        ",".join(super_options),
    ]
    return row, " ".join(columns)


def escaped(text: bytes, special: bytes) -> bytes:
    return b"".join(b"\\%03o" % byte if byte in special else bytes([byte]) for byte in text)


def decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


tables = st.lists(kernel_lines(), max_size=3)
rows_of_tables = tables.map(lambda lines: [row for row, _line in lines])


@GENERATED
@given(tables)
def test_a_table_of_the_kernel_is_read_as_what_it_says_and_written_as_it_was(lines: list[tuple[MountRow, str]]) -> None:
    text = "".join(line + "\n" for _row, line in lines)
    rows = parse(text)
    assert rows == [row for row, _line in lines]
    assert format_table(rows) == text


@GENERATED
@given(rows_of_tables)
def test_rows_that_are_written_and_read_are_the_same(rows: list[MountRow]) -> None:
    assert parse(format_table(rows)) == rows


@GENERATED
@given(rows_of_tables)
def test_rows_go_through_json_and_back(rows: list[MountRow]) -> None:
    for row in rows:
        fields = json.loads(json.dumps(row.as_dict()))
        carried = MountRow.from_dict(fields)
        assert all(carried.as_dict()[name] == fields[name] for name in MountRow._fields)


# Text that is no mountinfo

pieces = st.one_of(
    st.sampled_from(
        ["1 0 8:1 / / rw - ext4 a rw", " ", "  ", "-", " - ", "\n", "\\", "\\040", "\\377", "\\8", "8:1", ":", ","]
    ),
    st.sampled_from(["1", "-1", "٣", "²", "1_0", "+1", "/", "//deleted", "\udcff", "\udcc3\udca9", "\0", "\r", "\x85"]),
    st.text(max_size=3),
)
damaged_lines = st.tuples(kernel_lines(), st.integers(0, 60), st.integers(0, 3), pieces).map(
    lambda drawn: drawn[0][1][: drawn[1]] + drawn[3] + drawn[0][1][drawn[1] + drawn[2] :]
)
maybe_numbers = st.one_of(st.sampled_from(["²", "٣", "+1", "1_0", "-1", "", "٣1"]), numbers.map(str))
odd_heads = st.builds(
    "{} {} {}:{} / {} rw - ext4 a rw".format,
    *[maybe_numbers] * 4,
    st.sampled_from(["/", "/a", "a", "", "\\057a", "./a"]),
)
any_text = st.one_of(st.lists(pieces, max_size=8).map("".join), damaged_lines, odd_heads)


@GENERATED
@given(any_text)
def test_any_text_is_read_or_named_as_malformed(text: str) -> None:
    rows, error = attempt(MalformedMountinfo, parse, text)
    if error is not None:
        line_number = error.facts["line_number"]
        assert 1 <= line_number <= len(text.split("\n"))
        assert f"Line {line_number} " in error.message
        assert error.remedy
        json.dumps(error.facts).encode()
        return
    assert len(rows) == len([line for line in text.split("\n") if line])
    for row in rows:
        assert min(row.mount_id, row.parent_id, row.major, row.minor) >= 0
        assert row.mountpoint.startswith("/")


@GENERATED
@given(any_text)
def test_what_can_be_read_is_the_same_after_it_was_written_once(text: str) -> None:
    rows, error = attempt(MalformedMountinfo, parse, text.encode("utf-8", "replace").decode())
    if error is not None:
        return
    written = format_table(rows)
    assert parse(written) == rows
    assert format_table(parse(written)) == written


# Verdicts and the host's paths, of tables however inconsistent

nested_paths = st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/ab", "/a/bc"])
trees = st.lists(st.tuples(st.integers(0, 2), nested_paths, nested_paths), min_size=2, max_size=6).map(
    lambda drawn: [
        MountRow(
            number + 10, number + 9 - back, 8, 1, root, place if number else "/", ("rw",), (), "ext4", "a", ("rw",)
        )
        for number, (back, place, root) in enumerate(drawn)
    ]
)
host_tables = st.one_of(rows_of_tables, trees)


@GENERATED
@given(rows_of_tables, rows_of_tables)
def test_every_row_gets_one_verdict_with_a_reason(rows: list[MountRow], host_rows: list[MountRow]) -> None:
    verdicts = classify(rows, host_rows)
    assert len(verdicts) == len(rows)
    assert {verdict.kind for verdict in verdicts} <= {ROOT, INTERNAL, EXTERNAL}
    assert all(verdict.reason for verdict in verdicts)
    # In a table that was tampered with, an ID does not tell which mount is meant.
    assume(len({row.mount_id for row in rows}) == len(rows))
    at_slash = [number for number, row in enumerate(rows) if row.mountpoint == "/"]
    assert [number for number, verdict in enumerate(verdicts) if verdict.kind == ROOT] == at_slash[-1:]


@GENERATED
@given(st.one_of(kernel_lines().map(lambda line: line[0]), trees.map(lambda rows: rows[1])), host_tables)
def test_host_paths_are_of_mounts_that_hold_the_root(row: MountRow, host_rows: list[MountRow]) -> None:
    host = HostMounts(host_rows)
    found = host.candidates(row)
    holders = [other for other in host_rows if other.device == row.device and is_below(row.root, other.root)]
    assert sorted(path.mount_id for path in found) == sorted(holder.mount_id for holder in holders)
    for path in found:
        mounts = [holder for holder in holders if holder.mount_id == path.mount_id]
        assert path.path in [join(holder.mountpoint, relative(row.root, holder.root)) for holder in mounts]
        top = host.mount_at(path.path)
        assert path.hidden or top in mounts
    assert [path.hidden for path in found] == sorted(path.hidden for path in found)


@GENERATED
@given(host_tables, st.one_of(paths_in_bytes.map(decoded), nested_paths))
def test_a_path_leads_from_mount_to_mount_downwards(host_rows: list[MountRow], path: str) -> None:
    assert HostMounts(host_rows).mount_at(path) is walked(host_rows, path)


def walked(rows: Sequence[MountRow], path: str) -> MountRow | None:
    """The same as `mount_at`, by looking through all rows at each step."""
    ids = {row.mount_id for row in rows}
    tops = [row for row in rows if row.parent_id == row.mount_id or row.parent_id not in ids]
    current = tops[0] if tops else None
    seen = set()
    while current is not None and current.mount_id not in seen:
        seen.add(current.mount_id)
        below = [row for row in rows if row.parent_id == current.mount_id != row.mount_id]
        below = [row for row in below if is_below(path, row.mountpoint)]
        if not below:
            break
        current = sorted(below, key=lambda row: len(row.mountpoint))[0]
    return current


# Paths

components = st.sampled_from(["a", "ab", "b", "srv", "srvdata", "data", "a b", "é"])
good_paths = st.lists(components, max_size=4).map(lambda names: "/" + "/".join(names))


@GENERATED
@given(good_paths, good_paths)
def test_below_means_whole_components(path: str, folder: str) -> None:
    parts = PurePosixPath(folder).parts
    assert is_below(path, folder) is (PurePosixPath(path).parts[: len(parts)] == parts)


@GENERATED
@given(st.one_of(good_paths, paths_in_bytes.map(decoded), st.just("net:[4026532000]")))
def test_the_folders_of_a_path_are_all_that_it_is_below(path: str) -> None:
    beginnings = [path[:length] for length in range(1, len(path) + 1)]
    folders = [text for text in beginnings if is_below(path, text) and (text == "/" or not text.endswith("/"))]
    assert folders_of(path) == folders


@GENERATED
@given(good_paths, st.lists(components, max_size=3), st.text("abc-._", min_size=1, max_size=3))
def test_what_is_joined_is_below_and_what_is_only_longer_is_not(folder: str, names: list[str], tail: str) -> None:
    rest = "/".join(names)
    path = join(folder, rest)
    assert is_below(path, folder)
    assert relative(path, folder) == rest
    if folder != "/":
        assert not is_below(folder + tail, folder)
        assert not is_below(join(folder + tail, rest), folder)


@GENERATED
@given(any_text)
def test_any_text_is_a_usable_path_or_has_a_problem(text: str) -> None:
    if problem(text) is None:
        assert text == "/" or "/" + "/".join(text.strip("/").split("/")) == text
        assert not {"", ".", ".."} & set(text.split("/")[1:]) or text == "/"


# Rules

maybe_paths = st.one_of(st.none(), good_paths, any_text)
# The types are those that the module's arguments have.
any_rules = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "mountpoint": maybe_paths,
            "prefix": maybe_paths,
            "select": st.one_of(st.none(), any_text),
            "source": maybe_paths,
            "replace": maybe_paths,
            "keep": st.booleans(),
            "key": st.one_of(st.none(), any_text),
            "workload": st.sampled_from([None, "mine", "theirs"]),
            "mount_ids": st.one_of(st.none(), st.lists(numbers, max_size=2)),
            "colour": st.none(),
        },
    ),
    max_size=3,
)
keys = st.one_of(st.none(), st.none(), st.sampled_from(["", "k", "CRIU:", "CRIU:k", "a\nb", "/data"]))
workloads = st.sampled_from([None, None, "mine"])
exact_rules = st.builds(Rule, mountpoint=good_paths, source=good_paths, key=keys, workload=workloads)
prefix_rules = st.one_of(
    st.builds(Rule, prefix=good_paths, replace=good_paths, workload=workloads),
    st.builds(Rule, prefix=good_paths, keep=st.just(True), key=keys),
)
select_rules = st.builds(
    Rule, select=st.just("x"), keep=st.just(True), key=keys, mount_ids=st.frozensets(numbers, max_size=3)
)
good_rules = st.lists(st.one_of(exact_rules, prefix_rules, select_rules), max_size=5)


@GENERATED
@given(any_rules, st.sampled_from([None, "mine"]))
def test_any_rules_are_read_or_named_as_bad(entries: list[dict[str, Any]], workload: str | None) -> None:
    rules, error = attempt(BadRule, parse_rules, entries, workload)
    if error is not None:
        assert 1 <= error.facts["rule_number"] <= len(entries)
        assert error.remedy
        return
    for rule in rules:
        assert [rule.mountpoint, rule.prefix, rule.select].count(None) == 2
        assert [rule.source is not None, rule.replace is not None, rule.keep].count(True) == 1
        assert rule.workload in (None, workload) or workload is None


@GENERATED
@given(st.lists(prefix_rules, max_size=6), good_paths)
def test_the_longest_prefix_wins_at_component_boundaries(rules: list[Rule], host_path: str) -> None:
    parts = PurePosixPath(host_path).parts
    lengths = [len(PurePosixPath(str(rule.prefix)).parts) for rule in rules]
    fitting = {
        length: rule for rule, length in zip(rules, lengths) if PurePosixPath(str(rule.prefix)).parts == parts[:length]
    }
    decision = decide(rules, 1, "/mountpoint", host_path)
    if not fitting:
        assert decision.rule is None
        return
    assert decision.rule is not None
    assert decision.rule.prefix == fitting[max(fitting)].prefix
    target = decision.rule.target_path(host_path)
    assert target is not None
    assert is_below(target, host_path if decision.rule.keep else str(decision.rule.replace))


@GENERATED
@given(good_rules, numbers, good_paths, st.one_of(st.none(), good_paths), st.randoms(use_true_random=False))
def test_the_order_of_rules_matters_only_where_it_is_reported(
    rules: list[Rule], mount_id: int, mountpoint: str, host_path: str | None, random: Any
) -> None:
    decision = decide(rules, mount_id, mountpoint, host_path)
    other_order = list(rules)
    random.shuffle(other_order)
    other = decide(other_order, mount_id, mountpoint, host_path)
    assert bool(decision.contradicting) is bool(other.contradicting)
    assert (decision.rule is None) is (other.rule is None)
    if decision.rule is not None and other.rule is not None and not decision.contradicting:
        assert decision.rule.target_path(host_path) == other.rule.target_path(host_path)
        assert decision.rule.key == other.rule.key
    sorts = [rule.mountpoint == mountpoint for rule in rules]
    if any(sorts):
        assert decision.rule is not None
        assert decision.rule.mountpoint == mountpoint


# Maps

mount_fields = st.fixed_dictionaries(
    {
        "mount_id": numbers,
        "mountpoint": st.one_of(good_paths, good_paths, paths_in_bytes.map(decoded)),
        "kind": st.sampled_from([ROOT, INTERNAL, EXTERNAL, EXTERNAL]),
        "type": st.sampled_from(["directory", "file"]),
        "fstype": st.just("ext4"),
        "host_path": st.one_of(st.none(), good_paths, good_paths),
        "deleted": st.sampled_from([False, False, False, True]),
    }
)
# Few places, each with a rule of its own, so that keys meet and many maps are whole.
planned_mounts = st.fixed_dictionaries(
    {
        "mount_id": numbers,
        "mountpoint": st.sampled_from(["/", "/data", "/data/x", "/a", "/ab"]),
        "kind": st.sampled_from([ROOT, INTERNAL, EXTERNAL, EXTERNAL, EXTERNAL]),
        "type": st.sampled_from(["directory", "file"]),
        "fstype": st.sampled_from(["ext4", "tmpfs"]),
        "host_path": good_paths,
        "deleted": st.sampled_from([False] * 9 + [True]),
    }
)
planned_keys = st.sampled_from([None, "k", "", "", "CRIU:k", "a\nb", "/data"])
planned = st.lists(st.tuples(planned_mounts, good_paths, planned_keys), min_size=1, max_size=3).map(
    lambda drawn: (
        [mount for mount, _path, _key in drawn],
        [Rule(mountpoint=mount["mountpoint"], source=path, key=key) for mount, path, key in drawn],
    )
)
ways = st.sampled_from([{}] * 8 + [{"/data": "shared"}, {"/elsewhere": "present"}])


@GENERATED
@given(st.one_of(planned, planned, st.tuples(st.lists(mount_fields, max_size=4), good_rules)), st.booleans(), ways)
def test_a_map_without_gaps_is_whole_and_its_keys_are_unique_and_not_empty(
    mounts_and_rules: tuple[list[dict[str, Any]], list[Rule]], keep: bool, data: dict[str, str]
) -> None:
    fields, rules = mounts_and_rules
    mounts = [Mount.from_dict(mount) for mount in fields]
    plan = make_plan(mounts, rules, keep, data)
    if plan.gaps:
        assert all(gap.code and gap.reason and gap.remedy for gap in plan.gaps)
        return
    assert [entry.mount for entry in plan.entries] == [mount for mount in mounts if mount.kind in (ROOT, EXTERNAL)]
    external = [mount.mountpoint for mount in mounts if mount.kind == EXTERNAL]
    assert [line["mountpoint"] for line in plan.dump_map] == external
    assert_usable(plan)


def assert_usable(plan: Plan) -> None:
    found = [line["key"] for line in plan.dump_map]
    assert found == [line["key"] for line in plan.restore_map]
    assert len(set(found)) == len(found)
    assert all(key and "\n" not in key and not key.startswith("CRIU:") for key in found)
    assert all(problem(line["mountpoint"]) is None for line in plan.dump_map)
    assert all(problem(line["path"]) is None for line in plan.restore_map)
    assert not any(entry.mount.deleted for entry in plan.entries)


@GENERATED
@given(st.lists(mount_fields, max_size=3), any_rules, st.booleans())
def test_no_map_with_a_gap_leaves_the_module(
    fields: list[dict[str, Any]], rules: list[dict[str, Any]], keep: bool
) -> None:
    parameters = {
        "mounts": fields,
        "rules": rules,
        "workload": None,
        "keep_paths": keep,
        "data": {},
        "replace_contents": False,
        "severities": {},
        "fail_on_gaps": True,
    }
    found, error = attempt(CriuError, mount_map, parameters)
    if error is not None:
        assert str(error)
        return
    assert found["gaps"] == []
    assert all(line["key"] for line in found["dump_map"] + found["restore_map"])


json_scalars = st.one_of(st.none(), st.booleans(), numbers, st.floats(allow_nan=False), st.text(max_size=3), good_paths)
json_values = st.one_of(
    json_scalars, st.lists(json_scalars, max_size=2), st.dictionaries(st.text(max_size=3), json_scalars, max_size=2)
)


def altered(fields: st.SearchStrategy[dict[str, Any]], names: Sequence[str]) -> st.SearchStrategy[Any]:
    """Such dictionaries, some with a field of another type, and some other values in their place."""
    changed = st.dictionaries(st.sampled_from(names), json_values, max_size=1)
    return st.one_of(st.builds(lambda one, other: {**one, **other}, fields, changed), fields, json_values)


rows_in_json = kernel_lines().map(lambda line: line[0].as_dict())
rule_fields = st.one_of(
    st.fixed_dictionaries({"mountpoint": good_paths, "source": good_paths}),
    st.fixed_dictionaries({"prefix": good_paths, "replace": good_paths}),
    st.fixed_dictionaries(
        {"keep": st.just(True), "select": st.sampled_from(["shared", "fstype == 'ext4'", "a ==", "["])}
    ),
)


@GENERATED
@given(
    st.lists(altered(st.one_of(mount_fields, rows_in_json), ["mount_id", "root", "kind", "mountpoint"]), max_size=2),
    st.lists(altered(rule_fields, ["mountpoint", "key", "keep", "select"]), max_size=2),
    st.one_of(st.none(), st.lists(altered(rows_in_json, ["parent_id", "mount_options"]), max_size=2)),
)
def test_whatever_a_playbook_gives_the_filter_makes_a_usable_map_or_says_why_not(
    mounts: Any, rules: Any, host: Any
) -> None:
    pytest.importorskip("jmespath")
    found, error = attempt(AnsibleFilterError, external_map, mounts, rules, host)
    if error is not None:
        assert str(error)
        return
    if not found["gaps"]:
        found_keys = [line["key"] for line in found["dump_map"]]
        assert len(set(found_keys)) == len(found_keys)
        assert all(found_keys)
