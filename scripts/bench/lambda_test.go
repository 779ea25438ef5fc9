package main

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"async-download/internal/start/starttest"
)

// The fetch function that is measured starts: it has each variable that it requires.
func TestEnvironment(t *testing.T) {
	env := environment("127.0.0.1:1", "bucket", &url.URL{Scheme: "http", Host: "127.0.0.1:2"})
	for name, byDefault := range starttest.Variables(t, "fetch") {
		required := byDefault == nil || *byDefault != ""
		if required && !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			t.Errorf("%s is missing", name)
		}
	}
}
