# Removes files and folders; what is not there is fine.
# Arguments: path...
set -eu
rm -rf --one-file-system -- "$@"
