// Package servicetest tests the whole service: a real PostgreSQL, hub, media bucket and HTTP
// server, wired as cmd/parlor wires them. Its harness (harness_test.go) checks each request, reply
// and event against openapi.yaml, and the package fails unless its tests have seen every status and
// every event that the contract declares.
package servicetest
