package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
)

// blockSize is small enough for the processor's second-level cache, and large
// enough that the cost of mixing in the block's number doesn't matter.
const blockSize = 64 << 10

// noise is one block of pseudo-random words, the same in every process.
var noise = func() (words [blockSize / 8]uint64) {
	source := rand.NewPCG(0x6f726967, 0x696e)
	for i := range words {
		words[i] = source.Uint64()
	}
	return words
}()

// content is a computed file: block n is the noise, with each word XORed with a
// value mixed from n, the size, and the version. No two blocks are equal, so a
// test detects bytes at a wrong offset and a mix of two versions.
type content struct {
	size    int64
	version uint64
	offset  int64
}

func newContent(size int64, version uint64) *content {
	return &content{size: size, version: version}
}

func (c *content) Read(p []byte) (int, error) {
	if c.offset >= c.size {
		return 0, io.EOF
	}
	if left := c.size - c.offset; int64(len(p)) > left {
		p = p[:left]
	}
	done := 0
	for done < len(p) {
		n := c.fill(p[done:])
		done += n
		c.offset += int64(n)
	}
	return done, nil
}

// fill writes bytes from the offset to the end of its block, or of p.
func (c *content) fill(p []byte) int {
	key := mix(mix(uint64(c.size))^mix(c.version+1)) ^ mix(uint64(c.offset/blockSize)+1)
	at := int(c.offset % blockSize)
	p = p[:min(len(p), blockSize-at)]

	done := 0
	if ragged := at % 8; ragged != 0 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], noise[at/8]^key)
		done = copy(p, word[ragged:])
	}
	for ; len(p)-done >= 8; done += 8 {
		binary.LittleEndian.PutUint64(p[done:], noise[(at+done)/8]^key)
	}
	if done < len(p) {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], noise[(at+done)/8]^key)
		done += copy(p[done:], word[:])
	}
	return done
}

func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.offset
	case io.SeekEnd:
		offset += c.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	c.offset = offset
	return offset, nil
}

func (c *content) sha256() [sha256.Size]byte {
	h := sha256.New()
	io.Copy(h, newContent(c.size, c.version)) // neither side can fail
	return [sha256.Size]byte(h.Sum(nil))
}

// mix is the finalizer of SplitMix64: every bit of x changes about half of the
// bits of the result.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
