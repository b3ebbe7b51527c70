#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# A user without rights, a folder of root that is to stay as it is, and little room where anybody may write.
#   prepare.sh HOME VICTIM
set -eu
home=$1 victim=$2

useradd --uid 1666 --home-dir "$home" --shell /bin/sh mallory
install -d -m 0755 -o mallory -g mallory "$home" "$home/run"
# What is in this folder is the workload's; the folder around it is not.
install -d -m 0700 "$home/data" "$home/made"

install -d -m 0751 "$victim" "$victim/folder"
echo "the victim's own" >"$victim/first"
echo "the victim's own" >"$victim/folder/second"
chmod 0640 "$victim/first"
chmod 0600 "$victim/folder/second"

mkdir -p /mnt/fast/roots /mnt/fast/data /mnt/fast/config/redis /srv/data/redis /srv/data/nginx /srv/roots /srv/config/redis
chmod 0700 /srv/data/redis /srv/data/nginx
mount -o remount,size=48m /tmp
mount -o remount,size=48m /dev/shm
