// Package headerflag reads HTTP headers from a command line: 'Name: value', or
// @file for a file of such lines, so that credentials don't show in ps.
package headerflag

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
)

// maxFile is far above what a server accepts as headers.
const maxFile = 256 << 10

// name is RFC 9110, section 5.6.2.
var name = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// errSyntax doesn't quote the text: it may be a secret.
var errSyntax = errors.New("-H: want 'Name: value'")

// Add adds the header that text describes, or those in the file that it names;
// @- is stdin. Errors never hold a value.
func Add(headers http.Header, text string, stdin io.Reader) error {
	path, isFile := strings.CutPrefix(text, "@")
	if !isFile {
		return addLine(headers, text)
	}
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("-H: %w", err)
		}
		defer f.Close()
		in = f
	}
	content, err := io.ReadAll(io.LimitReader(in, maxFile))
	if err != nil {
		return fmt.Errorf("-H: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := addLine(headers, line); err != nil {
			return err
		}
	}
	return nil
}

func addLine(headers http.Header, line string) error {
	field, value, found := strings.Cut(line, ":")
	field = strings.TrimSpace(field)
	if !found || !name.MatchString(field) || strings.ContainsAny(value, "\r\n\x00") {
		return errSyntax
	}
	headers.Add(field, strings.TrimSpace(value))
	return nil
}
