#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What a careful administrator would write without this collection: move the gauge from this host to another one.
#   script.sh TARGET ROOT DATA TARGET_ROOT TARGET_DATA PID_FILE
# One ssh connection is open beforehand, everything is copied once while the gauge runs, the images stay in memory, and
# what can go on at the same time does.
set -euo pipefail
target=$1 root=$2 data=$3 target_root=$4 target_data=$5 pid_file=$6
images=/dev/shm/bench-script
control=$(mktemp -d)
# The fastest of the ciphers on a processor that has instructions for it.
ssh=(ssh -o BatchMode=yes -o ControlPath="$control/%C" -c aes128-gcm@openssh.com)
trap 'rm -rf "$images"; "${ssh[@]}" -O exit "$target" 2>/dev/null || true; rm -rf "$control"' EXIT

copy() {
    rsync --archive --hard-links --acls --xattrs --numeric-ids --delete --rsh="${ssh[*]}" "$1/" "$target:$2/"
}

"${ssh[@]}" -o ControlMaster=yes -o ControlPersist=yes "$target" \
    "rm -rf '$images' && mkdir -p -m 0700 '$images' && mkdir -p '$target_root' '$target_data' '${pid_file%/*}'"
rm -rf "$images"
mkdir -m 0700 "$images"
copy "$root" "$target_root"
copy "$data" "$target_data"

common=(--images-dir "$images" -v2 --manage-cgroups=ignore)
pid=$(<"$pid_file")
criu dump --tree "$pid" "${common[@]}" --root "$root" --log-file dump.log --external "mnt[/data]:data"
copy "$root" "$target_root" &
root_copy=$!
copy "$data" "$target_data" &
data_copy=$!
tar --create --directory "$images" . | "${ssh[@]}" "$target" "tar --extract --directory '$images'"
wait "$root_copy"
wait "$data_copy"
"${ssh[@]}" "$target" "unshare --mount --propagation slave sh -c \"
    mount --bind '$target_root' '$target_root' &&
    exec criu restore --restore-detached ${common[*]} --root '$target_root' --log-file restore.log \
        --external 'mnt[data]:$target_data' --pidfile '$pid_file'\""

rm "$pid_file"
"${ssh[@]}" "$target" "rm -rf '$images'"
