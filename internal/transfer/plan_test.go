package transfer

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

const gib, tib = 1 << 30, 1 << 40

func TestNewPlan(t *testing.T) {
	for _, tt := range []struct {
		name            string
		size            int64
		parts, partSize int64
	}{
		{"one byte", 1, 1, 8 * mib},
		{"one part", 8 * mib, 1, 8 * mib},
		{"a byte more", 8*mib + 1, 2, 8 * mib},
		{"32 small parts", 256 * mib, 32, 8 * mib},
		{"a byte more than these", 256*mib + 1, 29, 9 * mib},
		{"1 GB", 1e9, 32, 30 * mib},
		{"32 large parts", 2 * gib, 32, 64 * mib},
		{"10 GB", 10e9, 150, 64 * mib},
		{"as many large parts as leave room for the marker", 9999 * 64 * mib, 9999, 64 * mib},
		{"a byte more than that", 9999*64*mib + 1, 9846, 65 * mib},
		{"5 TiB", 5 * tib, 9987, 525 * mib},
		{"48.8 TiB", 488 * tib / 10, 9999, 5118 * mib},
		{"as many of the largest parts as leave room for the marker", 9999 * 5 * gib, 9999, 5 * gib},
		{"the largest object there is", 10_000 * 5 * gib, 10_000, 5 * gib},
	} {
		p, err := NewPlan(tt.size, PartSize, LargePartSize)
		if err != nil || int64(p.Parts()) != tt.parts || p.PartSize != tt.partSize {
			t.Errorf("%s: got %d parts of %d bytes, %v, want %d of %d", tt.name, p.Parts(), p.PartSize, err, tt.parts, tt.partSize)
		}
	}
	const odd = 8*mib + 1 // is kept as long as it is large enough
	for size, want := range map[int64]int64{9999 * odd: odd, 9999*odd + 1: 9 * mib} {
		if p, err := NewPlan(size, odd, 0); err != nil || p.PartSize != want {
			t.Errorf("%d bytes: got parts of %d bytes, %v, want %d", size, p.PartSize, err, want)
		}
	}
	if _, err := NewPlan(MaxBytes+1, PartSize, LargePartSize); failure.CodeOf(err) != failure.TooLarge {
		t.Errorf("more than S3 takes: got %v, want %s", err, failure.TooLarge)
	}
}

// drawSize draws sizes near limits.
func drawSize(t *rapid.T) int64 {
	edge := rapid.SampledFrom([]int64{1, 5 * mib, 8 * mib, 9999 * 8 * mib, 10_000 * 8 * mib, gib, tib, 5 * tib, 488 * tib / 10, 9999 * 5 * gib, MaxBytes}).Draw(t, "edge")
	return min(max(edge+rapid.Int64Range(-3, 3).Draw(t, "by")*rapid.SampledFrom([]int64{1, mib, gib}).Draw(t, "unit"), 1), MaxBytes)
}

// Parts and segments cover a file exactly, within every limit of S3 and of the
// workflow.
func TestPlansCover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := drawSize(t)
		least := rapid.SampledFrom([]int64{5 * mib, 8 * mib, 8*mib + 1, 64 * mib, 5 * gib}).Draw(t, "least")
		segmentBytes := rapid.SampledFrom([]int64{1, 64 * mib, SegmentBytes, tib}).Draw(t, "segment")
		p, err := NewPlan(size, least, LargePartSize)
		if err != nil {
			t.Fatal(err)
		}
		parts := p.Parts()
		if parts < 1 || parts > MaxParts || p.PartSize < MinPartSize || p.PartSize > MaxPartSize {
			t.Fatalf("got %d parts of %d bytes", parts, p.PartSize)
		}
		if parts == MaxParts && size <= (MaxParts-1)*MaxPartSize && least < MaxPartSize {
			t.Fatalf("got %d parts, want the marker's number left free", parts)
		}
		var at int64
		for n := int32(1); n <= parts; n++ {
			start, end := p.span(n)
			if start != at || end <= start || end-start > MaxPartSize || n < parts && end-start < MinPartSize {
				t.Fatalf("part %d is %d to %d, want it from %d", n, start, end, at)
			}
			at = end
		}
		if at != size {
			t.Fatalf("the parts end at %d, want %d", at, size)
		}
		next := int32(1)
		segments := p.Segments(segmentBytes)
		for _, s := range segments {
			if s.First != next || s.Last < s.First {
				t.Fatalf("got segment %v, want it from %d", s, next)
			}
			next = s.Last + 1
		}
		if next != parts+1 || len(segments) > maxSegments {
			t.Fatalf("%d segments end at %d, want at most %d and %d", len(segments), next-1, maxSegments, parts)
		}
	})
}

// Work has exactly the missing parts, in segments that begin and end with one.
func TestWorkHasWhatIsMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := NewPlan(drawSize(t), PartSize, LargePartSize)
		if err != nil {
			t.Fatal(err)
		}
		c := &Copier{SegmentBytes: rapid.SampledFrom([]int64{8 * mib, gib, SegmentBytes}).Draw(t, "segment")}
		have := map[int32]part{}
		keep := rapid.IntRange(1, 7).Draw(t, "keep")
		for n := int32(1); n <= p.Parts(); n++ {
			if int(n)%keep == 0 {
				have[n] = part{}
			}
		}
		left := missing(Segment{1, p.Parts()}, have)
		if len(left)+len(have) != int(p.Parts()) {
			t.Fatalf("got %d missing and %d there of %d", len(left), len(have), p.Parts())
		}
		w := c.work(p, left)
		if w.Missing != len(left) || len(w.Segments) > maxSegments {
			t.Fatalf("got %d missing in %d segments, want %d in at most %d", w.Missing, len(w.Segments), len(left), maxSegments)
		}
		var covered []int32
		for _, s := range w.Segments {
			m := missing(s, have)
			if len(m) == 0 || m[0] != s.First || m[len(m)-1] != s.Last {
				t.Fatalf("segment %v begins or ends with a part that is there", s)
			}
			covered = append(covered, m...)
		}
		if !slices.Equal(covered, left) {
			t.Fatalf("the segments have %d of %d missing parts", len(covered), len(left))
		}
	})
}

// The state of the largest file there is stays far below the 256 KiB that Step
// Functions takes. The plan has the speed that it demands of the origin.
func TestStateOfTheLargestFile(t *testing.T) {
	p, err := NewPlan(MaxBytes, PartSize, LargePartSize)
	if err != nil {
		t.Fatal(err)
	}
	p.Key, p.UploadID = strings.Repeat("k", 100), strings.Repeat("u", 256)
	p.Pin = origin.Pin{Kind: origin.LastModified, Value: "Tue, 24 Nov 2026 10:00:00 GMT", Tag: `W/"` + strings.Repeat("e", 1020) + `"`}
	p.Digest = "sha-512=:" + strings.Repeat("A", 88) + ":"
	var left []int32
	for n := int32(1); n <= p.Parts(); n++ {
		left = append(left, n)
	}
	state, err := json.Marshal(Outcome{Work: (&Copier{SegmentBytes: SegmentBytes}).work(p, left)})
	if err != nil {
		t.Fatal(err)
	}
	if len(state) > 32*kib {
		t.Errorf("got a state of %d bytes, want at most 32 KiB", len(state))
	}
	// A part of 5 GiB in a run of 13 minutes, on each connection.
	if got, want := p.slowestOrigin(13*time.Minute), int64(5*gib/780); got != want {
		t.Errorf("got %d bytes a second as the slowest origin, want %d", got, want)
	}
	if small, _ := NewPlan(tib, PartSize, LargePartSize); small.slowestOrigin(13*time.Minute) > 256*kib {
		t.Errorf("1 TiB asks for %d bytes a second, want less than 256 KiB", small.slowestOrigin(13*time.Minute))
	}
}

func TestMarkerTellsPlansApart(t *testing.T) {
	u, _ := url.Parse("https://o.example/a?b=1")
	other, _ := url.Parse("https://o.example/a?b=2")
	base := Plan{Key: "k", UploadID: "u", Size: 1 << 30, PartSize: 8 * mib, Pin: origin.Pin{Kind: origin.StrongETag, Value: `"v1"`}}
	seen := map[string]string{}
	for name, m := range map[string][]byte{
		"base":      marker(u, base),
		"url":       marker(other, base),
		"size":      marker(u, Plan{Size: base.Size + 1, PartSize: base.PartSize, Pin: base.Pin}),
		"part size": marker(u, Plan{Size: base.Size, PartSize: base.PartSize + 1, Pin: base.Pin}),
		"version":   marker(u, Plan{Size: base.Size, PartSize: base.PartSize, Pin: origin.Pin{Kind: origin.StrongETag, Value: `"v2"`}}),
	} {
		if prior, ok := seen[string(m)]; ok {
			t.Errorf("%s and %s have the same marker", name, prior)
		}
		seen[string(m)] = name
		if strings.Contains(string(m), "o.example") {
			t.Errorf("%s: the marker has the URL in it: %s", name, m)
		}
	}
}

func TestSums(t *testing.T) {
	// The check value of CRC-64/NVME, and its base64.
	var s sums
	_, _ = s.Write([]byte("123456789"))
	if s.crc64 != 0xae8b14860a799888 || s.base64CRC64() != "rosUhgp5mIg=" {
		t.Errorf("got %x %s, want ae8b14860a799888 rosUhgp5mIg=", s.crc64, s.base64CRC64())
	}
	if got, ok := parseCRC64("rosUhgp5mIg="); !ok || got != s.crc64 {
		t.Errorf("got %x, %v", got, ok)
	}
	for _, bad := range []string{"", "!", "AAAA"} {
		if _, ok := parseCRC64(bad); ok {
			t.Errorf("%q was taken for a CRC-64", bad)
		}
		if _, ok := parseCRC32(bad + "AAAAAA=="); ok && bad != "" {
			t.Errorf("%q was taken for a CRC-32", bad)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "bytes")
		cut := rapid.IntRange(0, len(b)).Draw(t, "cut")
		var whole, first, second sums
		_, _ = whole.Write(b)
		_, _ = first.Write(b[:cut])
		_, _ = second.Write(b[cut:])
		if got := CombineCRC64(first.crc64, second.crc64, int64(len(b)-cut)); got != whole.crc64 {
			t.Fatalf("got %x for %d and %d bytes, want %x", got, cut, len(b)-cut, whole.crc64)
		}
	})
}

func TestDisposition(t *testing.T) {
	for name, want := range map[string]string{
		"":                                  `attachment; filename="download"`,
		"r.csv":                             `attachment; filename="r.csv"`,
		"a b.csv":                           `attachment; filename="a b.csv"`,
		`a"b\c.csv`:                         `attachment; filename="a_b_c.csv"`,
		"../../etc/passwd":                  `attachment; filename="_.._etc_passwd"`,
		"a\r\nX-Evil: 1":                    `attachment; filename="aX-Evil_ 1"`,
		"100%.txt":                          `attachment; filename="100_.txt"; filename*=UTF-8''100%25.txt`,
		"€.csv":                             `attachment; filename="_.csv"; filename*=UTF-8''%E2%82%AC.csv`,
		"photo\u202egpj.exe":                `attachment; filename="photogpj.exe"`,
		"a\u2066b\u200fc.txt":               `attachment; filename="abc.txt"`,
		"...":                               `attachment; filename="download"`,
		" . ":                               `attachment; filename="download"`,
		"\xff.txt":                          `attachment; filename="_.txt"`,
		"a\u00a0b":                          `attachment; filename="a b"`,
		"a\u3000b":                          `attachment; filename="a_b"; filename*=UTF-8''a%E3%80%80b`,
		"\u3000a.txt\u200d":                 `attachment; filename="a.txt"`,
		"\U0001f469\u200d\U0001f4bb.txt":    `attachment; filename="___.txt"; filename*=UTF-8''%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB.txt`,
		"a\u200cb.txt":                      `attachment; filename="a_b.txt"; filename*=UTF-8''a%E2%80%8Cb.txt`,
		"a\u061cb\u00ad\u200bc.txt":         `attachment; filename="abc.txt"`,
		"\u200d":                            `attachment; filename="download"`,
		"con<>:|?*.txt":                     `attachment; filename="con______.txt"`,
		"€azAZ09!~":                         `attachment; filename="_azAZ09!~"; filename*=UTF-8''%E2%82%ACazAZ09!~`,
		strings.Repeat("x", 250) + " .csv":  `attachment; filename="` + strings.Repeat("x", 250) + ` .csv"`,
		strings.Repeat("x", 250) + " .jpeg": `attachment; filename="` + strings.Repeat("x", 250) + `.jpeg"`,
		strings.Repeat("x", 300) + "." + strings.Repeat("y", 19): `attachment; filename="` + strings.Repeat("x", 235) + "." + strings.Repeat("y", 19) + `"`,
		strings.Repeat("x", 300) + "." + strings.Repeat("y", 20): `attachment; filename="` + strings.Repeat("x", 255) + `"`,
		strings.Repeat("x", 300) + ".csv":                        `attachment; filename="` + strings.Repeat("x", 251) + `.csv"`,
	} {
		if got := Disposition(name); got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
}

func FuzzDisposition(f *testing.F) {
	for _, s := range []string{"r.csv", `"`, "\\", "a/b", "\r\n", "\x00", "€", "\u202e", "%", "'", strings.Repeat("é", 200), "\xc3", ".", "a.b.c", "=?UTF-8?B?4oKs?="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		d := Disposition(name)
		for i := 0; i < len(d); i++ {
			if d[i] < ' ' || d[i] > '~' {
				t.Fatalf("%q: got byte %x in %q", name, d[i], d)
			}
		}
		kind, params, err := mime.ParseMediaType(d)
		if err != nil || kind != "attachment" {
			t.Fatalf("%q: got %q, which reads as %s, %v", name, d, kind, err)
		}
		safe := FileName(name)
		if got := params["filename"]; got != safe {
			t.Fatalf("%q: a client reads %q of %q, want %q", name, got, d, safe)
		}
		if len(safe) == 0 || len(safe) > maxName || !utf8.ValidString(safe) || strings.ContainsAny(safe, "/\\\"\r\n\x00") || safe == "." || safe == ".." {
			t.Fatalf("%q: got file name %q", name, safe)
		}
		if twice := FileName(safe); twice != safe {
			t.Fatalf("%q: got %q, then %q", name, safe, twice)
		}
	})
}

func TestHeadersFitForS3(t *testing.T) {
	for in, want := range map[string]string{
		"text/plain": "text/plain", "": "application/octet-stream", "garbage garbage": "application/octet-stream",
		"text/html; charset=utf-8": "text/html; charset=utf-8", "Application/X-Tar": "Application/X-Tar", "text/html;": "text/html;",
		"text/plain; charset=\"é\"": "text/plain", "text/plain; charset": "text/plain", "text/plain; a=b c; d": "text/plain", " text/plain ;;=": "text/plain",
		"text/plain; a=" + strings.Repeat("b", 242): "text/plain; a=" + strings.Repeat("b", 242),
		"text/plain; a=" + strings.Repeat("b", 243): "text/plain",
		"a/" + strings.Repeat("b", 254):             "a/" + strings.Repeat("b", 254), "a/" + strings.Repeat("b", 255): "application/octet-stream",
		"pdf": "application/octet-stream", "*/*": "application/octet-stream", "image/*": "application/octet-stream", "/": "application/octet-stream",
		"text/": "application/octet-stream", "text/plain/x": "application/octet-stream", "text/pläin": "application/octet-stream",
		"text/plain\nx": "application/octet-stream",
	} {
		if got := contentType(in); got != want {
			t.Errorf("content type %q: got %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		strings.Repeat("x", 256): strings.Repeat("x", 256), strings.Repeat("x", 257): "",
		"gzip": "gzip", "identity": "", " Identity ": "", "": "", "é": "",
		"aws-chunked": "", "AWS-Chunked": "", "aws-chunked,gzip": "gzip", "gzip, aws-chunked": "gzip", "gzip,br": "gzip, br", "identity, aws-chunked,": "",
	} {
		if got := contentEncoding(in); got != want {
			t.Errorf("content encoding %q: got %q, want %q", in, got, want)
		}
	}
	if got := header("\x1f ~\x7f"); got != "? ~?" {
		t.Errorf("got a metadata value %q", got)
	}
	if got := header("\"\xc3\xa9\n" + strings.Repeat("x", 1000)); len(got) != 512 || strings.Contains(got, "\n") || strings.Contains(got, "\xc3") {
		t.Errorf("got a metadata value %q", fmt.Sprint(got[:10], len(got)))
	}
}
