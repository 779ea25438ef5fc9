package bytesize

import "testing"

func TestSize(t *testing.T) {
	tests := []struct {
		text string
		size Size // 0: refused
		back string
	}{
		{"8MiB", 8 << 20, "8MiB"}, {"8M", 8 << 20, "8MiB"}, {"1GB", 1e9, "1000000000"}, {"5242880", 5 << 20, "5MiB"},
		{"6000KB", 6e6, "6000000"}, {"100 B", 100, "100"}, {"2GiB", 2 << 30, "2048MiB"},
		{"", 0, ""}, {"0", 0, ""}, {"-1MiB", 0, ""}, {"1.5MiB", 0, ""}, {"MiB", 0, ""}, {"9999999GiB", 0, ""},
	}
	for _, test := range tests {
		var s Size
		err := s.Set(test.text)
		if (err == nil) != (test.size > 0) || s != test.size || s.String() != test.back {
			t.Errorf("%q: got %d, %q, %v, want %d, %q", test.text, s, s.String(), err, test.size, test.back)
		}
	}
}

func TestFormat(t *testing.T) {
	for n, want := range map[int64]string{-1: "0 B", 0: "0 B", 1023: "1023 B", 1 << 20: "1.0 MiB", 38 << 20: "38 MiB", 3 << 29: "1.5 GiB"} {
		if got := Format(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
