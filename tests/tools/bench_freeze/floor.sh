#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The floor: dump the gauge and restore it on the same host, and nothing else in between. Prints the seconds of both.
#   floor.sh ROOT DATA PID_FILE
set -euo pipefail
root=$1 data=$2 pid_file=$3
images=/dev/shm/bench-floor

# CRIU asks that --root is a mount point. It is made one beforehand, in a mount namespace that ends with this script.
if [[ ${INSIDE:-} != 1 ]]; then
    export INSIDE=1
    exec unshare --mount --propagation slave "$0" "$@"
fi
mount --bind "$root" "$root"

rm -rf "$images"
mkdir -m 0700 "$images"
pid=$(<"$pid_file")
rm "$pid_file"
common=(--images-dir "$images" -v2 --root "$root" --manage-cgroups=ignore)

started=$EPOCHREALTIME
criu dump --tree "$pid" "${common[@]}" --log-file dump.log --external "mnt[/data]:data"
dumped=$EPOCHREALTIME
criu restore --restore-detached "${common[@]}" --log-file restore.log --external "mnt[data]:$data" --pidfile "$pid_file"
restored=$EPOCHREALTIME

rm -rf "$images"
# Both have six digits after the point.
echo "$((${dumped/./} - ${started/./})) $((${restored/./} - ${dumped/./}))"
