# What the scripts share; sourced from the top folder.
say() { echo "$(basename "$0" .sh): $*"; }
die() { echo "$(basename "$0" .sh): $*" >&2; exit 1; }

# progress TEXT COMMAND… runs the command, and prints TEXT every few seconds for as long as it takes.
progress() { python3 scripts/process.py "$(basename "$0" .sh)" "$@"; }
