# Tells whether TCP endpoints can be reached from this host; all are tried at once.
# Arguments: seconds host:port...
# Prints a line for each: the endpoint and open, refused (something answers there, nothing listens), filtered (no answer, or
# a firewall's refusal), unresolved (the name is not known here) or unknown (this host has no means to try).
set -eu
export LC_ALL=C
seconds=$1
shift
try() {
    host=${1%:*}
    host=${host#\[}
    host=${host%\]}
    # shellcheck disable=SC2016 # bash's own arguments
    if said=$(timeout "$seconds" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "${1##*:}" 2>&1); then
        echo "$1 open"
        return
    fi
    case $said in
    *"Connection refused"*) echo "$1 refused" ;;
    *"not known"* | *"name resolution"* | *"No address associated"*) echo "$1 unresolved" ;;
    *) echo "$1 filtered" ;;
    esac
}
for endpoint; do
    if command -v bash >/dev/null && command -v timeout >/dev/null; then
        try "$endpoint" &
    else
        echo "$endpoint unknown"
    fi
done
wait
