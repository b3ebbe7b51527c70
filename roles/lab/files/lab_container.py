# SPDX-License-Identifier: GPL-3.0-or-later
"""Start or stop a lab workload as a container of an engine: runc, crun, podman or lxc.

    lab_container.py start < SPECIFICATION
    lab_container.py stop < SPECIFICATION

The specification is that of lab_workload.py, and has also:

    engine      runc, crun, podman or lxc
    image       the name of podman's image, made from the root where there is none
    volumes     named volumes of podman: name and mountpoint
    tmpfs       mountpoints of tmpfs
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lab_workload

BUNDLES = Path("/srv/bundles")
CONTAINERS = Path("/var/lib/lxc")

Specification = dict[str, Any]


def main() -> None:
    specification = json.load(sys.stdin)
    result = {"start": start, "stop": stop}[sys.argv[1]](specification)
    sys.stdout.write(json.dumps(result) + "\n")


def start(workload: Specification) -> dict[str, object]:
    if is_running(workload):
        return {"changed": False}
    lab_workload.make_root(workload)
    starts = {"podman": start_with_podman, "lxc": start_with_lxc}
    starts.get(workload["engine"], start_bundle)(workload)
    return {"changed": True}


def start_bundle(workload: Specification) -> None:
    bundle = BUNDLES / workload["name"]
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "config.json").unlink(missing_ok=True)
    engine = workload["engine"]
    run([engine, "spec"], cwd=bundle)
    configuration = json.loads((bundle / "config.json").read_text())
    process = configuration["process"]
    user, group = lab_workload.ids(workload)
    process.update(terminal=False, args=workload["command"], cwd="/", user={"uid": user, "gid": group})
    process["env"] = [f"{name}={value}" for name, value in lab_workload.ENVIRONMENT.items()]
    configuration["root"] = {"path": workload["root"], "readonly": False}
    configuration["hostname"] = workload["name"]
    if workload["user_namespace"]:
        enter_user_namespace(configuration["linux"], workload["user_namespace"])
    for mountpoint in workload["tmpfs"]:
        lab_workload.inside(Path(workload["root"]), mountpoint).mkdir(parents=True, exist_ok=True)
        mount = {"destination": mountpoint, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]}
        configuration["mounts"].append(mount)
    for bind in workload["binds"]:
        options = ["bind", "ro" if bind.get("read_only") else "rw"]
        mount = {"destination": bind["mountpoint"], "type": "bind", "source": bind["source"], "options": options}
        configuration["mounts"].append(mount)
    (bundle / "config.json").write_text(json.dumps(configuration, indent=2))
    # The container keeps what it gets as its standard streams, and CRIU cannot find what lies outside of it.
    log = bundle / "start.log"
    argv = [engine, "--log", str(log), *root_of(workload), "run", "--detach", "--bundle", str(bundle), workload["name"]]
    null = subprocess.DEVNULL
    if subprocess.run(argv, stdin=null, stdout=null, stderr=null, check=False).returncode != 0:
        sys.exit(f"lab_container: {workload['name']} did not start:\n{log.read_text()}")


def enter_user_namespace(linux: dict[str, Any], base: int) -> None:
    linux["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        linux[kind] = [{"containerID": 0, "hostID": base, "size": lab_workload.USER_IDS}]


def start_with_podman(workload: Specification) -> None:
    image = f"localhost/lab/{workload['image']}"
    if run(["podman", "image", "exists", image], may_fail=True).returncode != 0:
        make_image(workload, image)
    user, group = lab_workload.ids(workload)
    argv = ["podman", "run", "--detach", "--name", workload["name"], "--network", "none", "--user", f"{user}:{group}"]
    for mountpoint in workload["tmpfs"]:
        argv += ["--tmpfs", mountpoint]
    for volume in workload["volumes"]:
        argv += ["--volume", f"{volume['name']}:{volume['mountpoint']}"]
    for bind in workload["binds"]:
        argv += ["--volume", f"{bind['source']}:{bind['mountpoint']}{':ro' if bind.get('read_only') else ''}"]
    for name, value in lab_workload.ENVIRONMENT.items():
        argv += ["--env", f"{name}={value}"]
    run([*argv, image, *workload["command"]])


def start_with_lxc(workload: Specification) -> None:
    root = Path(workload["root"])
    for name in ("dev", "proc", "sys"):
        (root / name).mkdir(exist_ok=True)
    user, group = lab_workload.ids(workload)
    settings = [
        ("lxc.init.uid", str(user)),
        ("lxc.init.gid", str(group)),
        ("lxc.uts.name", workload["name"]),
        ("lxc.rootfs.path", f"dir:{root}"),
        ("lxc.net.0.type", "empty"),
        ("lxc.tty.max", "0"),
        ("lxc.console.path", "none"),
        ("lxc.apparmor.profile", "unconfined"),
        ("lxc.mount.auto", "proc:rw sys:ro cgroup:rw"),
        *(("lxc.mount.entry", f"tmpfs {place[1:]} tmpfs nosuid,nodev,create=dir 0 0") for place in workload["tmpfs"]),
        *(("lxc.mount.entry", lxc_bind(bind)) for bind in workload["binds"]),
        *(("lxc.environment", f"{name}={value}") for name, value in lab_workload.ENVIRONMENT.items()),
        ("lxc.init.cmd", " ".join(workload["command"])),
    ]
    folder = CONTAINERS / workload["name"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config").write_text("".join(f"{key} = {value}\n" for key, value in settings))
    log = folder / "start.log"
    run(["lxc-start", "--name", workload["name"], "--logfile", str(log), "--logpriority", "ERROR"])


def lxc_bind(bind: dict[str, Any]) -> str:
    kind = {"directory": "dir"}.get(bind["type"], "file")
    options = f"bind,create={kind}" + (",ro" if bind.get("read_only") else "")
    return f"{bind['source']} {bind['mountpoint'][1:]} none {options} 0 0"


def make_image(workload: Specification, image: str) -> None:
    archive = Path("/run") / f"{workload['name']}.image.tar"
    try:
        run(["tar", "--directory", workload["root"], "--create", "--file", str(archive), "."])
        run(["podman", "import", "--quiet", str(archive), image])
    finally:
        archive.unlink(missing_ok=True)


def stop(workload: Specification) -> dict[str, object]:
    changed = is_running(workload)
    if workload["engine"] == "podman":
        run(["podman", "rm", "--force", "--time", "0", workload["name"]], may_fail=True)
    elif workload["engine"] == "lxc":
        run(["lxc-stop", "--kill", "--name", workload["name"]], may_fail=True)
    else:
        run([workload["engine"], *root_of(workload), "delete", "--force", workload["name"]], may_fail=True)
    for folder in (BUNDLES / workload["name"], CONTAINERS / workload["name"], Path(workload["root"])):
        if folder.exists():
            shutil.rmtree(folder)
            changed = True
    return {"changed": changed}


def is_running(workload: Specification) -> bool:
    if workload["engine"] == "podman":
        shown = run(["podman", "inspect", "--format", "{{.State.Status}}", workload["name"]], may_fail=True)
        return shown.stdout.strip() == "running"
    if workload["engine"] == "lxc":
        shown = run(["lxc-info", "--no-humanize", "--state", "--name", workload["name"]], may_fail=True)
        return shown.stdout.strip() == "RUNNING"
    shown = run([workload["engine"], *root_of(workload), "state", workload["name"]], may_fail=True)
    return shown.returncode == 0 and json.loads(shown.stdout)["status"] == "running"


def root_of(workload: Specification) -> list[str]:
    # crun takes another folder for whoever has logged in than for a service.
    return ["--root", "/run/crun"] if workload["engine"] == "crun" else []


def run(argv: list[str], cwd: Path | None = None, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
    completed = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if completed.returncode != 0 and not may_fail:
        sys.exit(f"lab_container: {' '.join(argv)}:\n{completed.stdout}{completed.stderr}")
    return completed


if __name__ == "__main__":
    main()
