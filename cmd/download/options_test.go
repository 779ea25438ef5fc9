package main

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// parse reads a command line with an environment.
func parse(env map[string]string, args ...string) (*options, error) {
	p := &program{stdin: strings.NewReader(""), stdout: io.Discard, env: func(name string) string { return env[name] }}
	return p.parseOptions(args)
}

func TestWhereThePathBegins(t *testing.T) {
	const aws = "https://abc.execute-api.eu-west-1.amazonaws.com"
	const local = "http://127.0.0.1:4566/_aws/execute-api/abc123/dev"
	tests := []struct {
		args string // separated by a space
		want string // "" is a refusal
	}{
		{aws + "/dev", aws + "/dev/download"},
		{aws + "/dev/", aws + "/dev/download"},
		{aws + "/dev/a/b.csv?x=1&x=2", aws + "/dev/download/a/b.csv?x=1&x=2"},
		{aws + "/dev?x=1", aws + "/dev/download?x=1"},
		{aws + "/dev/download", aws + "/dev/download"}, // as curl has it
		{aws + "/dev/download/a/b.csv?x=1", aws + "/dev/download/a/b.csv?x=1"},
		{aws + "/dev/download/download/b", aws + "/dev/download/download/b"},
		{aws + "/dev/a/download/b", aws + "/dev/download/a/download/b"},
		{aws + "/dev download/b", aws + "/dev/download/download/b"},
		{aws + "/download/b", aws + "/download/download/b"}, // a stage of that name
		{local + "/download/a?x=1", local + "/download/a?x=1"},
		{"https://files.example.com/v1/download/a%2Fb?x=1", "https://files.example.com/v1/download/a%2Fb?x=1"},
		{"https://files.example.com/download", "https://files.example.com/download"},
		{aws + "/dev a/b.csv?x=1", aws + "/dev/download/a/b.csv?x=1"},
		{aws + "/dev /a/b.csv", aws + "/dev/download/a/b.csv"},
		{aws + "/dev ?x=1", aws + "/dev/download?x=1"},
		{aws + "/dev/a%2Fb%20c//d", aws + "/dev/download/a%2Fb%20c//d"},
		{aws, aws + "/download"},
		{local, local + "/download"},
		{local + "/a/b.csv?x=%26", local + "/download/a/b.csv?x=%26"},
		{"https://files.example.com", "https://files.example.com/download"},
		{"https://files.example.com/v1", "https://files.example.com/v1/download"},
		{"https://files.example.com/v1 a/b?c", "https://files.example.com/v1/download/a/b?c"},
		{"https://files.example.com/v1?x=1", ""}, // whose query?
		{"https://files.example.com/v1?x=1 a", ""},
		{"https://user:word@files.example.com/", ""},
		{"https://files.example.com/v1 a#b", ""},
		{"https://files.example.com/v1 a%zz", ""},
		{"https://files.example.com/v1 a?b\"c", ""},
		{"ftp://files.example.com/", ""},
		{"files.example.com/dev", ""},
		{"", ""},
	}
	for _, test := range tests {
		args := strings.Split(test.args, " ")
		o, err := parse(nil, args...)
		switch {
		case test.want == "" && (err == nil || endOf(err).exit != exitUsage):
			t.Errorf("%q: got %v, want a refusal of the command line", args, err)
		case test.want != "" && err != nil:
			t.Errorf("%q: got %v", args, err)
		case test.want != "" && o.targets[0].ask.String() != test.want:
			t.Errorf("%q: got %s, want %s", args, o.targets[0].ask, test.want)
		}
	}
}

func TestFlags(t *testing.T) {
	o, err := parse(nil, "-f", "https://a.example", "-o", "x", "some/path", "-connections=3", "-H", "A:b:c ", "-H", "a: d", "-json")
	if err != nil {
		t.Fatal(err)
	}
	if !o.overwrite || o.output != "x" || o.concurrency != 3 || !o.json || o.targets[0].ask.Path != "/download/some/path" {
		t.Errorf("got %+v", o)
	}
	if got := strings.Join(o.request.Header["A"], "|"); got != "b:c|d" {
		t.Errorf("got header A %q, want b:c and d", got)
	}
	bad := [][]string{
		{}, {"-nope"}, {"a", "b", "c"}, {"-concurrency", "0"}, {"-concurrency", "65"}, {"-patience", "0s"}, {"-patience", "-1s"},
		{"-H", "no colon"}, {"-X", "PUT"}, {"-d", "@/no/such/file"}, {"-o"},
	}
	for _, args := range bad {
		if len(args) > 0 {
			args = append(args, "https://a.example")
		}
		if _, err := parse(nil, args...); err == nil || endOf(err).exit != exitUsage {
			t.Errorf("%q: got %v, want a refusal of the command line", args, err)
		}
	}
}

// A refusal names the mistake and quotes nothing that may be a secret.
func TestRefusedCommandLinesHideSecrets(t *testing.T) {
	s, c := setUp(t, 0)
	for _, args := range [][]string{
		{"https://user:" + secretHeader + "@files.example.com"},
		{"https://files.example.com/%zz?" + secretQuery},
		{s.url(), "a b?token=" + secretQuery + "\""},
		{"-H", "bad name:" + secretHeader, s.url()},
	} {
		c.runExpecting(exitUsage, args...)
	}
}

func TestSafeName(t *testing.T) {
	tests := map[string]string{
		"report.bin":             "report.bin",
		"Übersicht 2026 (1).pdf": "Übersicht 2026 (1).pdf",
		"報告.csv":                 "報告.csv",
		"../../etc/passwd":       "passwd",
		"/etc/passwd":            "passwd",
		`C:\Windows\system.ini`:  "system.ini",
		"a/b/":                   "",
		"..":                     "",
		".":                      "",
		"...":                    "",
		"":                       "",
		".ssh":                   "ssh",
		" . name . ":             "name",
		"a\x00b\nc\x1b[2Jd":      "abc[2Jd",
		"gpj.\u202eexe":          "gpj.exe",
		"a\xffb":                 "ab",
		`a<b>c:d"e|f?g*h`:        "a_b_c_d_e_f_g_h",
		"con":                    "_con",
		"LPT1.txt":               "_LPT1.txt",
		"console":                "console",
		"-rf":                    "_rf", // no option of a command
		"--help":                 "_-help",
		"-":                      "_",
	}
	for name, want := range tests {
		if got := safeName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	long := safeName(strings.Repeat("ü", 300) + ".tar.gz")
	if len(long) > maxName || len(long) < maxName-2 || !strings.HasSuffix(long, "ü.gz") || !utf8.ValidString(long) {
		t.Errorf("got %d bytes, %q", len(long), long)
	}
	if long := safeName("x." + strings.Repeat("e", 300)); len(long) != maxName {
		t.Errorf("a long extension: got %d bytes, want %d", len(long), maxName)
	}
}

func FuzzSafeName(f *testing.F) {
	f.Add("../a/.b\x00.c")
	f.Add(strings.Repeat("\u20ac", 100) + ".x")
	f.Add("x" + strings.Repeat("a ", 200)) // cut off at a space
	f.Fuzz(func(t *testing.T, name string) {
		got := safeName(name)
		if got == "" {
			return
		}
		if !filepath.IsLocal(got) || filepath.Base(got) != got || strings.ContainsAny(got, `/\`+"\x00\x1b\r\n") || got[0] == '.' || len(got) > maxName || !utf8.ValidString(got) {
			t.Errorf("%q: got %q", name, got)
		}
		if again := safeName(got); again != got {
			t.Errorf("%q: got %q, and %q of that", name, got, again)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "999999999": maxRetryAfter} {
		if got := retryAfter(http.Header{"Retry-After": {value}}); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

// An answer that came over TLS must not lead to unencrypted addresses.
func TestNoWayAroundTLS(t *testing.T) {
	secure, _ := url.Parse("https://a.example/dev/download")
	plain, _ := url.Parse("http://127.0.0.1/dev/download")
	tests := []struct {
		ask               *url.URL
		socket, status, l string
		ok                bool
	}{
		{secure, "wss://b.example/dev", "https://a.example/s", "https://s3.example/x", true},
		{secure, "wss://b.example/dev", "", "https://s3.example/x", true},
		{secure, "ws://b.example/dev", "https://a.example/s", "https://s3.example/x", false},
		{secure, "wss://b.example/dev", "http://a.example/s", "https://s3.example/x", false},
		{secure, "wss://b.example/dev", "https://a.example/s", "http://s3.example/x", false},
		{plain, "ws://b.example/dev", "http://a.example/s", "http://s3.example/x", true},
		{plain, "no socket", "http://a.example/s", "http://s3.example/x", false},
		{plain, "ws://b.example/dev", "http://a.example/s", "nowhere", false},
	}
	for _, test := range tests {
		err := (&api{request: request{target: target{ask: test.ask}}}).check(execution{ARN: "arn", WebSocketURL: test.socket, StatusURL: test.status})
		if err == nil {
			err = (&job{api: &api{request: request{target: target{ask: test.ask}}}}).trust(link{URL: test.l})
		}
		if (err == nil) != test.ok {
			t.Errorf("%+v: got %v", test, err)
		}
	}
}

func TestEndOf(t *testing.T) {
	tests := []struct {
		err  error
		exit int
	}{
		{exitError(exitFailed, "x"), exitFailed},
		{&transient{err: exitError(exitRefused, "x")}, exitRefused},
		{&transient{err: errors.New("x")}, exitNetwork},
		{errors.New("x"), exitLocal},
		{apiError("EXPIRED", ""), exitExpired},
		{apiError("CANCELLED", ""), exitCancelled},
		{apiError("INTERNAL", ""), exitFailed},
	}
	for _, test := range tests {
		if got := endOf(test.err).exit; got != test.exit {
			t.Errorf("%v: got %d, want %d", test.err, got, test.exit)
		}
	}
}
