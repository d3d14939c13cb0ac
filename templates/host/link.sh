# Makes or repoints a symbolic link, atomically.
# Arguments: target path
set -eu
tmp="$(dirname -- "$2")/.$(basename -- "$2").xgenctl-tmp"
rm -f -- "$tmp"
ln -s -- "$1" "$tmp"
mv -fT -- "$tmp" "$2"
