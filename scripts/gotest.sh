#!/bin/sh
# Runs go test with its temporary files in memory, if there are two gigabytes to spare. Each test has
# a database of its own, which consists of 300 files. On a disk, creating and deleting them takes
# most of the system's time.
#
#   scripts/gotest.sh -race ./store
set -eu

if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] && [ "$(df -Pk /dev/shm | awk 'END { print $4 }')" -gt 2000000 ]; then
	TMPDIR=$(mktemp -d /dev/shm/parlor-test-XXXXXX)
	export TMPDIR
	trap 'rm -rf "$TMPDIR"' EXIT
	trap 'exit 130' INT TERM
	chmod 755 "$TMPDIR" # root runs PostgreSQL as another user
fi

# Run twice as many tests at once as there are cores, because tests wait: for processes, timeouts and
# PostgreSQL.
go test -parallel "$((2 * $(getconf _NPROCESSORS_ONLN)))" "$@"
