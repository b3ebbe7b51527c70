#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Build the root that all hosts of a lab share.
#
#   build_base.sh [--preload SOURCE] ROOT SUITE MIRROR PACKAGE...
#
# SOURCE, in C, becomes a library that every program of the hosts loads first.
# If a kernel is among the packages, ROOT.ext4 is a disk of the same contents, for virtual machines.
# ROOT appears only when it is complete: it is built beside its place and then renamed.
# Two builds never run at once; the second one finds ROOT there and is done.
set -euo pipefail

preload=
if [[ $1 == --preload ]]; then
    preload=$2
    shift 2
fi
root=$1 suite=$2 mirror=$3
shift 3
packages=$*

here=$(dirname "$(readlink -f "$0")")
partial=$root.partial

main() {
    mkdir -p "$(dirname "$root")"
    exec 9>"$(dirname "$root")/.lock"
    flock 9
    if [[ -d $root ]]; then
        return
    fi

    use_proxy_of_apt
    rm -rf "$partial"
    bootstrap
    forget_identity
    install_setup
    quiet_boot
    install_preload
    slim
    make_disk
    mv -T "$partial" "$root"
}

# In a mount namespace of its own: an interrupted build leaves no mount behind.
bootstrap() {
    local script=/usr/share/debootstrap/scripts/$suite
    if [[ ! -e $script ]]; then
        script=/usr/share/debootstrap/scripts/sid # a release younger than this debootstrap
    fi
    unshare --mount -- \
        debootstrap --variant=minbase --include="${packages// /,}" "$suite" "$partial" "$mirror" "$script" 9>&-
}

use_proxy_of_apt() {
    local proxy=
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    if [[ -n $proxy && $proxy != DIRECT ]]; then
        export http_proxy=$proxy
    fi
}

# Each host has its own name, addresses, keys and machine id; debootstrap copies some from the controller.
forget_identity() {
    rm -f "$partial"/etc/{hostname,resolv.conf} "$partial"/etc/ssh/ssh_host_*
    # Empty, not missing: a missing one means "first boot", which would enable every unit again.
    : >"$partial/etc/machine-id"
}

install_setup() {
    install -m 0755 "$here/base/lab-host-setup" "$partial/usr/local/sbin/lab-host-setup"
    install -m 0644 "$here/base/lab-host-setup.service" "$partial/etc/systemd/system/lab-host-setup.service"
    install -m 0644 "$here/base/sshd.conf" "$partial/etc/ssh/sshd_config.d/lab.conf"
    install -D -m 0644 -t "$partial/etc/containers" "$here/base/containers.conf" "$here/base/storage.conf"
    systemctl --quiet --root="$partial" enable lab-host-setup.service
}

quiet_boot() {
    local units=(
        # A lab host can write /proc/sys, and most of it belongs to the controller as well: no sysctl at boot.
        systemd-sysctl.service
        systemd-modules-load.service 'modprobe@.service'
        dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount
        getty.target console-getty.service
        systemd-networkd-wait-online.service
        systemd-journal-catalog-update.service
        apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
        e2scrub_all.timer fstrim.timer man-db.timer systemd-tmpfiles-clean.timer
    )
    systemctl --quiet --root="$partial" mask "${units[@]}" 2>/dev/null

    # Services are what the tests start, never what the packages start.
    local service
    for service in redis-server nginx nftables postgresql rsync cron containerd lxc lxc-net podman podman-restart; do
        if compgen -G "$partial/etc/systemd/system/*.wants/$service.service" >/dev/null; then
            systemctl --quiet --root="$partial" disable "$service.service"
        fi
    done
    systemctl --quiet --root="$partial" set-default multi-user.target

    # "Nothing in /usr is newer than /etc and /var": saves ldconfig and its like at every boot.
    touch -r "$partial/usr" "$partial/etc/.updated" "$partial/var/.updated"
}

# Compiled here, where a compiler is: a library of this machine's glibc runs with that of a younger release.
install_preload() {
    [[ $preload ]] || return 0
    local library
    library=/usr/local/lib/$(basename "$preload" .c).so
    gcc -std=gnu11 -O2 -Wall -Wextra -shared -fPIC -o "$partial$library" "$preload"
    echo "$library" >"$partial/etc/ld.so.preload"
}

slim() {
    rm -rf "$partial"/var/cache/apt/* "$partial"/var/lib/apt/lists/* "$partial"/usr/share/{doc,man,locale,info}/*
}

make_disk() {
    if compgen -G "$partial/boot/vmlinuz-*" >/dev/null; then
        mkfs.ext4 -q -F -d "$partial" "$root.ext4" 4G
    fi
}

main
