// Package ticket implements the secret that a client may have to present in addition
// to an execution's ARN. It is in the answer to /download and nowhere else; the
// item and the object keep only its hash.
package ticket

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
)

const (
	// Header carries the ticket of clients that can set headers.
	Header = "X-Download-Ticket"
	// Query carries it for the others, such as a browser that opens a socket.
	Query = "ticket"
)

// New returns a ticket, 128 random bits in hexadecimal, and its hash.
func New() (secret, hash string) {
	var b [16]byte
	rand.Read(b[:]) // never fails: see crypto/rand
	secret = hex.EncodeToString(b[:])
	return secret, Hash(secret)
}

// For returns the ticket, and its hash, of the download that a caller asked for with
// an idempotency key, so that a repeated request gets the ticket of the first one.
func For(caller, key string) (secret, hash string) {
	sum := sha256.Sum256([]byte("ticket\x00" + caller + "\x00" + key))
	secret = hex.EncodeToString(sum[:16])
	return secret, Hash(secret)
}

// Hash returns the SHA-256 of a ticket in hexadecimal. 128 random bits need neither
// salt nor stretching.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Opens reports, in constant time, whether secret is the ticket with this hash. If
// the download has no ticket, hash is "", and any secret opens it unless a ticket
// is required.
func Opens(secret, hash string, required bool) bool {
	if hash == "" {
		return !required
	}
	return subtle.ConstantTimeCompare([]byte(Hash(secret)), []byte(hash)) == 1
}
