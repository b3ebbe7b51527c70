#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# with_pid.sh PID COMMAND...: run the command as this very process of the host's pid namespace. Another process may come
# first, so it is tried again.
wanted=$1
shift
for attempt in 1 2 3 4 5 6 7 8 9; do
    echo $((wanted - 1)) > /proc/sys/kernel/ns_last_pid
    "$@" &
    if [ $! = "$wanted" ]; then
        wait
        exit
    fi
    kill $!
done
echo "attempt $attempt: pid $wanted could not be had" >&2
exit 1
