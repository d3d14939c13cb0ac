#!/bin/sh
# Managed by xgenctl. Stops K3s on this host with all its containers, and takes its network down. Data stays.
set -u
[ "$(id -u)" = 0 ] || exec sudo "$0" "$@"
for unit in k3s k3s-agent; do
    systemctl stop "$unit" 2>/dev/null
done
for dir in /proc/[0-9]*; do
    if tr '\0' ' ' <"$dir/cmdline" 2>/dev/null | grep -q -- '-address /run/k3s/containerd/containerd.sock'; then
        for child in $(cat "$dir"/task/*/children 2>/dev/null); do kill -9 "$child" 2>/dev/null; done
        kill -9 "${dir#/proc/}" 2>/dev/null
    fi
done
for root in /run/k3s /var/lib/kubelet/pods /var/lib/kubelet/plugins /run/netns/cni-; do
    awk -v root="$root" 'index($2, root) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r mount; do
        umount -l "$mount"
    done
done
if command -v ip >/dev/null; then
    ip -o link show | awk -F'[:@ ]+' '/master cni0/ { print $2 }' | while read -r link; do ip link delete "$link"; done
    for link in cni0 flannel.1 flannel-v6.1 flannel-wg flannel-wg-v6 kube-ipvs0; do
        ip link delete "$link" 2>/dev/null
    done
fi
for tables in iptables ip6tables; do
    if command -v "$tables-save" >/dev/null; then
        "$tables-save" 2>/dev/null | grep -v -e KUBE- -e CNI- -e flannel | "$tables-restore" 2>/dev/null
    fi
done
exit 0
