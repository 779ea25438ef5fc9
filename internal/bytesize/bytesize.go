// Package bytesize reads and writes numbers of bytes for people: 8MiB, 1.5 GiB.
package bytesize

import (
	"errors"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// Size is a number of bytes that can be a flag: 8388608, 8MiB, 8M (the same) or
// 8MB (8,000,000).
type Size int64

// largest is S3's limit for an object, rounded up.
const largest = 50 << 40

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"B", 1}}

// String writes whole MiB as such and everything else in bytes; 0 is "".
func (s *Size) String() string {
	switch {
	case *s == 0:
		return ""
	case *s%(1<<20) == 0:
		return strconv.FormatInt(int64(*s)>>20, 10) + "MiB"
	}
	return strconv.FormatInt(int64(*s), 10)
}

// Set reads a positive size.
func (s *Size) Set(text string) error {
	unit := int64(1)
	for _, u := range units {
		if number, ok := strings.CutSuffix(text, u.suffix); ok {
			text, unit = number, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n <= 0 || n > largest/unit {
		return errors.New("not a size like 8MiB")
	}
	*s = Size(n * unit)
	return nil
}

// Format writes n for people, in units of 1024; what is below 0 counts as 0.
func Format(n int64) string {
	return humanize.IBytes(uint64(max(0, n)))
}
