#!/bin/sh
# Generates a client from openapi.yaml with each generator, compiles it, and drives its scenario
# against a server of its own. Prints one line for each. bin/parlor must be built.
set -eu
cd "$(dirname "$0")"
contract=../../openapi.yaml
[ -d node_modules ] || npm ci --silent
out=generated
rm -rf $out
mkdir -p $out/openapi-typescript $out/ogen

data=$(mktemp -d)
chmod 755 "$data" # under root, PostgreSQL runs as another user
../../bin/parlor serve --dev --data "$data" --listen 127.0.0.1:0 --ops-listen '' >$out/server.log 2>&1 &
server=$!
trap 'kill $server; wait $server || true; rm -rf "$data"' EXIT
until PARLOR_URL=$(grep -o 'ready: http://[^/ ]*' $out/server.log); do
	kill -0 $server || { cat $out/server.log; exit 1; }
	sleep 0.2
done
export PARLOR_URL="${PARLOR_URL#ready: }"

quietly() {
	"$@" >$out/log 2>&1 || { cat $out/log; exit 1; }
}

typescript() {
	npx tsc --noEmit --strict --skipLibCheck --target es2022 --module esnext --moduleResolution bundler \
		--lib es2023,dom,dom.iterable --types node "scenarios/$1.ts"
	npx esbuild "scenarios/$1.ts" --bundle --platform=node --format=esm --log-level=warning --outfile="$out/$1.mjs"
	node "$out/$1.mjs"
	echo "$1 works"
}

build() {
	(cd "$1" && go mod init client && go mod tidy && go build ./...)
}

quietly npx openapi-typescript $contract -o $out/openapi-typescript/api.ts
typescript openapi-fetch

quietly npx openapi-ts -i $contract -o $out/hey-api -c @hey-api/client-fetch --no-log-file
typescript hey-api

quietly npx swagger-typescript-api generate -p $contract -o $out -n swagger-typescript-api.ts
typescript swagger-typescript-api

# clients/go has options of its own, and tests of the server drive it. This is a client without any.
mkdir $out/oapi-codegen
quietly go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -package client \
	-generate types,client -o $out/oapi-codegen/client.go $contract
quietly build $out/oapi-codegen
echo "oapi-codegen compiles"

quietly go run github.com/ogen-go/ogen/cmd/ogen@v1.25.0 -target $out/ogen -package client $contract
mkdir $out/ogen/scenario
sed '/^\/\/go:build ignore/d' scenarios/ogen.go >$out/ogen/scenario/main.go
quietly build $out/ogen
(cd $out/ogen && go run ./scenario)
echo "ogen works"
