// Package wire encodes the JSON for clients, on the socket and by REST.
package wire

import (
	"bytes"
	"encoding/json"
)

// JSON encodes v without escaping & for HTML, as encoding/json does, so that a link
// can be copied from a terminal. It panics if v can't be encoded.
func JSON(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}
