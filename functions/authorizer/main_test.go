package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func sign(t *testing.T, key *rsa.PrivateKey, header, claims map[string]any) string {
	t.Helper()
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	text := b64(h) + "." + b64(c)
	sum := sha256.Sum256([]byte(text))
	s, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(s)
}

func TestHandle(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var issuer *httptest.Server
	var down atomic.Bool // the keys can't be had
	issuer = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"id_token_signing_alg_values_supported":["RS256"]}`, issuer.URL, issuer.URL+"/keys")
		case "/keys":
			if down.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			fmt.Fprintf(w, `{"keys":[{"kty":"RSA","alg":"RS256","use":"sig","kid":"1","n":%q,"e":%q}]}`,
				b64(key.N.Bytes()), b64(big.NewInt(int64(key.E)).Bytes()))
		default:
			http.NotFound(w, r)
		}
	}))
	defer issuer.Close()
	header := map[string]any{"alg": "RS256", "kid": "1"}
	claims := func(change map[string]any) map[string]any {
		c := map[string]any{"iss": issuer.URL, "aud": "files", "sub": "somebody", "exp": time.Now().Add(time.Hour).Unix()}
		for k, v := range change {
			c[k] = v
		}
		return c
	}
	good := sign(t, key, header, claims(nil))
	unsigned := b64([]byte(`{"alg":"none"}`)) + good[len(b64([]byte(`{"alg":"RS256","kid":"1"}`))):]
	const method = "arn:aws:execute-api:us-east-1:123456789012:abcdef1234/dev/GET/download/a"
	tests := []struct {
		name, authorization string
		want                bool
	}{
		{"right", "Bearer " + good, true},
		{"lower case scheme", "bearer " + good, true},
		{"no scheme", good, false},
		{"empty", "", false},
		{"rubbish", "Bearer x.y.z", false},
		{"other key", "Bearer " + sign(t, other, header, claims(nil)), false},
		{"no signature", "Bearer " + unsigned, false},
		{"expired", "Bearer " + sign(t, key, header, claims(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})), false},
		{"other audience", "Bearer " + sign(t, key, header, claims(map[string]any{"aud": "mail"})), false},
		{"other issuer", "Bearer " + sign(t, key, header, claims(map[string]any{"iss": "https://elsewhere.example"})), false},
	}
	f := function{issuer: issuer.URL, audience: "files"}
	for _, test := range tests {
		got, err := f.handle(t.Context(), events.APIGatewayCustomAuthorizerRequest{Type: "TOKEN", AuthorizationToken: test.authorization, MethodArn: method})
		if !test.want {
			if err == nil || err.Error() != "Unauthorized" || len(got.PolicyDocument.Statement) > 0 {
				t.Errorf("%s: got %+v, %v, want Unauthorized", test.name, got, err)
			}
			continue
		}
		if err != nil || got.PrincipalID != "somebody" || len(got.PolicyDocument.Statement) != 1 {
			t.Errorf("%s: got %+v, %v, want a policy", test.name, got, err)
			continue
		}
		s := got.PolicyDocument.Statement[0]
		if s.Effect != "Allow" || len(s.Resource) != 1 || s.Resource[0] != "arn:aws:execute-api:us-east-1:123456789012:abcdef1234/dev/*" {
			t.Errorf("%s: got %+v, want Allow for the stage", test.name, s)
		}
	}

	down.Store(true)
	f = function{issuer: issuer.URL, audience: "files"}
	if _, err := f.handle(t.Context(), events.APIGatewayCustomAuthorizerRequest{AuthorizationToken: "Bearer " + good}); err == nil || err.Error() == "Unauthorized" {
		t.Errorf("keys down: got %v, want an error that is no refusal", err)
	}

	unreachable := function{issuer: "http://127.0.0.1:1", audience: "files"}
	if _, err := unreachable.handle(t.Context(), events.APIGatewayCustomAuthorizerRequest{AuthorizationToken: "Bearer " + good}); err == nil || err.Error() == "Unauthorized" {
		t.Errorf("issuer down: got %v, want an error that is no refusal", err)
	}
}
