#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Kill a process with all that it has started: the workers of ansible-playbook have sessions of their own.
#   kill_tree.sh PID
tree() {
    echo "$1"
    for child in $(pgrep -P "$1"); do tree "$child"; done
}

# shellcheck disable=SC2046 # one word for each pid
kill -KILL $(tree "$1")
