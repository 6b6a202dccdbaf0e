#!/bin/sh
# Runs every fuzz target of the repository, one after another, because go test runs one at a time.
#
#   scripts/fuzz.sh 30s
set -eu

cd "$(dirname "$0")/.."
duration=${1:-30s}

targets=$(git ls-files --cached --others --exclude-standard '*_test.go' |
	xargs grep -Eo '^func Fuzz[A-Za-z0-9_]+' /dev/null || true)
if [ -z "$targets" ]; then
	echo "fuzz: found no fuzz targets" >&2
	exit 1
fi

# Each target has the form file.go:funcFuzzName.
for target in $(echo "$targets" | tr -d ' '); do
	file=${target%%:*}
	name=${target##*:func}
	echo "fuzz: $name in $(dirname "$file") for $duration"
	# clients/go is a module of its own.
	go -C "$(dirname "$file")" test -run '^$' -fuzz "^$name\$" -fuzzminimizetime 10x -fuzztime "$duration" .
done
