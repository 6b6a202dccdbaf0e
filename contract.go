// Package parlor contains the API contract and the documentation of its errors, so that the server
// can serve the same files from which clients are generated.
package parlor

import _ "embed"

// Contract is openapi.yaml.
//
//go:embed openapi.yaml
var Contract []byte

// Errors is docs/errors.md, to which the type of every problem refers.
//
//go:embed docs/errors.md
var Errors []byte
