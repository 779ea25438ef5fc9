package transfer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the longest file name in bytes that common file systems take.
const maxName = 255

// Disposition returns a Content-Disposition that makes a browser save the file
// under name, whatever name holds: an ASCII fallback for old clients and the
// name itself in filename* (RFC 6266). A name that is nothing but unsafe
// becomes "download".
func Disposition(name string) string {
	name = FileName(name)
	var ascii, ext strings.Builder
	plain := true
	for _, r := range name {
		if r >= ' ' && r < 0x7f && r != '"' && r != '\\' && r != '%' {
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
// marks that turn the reading order (a "gpj.exe" that reads "exe.jpg"), nothing
// that a shell or Windows trips over, at most 255 bytes with the extension kept.
func FileName(name string) string {
	name = strings.ToValidUTF8(name, "_")
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(`/\"<>:|?*`, r):
			return '_'
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029':
			return -1
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, name)
	name = strings.Trim(name, " .")
	if len(name) > maxName {
		ext := ""
		if i := strings.LastIndexByte(name, '.'); i > 0 && len(name)-i <= 20 {
			ext = name[i:]
		}
		name = strings.TrimRight(cut(name, maxName-len(ext)), " .") + ext
	}
	if name == "" {
		return "download"
	}
	return name
}

// cut returns the longest prefix of s of whole characters in at most n bytes.
func cut(s string, n int) string {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
