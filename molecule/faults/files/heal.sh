#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Undo what fault.sh does to a host; with `unmount` also what the cases need.
set -u

for table in $(nft list tables inet | sed -n 's/^table inet \(fault_.*\)/\1/p'); do
    nft delete table inet "$table"
done
rm -rf /run/faults
sed -n 's,^[^ ]* [^ ]* [^ ]* [^ ]* \(/var/lib/fleet.criu/handoffs/[^ ]*\) .*,\1,p' /proc/self/mountinfo | xargs -r umount
rm -f /mnt/*/filler
for journal in /var/lib/fleet.criu/handoffs/*.jsonl.lost; do
    if [ -e "$journal" ]; then mv "$journal" "${journal%.lost}"; fi
done
if [ "${1-}" = unmount ]; then
    systemctl stop faults-sshd.service 2>/dev/null
    sed -n 's,^[^ ]* [^ ]* [^ ]* [^ ]* \(/mnt/full[0-9]*\) .*,\1,p' /proc/self/mountinfo | xargs -r umount
fi
exit 0
