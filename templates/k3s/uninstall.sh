#!/bin/sh
# Managed by xgenctl. Removes K3s from this host: containers, configuration, and ALL DATA of local volumes.
set -u
[ "$(id -u)" = 0 ] || exec sudo "$0" "$@"
unit={{ unit }}
/usr/local/bin/k3s-killall.sh
systemctl disable "$unit" 2>/dev/null
rm -rf --one-file-system "/etc/systemd/system/$unit" "/etc/systemd/system/$unit.env" /etc/rancher/k3s /etc/rancher/node \
    /run/k3s /run/flannel /var/lib/cni
# A folder that is a file system of its own is emptied and stays.
for dir in /var/lib/rancher/k3s /var/lib/kubelet; do
    [ ! -d "$dir" ] || find "$dir" -xdev -mindepth 1 -delete
    rmdir "$dir" 2>/dev/null
done
for link in kubectl crictl ctr; do
    case $(readlink "/usr/local/bin/$link" 2>/dev/null) in
    k3s | /usr/local/bin/k3s) rm -f "/usr/local/bin/$link" ;;
    esac
done
systemctl daemon-reload
systemctl reset-failed "$unit" 2>/dev/null
rm -f /usr/local/bin/k3s /usr/local/bin/k3s-killall.sh "$0"
