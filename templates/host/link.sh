# Makes or repoints a symbolic link, atomically.
# Arguments: target path
set -eu
umask 022
dir=$(dirname -- "$2")
[ -d "$dir" ] || mkdir -p -- "$dir"
tmp="$dir/.$(basename -- "$2").xgenctl-tmp"
trap 'rm -f -- "$tmp"' EXIT
rm -f -- "$tmp"
ln -s -- "$1" "$tmp"
mv -fT -- "$tmp" "$2"
