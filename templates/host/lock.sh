# Holds the run lock of this server for as long as standard input stays open and a byte arrives every minute.
# Arguments: holder (one line: who runs what since when)
# Prints the line "locked" once it holds; where another run has the lock, prints its holder without an end of line, so
# that no reader can take it for the other answer, and ends with 75.
set -eu
run=${XGENCTL_RUN_DIR:-/run/xgenctl}
umask 022
mkdir -p -- "$run"
exec 9>>"$run/lock"
if ! flock -n 9; then
    holder=$(cat "$run/holder" 2>/dev/null) || holder=
    printf %s "${holder:-an unknown run}"
    exit 75
fi
printf '%s\n' "$1" >"$run/holder"
trap 'rm -f -- "$run/holder"' EXIT
trap 'exit 0' HUP INT TERM
echo locked
# A connection that died silently sends nothing any more: one minute without a byte ends the hold. What is started here
# must not keep the lock open beyond this script, so it gets no copy of the lock's descriptor.
while byte=$(timeout 60 dd bs=1 count=1 2>/dev/null 9>&-) && [ -n "$byte" ]; do :; done
