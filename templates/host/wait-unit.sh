# Waits on the server until a unit is active; ends with 1 and the unit's last journal lines where it is not in time.
# Arguments: unit seconds
set -eu
end=$(($(date +%s) + $2))
while :; do
    state=$(systemctl show -p ActiveState --value "$1")
    [ "$state" != active ] || exit 0
    # A unit that systemd restarts for ever never fails by itself: five restarts are enough to call it broken.
    restarts=$(systemctl show -p NRestarts --value "$1")
    if [ "$state" = failed ] || [ "${restarts:-0}" -ge 5 ] || [ "$(date +%s)" -ge "$end" ]; then
        echo "$1 is $state after ${restarts:-0} restarts" >&2
        journalctl --no-pager --output=cat -n 20 -u "$1" >&2 || true
        exit 1
    fi
    sleep 0.3
done
