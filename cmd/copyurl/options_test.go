package main

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	for _, line := range []string{
		"",
		"http://o.example/",
		"http://o.example/ bucket/key",
		"http://o.example/ s3://bucket",
		"http://o.example/ s3:///key",
		"http://o.example/ s3://b/k more",
		"ftp://o.example/ s3://b/k",
		"http://u:p@o.example/ s3://b/k",
		"http://o.example/ s3://b/k -checksum sha-256=bad",
		"http://o.example/ s3://b/k -checksum crc=00",
		"http://o.example/ s3://b/k -part-size 1MiB",
		"http://o.example/ s3://b/k -part-size 6GiB",
		"http://o.example/ s3://b/k -part-size x",
		"http://o.example/ s3://b/k -concurrency 0",
		"http://o.example/ s3://b/k -concurrency 65",
		"http://o.example/ s3://b/k -H planted",
		"http://o.example/ s3://b/k -X PUT",
		"http://o.example/ s3://b/k -unknown",
	} {
		code, _, stderr := program(t, strings.Fields(line)...)
		if code != 2 || strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "; see copyurl -h\n") {
			t.Errorf("%q: got code %d, %q, want 2 and a reason in one line", line, code, stderr)
		}
		if strings.Contains(stderr, "planted") {
			t.Errorf("%q: got %q, want no header in it", line, stderr)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	var shown bytes.Buffer
	code := run(t.Context(), []string{"-version"}, &shown, io.Discard)
	if got := shown.String(); code != 0 || !strings.HasPrefix(got, "copyurl ") || !strings.Contains(got, runtime.Version()) {
		t.Errorf("-version: got code %d and %q", code, &shown)
	}
	var help, complaint bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, &help, &complaint); code != 0 || complaint.Len() > 0 {
		t.Errorf("-h: got code %d and %q on stderr, want 0 and nothing", code, &complaint)
	}
	for _, want := range []string{
		"copyurl [flags] URL s3://BUCKET/KEY", "-part-size", "8MiB", "-concurrency", "-H", "-public-only", "-checksum",
		"HTTP_PROXY", "AWS_ENDPOINT_URL_S3", "\n  pinned ", "\nExamples:\n",
	} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("-h doesn't mention %q", want)
		}
	}
}
