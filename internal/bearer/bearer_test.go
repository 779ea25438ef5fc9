package bearer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	issuer   = "https://issuer.example/pool"
	audience = "files"
)

// provider is an OpenID Connect provider that answers in process and counts the readings of its keys.
type provider struct {
	names    string // the issuer its configuration names
	keys     []any  // what its key set holds
	status   int    // of the key set; 0 is 200
	readings int
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	switch r.URL.String() {
	case issuer + "/.well-known/openid-configuration":
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"https://keys.example/set"}`, p.names)
	case "https://keys.example/set":
		p.readings++
		if p.status != 0 {
			w.WriteHeader(p.status)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": p.keys})
	default:
		return nil, fmt.Errorf("the provider has no %s", r.URL)
	}
	return w.Result(), nil
}

var (
	rsaKey   = must(rsa.GenerateKey(rand.Reader, 2048))
	otherRSA = must(rsa.GenerateKey(rand.Reader, 2048))
	ecKey    = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func public(id string, key any) jose.JSONWebKey {
	return jose.JSONWebKey{KeyID: id, Key: key, Use: "sig"}
}

type tokenClaims = map[string]any

// sign returns a token that is valid except for the changes; a claim changed to nil is omitted.
func sign(alg jose.SignatureAlgorithm, id string, key any, changes tokenClaims) string {
	c := tokenClaims{"iss": issuer, "aud": audience, "sub": "somebody", "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range changes {
		c[name] = value
		if value == nil {
			delete(c, name)
		}
	}
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{KeyID: id, Key: key}}, nil))
	return must(jwt.Signed(signer).Claims(c).Serialize())
}

func newVerifier() (*Verifier, *provider) {
	p := &provider{names: issuer, keys: []any{
		map[string]any{"kty": "of an unknown kind", "kid": "0"},
		public("1", &rsaKey.PublicKey), public("2", &ecKey.PublicKey),
	}}
	return &Verifier{Issuer: issuer, Audience: audience, Client: &http.Client{Transport: p}}, p
}

func TestVerify(t *testing.T) {
	now := time.Now()
	good := sign("RS256", "1", rsaKey, nil)
	header, rest, _ := strings.Cut(good, ".")
	payload, _, _ := strings.Cut(rest, ".")
	// The claims of a Cognito access token as the documentation shows them; it has no aud.
	cognito := func(changes tokenClaims) string {
		c := tokenClaims{"aud": nil, "client_id": audience, "token_use": "access", "scope": "openid", "origin_jti": "a-b",
			"cognito:groups": []string{"g"}, "version": 2, "auth_time": now.Unix(), "jti": "c", "username": "my-test-user"}
		for name, value := range changes {
			c[name] = value
		}
		return sign("RS256", "1", rsaKey, c)
	}
	readsKeys := func(reads bool, name, token, want string) { // want "" accepts the token
		t.Run(name, func(t *testing.T) {
			v, p := newVerifier()
			subject, err := v.Verify(t.Context(), token)
			switch {
			case want == "":
				if err != nil || subject != "somebody" {
					t.Errorf("got %q, %v, want somebody", subject, err)
				}
			case !errors.Is(err, ErrRefused) || !strings.HasSuffix(err.Error(), ": "+want) || subject != "":
				t.Errorf("got %q, %v, want it refused: %s", subject, err, want)
			}
			if (p.readings > 0) != reads {
				t.Errorf("readings of the keys: got %d, want %v", p.readings, reads)
			}
		})
	}
	with := func(name string, value any) string { return sign("RS256", "1", rsaKey, tokenClaims{name: value}) }

	readsKeys(true, "right", good, "")
	readsKeys(true, "elliptic curve", sign("ES256", "2", ecKey, nil), "")
	readsKeys(true, "without a key id", sign("RS256", "", rsaKey, nil), "")
	readsKeys(true, "several audiences", with("aud", []string{"mail", audience}), "")
	readsKeys(true, "issuer's clock ahead", with("nbf", now.Add(30*time.Second).Unix()), "")
	readsKeys(true, "Cognito access token", cognito(nil), "")

	readsKeys(true, "another key", sign("RS256", "1", otherRSA, nil), "signature")
	readsKeys(true, "unknown key id", sign("RS256", "9", rsaKey, nil), "signature")
	readsKeys(true, "claims changed", header+"."+strings.Split(with("sub", "root"), ".")[1]+good[strings.LastIndex(good, "."):], "signature")

	readsKeys(false, "empty", "", "not a signed token")
	readsKeys(false, "no token", "x.y.z", "not a signed token")
	readsKeys(false, "unsigned", "eyJhbGciOiJub25lIn0."+payload+".", "not a signed token")
	readsKeys(false, "signed with a shared secret", sign("HS256", "1", []byte(strings.Repeat("s", 32)), nil), "not a signed token")
	readsKeys(false, "claims are no object", must(must(jose.NewSigner(jose.SigningKey{Algorithm: "RS256", Key: rsaKey}, nil)).Sign([]byte("1"))).FullSerialize(), "not a signed token")
	readsKeys(false, "other issuer", with("iss", "https://elsewhere.example"), "issuer")
	readsKeys(false, "other audience", with("aud", "mail"), "audience")
	readsKeys(false, "no audience", with("aud", nil), "audience")
	readsKeys(false, "Cognito, another client", cognito(tokenClaims{"client_id": "mail"}), "audience")
	readsKeys(false, "Cognito, ID token", cognito(tokenClaims{"token_use": "id"}), "audience")
	readsKeys(false, "Cognito, no token_use", cognito(tokenClaims{"token_use": nil}), "audience")
	readsKeys(false, "another audience in addition to the client", cognito(tokenClaims{"aud": "mail"}), "audience")
	readsKeys(false, "no subject", with("sub", nil), "no subject")
	readsKeys(false, "empty subject", with("sub", ""), "no subject")
	readsKeys(false, "expired", with("exp", now.Add(-time.Second).Unix()), "expired")
	readsKeys(false, "no expiry", with("exp", nil), "expired")
	readsKeys(false, "not valid yet", with("nbf", now.Add(2*time.Minute).Unix()), "not valid yet")
	readsKeys(false, "issued in the future", with("iat", now.Add(2*time.Minute).Unix()), "not valid yet")
}

// Anyone can forge a token that only the keys can refuse: its claims are no secret.
func TestForgedTokensDoNotReadTheKeysEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, p := newVerifier()
		good := sign("RS256", "1", rsaKey, nil)
		for range 2 {
			before := p.readings
			var all sync.WaitGroup
			for i := range 100 {
				id := []string{"1", "", fmt.Sprint("forged-", i)}[i%3]
				all.Go(func() {
					if _, err := v.Verify(t.Context(), sign("RS256", id, otherRSA, nil)); !errors.Is(err, ErrRefused) {
						t.Errorf("key id %q: got %v, want it refused", id, err)
					}
				})
			}
			all.Wait()
			if got := p.readings - before; got != 1 {
				t.Errorf("100 forged tokens: got %d readings of the keys, want 1", got)
			}
			if _, err := v.Verify(t.Context(), good); err != nil {
				t.Errorf("a good token: got %v, want nil", err)
			}
			time.Sleep(keysPause)
		}
	})
}

func TestKeysChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, p := newVerifier()
		verify := func(what, token string, accepted bool) {
			t.Helper()
			if _, err := v.Verify(t.Context(), token); (err == nil) != accepted {
				t.Errorf("%s: got %v, want accepted %v", what, err, accepted)
			}
		}
		lasting := tokenClaims{"exp": time.Now().Add(24 * time.Hour).Unix()}
		old, successor := sign("RS256", "1", rsaKey, lasting), sign("RS256", "3", otherRSA, lasting)
		verify("old key", old, true)
		p.keys = []any{public("3", &otherRSA.PublicKey)}
		verify("new key, the keys just read", successor, false)
		verify("withdrawn key, for at most an hour", old, true)
		time.Sleep(keysPause)
		verify("new key a minute later", successor, true)
		verify("withdrawn key", old, false)

		p.keys = []any{public("1", &rsaKey.PublicKey)}
		time.Sleep(keysMaxAge)
		verify("withdrawn key after an hour, though it matches", successor, false)
	})
}

func TestKeysCanNotBeRead(t *testing.T) {
	for name, fail := range map[string]func(*provider){
		"status":         func(p *provider) { p.status = http.StatusServiceUnavailable },
		"other issuer":   func(p *provider) { p.names = "https://elsewhere.example" },
		"no key to sign": func(p *provider) { p.keys = []any{jose.JSONWebKey{Key: &rsaKey.PublicKey, KeyID: "1", Use: "enc"}} },
		"shared secret":  func(p *provider) { p.keys = []any{jose.JSONWebKey{Key: []byte("secret"), KeyID: "1"}} },
		"too large":      func(p *provider) { p.keys = append([]any{strings.Repeat("x", maxDocument)}, p.keys...) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, p := newVerifier()
				good := sign("RS256", "1", rsaKey, tokenClaims{"exp": time.Now().Add(24 * time.Hour).Unix()})
				working := *p
				fail(p)
				for range 100 {
					if _, err := v.Verify(t.Context(), good); err == nil || errors.Is(err, ErrRefused) {
						t.Fatalf("got %v, want an error that isn't a refusal", err)
					}
				}
				if p.readings > 1 {
					t.Errorf("readings of the keys: got %d, want at most 1", p.readings)
				}
				*p = working
				time.Sleep(retryPause)
				if _, err := v.Verify(t.Context(), good); err != nil {
					t.Errorf("provider works again: got %v, want nil", err)
				}
				// Keys that were read once outlast a provider that fails.
				fail(p)
				time.Sleep(keysMaxAge)
				before := p.readings
				for range 100 {
					if _, err := v.Verify(t.Context(), good); err != nil {
						t.Fatalf("provider fails later: got %v, want nil", err)
					}
				}
				if p.readings > before+1 {
					t.Errorf("readings of the keys: got %d, want at most 1", p.readings-before)
				}
			})
		})
	}
}
