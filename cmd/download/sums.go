package main

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"strings"

	crc "github.com/minio/crc64nvme"
)

// crc64nvme is the one checksum that S3 makes of whole objects however they were
// uploaded.
const crc64nvme = "crc64nvme"

// digests are the origin's that can be verified, the best first.
var digests = []struct {
	name string
	new  func() hash.Hash
}{
	{"sha-512", sha512.New},
	{"sha-256", sha256.New},
	{"md5", md5.New},
}

// sums verifies a file's bytes, written to it in order, by the checksum of the
// storage and a digest of the origin, as far as the link has them.
type sums struct {
	checks []check
}

type check struct {
	name string // as in the link
	from string // who gave it
	hash hash.Hash
	want []byte
}

// newSums skips what it can't verify: an S3 checksum of a composite object, a sum
// of sums with the number of parts behind it, says nothing about the bytes alone.
func newSums(l link) *sums {
	s := &sums{}
	add := func(name, from, text string, h hash.Hash) bool {
		want, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(want) != h.Size() {
			return false
		}
		s.checks = append(s.checks, check{name, from, h, want})
		return true
	}
	add(crc64nvme, "storage", l.Checksum[crc64nvme], crc.New())
	for _, d := range digests {
		if add(d.name, "origin", l.Digest[d.name], d.new()) {
			break
		}
	}
	return s
}

func (s *sums) Write(p []byte) (int, error) {
	for _, c := range s.checks {
		c.hash.Write(p)
	}
	return len(p), nil
}

// verify returns the names of the checks that passed, and a [problem] for one
// that failed.
func (s *sums) verify() (names []string, err error) {
	for _, c := range s.checks {
		if !bytes.Equal(c.hash.Sum(nil), c.want) {
			return nil, exitError(exitChecksum, "the bytes don't have the %s that the %s gave for them", strings.ToUpper(c.name), c.from)
		}
		names = append(names, c.name)
	}
	return names, nil
}
