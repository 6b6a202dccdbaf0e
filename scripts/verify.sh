#!/bin/sh
# Fails when something that is kept in step by a tool is out of step, and says how to mend it.
set -eu

cd "$(dirname "$0")/.."

unformatted=$(git ls-files --cached --others --exclude-standard '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
	echo "verify: not formatted (gofmt -w):" >&2
	echo "$unformatted" >&2
	exit 1
fi

for module in . clients/go; do
	go -C "$module" mod tidy -diff || {
		echo "verify: go.mod or go.sum is not tidy (go -C $module mod tidy)" >&2
		exit 1
	}
done

# Their failures say how to make the table and the client again.
go test -run '^TestSettingsTable$' ./cmd/parlor
go test -run 'Contract' ./servicetest
go -C clients/go test -tags contract ./...
