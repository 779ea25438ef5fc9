package transfer

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strconv"

	"github.com/minio/crc64nvme"
)

// sums are the checksums of the bytes that are written to it. The CRC-64 of a
// whole object follows from those of its parts; the CRC-32 is for stores that
// know only the other kind of checksum of a multipart object.
type sums struct {
	crc64  uint64
	crc32  uint32
	with32 bool // the CRC-32 too; each costs some 0.08 s/GB
}

// Write appends p's bytes. It can't fail.
func (s *sums) Write(p []byte) (int, error) {
	s.crc64 = crc64nvme.Update(s.crc64, p)
	if s.with32 {
		s.crc32 = crc32.Update(s.crc32, crc32.IEEETable, p)
	}
	return len(p), nil
}

func (s sums) base64CRC64() string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, s.crc64))
}

func (s sums) base64CRC32() string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, s.crc32))
}

func parseCRC64(s string) (uint64, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}

func parseCRC32(s string) (uint32, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

// composite is S3's checksum of a multipart object's checksums: the CRC-32 of
// the parts' CRC-32s, and their number.
func composite(parts []uint32) string {
	var all []byte
	for _, p := range parts {
		all = binary.BigEndian.AppendUint32(all, p)
	}
	s := sums{crc32: crc32.ChecksumIEEE(all)}
	return s.base64CRC32() + "-" + strconv.Itoa(len(parts))
}

// CombineCRC64 returns the CRC-64/NVME of a and b in a row, from a's, b's and b's
// length. Appending n zero bytes multiplies a CRC by x^8n modulo the polynomial;
// this is zlib's crc32_combine with 64 bits.
// https://github.com/madler/zlib/blob/v1.3.1/crc32.c
func CombineCRC64(a, b uint64, length int64) uint64 {
	return multiply64(power64(uint64(length)), a) ^ b
}

// one is the polynomial 1: the bits are reflected, x^0 is the highest.
const one = uint64(1) << 63

// multiply64 multiplies two polynomials modulo NVME's.
func multiply64(a, b uint64) uint64 {
	var product uint64
	for m := one; m != 0; m >>= 1 {
		if a&m != 0 {
			product ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ crc64nvme.NVME
		} else {
			b >>= 1
		}
	}
	return product
}

// power64 returns x^8n modulo the polynomial.
func power64(n uint64) uint64 {
	square := one >> 8 // x^8
	p := one
	for ; n != 0; n >>= 1 {
		if n&1 != 0 {
			p = multiply64(square, p)
		}
		square = multiply64(square, square)
	}
	return p
}
