package transfer

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the longest file name in bytes that common file systems take.
const maxName = 255

// maxExtension is the longest extension in bytes, with its dot, that is kept when a name
// is cut.
const maxExtension = 20

// Disposition returns a Content-Disposition that makes a browser save the file
// under name, which may have any characters: an ASCII fallback for old clients and the
// name itself in filename* (RFC 6266). A name of which nothing is left becomes
// "download".
func Disposition(name string) string {
	name = FileName(name)
	var ascii, ext strings.Builder
	plain := true
	for _, r := range name {
		if r <= '~' && r != '%' { // FileName leaves no controls, quotes or backslashes
			ascii.WriteRune(r)
		} else {
			ascii.WriteByte('_')
			plain = false
		}
	}
	out := `attachment; filename="` + ascii.String() + `"`
	if plain {
		return out
	}
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(name); i++ {
		c := name[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$&+-.^_`|~", c) >= 0 {
			ext.WriteByte(c)
			continue
		}
		ext.WriteByte('%')
		ext.WriteByte(hex[c>>4])
		ext.WriteByte(hex[c&15])
	}
	return out + "; filename*=UTF-8''" + ext.String()
}

// FileName makes a name safe to save under: no path, no control characters, no
// marks that change the reading order (a "gpj.exe" that reads "exe.jpg"), nothing
// that a shell or Windows trips over, at most 255 bytes with the extension kept.
// Joiners stay: emoji and several scripts need them.
func FileName(name string) string {
	name = strings.ToValidUTF8(name, "_")
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(`/\"<>:|?*`, r):
			return '_'
		case isJoiner(r):
			return r
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			return -1
		case unicode.IsSpace(r) && r != '\u3000': // which Japanese and Chinese names have
			return ' '
		}
		return r
	}, name)
	trimmed := func(r rune) bool { return r == '.' || unicode.IsSpace(r) || isJoiner(r) }
	name = strings.TrimFunc(name, trimmed)
	if len(name) > maxName {
		ext := path.Ext(name)
		if len(ext) > maxExtension {
			ext = ""
		}
		name = strings.TrimRightFunc(cut(name, maxName-len(ext)), trimmed) + ext
	}
	if name == "" {
		return "download"
	}
	return name
}

// isJoiner reports the zero width joiner and non-joiner.
func isJoiner(r rune) bool { return r == '\u200c' || r == '\u200d' }

// cut returns the longest prefix of whole characters in at most n bytes of s, which is
// UTF-8 and longer than that.
func cut(s string, n int) string {
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
