// Package setting reads a function's environment variables.
package setting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// Reader reads variables and collects all that are missing or wrong, so that a
// function that can't start reports them together.
type Reader struct {
	Lookup func(string) (string, bool)
	wrong  []string
}

// String reads a variable that must not be empty.
func (r *Reader) String(name string) string {
	s, _ := r.Lookup(name)
	if s == "" {
		r.wrong = append(r.wrong, name+" is not set")
	}
	return s
}

// Optional reads a variable that may be empty or missing.
func (r *Reader) Optional(name string) string {
	s, _ := r.Lookup(name)
	return s
}

// List reads a comma-separated list; nil if the variable is empty or missing.
func (r *Reader) List(name string) []string {
	s := r.Optional(name)
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// Number reads an integer greater than 0.
func (r *Reader) Number(name string) int64 {
	s := r.String(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		r.wrong = append(r.wrong, name+" must be a whole number above 0")
	}
	return n
}

// Seconds reads a duration given in seconds.
func (r *Reader) Seconds(name string) time.Duration {
	return time.Duration(r.Number(name)) * time.Second
}

// Bool reads true or false.
func (r *Reader) Bool(name string) bool {
	s := r.String(name)
	if s != "" && s != "true" && s != "false" {
		r.wrong = append(r.wrong, name+" must be true or false")
	}
	return s == "true"
}

// Add adds another error; nil is ignored.
func (r *Reader) Add(name string, err error) {
	if err != nil {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %v", name, err))
	}
}

// Err returns one error for everything that was missing or wrong, or nil.
func (r *Reader) Err() error {
	if len(r.wrong) == 0 {
		return nil
	}
	return fmt.Errorf("environment: %s", strings.Join(r.wrong, "; "))
}

// token matches the name of a header: RFC 9110, section 5.6.2.
var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// Headers reads the origin's headers from a secret, which is a JSON object of
// strings. Its errors never contain a value.
func Headers(ctx context.Context, client *secretsmanager.Client, secretARN string) (http.Header, error) {
	out, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &secretARN})
	if err != nil {
		return nil, fmt.Errorf("read the origin's secret: %w", err)
	}
	var headers map[string]string
	if out.SecretString == nil || json.Unmarshal([]byte(*out.SecretString), &headers) != nil {
		return nil, errors.New(`the origin's secret must be a JSON object of headers, as {"Authorization":"Bearer x"}`)
	}
	h := http.Header{}
	for name, value := range headers {
		value = strings.TrimSpace(value) // a newline that an editor added
		if !token.MatchString(name) || strings.ContainsFunc(value, unicode.IsControl) {
			return nil, fmt.Errorf("the origin's secret: %q can't be a header, or its value has a control character", name)
		}
		h.Set(name, value)
	}
	return h, nil
}
