# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's commands at named moments of a handoff, run by the agents."""

from __future__ import annotations

import math
import re
import shutil
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Step
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed, Runner

BEFORE_FREEZE = "before_freeze"
HELD = "held"
BEFORE_RUN = "before_run"
AFTER_RUN = "after_run"
ROLLED_BACK = "rolled_back"

MOMENTS = (BEFORE_FREEZE, HELD, BEFORE_RUN, AFTER_RUN, ROLLED_BACK)
# Where the agents are besides; for tests and for watching, they veto nothing.
_INNER_MOMENTS = ("connected", "copied", *(step.value for step in Step))

# Up to here the source can still run on, so a hook may say no.
VETO_MOMENTS = frozenset((BEFORE_FREEZE, HELD, BEFORE_RUN))

# What an agent tells of the handoff, by the end of the variable's name; CRIU_HANDOFF_MOMENT is added.
VARIABLES = (
    "CRIU_HANDOFF_WORKLOAD",
    "CRIU_HANDOFF_SIDE",
    "CRIU_HANDOFF_SOURCE",
    "CRIU_HANDOFF_TARGET",
    "CRIU_HANDOFF_PID",
    "CRIU_HANDOFF_PORT",
    "CRIU_HANDOFF_AGENT_PID",
)

DEFAULT_TIMEOUT = 10.0

_PREFIX = "CRIU_HANDOFF_"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Shorter values are no secrets, and would make holes in all that a hook says.
_SHORTEST_SECRET = 4
_HIDDEN = "********"

# timeout(1) ends a hook; this is for the case that it cannot.
_GRACE = 5.0
_END = 500


class HookFailed(CriuError):
    """A hook that is required failed or took too long: a veto, the handoff is to be rolled back."""


@dataclass(frozen=True)
class Hook:
    """One command: its arguments, how long it may take in seconds, and whether its failure is a veto."""

    command: Sequence[str]
    timeout: float = DEFAULT_TIMEOUT
    required: bool = True


@dataclass(frozen=True)
class Hooks:
    """The hooks of one side, by moment, and the variables that the user gives to all of them.

    The values of these variables are secrets: they are in no argument list, result or log.
    """

    by_moment: Mapping[str, Sequence[Hook]]
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, moment: str, environment: Mapping[str, str], runner: Runner, log: Callable[[str], None]
    ) -> list[dict[str, Any]]:
        """Run the hooks of this moment, one after the other. Nothing is done if there are none.

        `environment` has those of VARIABLES that are known. Gives moment, command, seconds, started (time.monotonic())
        and rc (None: it could not be started or took too long) for each. Raises HookFailed at a moment of VETO_MOMENTS
        if a required hook fails, and runs no further one; every other failure goes to `log` alone.
        """
        given = {**self.variables, **environment, "CRIU_HANDOFF_MOMENT": moment}
        return [_run(hook, moment, given, self._hide, runner, log) for hook in self.by_moment.get(moment, ())]

    def _hide(self, text: str) -> str:
        # The longest first: one may be a part of another.
        for value in sorted(self.variables.values(), key=len, reverse=True):
            if len(value) >= _SHORTEST_SECRET:
                text = text.replace(value, _HIDDEN)
        return text


def parse(hooks: Mapping[str, Sequence[Mapping[str, Any]]], variables: Mapping[str, Any] | None = None) -> Hooks:
    """The hooks that a user wrote: for each moment a list of {command, timeout, required}; and the user's variables.

    Raises CriuError, which names the place, also for a moment that there is none of.
    """
    if not isinstance(hooks, Mapping):
        raise _bad("hooks", "is no mapping of moments to lists of hooks")
    return Hooks(
        {moment: _parse_moment(moment, listed) for moment, listed in hooks.items()},
        {name: _parse_variable(name, value) for name, value in (variables or {}).items()},
    )


def _parse_variable(name: Any, value: Any) -> str:
    is_name = isinstance(name, str) and _VARIABLE.match(name) and not name.startswith(_PREFIX)
    if not is_name or isinstance(value, (Mapping, list)) or "\0" in str(value):
        raise CriuError(
            f"hook_environment.{name} is no variable that a hook can get.",
            f"Write names of letters, digits and underscores, none that begins with {_PREFIX}, each with a text.",
        )
    return str(value)


def _parse_moment(moment: Any, listed: Any) -> Sequence[Hook]:
    if moment not in (*MOMENTS, *_INNER_MOMENTS):
        raise _bad(f"hooks, {moment!r}", f"is no moment of a handoff. The moments are {', '.join(MOMENTS)}")
    if not _is_list(listed):
        raise _bad(f"hooks.{moment}", "is no list")
    return tuple(_parse_hook(f"hooks.{moment}[{number}]", hook) for number, hook in enumerate(listed))


def _parse_hook(place: str, hook: Any) -> Hook:
    if not isinstance(hook, Mapping):
        raise _bad(place, "is no mapping with 'command'")
    surplus = [str(name) for name in hook if name not in ("command", "timeout", "required")]
    if surplus:
        raise _bad(place, f"has {surplus[0]!r}, which is none of 'command', 'timeout' and 'required'")
    return Hook(
        _command(f"{place}.command", hook.get("command")),
        _timeout(f"{place}.timeout", hook.get("timeout", DEFAULT_TIMEOUT)),
        _required(f"{place}.required", hook.get("required", True)),
    )


def _command(place: str, value: Any) -> Sequence[str]:
    if not _is_list(value) or not value or not all(isinstance(word, str) for word in value):
        raise _bad(place, "is no list of words; no shell takes a line apart")
    if any("\0" in word for word in value):
        raise _bad(place, "has a zero byte in it")
    # timeout(1) would take it for an option or an assignment of env(1); a name is looked for in PATH.
    if not value[0] or value[0].startswith("-"):
        raise _bad(place, "does not begin with the name of a program")
    return tuple(value)


def _timeout(place: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise _bad(place, "is no number of seconds above 0")
    return float(value)


def _required(place: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _bad(place, "is neither true nor false")
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _bad(place: str, what: str) -> CriuError:
    return CriuError(
        f"{place} {what}.",
        "Write for each moment a list of hooks, each with command (a list of words) and, if wanted, timeout (seconds)"
        " and required (true or false).",
        {"place": place},
    )


def _run(
    hook: Hook,
    moment: str,
    environment: Mapping[str, str],
    hide: Callable[[str], str],
    runner: Runner,
    log: Callable[[str], None],
) -> dict[str, Any]:
    started = time.monotonic()
    completed, problem = _complete(hook, environment, runner)
    result = {
        "moment": moment,
        "command": list(hook.command),
        "seconds": round(time.monotonic() - started, 3),
        "started": started,
        "rc": None if completed is None else completed.returncode,
    }
    if problem is None:
        return result
    message = hide(f"The hook {' '.join(hook.command)} at {moment} {problem}")
    if hook.required and moment in VETO_MOMENTS:
        raise HookFailed(message, "Correct the hook, or write required: false if the handoff may go on.", result)
    log(message)
    return result


def _complete(hook: Hook, environment: Mapping[str, str], runner: Runner) -> tuple[Completed | None, str | None]:
    began = time.monotonic()
    try:
        completed = runner(Command(_argv(hook), environment, timeout=hook.timeout + _GRACE))
    except CommandFailed as error:
        return None, f"did not end well: {error.message}"
    # A signal that ends timeout(1) with its group is its own.
    if completed.returncode in (-9, 137) and time.monotonic() - began >= hook.timeout:
        return None, f"did not end within {hook.timeout:g} seconds and was killed{_said(completed)}"
    if completed.returncode != 0:
        return completed, f"failed (exit status {completed.returncode}){_said(completed)}"
    return completed, None


def _argv(hook: Hook) -> list[str]:
    # It kills the whole process group; a Runner only the process that it has started.
    program = shutil.which("timeout")
    if program is None:
        raise CommandFailed("timeout could not be started: it is not installed here.", "Install coreutils.")
    return [program, "--signal=KILL", f"{hook.timeout:f}", *hook.command]


def _said(completed: Completed) -> str:
    end = completed.stderr.strip()[-_END:]
    return f": {end}" if end else "."
