# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of the host's own namespaces with what makes a move difficult: sockets, io_uring and a program with a pid.

plain.py ADDRESS PORT
"""

import ctypes
import signal
import socket
import sys

IO_URING_SETUP = 425  # on every architecture
SIZE_OF_PARAMETERS = 120


def main() -> None:
    address, port = sys.argv[1], int(sys.argv[2])
    listener = socket.create_server((address, port))
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("0.0.0.0", port + 1))
    ring = ctypes.CDLL(None).syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(SIZE_OF_PARAMETERS))
    if ring < 0:
        sys.exit("this kernel has no io_uring")
    while listener.fileno() >= 0:
        signal.pause()


main()
