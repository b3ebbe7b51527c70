# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for the get-pip script that ansible-test would download.

It takes pip from the interpreter's own ensurepip, so that the sanity tests also run where only a package index is
in reach. Arguments that are not options are packages to install, as with get-pip.
"""

from __future__ import annotations

import subprocess
import sys


def main() -> None:
    subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL)
    packages = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if packages:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.check_call([*pip, "install", *packages])


if __name__ == "__main__":
    main()
