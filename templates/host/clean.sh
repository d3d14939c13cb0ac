# Stops K3s and removes everything that it and xgenctl put on this host. Other software is left alone.
# Arguments: unit (k3s.service or k3s-agent.service)
set -eu
unit=$1
systemctl disable --quiet "$unit" 2>/dev/null || true
systemctl stop "$unit" 2>/dev/null || true
# KillMode=process leaves the containers running: end their shims, found by the socket only K3s' containerd has.
for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    # By name first: the text of this script, and so the address, is part of its own command line.
    case $(cat "$dir/comm" 2>/dev/null) in containerd-shim*) ;; *) continue ;; esac
    if tr '\0' ' ' <"$dir/cmdline" 2>/dev/null | grep -q -- '-address /run/k3s/containerd/containerd.sock'; then
        for child in $(cat "$dir"/task/*/children 2>/dev/null); do kill -9 "$child" 2>/dev/null || true; done
        kill -9 "$pid" 2>/dev/null || true
    fi
done
# What is mounted inside of these, not the folders themselves: a disk that holds all of K3s' data stays mounted.
for root in /run/k3s/ /var/lib/kubelet/pods/ /var/lib/kubelet/plugins/ /run/netns/cni- /var/lib/rancher/k3s/; do
    awk -v root="$root" 'index($2, root) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r mount; do
        umount -l -- "$mount" 2>/dev/null || true
    done
done
if command -v ip >/dev/null; then
    ip -o link show 2>/dev/null | awk -F'[:@ ]+' '/master cni0/ { print $2 }' | while read -r link; do
        ip link delete "$link" 2>/dev/null || true
    done
    for link in cni0 flannel.1 flannel-v6.1 flannel-wg flannel-wg-v6 kube-ipvs0; do
        ip link delete "$link" 2>/dev/null || true
    done
fi
for tables in iptables ip6tables; do
    if command -v "$tables-save" >/dev/null && command -v "$tables-restore" >/dev/null; then
        "$tables-save" 2>/dev/null | grep -v -e KUBE- -e CNI- -e flannel | "$tables-restore" 2>/dev/null || true
    fi
done
name=${unit%.service}
for folder in /etc/rancher/k3s /etc/rancher/node /run/k3s /run/flannel /var/lib/rancher/k3s /var/lib/kubelet /var/lib/cni; do
    if mountpoint -q "$folder" 2>/dev/null; then
        find "$folder" -xdev -mindepth 1 -delete
    else
        rm -rf --one-file-system -- "$folder"
    fi
done
rm -rf -- "/etc/systemd/system/$unit" "/etc/systemd/system/$unit.env" "/etc/systemd/system/$unit.d" \
    /usr/local/bin/k3s /usr/local/bin/k3s-killall.sh "/usr/local/bin/$name-uninstall.sh" "/run/xgenctl/restart-$unit"
for link in kubectl crictl ctr; do
    if [ "$(readlink "/usr/local/bin/$link" 2>/dev/null)" = k3s ] ||
        [ "$(readlink "/usr/local/bin/$link" 2>/dev/null)" = /usr/local/bin/k3s ]; then
        rm -f "/usr/local/bin/$link"
    fi
done
rmdir /etc/rancher /var/lib/rancher 2>/dev/null || true
systemctl daemon-reload
systemctl reset-failed "$unit" 2>/dev/null || true
