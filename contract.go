// Package parlor holds the contract and its errors, so that the program can
// serve the very files that clients are made from.
package parlor

import _ "embed"

// Contract is openapi.yaml.
//
//go:embed openapi.yaml
var Contract []byte

// Errors is docs/errors.md, which every problem's type leads to.
//
//go:embed docs/errors.md
var Errors []byte
