# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what no CRIU can move, and what it moves only with an option that somebody has to set."""

import socket
import time


def main() -> None:
    stream = socket.socket(socket.AF_UNIX)
    stream.connect("/outside/stream")
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagram.connect("/outside/datagram")
    # Not by getaddrinfo, which needs more of Python than is in here.
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(1)
    client = socket.socket()
    client.connect(server.getsockname())
    served, _address = server.accept()
    multipath = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    # It says so when all is there.
    with open("/data/ready", "w") as ready:
        ready.write(str([one.fileno() for one in (stream, datagram, client, served, multipath)]))
    time.sleep(3600)


main()
