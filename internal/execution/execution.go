// Package execution names the executions of the download state machine. A name
// is 128 random bits, so the ARN can't be guessed, and everything else that
// belongs to a download (item, object, log lines) is found by it.
package execution

import (
	"crypto/rand"
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

// ARN returns the ARN of the execution called name of a state machine:
// arn:…:stateMachine:M becomes arn:…:execution:M:name.
func ARN(stateMachineARN, name string) string {
	return strings.Replace(stateMachineARN, ":stateMachine:", ":execution:", 1) + ":" + name
}

// Name returns the name in arn, and whether arn is one that [ARN] could have
// made for this state machine.
func Name(stateMachineARN, arn string) (string, bool) {
	n, ours := strings.CutPrefix(arn, ARN(stateMachineARN, ""))
	return n, ours && IsName(n)
}

// IsName says whether s is a name that [NewName] could have made.
func IsName(s string) bool { return name.MatchString(s) }

// NameOf returns what stands after the last colon of an ARN.
func NameOf(arn string) string { return arn[strings.LastIndexByte(arn, ':')+1:] }
