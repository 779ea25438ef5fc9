package origin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestPinOf(t *testing.T) {
	const (
		now    = "Tue, 24 Nov 2026 10:01:00 GMT"
		old    = "Tue, 24 Nov 2026 10:00:00 GMT"
		recent = "Tue, 24 Nov 2026 10:00:01 GMT"
	)
	for _, tt := range []struct {
		name     string
		etag     []string
		modified string
		date     string
		want     Pin
	}{
		{"strong", []string{`"a"`}, "", now, Pin{Kind: StrongETag, Value: `"a"`}},
		{"strong before a date", []string{`"a"`}, old, now, Pin{Kind: StrongETag, Value: `"a"`}},
		{"odd, yet strong", []string{"\"!#~-/+=:\xc3\xa9\""}, "", now, Pin{Kind: StrongETag, Value: "\"!#~-/+=:\xc3\xa9\""}},
		{"as long as may be", []string{`"` + strings.Repeat("x", maxETag-2) + `"`}, "", now, Pin{Kind: StrongETag, Value: `"` + strings.Repeat("x", maxETag-2) + `"`}},
		{"a comma", []string{`"a,b"`}, "", now, Pin{Kind: StrongETag, Value: `"a,b"`, Unsent: true}},
		{"a date", nil, old, now, Pin{Kind: LastModified, Value: old}},
		{"a date and a weak tag", []string{`W/"a"`}, old, now, Pin{Kind: LastModified, Value: old, Tag: `W/"a"`}},
		{"a date and a malformed tag", []string{`a`}, old, now, Pin{Kind: LastModified, Value: old, Tag: `a`}},
		{"a date of another form", nil, "Tuesday, 24-Nov-26 10:00:00 GMT", now, Pin{Kind: LastModified, Value: "Tuesday, 24-Nov-26 10:00:00 GMT"}},
		{"a date and two tags", []string{`"a"`, `"b"`}, old, now, Pin{Kind: LastModified, Value: old}},
		{"a recent date", nil, recent, now, Pin{}},
		{"a date in the future", nil, now, old, Pin{}},
		{"a date and no clock", nil, old, "", Pin{}},
		{"no date", nil, "yesterday", now, Pin{}},
		{"a recent date and a weak tag", []string{`W/"a"`}, recent, now, Pin{}},
		{"no quotes", []string{`a`}, recent, now, Pin{Kind: OpaqueETag, Value: `a`, Unsent: true}},
		{"half a quote", []string{`"a`}, "", now, Pin{Kind: OpaqueETag, Value: `"a`, Unsent: true}},
		{"a space", []string{`"a b"`}, "", now, Pin{Kind: OpaqueETag, Value: `"a b"`, Unsent: true}},
		{"weak", []string{`W/"a"`}, "", now, Pin{}},
		{"weak and malformed", []string{`w/a`}, "", now, Pin{}},
		{"two", []string{`"a"`, `"b"`}, "", now, Pin{}},
		{"too long", []string{`"` + strings.Repeat("x", maxETag) + `"`}, "", now, Pin{}},
		{"not UTF-8", []string{"\"caf\xe9\""}, "", now, Pin{}},
		{"none", nil, "", now, Pin{}},
		{"empty", []string{`""`}, "", now, Pin{}},
		{"weak and empty", []string{`W/""`}, "", now, Pin{}},
		{"what a program wrote for none", []string{`null`}, "", now, Pin{}},
		{"the same in quotes", []string{`"undefined"`}, "", now, Pin{}},
		{"weak in quotes", []string{`"W/"a""`}, "", now, Pin{}},
		{"twice the same", []string{`"a"`, `"a"`}, "", now, Pin{Kind: StrongETag, Value: `"a"`}},
		{"a date that every version has", nil, "Thu, 01 Jan 1970 00:00:01 GMT", now, Pin{}},
		{"the same, with a weak tag", []string{`W/"a"`}, "Sat, 26 Oct 1985 08:15:00 GMT", now, Pin{}},
		{"a date in asctime's form", nil, "Tue Nov 24 10:00:00 2026", now, Pin{Kind: LastModified, Value: "Tue Nov 24 10:00:00 2026"}},
		{"a date with an offset", nil, "Tue, 24 Nov 2026 11:00:00 +0100", now, Pin{Kind: LastModified, Value: "Tue, 24 Nov 2026 11:00:00 +0100"}},
		{"a recent date with an offset", nil, "Tue, 24 Nov 2026 10:00:00 -0001", now, Pin{}},
		{"a date in UTC", nil, "Tue, 24 Nov 2026 10:00:00 UTC", now, Pin{Kind: LastModified, Value: "Tue, 24 Nov 2026 10:00:00 UTC"}},
		{"a date in a named zone", nil, "Tue, 24 Nov 2026 05:00:00 EST", now, Pin{}},
	} {
		h := http.Header{"Date": {tt.date}, "Etag": tt.etag}
		if tt.modified != "" {
			h.Set("Last-Modified", tt.modified)
		}
		if got := pinOf(h); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
		if h["Last-Modified"] = append(h["Last-Modified"], "Sun, 22 Nov 2026 10:00:00 GMT"); tt.want.Kind == LastModified && !pinOf(h).IsZero() && pinOf(h).Kind != OpaqueETag {
			t.Errorf("%s: got %+v with another date, want no date to pin", tt.name, pinOf(h))
		}
	}
}

func TestPinCompare(t *testing.T) {
	date := Pin{Kind: LastModified, Value: "then", Tag: `W/"a"`}
	for _, tt := range []struct {
		name        string
		pin         Pin
		h           http.Header
		same, other bool
	}{
		{"same tag", Pin{Kind: StrongETag, Value: `"a"`}, http.Header{"Etag": {`"a"`}}, true, false},
		{"other tag", Pin{Kind: StrongETag, Value: `"a"`}, http.Header{"Etag": {`"b"`}}, false, true},
		{"weak now", Pin{Kind: StrongETag, Value: `"a"`}, http.Header{"Etag": {`W/"a"`}}, false, true},
		{"no tag", Pin{Kind: StrongETag, Value: `"a"`}, http.Header{"Last-Modified": {"then"}}, false, false},
		{"two tags", Pin{Kind: StrongETag, Value: `"a"`}, http.Header{"Etag": {`"a"`, `"b"`}}, false, false},
		{"two dates", date, http.Header{"Last-Modified": {"then", "now"}, "Etag": {`W/"a"`}}, false, false},
		{"same date", date, http.Header{"Last-Modified": {"then"}, "Etag": {`W/"a"`}}, true, false},
		{"other date", date, http.Header{"Last-Modified": {"now"}, "Etag": {`W/"a"`}}, false, true},
		{"no date", date, http.Header{"Etag": {`W/"a"`}}, false, false},
		{"same date, other tag", date, http.Header{"Last-Modified": {"then"}, "Etag": {`W/"b"`}}, false, true},
		{"same date, no tag", date, http.Header{"Last-Modified": {"then"}}, false, false},
		{"same date, a tag that wasn't sent before", Pin{Kind: LastModified, Value: "then"}, http.Header{"Last-Modified": {"then"}, "Etag": {`W/"b"`}}, true, false},
	} {
		if same, other := tt.pin.compare(tt.h); same != tt.same || other != tt.other {
			t.Errorf("%s: got same %v, other %v, want %v, %v", tt.name, same, other, tt.same, tt.other)
		}
	}
}

func TestPinCondition(t *testing.T) {
	for _, tt := range []struct {
		pin  Pin
		want string
	}{
		{Pin{Kind: StrongETag, Value: `"a"`}, `map[If-Match:["a"]]`},
		{Pin{Kind: StrongETag, Value: `"a"`, Unsent: true}, `map[]`},
		{Pin{Kind: LastModified, Value: "then", Tag: `W/"a"`}, `map[If-Unmodified-Since:[then]]`},
		{Pin{Kind: OpaqueETag, Value: "a", Unsent: true}, `map[]`},
	} {
		h := http.Header{}
		tt.pin.condition(h)
		if got := fmt.Sprint(h); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.pin, got, tt.want)
		}
	}
}
