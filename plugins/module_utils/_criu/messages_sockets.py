# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CRIU says of sockets and the network.

For the form of the texts see messages.py.
"""

from __future__ import annotations

from ansible_collections.fleet.criu.plugins.module_utils._criu.message import Message

SOCKETS = (
    Message(
        "criu_too_old_for_sockets",
        (
            "Can't get 1:16 opt: ",
            "Can't get 1:34 opt: ",
        ),
        "this CRIU asks TCP and UDP sockets for options that the kernel knows no more (from 6.16 on)",
        "Install CRIU 4.2 or later.",
    ),
    Message(
        "mptcp",
        (
            "Unsupported proto 262 for socket",
            "to disable MPTCP",
        ),
        "the workload uses multipath TCP, which CRIU does not support",
        "Set GODEBUG=multipathtcp=0 for a Go program, or sysctl net.mptcp.enabled=0, and start the workload again.",
    ),
    Message(
        "socket_option_unreadable",
        (
            "Can't get ...:... opt: ...",
            "Len mismatch on ...:... :",
        ),
        "CRIU cannot read an option of a socket on this kernel",
        "Install a later CRIU, which knows the options of this kernel.",
    ),
    Message(
        "connected",
        (
            "Connected TCP socket, consider using",
            "Connected TCP socket in image",
        ),
        "the workload has open TCP connections",
        "Set tcp_established (keep the connections) or tcp_close (drop them), at dump and restore.",
    ),
    Message(
        "connections_closed",
        ("Need to set the --tcp-close options",),
        "the dump dropped the TCP connections, and the restore was not told",
        "Set tcp_close at restore as well.",
    ),
    Message(
        "connection_half_open",
        ("In-flight connection (l) for",),
        "somebody is just connecting to a TCP socket of the workload",
        "Dump again, or add --skip-in-flight to extra_args: who connects then tries again.",
    ),
    Message(
        "address_missing",
        (
            "Can't bind inet socket (id ...): Cannot assign requested address",
            "Can't connect inet socket back: Cannot assign requested address",
            "Can't bind inet socket back: Cannot assign requested address",
        ),
        "the workload uses an IP address, to listen or for a connection, that this host does not have",
        "Give this host the address, or let the workload use one that both hosts have.",
    ),
    Message(
        "address_in_use",
        (
            "Can't bind inet socket (id ...): Address already in use",
            "Can't bind inet socket back: Address already in use",
            "Can't listen on a socket: Address already in use",
        ),
        "another program on this host uses the workload's address and port",
        "Stop it: see who has it with ss -antup.",
    ),
    Message(
        "address_refused",
        (
            "Can't bind inet socket (id ...): ...",
            "Can't bind inet socket back: ...",
        ),
        "a socket of the workload cannot be bound to its address on this host",
        "See the error at the end of the line; a low port needs CAP_NET_BIND_SERVICE, an address of IPv6 needs IPv6.",
    ),
    Message(
        "network_unreachable",
        (
            "Can't connect inet socket back: Network is unreachable",
            "Can't connect inet socket back: No route to host",
            "Unable to send a fin packet: ...",
        ),
        "this host has no way to the other end of a TCP connection of the workload",
        "Give this host the same address and routes before the restore, or set tcp_close at dump and restore.",
    ),
    Message(
        "connection_refused",
        ("Can't connect inet socket back: ...",),
        "an established connection of the workload cannot be taken up again on this host",
        "See the error at the end of the line; set tcp_close at dump and restore to drop the connections.",
    ),
    Message(
        "connection_not_kept",
        (
            "Can't turn TCP repair mode ON",
            "Failed to lock TCP connection",
            "libsoccr_save() failed",
            "Failed to turn off repair mode",
            "Unable to set TCP_REPAIR",
            "Can't set repair queue",
            "Can't set queue seq",
            "Can't repair options",
            "Can't set timestamp",
        ),
        "the state of a TCP connection cannot be read or set",
        "Run CRIU with CAP_NET_ADMIN in the network namespace of the workload, or set tcp_close at dump and restore.",
    ),
    Message(
        "connection_data",
        (
            "queue data (...), want (",
            "Unable to set socket SO_SNDBUFFORCE/SO_RCVBUFFORCE",
            "Unable to set socket SO_SNDBUF/SO_RCVBUF",
        ),
        "the data that waits in a connection of the workload does not fit into it on this host",
        "Raise net.ipv4.tcp_wmem, net.ipv4.tcp_rmem, net.core.wmem_max and net.core.rmem_max with sysctl, as "
        "on the source.",
    ),
    Message(
        "listening_not_restored",
        (
            "Can't listen on a socket: ...",
            "Wrong socket in listen state",
        ),
        "a socket of the workload cannot listen on this host",
        "See the error at the end of the line, and who listens already with ss -lntup.",
    ),
    Message(
        "interface_missing",
        (
            "couldn't find ifindex for {thing}",
            "couldn't find ifname for ..., can't bind",
            "Can't bind packet socket to {thing}: ...",
            "Can't get bound dev",
            "Can't get index of {thing}: ...",
        ),
        "a socket of the workload is bound to a network device that is not here",
        "Give this host a device of that name (ip link), or let the workload not bind to a device.",
    ),
    Message(
        "corked",
        ("Can't dump corked dgram socket",),
        "a datagram socket holds half a message (UDP_CORK)",
        "Dump again, when the workload has sent it.",
    ),
    Message(
        "socket_not_listed",
        ("Sockets (family ... proto ...) are not collected",),
        "the kernel does not list sockets of this kind to CRIU",
        "Load the modules (modprobe -a unix_diag tcp_diag udp_diag inet_diag raw_diag packet_diag "
        "netlink_diag); for other families let the workload close it.",
    ),
    Message(
        "netlink_unread",
        ("The socket has data to read",),
        "a netlink socket of the workload holds messages of the kernel that it has not read yet",
        "Dump again, when the workload has read them.",
    ),
    Message(
        "unix_connecting",
        (
            "Found a closed in-flight socket",
            "Non-empty write queue on an in-flight socket",
            "In-flight connection on",
        ),
        "somebody is just connecting to a Unix socket of the workload",
        "Dump again, when the workload has accepted the connection.",
    ),
    Message(
        "unix_messages",
        (
            "Control messages in queue, not supported",
            "More than 1 SCM is not possible",
            "Unexpected 2nd SCM_RIGHTS",
            "Unsupported scm ... in image",
            "Can't find sender for ...",
        ),
        "a Unix socket holds a message with descriptors or credentials that CRIU cannot keep",
        "Dump again, when the workload has read its messages.",
    ),
    Message(
        "unix_address_in_use",
        (
            "Can't bind id ... ino ... addr {thing}: Address already in use",
            "ghost: Can't bind on socket id ... addr {thing}: Address already in use",
        ),
        "something is there already at the path of a Unix socket of the workload",
        "Stop the program that listens there, or remove the socket file that it left.",
    ),
    Message(
        "unix_address_refused",
        (
            "Can't bind id ... ino ... addr {thing}: ...",
            "ghost: Can't bind on socket id ... addr {thing}: ...",
            "ghost: Can't ... socket id",
            "ghost: Can't create {host_path}: ...",
            "Can't change working dir {host_path}: ...",
            "ghost: Can't rename id",
        ),
        "a Unix socket of the workload cannot be bound to its path on this host",
        "Make the folder that it lies in, writable: copy the root (or the folder of that mount) again.",
    ),
    Message(
        "external_socket",
        (
            "External socket is used",
            "External socket found in image",
        ),
        "a Unix socket of the workload is connected to a program outside it",
        "Set ext_unix_sk at dump and restore; the program must listen on the target as well.",
    ),
    Message(
        "external_stream",
        (
            "Can't dump half of stream unix connection. name: {thing}",
            "Can't dump name-less external socket",
            "Can't dump half of stream unix connection.",
            "Unix socket ... without peer ...",
            "Unix socket ... with unreachable peer ...",
        ),
        "a Unix socket of the workload is connected to a program outside it, and cannot be connected anew",
        "Let the workload close the connection before the dump.",
    ),
    Message(
        "socket_peer_missing",
        (
            "unix: Can't connect ... socket: No such file or directory",
            "unix: Can't connect ... socket: Connection refused",
        ),
        "nobody listens on this host on the Unix socket that the workload was connected to",
        "Start that program here first.",
    ),
    Message(
        "socket_peer_refused",
        (
            "unix: Can't connect ... socket: Protocol wrong type for socket",
            "unix: Can't connect ... socket: Permission denied",
        ),
        "the program that listens here on the Unix socket does not take the workload's connection",
        "Let the same program as on the source listen there, with the same kind of socket and permissions.",
    ),
    Message(
        "socket_unsupported",
        (
            "Unsupported proto ... for socket",
            "Only stream, dgram and raw are supported",
            "Unsupported socket family: ...",
            "Unsupported type (...) on socket",
            "BUG! Unknown socket collected (family ...)",
            "Unknown pair family",
            "Groups above 32 are not supported",
            "has more than 32 groups",
            "Unsupported socket type: ...",
            "Unknown socket family ...",
        ),
        "CRIU cannot dump a socket of this kind (for example vsock)",
        "Let the workload close it before the dump.",
    ),
    Message(
        "nftables_rules",
        (
            "Unable to restore nftables. CRIU was built without libnftables support",
            "nft command error",
            "Failed to create nft context object",
        ),
        "the nftables rules of the workload's network namespace cannot be kept by this CRIU or kernel",
        "Install a CRIU with libnftables and load nf_tables, or keep the network namespace outside the images.",
    ),
    Message(
        "iptables_rules",
        (
            "Can't restore iptables dump - no legacy version present",
            "Can't restore ip6tables dump - no legacy version present",
            "Unable to write iptables configugration",
        ),
        "the iptables rules of the workload's network namespace cannot be kept without iptables here",
        "Install iptables with its legacy tools (iptables-legacy), as on the source.",
    ),
    Message(
        "nftables_missing",
        ("CRIU was built without libnftables support",),
        "this CRIU cannot use nftables",
        "Set network_lock to iptables and install iptables, or install a CRIU with nftables.",
    ),
    Message(
        "nftables_lock",
        (
            "Locking network failed using nftables",
            "Can't create nftables table",
            "Cannot generate CRIU's nftables table name",
            "Locking connection failed using nftables",
        ),
        "the network could not be locked with nftables",
        "The kernel may lack nf_tables: load the module, or install iptables and set network_lock to iptables.",
    ),
    Message(
        "network_lock",
        (
            "Locking network failed",
            "Iptables configuration failed",
        ),
        "the network could not be locked, because iptables is missing or does not work",
        "Set network_lock to nftables (or auto), or install iptables.",
    ),
    Message(
        "ip_tool",
        ("IP tool failed on",),
        "the command ip could not dump or restore the addresses and routes of the workload's network namespace",
        "Install iproute2, in the same version as on the source.",
    ),
    Message(
        "network_device",
        (
            "Unsupported link ... (type ... kind {thing})",
            "Unsupported link type ...",
            "Can't restore link: ...",
            "Unable to create a veth pair: ...",
            "a macvlan parent for {thing} is required",
            "couldn't restore macvlan interface {thing} via usernsd",
            "Unable to find the ... master",
            "Unknown peer net namespace",
            "dumping bridges with attached slaves not supported",
            "can't get ifindex of {thing}: ...",
            "Can't add interface {thing} to bridge ...:",
            "Unable to restore network links",
        ),
        "the workload's network namespace has a device that CRIU cannot dump, or that this host does not let it make",
        "Remove the device before the dump, or keep the network namespace outside the images; on this host "
        "see that the kernel has this kind of device, and that its name and its parent are free.",
    ),
    Message(
        "kernel_setting",
        (
            "Can't open sysctl {thing}: ...",
            "Failed to .../<confs>",
            "Failed to .../<sysctls>",
            "Can't write net/{thing}: ...",
        ),
        "a setting of the kernel (sysctl) that the workload's namespace had cannot be read or set here",
        "Use the same kernel on both hosts and load the same modules, with /proc/sys writable for CRIU.",
    ),
    Message(
        "socket_of_other_namespace",
        (
            "Unable to dump a socket from an external network namespace",
            "Unable to dump more than one netns if the --emptyns is set",
        ),
        "the workload holds a socket of a network namespace that is kept outside the images",
        "Let the workload close it before the dump, or start the workload in one network namespace.",
    ),
    Message(
        "namespace_not_given",
        (
            "Unable to find an external netns: {thing}",
            "Unable to find an external pidns: {thing}",
        ),
        "the dump left a namespace outside the images, and the restore was not given one",
        "Give it with --inherit-fd in extra_args.",
    ),
)
