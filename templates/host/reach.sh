# Tells whether TCP endpoints can be reached from this host.
# Arguments: seconds host:port...
set -eu
seconds=$1
shift
for endpoint in "$@"; do
    host=${endpoint%:*}
    port=${endpoint##*:}
    if ! command -v bash >/dev/null; then
        echo "$endpoint unknown"
        continue
    fi
    if said=$(LC_ALL=C timeout "$seconds" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "$port" 2>&1); then
        echo "$endpoint open"
    else
        case $said in
        *"Connection refused"*) echo "$endpoint refused" ;;
        *"not known"* | *"resol"* | *"Name or service"*) echo "$endpoint unresolved" ;;
        *) echo "$endpoint filtered" ;;
        esac
    fi
done
