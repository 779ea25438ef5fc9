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
func New() (secret, hashed string) {
	var b [16]byte
	rand.Read(b[:]) // never fails: see crypto/rand
	secret = hex.EncodeToString(b[:])
	return secret, hash(secret)
}

// For returns the ticket, and its hash, of the download that a caller asked for with
// an idempotency key, so that a repeated request gets the ticket of the first one.
func For(caller, key string) (secret, hashed string) {
	sum := sha256.Sum256([]byte("ticket\x00" + caller + "\x00" + key))
	secret = hex.EncodeToString(sum[:16])
	return secret, hash(secret)
}

// hash returns the SHA-256 of a ticket in hexadecimal. 128 random bits need neither
// salt nor stretching.
func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Opens reports, in constant time, whether secret is the ticket with this hash. hashed is
// "" for a download without a ticket, which any secret opens unless a ticket is required.
func Opens(secret, hashed string, required bool) bool {
	if hashed == "" {
		return !required
	}
	return subtle.ConstantTimeCompare([]byte(hash(secret)), []byte(hashed)) == 1
}
