package ws

import _ "embed"

// asyncAPI is written by hand; the tests of this package hold every text message, either
// way, against it.
//
//go:embed asyncapi.json
var asyncAPI string

// AsyncAPI returns the AsyncAPI document, which is JSON, of what this package says and
// understands.
func AsyncAPI() string { return asyncAPI }
