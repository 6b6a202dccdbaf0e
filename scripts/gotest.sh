#!/bin/sh
# Runs go test with its temporary files in memory, if there is room. Each test has a database of its
# own, which consists of 300 files. On a disk, creating and deleting them takes most of the system's
# time.
#
#   scripts/gotest.sh -race ./store
set -eu

readonly MEMORY=/dev/shm

# has_room reports whether two gigabytes fit into $MEMORY, the machine has four to spare, and programs
# may run from $MEMORY. In a container it often has 64 MB, or is mounted noexec.
has_room() {
	[ -w $MEMORY ] && ! grep -q " $MEMORY .*noexec" /proc/mounts &&
		[ "$(df -Pk $MEMORY | awk 'END { print $4 }')" -gt 2000000 ] &&
		[ "$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)" -gt 4000000 ]
}

if [ -z "${TMPDIR:-}" ] && has_room; then
	# Remove the folders of runs that were killed. The names contain the process IDs of the runs.
	for dir in $MEMORY/parlor-test-[0-9]*-*; do
		pid=${dir#"$MEMORY/parlor-test-"}
		[ -d "/proc/${pid%-*}" ] || rm -rf "$dir" || true # it may be another user's
	done
	TMPDIR=$(mktemp -d "$MEMORY/parlor-test-$$-XXXXXX")
	export TMPDIR
	trap 'rm -rf "$TMPDIR"' EXIT
	trap 'exit 130' HUP INT TERM
	chmod 755 "$TMPDIR" # root runs PostgreSQL as another user
fi

# Run twice as many tests at once as there are cores, because tests wait: for processes, timeouts and
# PostgreSQL.
go test -parallel "$((2 * $(getconf _NPROCESSORS_ONLN)))" "$@"
