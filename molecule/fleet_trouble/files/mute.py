# SPDX-License-Identifier: GPL-3.0-or-later
"""Be a switch, or whatever else takes connections and never says a word.

mute.py PORT
"""

import socket
import sys


def main() -> None:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", int(sys.argv[1])))
    server.listen(50)
    kept = []
    while True:
        kept.append(server.accept()[0])


main()
