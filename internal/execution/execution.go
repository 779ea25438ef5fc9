// Package execution names the executions of the download state machine. A name has 128
// bits, random or derived from an idempotency key, so that the ARN can't be guessed.
// Everything else that belongs to a download (item, object, log lines) is found by its name.
package execution

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

var name = regexp.MustCompile(`^[0-9a-f]{32}$`)

// NewName returns a new name: 32 hexadecimal digits.
func NewName() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: see crypto/rand
	return hex.EncodeToString(b[:])
}

// NameFor returns the name of the download that a caller, "" if there is no
// authorization, asked for with an idempotency key: the same for the same two. It
// can be guessed by anyone who can guess the key.
func NameFor(caller, key string) string {
	sum := sha256.Sum256([]byte("name\x00" + caller + "\x00" + key))
	return hex.EncodeToString(sum[:16])
}

// ARN returns the ARN of the execution called name of a state machine:
// arn:…:stateMachine:M becomes arn:…:execution:M:name.
func ARN(stateMachineARN, name string) string {
	return strings.Replace(stateMachineARN, ":stateMachine:", ":execution:", 1) + ":" + name
}

// ParseARN returns the name in arn, and whether [ARN] could have returned arn for this
// state machine.
func ParseARN(stateMachineARN, arn string) (string, bool) {
	n, ours := strings.CutPrefix(arn, ARN(stateMachineARN, ""))
	return n, ours && IsName(n)
}

// IsName reports whether [NewName] could have returned s.
func IsName(s string) bool { return name.MatchString(s) }

// Logged returns a name that a client sent as a log may have it: "" for anything else,
// which may be a ticket in the wrong place, or long.
func Logged(s string) string {
	if !IsName(s) {
		return ""
	}
	return s
}

// NameFromARN returns the part of an ARN after the last colon, which is not checked.
func NameFromARN(arn string) string { return arn[strings.LastIndexByte(arn, ':')+1:] }
