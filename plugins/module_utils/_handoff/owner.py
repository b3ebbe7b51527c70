# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd unit that a restored workload lives in, and the one that it leaves.

The receiver starts as the main process of a transient service (systemd-run(1)), CRIU as its child, so that the workload
comes to life in the unit's control group. As long as the receiver is the main process, its death is the death of all
that is in the unit. Then it tells systemd that the workload is the main process (sd_notify(3)); from there on the
receiver may die and the workload lives on, until it ends or somebody stops the unit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import struct
import time
from pathlib import Path
from typing import Mapping, MutableMapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner

_BOOTED_BY_SYSTEMD = Path("/run/systemd/system")

# systemd.unit(5), DESCRIPTION: the characters of a unit's name, and how long it may be.
_UNIT = re.compile(r"[A-Za-z0-9:_.\\-][A-Za-z0-9:_.\\@-]*\.service\Z")
_LONGEST_UNIT = 255
_OTHER_UNIT = re.compile(r"\.(automount|device|mount|path|scope|slice|socket|swap|target|timer)\Z")
_NEEDS_ESCAPE = re.compile(rb"[^A-Za-z0-9:_.-]")

# systemd.service(5), Restart=, table "Exit causes and the effect of the Restart= settings": uncaught signal.
_RESTARTS_AFTER_SIGKILL = frozenset({"always", "on-failure", "on-abnormal", "on-abort"})
_RESTARTS_AFTER_SUCCESS = frozenset({"always", "on-success"})
_NEVER_RESTARTS = frozenset({"", "no", "on-watchdog"})

# systemctl(1), is-enabled: such a unit is started because another one wants it.
_STARTED_BY_OTHERS = frozenset({"static", "indirect", "generated", "alias", "linked"})

_SEND_SECONDS = 5
_END_SECONDS = 2.0
_POLL_SECONDS = 0.05


def has_systemd() -> bool:
    """Whether this host was booted by systemd; see sd_booted(3)."""
    return _BOOTED_BY_SYSTEMD.is_dir()


def unit_name(workload: str, wanted: str | None) -> str:
    """The unit for a workload: the wanted one, or one named after it. Raises CriuError if systemd would not take it."""
    if wanted is None:
        unit = f"criu-{_NEEDS_ESCAPE.sub(_escaped, os.fsencode(workload)).decode('ascii')}.service"
    else:
        unit = wanted if wanted.endswith(".service") or _OTHER_UNIT.search(wanted) else f"{wanted}.service"
    if len(unit) > _LONGEST_UNIT or not _UNIT.match(unit) or unit.endswith("@.service"):
        raise CriuError(
            f"{unit!r} cannot be the unit of the workload {workload}.",
            f"Give a name of at most {_LONGEST_UNIT} letters, digits, ':', '_', '.', '-' that ends with .service.",
            {"unit": unit},
        )
    return unit


def owner_units(workload: str, wanted: str | None) -> list[str]:
    """The units that a move or a restore may have put a workload into: the one named after it, and the wanted one.

    Those that systemd would not take are left out: nothing lives there.
    """
    found: list[str] = []
    for name in (None, wanted or None):
        with contextlib.suppress(CriuError):
            found.append(unit_name(workload, name))
    return list(dict.fromkeys(found))


def unit_problem(unit: str, runner: Runner) -> str | None:
    """Why no transient unit of this name can be made here and what to do about it, or None if it can."""
    if not has_systemd():
        return None
    shown = _show(["systemctl"], unit, ("LoadState", "ActiveState", "FragmentPath"), runner)
    load, active, path = (shown.get(name, "") for name in ("LoadState", "ActiveState", "FragmentPath"))
    if active not in ("inactive", "failed", ""):
        return (
            f"The unit {unit} is {active} here. If it is another copy of the workload or none that is needed, stop it "
            f"(systemctl stop {unit}); otherwise give the workload another unit."
        )
    if load in ("not-found", ""):
        return None
    if active == "failed" and path.startswith("/run/systemd/transient/"):
        return f"The unit {unit} failed here and is still remembered. Forget it: systemctl reset-failed {unit}."
    return (
        f"There is a unit {unit} here already ({load}{f', {path}' if path else ''}), and a restored workload needs one "
        "of its own. Give the workload another unit, or remove this one."
    )


def properties() -> list[str]:
    """The properties of the unit, for systemd-run's --property; see systemd.service(5) and systemd.kill(5)."""
    return [
        # The receiver is the main process until it says that the workload is, and also says so once more when it is
        # the main process no longer.
        "Type=notify",
        "NotifyAccess=all",
        # If the main process dies, all others get SIGKILL at once: half restored tasks block every other signal.
        "KillMode=mixed",
        "SendSIGKILL=yes",
        # Only the handoff itself knows how long it may take; memory images can be large.
        "TimeoutStartSec=infinity",
        "TimeoutStopSec=90",
        # A second start could only be a second receiver.
        "Restart=no",
        # The workload had no limits of a unit's before; CRIU gives each process its own limits back.
        "OOMPolicy=continue",
        "TasksMax=infinity",
        "LimitNOFILE=infinity",
    ]


def supervisor_problem(pid: int, proc: Proc, runner: Runner) -> str | None:
    """Whether systemd would start a workload anew after CRIU has killed it, which would make a second copy.

    `pid` is the workload's init. Gives what would happen and what to do against it, or None.
    """
    unit, user = _service(pid, proc)
    if unit is None or not has_systemd():
        return None
    systemctl = ["systemctl", *(["--user", f"--machine={user}@.host"] if user else [])]
    shown = _show(systemctl, unit, ("Restart", "MainPID", "RestartForceExitStatus", "SuccessExitStatus"), runner)
    if not _starts_anew(shown, pid, proc):
        return None
    command = " ".join([*systemctl, "edit", "--runtime", unit])
    return (
        f"Process {pid} belongs to the unit {unit} with Restart={shown.get('Restart')}: systemd would start it anew "
        f"when it is killed here, and there would be two. Switch that off first, with a drop-in that has the "
        f"lines [Service], Restart=no and RestartForceExitStatus= ({command})."
    )


def later_start(pid: int, proc: Proc, runner: Runner) -> str | None:
    """Whether systemd would start a workload once more some time after it has left this host, beside its only copy.

    `pid` is the workload's init. Gives what would start it, and with which command that is prevented, or None.
    """
    unit, user = _service(pid, proc)
    if unit is None or not has_systemd():
        return None
    systemctl = ["systemctl", *(["--user", f"--machine={user}@.host"] if user else [])]
    shown = _show(systemctl, unit, ("MainPID", "UnitFileState", "WantedBy", "RequiredBy", "TriggeredBy"), runner)
    if not _is_its_main(int(shown.get("MainPID") or 0), pid, proc):
        return None
    state, triggers = shown.get("UnitFileState"), shown.get("TriggeredBy")
    if triggers:
        when, command = f"as soon as {triggers} is triggered", ["disable", "--now", triggers]
    elif state == "enabled" or (state in _STARTED_BY_OTHERS and (shown.get("WantedBy") or shown.get("RequiredBy"))):
        when, command = "at the next boot", ["disable" if state == "enabled" else "mask", unit]
    else:
        return None
    return (
        f"Process {pid} belongs to the unit {unit}, which systemd would start {when}, and there would be two. When the "
        f"workload has moved: {' '.join([*systemctl, *command])}."
    )


def unit_left_by(pid: int, proc: Proc, runner: Runner) -> str | None:
    """The system's unit that fails when the workload is killed, because its main process belongs to it; else None."""
    unit, user = _service(pid, proc)
    if unit is None or user or not has_systemd():
        return None
    with contextlib.suppress(CriuError):
        if int(_show(["systemctl"], unit, ("MainPID",), runner).get("MainPID") or 0) in proc.tree(pid):
            return unit
    return None


def forget_failure(unit: str, runner: Runner) -> None:
    """Let systemd forget that a unit failed because its workload was killed when it had moved. Raises CriuError."""
    until = time.monotonic() + _END_SECONDS
    while time.monotonic() < until:
        state = _show(["systemctl"], unit, ("ActiveState",), runner).get("ActiveState")
        if state == "failed":
            runner(Command(["systemctl", "reset-failed", "--", unit]))
        if state in ("failed", "inactive", ""):
            return
        time.sleep(_POLL_SECONDS)


class Notifier:
    """Tells systemd which process of the unit is the main one. Without an `address` it does nothing."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Notifier:
        """The notifier for NOTIFY_SOCKET, which is taken out of the environment, so that no child speaks for us."""
        return cls(environment.pop("NOTIFY_SOCKET", None) or None)

    def hand_over(self, pid: int) -> None:
        """Make the workload's init the main process. To be called before it runs; raises CriuError.

        When this returns our own death is harmless, also in the same moment: systemd reads what it was told before it
        looks at who died.
        """
        self._send(f"MAINPID={pid}\nREADY=1")

    def confirm(self, pid: int) -> None:
        """Let systemd see that the workload's init is its own child now. To be called when CRIU has ended.

        Of a main process that was not its child when it was told, systemd does not wait for the end: `systemctl stop`
        would send SIGTERM and SIGKILL in one go. It looks again only if the main process is another for a moment.
        Raises CriuError; the workload runs in the unit all the same.
        """
        # One system call, so that our death cannot come between the two.
        self._send(f"MAINPID={os.getpid()}", f"MAINPID={pid}")

    def _send(self, *messages: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                # Not settimeout, which would make the system call return at once if there is no room.
                manager.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _SEND_SECONDS, 0))
                manager.connect(address)
                _send_together(manager, [message.encode("ascii") for message in messages])
        except OSError as error:
            raise CriuError(
                f"systemd could not be told of the restored workload: {error}.",
                "Look at the state of systemd on this host (systemctl status), then try again.",
            ) from error


class _Buffer(ctypes.Structure):
    """struct iovec of readv(2)."""

    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct msghdr of sendmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("buffers", ctypes.POINTER(_Buffer)),
        ("buffer_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Entry(ctypes.Structure):
    """struct mmsghdr of sendmmsg(2)."""

    _fields_ = (("message", _Message), ("sent", ctypes.c_uint))


def _send_together(connected: socket.socket, messages: Sequence[bytes]) -> None:
    buffers = [_Buffer(message, len(message)) for message in messages]
    entries = (_Entry * len(messages))()
    for entry, buffer in zip(entries, buffers):
        entry.message.buffers = ctypes.pointer(buffer)
        entry.message.buffer_count = 1
    libc = ctypes.CDLL(None, use_errno=True)
    sent = libc.sendmmsg(connected.fileno(), entries, len(messages), 0)
    if sent < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    for message in messages[sent:]:
        connected.send(message)


def _escaped(match: re.Match[bytes]) -> bytes:
    # systemd.unit(5), STRING ESCAPING FOR INCLUSION IN UNIT NAMES; a dash may stay, and a slash must not become one.
    return f"\\x{match.group()[0]:02x}".encode("ascii")


def _show(systemctl: list[str], unit: str, names: tuple[str, ...], runner: Runner) -> Mapping[str, str]:
    completed = runner(Command([*systemctl, "show", f"--property={','.join(names)}", "--", unit]))
    if completed.returncode != 0:
        raise CommandFailed(
            f"systemd could not be asked for the unit {unit}: {completed.stderr.strip()[:300]}",
            "Run the same command by hand and see what is wrong with systemd on this host.",
            {"argv": [*systemctl, "show", unit], "rc": completed.returncode},
        )
    lines = (line.partition("=") for line in completed.stdout.split("\n"))
    return {name: value for name, _equals, value in lines}


def _service(pid: int, proc: Proc) -> tuple[str | None, str]:
    # Gives the unit and, if it belongs to the service manager of a user, that user's number.
    for path in _cgroups(pid, proc):
        services = [part for part in path.split("/") if part.endswith(".service")]
        if services:
            manager = re.match(r"user@([0-9]+)\.service\Z", services[0])
            return services[-1], manager.group(1) if manager and len(services) > 1 else ""
    return None, ""


def _cgroups(pid: int, proc: Proc) -> Sequence[str]:
    # systemd uses version 2 (no controllers named) or a version 1 hierarchy of its own. Where both are there, only one
    # of them may have the units.
    paths = proc.control_groups(pid)
    return [paths[name] for name in ("", "name=systemd") if name in paths]


def _is_its_main(main: int, pid: int, proc: Proc) -> bool:
    return main == 0 or main in proc.tree(pid) or pid in proc.tree(main)


def _starts_anew(shown: Mapping[str, str], pid: int, proc: Proc) -> bool:
    restart, main = shown.get("Restart", ""), int(shown.get("MainPID") or 0)
    if main in proc.tree(pid):
        if "KILL" in shown.get("RestartForceExitStatus", "").split():
            return True
        is_success = "KILL" in shown.get("SuccessExitStatus", "").split()
        return restart in (_RESTARTS_AFTER_SUCCESS if is_success else _RESTARTS_AFTER_SIGKILL)
    # With no main process the unit ends in success when it is empty. A parent of the workload (unshare --fork, a
    # script) ends in its own way when the workload does.
    return restart not in _NEVER_RESTARTS and (main == 0 or pid in proc.tree(main))
