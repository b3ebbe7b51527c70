#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Kill a process with all that it has started: the workers of ansible-playbook have sessions of their own.
#   kill_tree.sh PID
below() {
    for child in $(pgrep -P "$1"); do
        echo "$child"
        below "$child"
    done
}

children=$(below "$1")
kill -KILL "$1" || exit
for child in $children; do
    kill -KILL "$child" 2>/dev/null # it may have ended meanwhile
done
exit 0
