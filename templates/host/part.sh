# Prints how many bytes of an interrupted upload are there.
# Arguments: path sha256
set -eu
dir=$(dirname -- "$1")
part="$dir/.$(basename -- "$1").$(printf %.12s "$2").xgenctl-part"
if [ -f "$part" ]; then wc -c <"$part"; else echo 0; fi
