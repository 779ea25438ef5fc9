package functions_test

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
	"strings"
	"testing"
	"time"

	"async-download/internal/origin/origintest"
)

// TestAuthorizer passes tokens signed by an issuer to the function, as API Gateway
// does. The reasons to refuse a token are tested in internal/bearer.
func TestAuthorizer(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	base64 := base64.RawURLEncoding.EncodeToString
	issuer := httptest.NewUnstartedServer(nil)
	issuer.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"id_token_signing_alg_values_supported":["RS256"]}`, issuer.URL, issuer.URL+"/keys")
		case "/keys":
			fmt.Fprintf(w, `{"keys":[{"kty":"RSA","alg":"RS256","use":"sig","kid":"1","n":%q,"e":%q}]}`, base64(key.N.Bytes()), base64(big.NewInt(int64(key.E)).Bytes()))
		default:
			t.Errorf("the issuer was asked for %s", r.URL.Path)
		}
	})
	issuer.Start()
	t.Cleanup(issuer.Close)
	token := func(issuer, audience string, expires time.Duration) string {
		text := base64([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + base64([]byte(asJSON(map[string]any{
			"iss": issuer, "aud": audience, "sub": "somebody", "secret": querySecret, "exp": time.Now().Add(expires).Unix(),
		})))
		sum := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + base64(signature)
	}
	env := map[string]string{"JWT_ISSUER": issuer.URL}
	shows := func(text string) func(map[string]any) {
		return func(e map[string]any) { e["authorizationToken"] = text }
	}
	// The only text that API Gateway turns into a 401.
	refused401 := func(token string) check {
		return func(t *testing.T, got invocation, _ *cloud) {
			t.Helper()
			if got.ErrorMessage != "Unauthorized" {
				t.Errorf("got %s, want the error Unauthorized", got.Body)
			}
			notLogged(t, token, got)
		}
	}
	good, late, others := token(issuer.URL, "files", time.Hour), token(issuer.URL, "files", -time.Minute), token(issuer.URL, "mail", time.Hour)
	const nowhere = "http://127.0.0.1:1"
	nowheres := token(nowhere, "files", time.Hour)
	noHTTP := "http://" + origintest.Raw(t, func(string) string { return strings.Repeat("x", 3000) + "\r\n\r\n" })
	noHTTPs := token(noHTTP, "files", time.Hour)
	runs := []run{
		{title: "good", sample: "authorizer", env: env, change: shows("Bearer " + good), checks: []check{func(t *testing.T, got invocation, _ *cloud) {
			var a struct {
				PrincipalID    string
				PolicyDocument struct {
					Version   string
					Statement []struct {
						Action, Resource []string
						Effect           string
					}
				}
			}
			if err := json.Unmarshal(got.Body, &a); err != nil || len(a.PolicyDocument.Statement) != 1 {
				t.Fatalf("got %s, want a policy of one statement (%v)", got.Body, err)
			}
			s, stage := a.PolicyDocument.Statement[0], "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/dev/*"
			if a.PrincipalID != "somebody" || a.PolicyDocument.Version != "2012-10-17" || s.Effect != "Allow" ||
				strings.Join(s.Action, " ") != "execute-api:Invoke" || strings.Join(s.Resource, " ") != stage {
				t.Errorf("got %s, want somebody let into %s", got.Body, stage)
			}
			notLogged(t, good, got)
		}}},
		{title: "expired", sample: "authorizer", env: env, change: shows("Bearer " + late), checks: []check{refused401(late)}},
		{title: "for another audience", sample: "authorizer", env: env, change: shows("Bearer " + others), checks: []check{refused401(others)}},
		{title: "not signed by the issuer", sample: "authorizer", env: env, checks: []check{refused401("c2lnbmF0dXJl")}}, // the sample's signature
		{title: "issuer out of reach", sample: "authorizer", env: map[string]string{"JWT_ISSUER": nowhere}, change: shows("Bearer " + nowheres),
			checks: []check{func(t *testing.T, got invocation, _ *cloud) {
				if got.ErrorType == "" || got.ErrorMessage == "Unauthorized" {
					t.Errorf("got %s, want an error that is no refusal", got.Body)
				}
				notLogged(t, nowheres, got)
			}}},
		{title: "issuer that sends no HTTP", sample: "authorizer", env: map[string]string{"JWT_ISSUER": noHTTP}, change: shows("Bearer " + noHTTPs),
			checks: []check{logged("malformed HTTP"), func(t *testing.T, got invocation, _ *cloud) {
				if strings.Contains(got.logs, strings.Repeat("x", 500)) {
					t.Errorf("got all that the issuer sent in the log:\n%s", got.logs)
				}
			}}},
	}
	for _, text := range []string{"", "Bearer", "Bearer ", "Basic " + good, good} {
		runs = append(runs, run{title: fmt.Sprintf("authorization %.7q", text), sample: "authorizer", env: env, change: shows(text), checks: []check{func(t *testing.T, got invocation, _ *cloud) {
			if got.ErrorMessage != "Unauthorized" {
				t.Errorf("got %s, want the error Unauthorized", got.Body)
			}
		}}})
	}
	runAll(t, "authorizer", runs)
}

// notLogged checks that a token's claims and signature are not in the log. Its header
// isn't secret.
func notLogged(t *testing.T, token string, got invocation) {
	t.Helper()
	_, rest, _ := strings.Cut(token, ".")
	for _, part := range strings.Split(rest, ".") {
		if part != "" && strings.Contains(got.logs, part) {
			t.Errorf("got a part of the token in the log:\n%s", got.logs)
		}
	}
	if !strings.Contains(got.logs, `"level"`) {
		t.Errorf("got log %q, want a line", got.logs)
	}
}
