set -eu # gathers facts
