// Package parlor contains the API contract and its documentation, so that the server can serve the
// same files from which clients are generated.
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

// TokenGuide is docs/tokens.md, which says how backends sign tokens.
//
//go:embed docs/tokens.md
var TokenGuide []byte
