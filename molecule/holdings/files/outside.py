# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of the host that workloads are connected to.

outside.py FOLDER
"""

import os
import socket
import sys


def main() -> None:
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagram.bind(f"{folder}/datagram")
    stream = socket.socket(socket.AF_UNIX)
    stream.bind(f"{folder}/stream")
    stream.listen(5)
    kept = []
    while True:
        kept.append(stream.accept()[0])


main()
