// Package parlor holds the contract, so that the program can serve the very
// file that clients are generated from.
package parlor

import _ "embed"

// Contract is openapi.yaml.
//
//go:embed openapi.yaml
var Contract []byte
