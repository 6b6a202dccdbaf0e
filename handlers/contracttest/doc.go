// Package contracttest is a client that was generated from openapi.yaml, as a
// stranger would generate one. Only tests use it.
package contracttest

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config client.yaml ../../openapi.yaml
