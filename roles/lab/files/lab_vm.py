# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as a virtual machine of QEMU: slower, but with a kernel and a root of control groups of its own.

Its disk is an image of the shared root, made once. What it writes goes to a file without a name that ends with it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, ClassVar

from lab_host import Host, LabError, credential_files, credentials

PROGRAM = "qemu-system-x86_64"
KVM = "kvm"
TCG = "tcg"
CPUS = {
    KVM: "host",
    # QEMU 7.2 mixes up the flags after cmpxchg16b, and the kernel panics sooner or later; fewer levels of page tables
    # are faster where they are walked by software.
    TCG: "max,-cx16,-la57",
}
# A kernel without a root ends in a panic, within a second or two where it runs at all.
PROBE_SECONDS = 20


class VirtualMachine:
    """Hosts with the kernel in `root` and the disk beside it; `accelerator` auto is decided once and kept in a file."""

    environment: ClassVar[dict[str, str]] = {}
    boot_timeout = 300.0
    needs_tap = True

    def __init__(self, root: Path, decided: Path, accelerator: str, memory: int, processors: int) -> None:
        if platform.machine() != "x86_64":
            raise LabError(f"virtual machines of a lab are x86_64, and this machine is {platform.machine()}")
        self.disk = root.with_name(f"{root.name}.ext4")
        self.kernel = newest(root / "boot", "vmlinuz-*")
        self.initrd = newest(root / "boot", "initrd.img-*")
        self.memory = memory
        self.processors = processors
        self.accelerator = accelerator if accelerator != "auto" else self.decide(decided)

    def command(self, host: Host) -> list[str]:
        interface = f"vb-{host.name}"
        mac = "52:54:" + ":".join(f"{int(number):02x}" for number in host.address.split("."))
        settings = ["root=/dev/vda", "rw", "console=ttyS0", "quiet", "mitigations=off"]
        return [
            *self.machine(self.accelerator),
            *["-name", host.name, "-m", str(self.memory), "-smp", str(self.processors), "-serial", "stdio"],
            *["-initrd", str(self.initrd), "-append", " ".join([*settings, f"systemd.hostname={host.name}"])],
            *["-drive", f"file={self.disk},format=raw,if=virtio,snapshot=on"],
            *["-netdev", f"tap,id=network,ifname={interface},script=no,downscript=no"],
            *["-device", f"virtio-net-pci,netdev=network,mac={mac}", "-device", "virtio-rng-pci"],
            *[word for name, text in credentials(host).items() for word in credential(name, f"string={text}")],
            *[word for name, path in credential_files(host).items() for word in credential(name, f"file={path}")],
        ]

    def machine(self, accelerator: str) -> list[str]:
        """What is the same for hosts and for a kernel that is only to start."""
        bare = ["-nodefaults", "-nographic", "-no-reboot", "-monitor", "none"]
        return [PROGRAM, "-accel", accelerator, "-cpu", CPUS[accelerator], *bare, "-kernel", str(self.kernel)]

    def decide(self, decided: Path) -> str:
        """Which accelerator works here. KVM may be there and unable to run this kernel, so it is tried with it."""
        if not decided.exists():
            decided.write_text(KVM if os.path.exists("/dev/kvm") and self.starts_with_kvm() else TCG)
        return decided.read_text()

    def starts_with_kvm(self) -> bool:
        command = [*self.machine(KVM), "-m", "512", "-serial", "stdio", "-append", "console=ttyS0 panic=-1"]
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            try:
                return ends_in_panic(output, process)
            finally:
                process.kill()
                process.wait()

    def write_hosts_file(self, host: Host, init: int | None, text: str) -> None:
        address = f"root@{host.address}"
        known = host.folder / "known_hosts"
        public = host.folder.joinpath("ssh_host_ed25519_key.pub").read_text()
        known.write_text(f"{host.address} {public}")
        options = [f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "BatchMode=yes", "ConnectTimeout=60"]
        words = [word for option in options for word in ("-o", option)]
        done = subprocess.run(
            ["ssh", "-i", str(host.key), *words, address, "cat >/etc/hosts"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"{host.name} does not let us in: {done.stderr.strip()}; see {host.console}")


def ends_in_panic(output: BinaryIO, process: subprocess.Popen[bytes]) -> bool:
    """Whether this kernel comes to its end, a panic. QEMU waits for a person if KVM cannot go on."""
    deadline = time.monotonic() + PROBE_SECONDS
    while time.monotonic() < deadline:
        has_ended = process.poll() is not None
        text = os.pread(output.fileno(), 1 << 20, 0)
        if has_ended or b"KVM internal error" in text:
            return b"Kernel panic" in text
        time.sleep(0.1)
    return False


def credential(name: str, value: str) -> list[str]:
    """See systemd.system-credentials(7): the host's systemd finds them in QEMU's firmware configuration."""
    return ["-fw_cfg", f"name=opt/io.systemd.credentials/{name},{value}"]


def newest(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise LabError(f"{folder} has no {pattern}: build the root with a kernel")
    return found[-1]


def names_in(command: list[str]) -> list[str]:
    """The host that a command line is, if it is one."""
    return [name for option, name in zip(command, command[1:]) if option == "-name"]
