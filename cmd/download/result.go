package main

import (
	"fmt"
	"strings"

	"async-download/internal/bytesize"
	"async-download/internal/escape"
)

// result is a finished download.
type result struct {
	File           string            `json:"file"` // "-" is stdout
	Bytes          int64             `json:"bytes"`
	Seconds        float64           `json:"seconds"`
	Checksum       string            `json:"checksum,omitempty"` // the algorithm that was checked
	OriginVerified bool              `json:"originVerified"`
	Reused         int64             `json:"reused,omitempty"` // bytes of an earlier start
	ContentType    string            `json:"contentType,omitempty"`
	Pinned         bool              `json:"pinned"`
	Digest         map[string]string `json:"digest,omitempty"`
	ETag           string            `json:"etag,omitempty"`
	LastModified   string            `json:"lastModified,omitempty"`

	checks []string // the names of all checks that passed
}

// describe is the last line for people.
func (r result) describe() string {
	var text strings.Builder
	name := escape.Text(r.File)
	if r.File == "-" {
		name = "to stdout"
	}
	fmt.Fprintf(&text, "saved %s: %s in %.1f s, ", name, bytesize.Format(r.Bytes), r.Seconds)
	if len(r.checks) > 0 {
		text.WriteString(strings.ReplaceAll(strings.ToUpper(strings.Join(r.checks, " ")), " ", " and ") + " verified")
	} else {
		text.WriteString("unverified: no checksum came with the link")
	}
	if r.Reused > 0 {
		fmt.Fprintf(&text, "; %s had been downloaded before", bytesize.Format(r.Reused))
	}
	if !r.OriginVerified {
		text.WriteString("; the origin sent no length or digest, so the file may have been cut short there")
	}
	return text.String()
}
