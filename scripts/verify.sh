#!/bin/sh
# Checks that formatting, go.mod and generated files are up to date, and says how to fix them.
set -eu

cd "$(dirname "$0")/.."

unformatted=$(git ls-files --cached --others --exclude-standard '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
	echo "verify: not formatted, run gofmt -w on:" >&2
	echo "$unformatted" >&2
	exit 1
fi

for module in . clients/go examples; do
	go -C "$module" mod tidy -diff || {
		echo "verify: go.mod or go.sum is not tidy, run go -C $module mod tidy" >&2
		exit 1
	}
done

# The failures of these tests say how to regenerate the table, the schema and the client.
go test -run '^TestSettingsTable$' ./cmd/parlor
go test -run '^TestSchemaFile$' ./store
go test -run 'Contract' ./servicetest
go -C clients/go test -tags contract ./...
