# Holds the run lock of this server for as long as standard input stays open and a byte arrives every minute.
# Arguments: holder (one line: who runs what since when)
# Prints "locked" once it holds; ends with 75 and prints the holder where another run has it.
set -eu
mkdir -p /run/xgenctl
chmod 0755 /run/xgenctl
exec 9>>/run/xgenctl/lock
if ! flock -n 9; then
    cat /run/xgenctl/holder 2>/dev/null || echo "an unknown run"
    exit 75
fi
printf '%s\n' "$1" >/run/xgenctl/holder
trap 'rm -f /run/xgenctl/holder' EXIT
trap 'exit 0' HUP INT TERM
echo locked
# A connection that died silently sends nothing any more: one minute without a byte ends the hold.
while byte=$(timeout 60 dd bs=1 count=1 2>/dev/null) && [ -n "$byte" ]; do :; done
