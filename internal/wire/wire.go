// Package wire writes JSON as clients read it, on the socket and by REST.
package wire

import (
	"bytes"
	"encoding/json"
)

// JSON returns v in which a URL reads as it is: encoding/json escapes & for HTML,
// which nobody who copies a link from a terminal expects. v is a type of this
// program that can be encoded; any other panics.
func JSON(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}
