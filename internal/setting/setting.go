// Package setting reads a function's environment variables.
package setting

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
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
		r.complain(name + " is not set")
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
		r.complain(name + " must be a whole number above 0")
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
		r.complain(name + " must be true or false")
	}
	return s == "true"
}

// Add adds another error; nil is ignored.
func (r *Reader) Add(name string, err error) {
	if err != nil {
		r.complain(fmt.Sprintf("%s: %v", name, err))
	}
}

// complain adds to what is wrong. A variable that is read twice is named once.
func (r *Reader) complain(text string) {
	if !slices.Contains(r.wrong, text) {
		r.wrong = append(r.wrong, text)
	}
}

// Err returns one error for everything that was missing or wrong, or nil.
func (r *Reader) Err() error {
	if len(r.wrong) == 0 {
		return nil
	}
	return fmt.Errorf("environment: %s", strings.Join(r.wrong, "; "))
}
