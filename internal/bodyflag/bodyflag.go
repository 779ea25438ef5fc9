// Package bodyflag reads a request's method and body from a command line, as curl's -X
// and -d do.
package bodyflag

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// MaxBytes is the largest body that the API takes.
const MaxBytes = 256 << 10

// FormType is the Content-Type of a body that was given without one, as curl's.
const FormType = "application/x-www-form-urlencoded"

// Method returns the method of a request: text is what -X says, "" for nothing.
func Method(text string, hasBody bool) (string, error) {
	switch {
	case text == "" && hasBody:
		return http.MethodPost, nil
	case text == "":
		return http.MethodGet, nil
	case text != http.MethodGet && text != http.MethodPost:
		return "", errors.New("-X: want GET or POST")
	case hasBody && text == http.MethodGet:
		return "", errors.New("-d: a GET has no body")
	}
	return text, nil
}

// Read returns the body that text is, or that is in the file that it names: @FILE, or
// @- for stdin. It is at most MaxBytes long.
func Read(text string, stdin io.Reader) ([]byte, error) {
	body := []byte(text)
	if path, isFile := strings.CutPrefix(text, "@"); isFile {
		in := stdin
		if path != "-" {
			f, err := os.Open(path)
			if err != nil {
				return nil, fmt.Errorf("-d: %w", err)
			}
			defer f.Close()
			in = f
		}
		var err error
		if body, err = io.ReadAll(io.LimitReader(in, MaxBytes+1)); err != nil {
			return nil, fmt.Errorf("-d: %w", err)
		}
	}
	if len(body) > MaxBytes {
		return nil, errors.New("-d: the body has more than 256 KiB")
	}
	return body, nil
}
