#!/bin/sh
# Generates a client from openapi.yaml with each generator, and compiles it. Prints one line for each.
set -eu
cd "$(dirname "$0")"
contract=../../openapi.yaml
[ -d node_modules ] || npm ci --silent
out=generated
rm -rf $out
mkdir -p $out/openapi-typescript $out/oapi-codegen $out/ogen

typescript() {
	npx tsc --noEmit --strict --skipLibCheck --target es2022 --module esnext \
		--moduleResolution bundler --lib es2023,dom,dom.iterable "$@"
}

npx openapi-typescript $contract -o $out/openapi-typescript/api.ts >$out/log 2>&1 || { cat $out/log; exit 1; }
typescript $out/openapi-typescript/api.ts
echo "openapi-typescript compiles"

npx openapi-ts -i $contract -o $out/hey-api -c @hey-api/client-fetch --no-log-file >$out/log 2>&1 || { cat $out/log; exit 1; }
typescript $out/hey-api/*.ts
echo "hey-api compiles"

npx swagger-typescript-api generate -p $contract -o $out -n swagger-typescript-api.ts >$out/log 2>&1 || { cat $out/log; exit 1; }
typescript $out/swagger-typescript-api.ts
echo "swagger-typescript-api compiles"

build() {
	(cd "$1" && go mod init client && go mod tidy && go build ./...) >$out/log 2>&1 || { cat $out/log; exit 1; }
}

# clients/go has options of its own. This is a client without any.
go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -package client -generate types,client \
	-o $out/oapi-codegen/client.go $contract
build $out/oapi-codegen
echo "oapi-codegen compiles"

go run github.com/ogen-go/ogen/cmd/ogen@v1.25.0 -target $out/ogen -package client $contract >$out/log 2>&1 || { cat $out/log; exit 1; }
build $out/ogen
echo "ogen compiles"
