#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Undo prepare.sh, and end what it was for.
#   restore.sh HOME
home=$1
systemctl stop mallory.service
pkill -KILL -u mallory
pkill -KILL -f 'keeper[.]py /data|^nginx: |^/usr/bin/redis-server|agent[.]zip|^criu '
systemctl stop 'lab-workload-*' 'criu-*'
userdel mallory
mount -o remount,size=50% /tmp
mount -o remount,size=50% /dev/shm
find /tmp /var/tmp /dev/shm /run/lock -xdev -uid 1666 -delete
rm -rf "$home" /tmp/fleet.criu /var/tmp/fleet.criu /dev/shm/fleet.criu /run/lock/fleet.criu
exit 0
