// Package bearer verifies the JSON Web Tokens that callers of the REST API
// present in Authorization: Bearer TOKEN.
package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// ErrRefused: the token is not valid. The text that wraps it names the failed check and
// quotes nothing of the token.
var ErrRefused = errors.New("token refused")

const (
	// keysPause is the least time between two readings of the issuer's keys. A
	// token that names an unknown key starts one, and anyone can forge such a token.
	keysPause = time.Minute
	// retryPause replaces keysPause after a reading that failed: until the next one, a new
	// instance can authorize nobody.
	retryPause = 5 * time.Second
	// keysMaxAge is the time after which the keys are read again although all
	// tokens match, so that a key the issuer has withdrawn stops working.
	keysMaxAge = time.Hour
	// readTimeout bounds one reading; the function has 10 s.
	readTimeout = 5 * time.Second
	// skew is how far the issuer's clock may be ahead of this one.
	skew = time.Minute
	// maxDocument is the largest discovery document or set of keys that is read, in bytes.
	maxDocument = 1 << 20
)

// Algorithms with a public key; with a shared secret, anyone who has the keys could sign.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Verifier verifies the tokens of one issuer for one audience. It is safe for
// concurrent use.
type Verifier struct {
	Issuer   string // its keys are found by OpenID Connect discovery
	Audience string
	Client   *http.Client // reads the keys

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	readAt  time.Time // of the last reading, failed or not
	readErr error     // of the last reading
}

type claims struct {
	jwt.Claims
	// Of Amazon Cognito, whose access tokens have a client instead of an audience:
	// https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html
	ClientID string `json:"client_id"`
	TokenUse string `json:"token_use"`
}

// Verify returns the token's subject. The error is [ErrRefused], or the reason
// why the issuer's keys can't be read. Everything that can be checked without
// the keys is checked before they are read.
func (v *Verifier) Verify(ctx context.Context, token string) (subject string, err error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return "", fmt.Errorf("%w: not a signed token", ErrRefused)
	}
	var c claims
	if err := parsed.UnsafeClaimsWithoutVerification(&c); err != nil {
		return "", fmt.Errorf("%w: claims can't be read", ErrRefused)
	}
	if err := v.check(c); err != nil {
		return "", err
	}
	if err := v.verifySignature(ctx, parsed); err != nil {
		return "", err
	}
	return c.Subject, nil
}

func (v *Verifier) check(c claims) error {
	now := time.Now()
	switch {
	case c.Issuer != v.Issuer:
		return fmt.Errorf("%w: issuer", ErrRefused)
	case !v.isAudience(c):
		return fmt.Errorf("%w: audience", ErrRefused)
	case c.Subject == "":
		return fmt.Errorf("%w: no subject", ErrRefused)
	case c.Expiry == nil || !now.Before(c.Expiry.Time()):
		return fmt.Errorf("%w: expired", ErrRefused)
	case c.NotBefore != nil && now.Add(skew).Before(c.NotBefore.Time()),
		c.IssuedAt != nil && now.Add(skew).Before(c.IssuedAt.Time()):
		return fmt.Errorf("%w: not valid yet", ErrRefused)
	}
	return nil
}

func (v *Verifier) isAudience(c claims) bool {
	if len(c.Audience) > 0 {
		return c.Audience.Contains(v.Audience)
	}
	return c.TokenUse == "access" && c.ClientID == v.Audience
}

func (v *Verifier) verifySignature(ctx context.Context, token *jwt.JSONWebToken) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	age := time.Since(v.readAt)
	if v.readErr == nil && age < keysMaxAge && signedByOneOf(v.keys, token) {
		return nil
	}
	pause := keysPause
	if v.readErr != nil {
		pause = retryPause
	}
	if age >= pause {
		keys, err := v.readKeys(ctx)
		v.readAt, v.readErr = time.Now(), err
		if err == nil {
			v.keys = keys
		}
	}
	switch {
	case signedByOneOf(v.keys, token): // also where only the last reading failed
		return nil
	case v.readErr != nil:
		return v.readErr
	}
	return fmt.Errorf("%w: signature", ErrRefused)
}

func signedByOneOf(keys []jose.JSONWebKey, token *jwt.JSONWebToken) bool {
	header := token.Headers[0]
	for _, key := range keys {
		if header.KeyID != "" && header.KeyID != key.KeyID || key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if token.Claims(key.Key) == nil {
			return true
		}
	}
	return false
}

// readKeys finds the issuer's keys for signatures.
// https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
func (v *Verifier) readKeys(ctx context.Context) ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var provider struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := v.get(ctx, strings.TrimSuffix(v.Issuer, "/")+"/.well-known/openid-configuration", &provider); err != nil {
		return nil, fmt.Errorf("read the issuer's configuration: %w", err)
	}
	if provider.Issuer != v.Issuer {
		return nil, errors.New("read the issuer's configuration: it names another issuer")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := v.get(ctx, provider.JWKSURI, &set); err != nil {
		return nil, fmt.Errorf("read the issuer's keys: %w", err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		// One key of an unknown kind must not make the others useless.
		if json.Unmarshal(raw, &key) == nil && key.IsPublic() && (key.Use == "" || key.Use == "sig") {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("read the issuer's keys: none for signatures")
	}
	return keys, nil
}

func (v *Verifier) get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := v.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDocument)).Decode(into); err != nil {
		return errors.New("not JSON, or too large")
	}
	return nil
}
