# Prints the last journal lines of a unit.
# Arguments: unit lines
exec journalctl --no-pager --output=cat -n "$2" -u "$1"
