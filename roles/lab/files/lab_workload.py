# SPDX-License-Identifier: GPL-3.0-or-later
"""Start or stop a workload that CRIU can move: one process tree in its own mount and pid namespace and its own root.

    lab_workload.py start < SPECIFICATION
    lab_workload.py stop < SPECIFICATION

The specification is JSON:

    name        names the transient unit that owns the process
    root        folder on this host that becomes the workload's /
    command     argv of the workload's init, as seen inside
    programs    programs of this host that are copied into the root, with the libraries they need
    python      whether one of them is Python, which needs some modules as well
    modules     names of more modules that it needs
    copies      files and folders of this host that are copied into the root
    files       text of more files in the root, by their path inside
    binds       external mounts: source on this host, mountpoint inside, type (directory or file), read_only
    texts       text of the sources of file binds, by their mountpoint
    pid_file    gets the pid of the workload's init as this host sees it
    user        whose processes it has, by name; root's if empty
    user_namespace   if not 0, it has a user namespace of its own (and one for IPC), whose root has this ID on the host

What was done is printed as JSON. No process of this program stays: systemd owns the workload.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
USER_IDS = 65536
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MNT_DETACH = 2
DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}  # minor numbers; the major one is 1
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C"}

Specification = dict[str, Any]

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    action = sys.argv[1]
    specification = json.load(sys.stdin) if action != "launch" else json.loads(Path(sys.argv[2]).read_text())
    actions = {"start": start, "stop": stop, "launch": launch}
    result = actions[action](specification)
    sys.stdout.write(json.dumps(result) + "\n")


# --- start: on the host -----------------------------------------------------------------------------------------------


def start(workload: Specification) -> dict[str, object]:
    pid = running_pid(workload)
    if pid:
        return {"changed": False, "pid": pid}
    make_root(workload)
    hand_to_systemd(workload)
    return {"changed": True, "pid": running_pid(workload)}


def make_root(workload: Specification) -> None:
    root = Path(workload["root"])
    for name in ("data", "dev", "etc", "proc", "run", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    make_devices(root / "dev")
    for program in workload["programs"]:
        copy_program(program, root)
        if workload["python"] and os.path.basename(program).startswith("python"):
            copy_python_modules(program, root, workload.get("modules", []))
    for path in workload.get("copies", []):
        copy_all(path, root)
    for path, text in workload["files"].items():
        write_if_different(inside(root, path), text)
    base = workload.get("user_namespace", 0)
    user, group = ids(workload)
    for bind in workload["binds"]:
        make_both_ends(bind, root, workload["texts"].get(bind["mountpoint"]), (base + user, base + group))
    if base:
        for path in (root, *root.rglob("*")):
            os.chown(path, base, base, follow_symlinks=False)


def make_devices(folder: Path) -> None:
    for name, minor in DEVICES.items():
        if not (folder / name).exists():
            os.mknod(folder / name, stat.S_IFCHR, os.makedev(1, minor))
            (folder / name).chmod(0o666)


def copy_program(program: str, root: Path) -> None:
    copy(program, root)
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        library = next((word for word in line.split() if word.startswith("/")), None)
        if library:
            copy(library, root)


def copy_python_modules(program: str, root: Path, modules: list[str]) -> None:
    """Copy these and what this interpreter reads before the first line of a script; the rest is frozen into it."""
    code = (
        f"import {', '.join(['encodings.ascii', 'encodings.latin_1', 'os', 'sys', 'time', *modules])}\n"
        "for module in list(sys.modules.values()): print(getattr(module, '__file__', None) or '')"
    )
    listing = subprocess.run([program, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    for module in listing.split():
        if module.endswith(".so"):
            copy_program(module, root)
        else:
            copy(module, root)
        (inside(root, module).parent / "lib-dynload").mkdir(exist_ok=True)


def copy(path: str, root: Path) -> None:
    target = inside(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(path, target)


def copy_all(path: str, root: Path) -> None:
    if os.path.isdir(path):
        shutil.copytree(path, inside(root, path), symlinks=True, dirs_exist_ok=True)
    else:
        copy(path, root)


def make_both_ends(bind: Specification, root: Path, text: str | None, owner: tuple[int, int]) -> None:
    source, mountpoint = Path(bind["source"]), inside(root, bind["mountpoint"])
    if bind["type"] == "directory":
        source.mkdir(parents=True, exist_ok=True)
        mountpoint.mkdir(parents=True, exist_ok=True)
        os.chown(source, *owner)
        return
    for end in (source, mountpoint):
        end.parent.mkdir(parents=True, exist_ok=True)
        end.touch()
    if text is not None:
        write_if_different(source, text)


def hand_to_systemd(workload: Specification) -> None:
    pid_file = Path(workload["pid_file"])
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    pid_file.unlink(missing_ok=True)
    specification = pid_file.with_suffix(".json")
    specification.write_text(json.dumps(workload))
    started = subprocess.run(
        [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={unit(workload)}",
            "--service-type=forking",
            f"--property=PIDFile={pid_file}",
            "--property=TimeoutStopSec=5",
            sys.executable,
            os.path.abspath(__file__),
            "launch",
            str(specification),
        ],
        check=False,
    )
    specification.unlink()
    if started.returncode != 0:
        log = subprocess.run(
            ["journalctl", "--unit", unit(workload), "--lines=20", "--output=cat", "--no-pager"],
            capture_output=True,
            text=True,
            check=False,
        )
        sys.exit(f"lab_workload: {workload['name']} did not start:\n{log.stdout}")


# --- launch: in the transient unit ------------------------------------------------------------------------------------


def launch(workload: Specification) -> dict[str, object]:
    """Fork the workload's init into new namespaces and go, once it has become the workload's command."""
    outcome, report = os.pipe()  # closed by the child's exec, or holds the reason why there was none
    base = workload.get("user_namespace", 0)
    pid = fork_in_user_namespace(workload, report, base) if base else fork_init(workload, report)
    os.close(report)
    reason = os.read(outcome, 4096).decode()
    if reason:
        sys.exit(f"lab_workload: {reason}")
    write_pid_file(Path(workload["pid_file"]), pid)
    return {"pid": pid}


def fork_init(workload: Specification, report: int, further_namespaces: int = 0) -> int:
    # The mount namespace is the child's own affair: pivot_root moves everybody who shares it.
    os.unshare(os.CLONE_NEWPID | further_namespaces)
    pid = os.fork()
    if pid == 0:
        try:
            become(workload, report)
        except BaseException as error:  # whatever it is, the parent has to hear of it
            os.write(report, repr(error).encode())
        os._exit(1)
    return pid


def fork_in_user_namespace(workload: Specification, report: int, base: int) -> int:
    """The same in a user namespace of its own, which a helper enters: its maps can be written from outside alone."""
    user = ids(workload)  # which nobody knows inside
    ready, is_ready = os.pipe()
    mapped, is_mapped = os.pipe()
    found, tell = os.pipe()
    helper = os.fork()
    if helper == 0:
        try:
            os.unshare(os.CLONE_NEWUSER)
            os.write(is_ready, b"-")
            os.read(mapped, 1)
            take_user(0, 0)
            workload = {**workload, "ids": user}
            os.write(tell, b"%d" % fork_init(workload, report, os.CLONE_NEWIPC))
        except BaseException as error:
            os.write(report, repr(error).encode())
        os._exit(0)
    os.close(is_ready)
    os.close(tell)
    if os.read(ready, 1):
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{helper}/{name}").write_text(f"0 {base} {USER_IDS}")
    os.write(is_mapped, b"-")
    os.waitpid(helper, 0)
    return int(os.read(found, 16) or 0)


def become(workload: Specification, report: int) -> None:
    """Turn this process, the first one in its pid namespace, into the workload."""
    root = Path(workload["root"])
    user = ids(workload)  # which nobody knows inside
    os.setsid()
    os.unshare(os.CLONE_NEWNS)
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount(root, root, "", MS_BIND)
    for bind in workload["binds"]:
        mountpoint = inside(root, bind["mountpoint"])
        mount(bind["source"], mountpoint, "", MS_BIND)
        if bind.get("read_only"):
            mount("none", mountpoint, "", MS_REMOUNT | MS_BIND | MS_RDONLY)
    mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", root / "tmp", "tmpfs", MS_NOSUID | MS_NODEV)
    enter_root(root)
    forget_host(report)
    take_user(*user)
    os.execve(workload["command"][0], workload["command"], ENVIRONMENT)


def enter_root(root: Path) -> None:
    os.chdir(root)
    check(libc.pivot_root(b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount2")  # the old root lies on top of the new one here
    os.chdir("/")


def forget_host(report: int) -> None:
    """Keep nothing open that lies outside: CRIU could not find it. The report closes itself at exec."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, report)
    os.closerange(report + 1, os.sysconf("SC_OPEN_MAX"))
    os.umask(0o022)


def take_user(user: int, group: int) -> None:
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)


def write_pid_file(path: Path, pid: int) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(f"{pid}\n")
    draft.rename(path)


# --- stop -------------------------------------------------------------------------------------------------------------


def stop(workload: Specification) -> dict[str, object]:
    """End the workload, whoever started it, and remove its root; the sources of its binds stay."""
    changed = False
    pid = running_pid(workload)
    if pid:
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        changed = True
    subprocess.run(["systemctl", "stop", unit(workload)], capture_output=True, check=False)
    pid_file, root = Path(workload["pid_file"]), Path(workload["root"])
    if pid_file.exists():
        pid_file.unlink()
        changed = True
    if root.exists():
        unmount_below(root)
        shutil.rmtree(root)
        changed = True
    return {"changed": changed}


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/root").exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def unmount_below(folder: Path) -> None:
    """Unmount what somebody else, a restore for one, mounted there on this host, the last one first."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        mountpoint = Path(line.split()[4].encode().decode("unicode_escape"))
        if mountpoint == folder or folder in mountpoint.parents:
            check(libc.umount2(os.fsencode(mountpoint), MNT_DETACH), f"umount {mountpoint}")


# --- both -------------------------------------------------------------------------------------------------------------


def unit(workload: Specification) -> str:
    return f"lab-workload-{workload['name']}.service"


def ids(workload: Specification) -> tuple[int, int]:
    """Its user and group."""
    if "ids" in workload:
        return workload["ids"][0], workload["ids"][1]
    account = pwd.getpwnam(workload["user"] or "root")
    return account.pw_uid, account.pw_gid


def running_pid(workload: Specification) -> int | None:
    """The pid in the pid file, if it is the first process of a pid namespace and runs the workload's command."""
    try:
        pid = int(Path(workload["pid_file"]).read_text())
        status = Path(f"/proc/{pid}/status").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    pids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    program = os.path.basename(workload["command"][0])
    return pid if len(pids) > 1 and pids[-1] == "1" and program.encode() in command else None


def inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def write_if_different(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)  # in place: a file that is replaced by rename cannot be an external mount


def mount(source: object, target: object, fstype: str, flags: int) -> None:
    result = libc.mount(os.fsencode(str(source)), os.fsencode(str(target)), fstype.encode(), flags, None)
    check(result, f"mount {source} on {target}")


def check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]

if __name__ == "__main__":
    main()
