# Writes standard input to a file, atomically: digest checked, mode and owner set, then renamed over the target.
# Arguments: path mode owner:group sha256 unit offset
#   owner:group  empty: root's
#   unit         empty, or the unit that has to be restarted after this file changed; noted before the rename, so that an
#                interrupted run cannot forget the restart
#   offset       empty, or how many bytes of this content are already there from an interrupted upload
# Ends with 65 where the digest differs; what arrived of a resumable upload then stays for the next try.
set -eu
export LC_ALL=C
path=$1 mode=$2 owner=$3 digest=$4 unit=$5 offset=$6
run=${XGENCTL_RUN_DIR:-/run/xgenctl}
dir=$(dirname -- "$path")
base=$(basename -- "$path")
if [ -d "$path" ] && [ ! -L "$path" ]; then
    echo "$path: Is a directory" >&2
    exit 73
fi
umask 022
[ -d "$dir" ] || mkdir -p -- "$dir"
umask 077
if [ -n "$offset" ]; then
    tmp="$dir/.$base.$(printf %.12s "$digest").xgenctl-part"
    for stale in "$dir/.$base".*.xgenctl-part; do
        [ "$stale" = "$tmp" ] || rm -f -- "$stale"
    done
    [ "$offset" != 0 ] || : >"$tmp"
    cat >>"$tmp"
else
    tmp="$dir/.$base.xgenctl-tmp"
    trap 'rm -f -- "$tmp"' EXIT
    trap 'exit 1' HUP INT TERM
    rm -f -- "$tmp"
    cat >"$tmp"
fi
actual=$(sha256sum <"$tmp" | cut -c1-64)
if [ "$actual" != "$digest" ]; then
    echo "what arrived has sha256 $actual, expected $digest" >&2
    exit 65
fi
chmod -- "$mode" "$tmp"
[ -z "$owner" ] || chown -- "$owner" "$tmp"
if [ -n "$unit" ]; then
    mkdir -p -- "$run"
    : >"$run/restart-$unit"
fi
sync -- "$tmp" 2>/dev/null || sync
mv -fT -- "$tmp" "$path"
trap - EXIT
