// Package ticket is the secret that a client may have to show beside an
// execution's ARN. It is given out once, in the answer to GET /download; only
// its hash is kept, in the item and with the object.
package ticket

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
)

const (
	// Header carries the ticket where a client can set headers.
	Header = "X-Download-Ticket"
	// Query carries it where a client can't: a browser that opens a socket.
	Query = "ticket"
	// Meta is the object's metadata that holds the hash.
	Meta = "ticket-hash"
)

// New returns a ticket, 128 random bits in hexadecimal, and its hash.
func New() (secret, hash string) {
	var b [16]byte
	rand.Read(b[:]) // never fails: see crypto/rand
	secret = hex.EncodeToString(b[:])
	return secret, Hash(secret)
}

// Hash is the SHA-256 of a ticket in hexadecimal. 128 random bits need neither
// salt nor stretching.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Opens says whether secret is the ticket with this hash, in a time that tells
// nothing of either. Where none was given out, hash "", every secret opens,
// unless required.
func Opens(secret, hash string, required bool) bool {
	if hash == "" {
		return !required
	}
	return subtle.ConstantTimeCompare([]byte(Hash(secret)), []byte(hash)) == 1
}
