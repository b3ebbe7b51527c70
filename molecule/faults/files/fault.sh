#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# A hook that does a fault at exactly the step at which an agent runs it:
#   fault.sh FAULT               at once
#   fault.sh after SECONDS FAULT  while the agent goes on
# What it does to the host is undone by heal.sh.
set -u

if [ "$1" = after ]; then
    delay=$2
    shift 2
    (
        sleep "$delay"
        exec "$0" "$@"
    ) >/dev/null 2>&1 &
    exit 0
fi

port=$CRIU_HANDOFF_PORT
workload=$CRIU_HANDOFF_WORKLOAD
agent=$CRIU_HANDOFF_AGENT_PID

# Dropped, not rejected: nobody is told that the link is gone.
drop() {
    nft -f - <<RULES
table inet fault_$port {
    chain in {
        type filter hook input priority -10
        tcp dport { $port $1 } drop
        tcp sport { $port $1 } drop
    }
    chain out {
        type filter hook output priority -10
        tcp dport { $port $1 } drop
        tcp sport { $port $1 } drop
    }
}
RULES
}

# A child of the agent, or at the target of the process between them: what CRIU restores has its name for a while.
find_criu() {
    pgrep -P "$agent" -x criu || pgrep -P "$(pgrep -P "$agent" -f "standby import main")" -x criu
}

case $1 in
    kill-agent) kill -KILL "$agent" ;;
    stop-agent) kill -TERM "$agent" ;;
    hang-agent)
        kill -STOP "$agent"
        sleep 3
        kill -CONT "$agent"
        ;;
    # At once, or as soon as it is there.
    kill-criu)
        for _attempt in $(seq 200); do
            criu=$(find_criu) && kill -KILL "$criu" && exit
            sleep 0.01
        done
        exit 1
        ;;
    # While it restores. Its first deed is the log; on a processor that somebody else keeps busy it does not get far then.
    kill-criu-at-work)
        criu=$(find_criu) || exit 1
        taskset --cpu-list --pid 0 "$criu" && chrt --idle --pid 0 "$criu" || exit 1
        (
            taskset --cpu-list --pid 0 "$(sh -c 'echo "$PPID"')"
            until [ -s "$(echo /run/fleet.criu/images/"$workload"-*/restore.log)" ]; do kill -0 "$criu" || exit; done
            kill -KILL "$criu"
        ) >/dev/null 2>&1 &
        ;;
    kill-standby) pkill -KILL -P "$agent" -f "standby import main" ;;
    refuse) exit 1 ;;
    pause) sleep 3 ;;
    cut) drop "" ;;
    cut-briefly)
        drop ""
        (
            sleep 3
            nft delete table inet "fault_$port"
        ) >/dev/null 2>&1 &
        ;;
    # The link, and what the controller reaches this host by.
    unreachable)
        drop ""
        nft "add table inet fault_ssh; add chain inet fault_ssh in { type filter hook input priority -10; }"
        nft add rule inet fault_ssh in tcp dport 2222 reject with tcp reset
        ;;
    fill) head -c 1G /dev/zero >"/mnt/$CRIU_HANDOFF_TARGET/filler" || true ;;
    # In place of the data folder there is nothing, or what somebody else makes there.
    rename) mv "/mnt/fast/data/$workload" "/mnt/fast/data/$workload.away" ;;
    seal-journal)
        for journal in /var/lib/fleet.criu/handoffs/"$workload"-*."$CRIU_HANDOFF_SIDE".jsonl; do
            mount --bind "$journal" "$journal"
            mount -o remount,bind,ro "$journal"
        done
        # The namespace of mounts is the agent's.
        (
            sleep 3
            umount /var/lib/fleet.criu/handoffs/"$workload"-*."$CRIU_HANDOFF_SIDE".jsonl
        ) >/dev/null 2>&1 &
        ;;
    # As if the disk had been replaced, or another machine had taken the host's place. heal.sh brings it back.
    lose-journal)
        for journal in /var/lib/fleet.criu/handoffs/"$workload"-*."$CRIU_HANDOFF_SIDE".jsonl; do
            mv "$journal" "$journal.lost"
        done
        ;;
    empty-run) rm -rf /run/fleet.criu/handoff/"$workload"-*."$CRIU_HANDOFF_SIDE" ;;
    # Until whoever waits for the mark has killed the controller.
    wait)
        mkdir -p /run/faults
        touch "/run/faults/$workload.here"
        until [ -e /run/faults/released ]; do sleep 0.05; done
        ;;
    *) exit 2 ;;
esac
