// Package requestflag reads an HTTP request from a command line, as curl's -X, -d and
// -H do.
package requestflag

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
)

// MaxBody is the largest body that the API takes, in bytes.
const MaxBody = 256 << 10

// maxHeaders is the most that is read of a file of headers, far above what a server
// accepts, in bytes.
const maxHeaders = 256 << 10

// Request is what the flags describe.
type Request struct {
	Method      string      // GET or POST
	Header      http.Header // with no Content-Type of a POST: a redirect may turn it into a GET
	Body        []byte
	ContentType string // of a POST, or ""
}

// Flags are -X, -d and -H.
type Flags struct {
	stdin     io.Reader
	method    string
	data      string
	hasBody   bool
	header    http.Header
	badHeader error
}

// Define adds the flags to set. headerUse says in the help text where headers are sent;
// @- reads stdin.
func Define(set *flag.FlagSet, headerUse string, stdin io.Reader) *Flags {
	f := &Flags{stdin: stdin, header: make(http.Header)}
	set.StringVar(&f.method, "X", "", "HTTP `method`: GET or POST (default: GET, or POST with -d)")
	set.Func("d", "request `body`, at most 256 KiB; @file reads a file, @- stdin", func(text string) error {
		f.data, f.hasBody = text, true
		return nil
	})
	set.Func("H", "`header` "+headerUse+", as 'Name: value'; @file reads such lines, so that credentials don't show in ps; may be repeated", func(text string) error {
		if err := f.addHeader(text); err != nil && f.badHeader == nil {
			f.badHeader = err // an error from here would be shown with the value, which may be a secret
		}
		return nil
	})
	return f
}

// Parse parses flags before, between and after the arguments, which it returns.
func Parse(set *flag.FlagSet, args []string) (arguments []string, err error) {
	for {
		if err := set.Parse(args); err != nil {
			return nil, err
		}
		if set.NArg() == 0 {
			return arguments, nil
		}
		arguments = append(arguments, set.Arg(0))
		args = set.Args()[1:]
	}
}

// Request returns what the parsed flags describe. Errors never hold the value of a header.
func (f *Flags) Request() (Request, error) {
	r := Request{Method: f.method, Header: f.header}
	switch {
	case f.badHeader != nil:
		return r, f.badHeader
	case r.Method == "" && f.hasBody:
		r.Method = http.MethodPost
	case r.Method == "":
		r.Method = http.MethodGet
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		return r, errors.New("-X: want GET or POST")
	case r.Method == http.MethodGet && f.hasBody:
		return r, errors.New("-d: a GET has no body")
	}
	if r.Method == http.MethodPost {
		r.ContentType = r.Header.Get("Content-Type")
		r.Header.Del("Content-Type")
	}
	if !f.hasBody {
		return r, nil
	}
	if r.ContentType == "" {
		r.ContentType = "application/x-www-form-urlencoded" // as curl's
	}
	r.Body = []byte(f.data)
	if path, isFile := strings.CutPrefix(f.data, "@"); isFile {
		var err error
		if r.Body, err = f.read(path, MaxBody+1); err != nil {
			return r, fmt.Errorf("-d: %w", err)
		}
	}
	if len(r.Body) > MaxBody {
		return r, errors.New("-d: the body has more than 256 KiB")
	}
	return r, nil
}

// addHeader adds the header that text describes, or those in the file that it names.
func (f *Flags) addHeader(text string) error {
	path, isFile := strings.CutPrefix(text, "@")
	if !isFile {
		return f.addLine(text)
	}
	content, err := f.read(path, maxHeaders)
	if err != nil {
		return fmt.Errorf("-H: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := f.addLine(line); err != nil {
			return err
		}
	}
	return nil
}

// fieldName is RFC 9110, section 5.6.2.
var fieldName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func (f *Flags) addLine(line string) error {
	name, value, found := strings.Cut(line, ":")
	name = strings.TrimSpace(name)
	if !found || !fieldName.MatchString(name) || strings.ContainsAny(value, "\r\n\x00") {
		return errors.New("-H: want 'Name: value'") // the text isn't quoted: it may be a secret
	}
	f.header.Add(name, strings.TrimSpace(value))
	return nil
}

// read returns at most limit bytes of a file, or of stdin for "-".
func (f *Flags) read(path string, limit int64) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(f.stdin, limit))
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}
