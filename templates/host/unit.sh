# Starts, restarts or stops a systemd unit without waiting for it.
# Arguments: start|restart|stop unit
set -eu
systemctl daemon-reload
case $1 in
start | restart)
    systemctl enable --quiet "$2"
    systemctl reset-failed "$2" 2>/dev/null || true
    systemctl --no-block "$1" "$2"
    ;;
stop)
    systemctl disable --quiet "$2" 2>/dev/null || true
    systemctl stop "$2" 2>/dev/null || true
    ;;
*)
    echo "unknown operation $1" >&2
    exit 64
    ;;
esac
# The new process has read every file that was noted as waiting for a restart.
rm -f "/run/xgenctl/restart-$2"
