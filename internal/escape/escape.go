// Package escape makes text from the network fit for a terminal and a log.
//
// A server chooses its messages, its file names, the names in its certificate
// and the reason it closes a socket with; a transport's error quotes them.
// Written raw, they could move a terminal's cursor, set its title, turn text
// around, or forge lines of a log. Every program writes such text through this
// package and through nothing else.
package escape

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxText is the most bytes that [Text] returns: enough for a message of a
// server or a transport with its cause.
const MaxText = 400

// Text escapes everything that isn't a visible character or a space, as Go
// source would write it: control characters (C0, DEL and C1), the marks that
// change the direction of text, other invisible characters and bytes that aren't
// UTF-8. At most [MaxText] bytes are kept; a cut text ends with "…". Escaped
// text is returned unchanged.
func Text(text string) string { return Cut(text, MaxText) }

// Cut is [Text] with another limit, in bytes of the result, at least 3.
func Cut(text string, limit int) string {
	const more = "…"
	var out strings.Builder
	end := 0 // where the text can be cut with room for more
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		piece := text[i : i+size]
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, text[i])
		case !visible(r):
			piece = strings.Trim(strconv.QuoteRuneToASCII(r), "'")
		}
		if out.Len()+len(piece) > limit {
			return out.String()[:end] + more
		}
		out.WriteString(piece)
		if out.Len() <= limit-len(more) {
			end = out.Len()
		}
		i += size
	}
	return out.String()
}

// JSON escapes what [Text] would escape in encoded JSON. The value stays the
// same: outside of strings, JSON is ASCII.
func JSON(encoded []byte) []byte {
	if !bytes.ContainsFunc(encoded, hidden) {
		return encoded
	}
	var out bytes.Buffer
	for _, r := range string(encoded) { // a byte that isn't UTF-8 becomes U+FFFD
		switch {
		case !hidden(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.Bytes()
}

// hidden reports whether r is no visible character and not the end of a line of
// JSON.
func hidden(r rune) bool { return r != '\n' && !visible(r) }

// visible holds for letters, marks, numbers, punctuation, symbols and spaces.
func visible(r rune) bool { return unicode.IsGraphic(r) && !ignorable(r) }

// ignorable characters are shown as nothing, though Unicode counts them as
// letters or marks: fillers, joiners, variation selectors.
func ignorable(r rune) bool {
	return unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
