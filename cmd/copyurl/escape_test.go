package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"
)

// hostileName is a certificate's DNS name that clears a screen and sets the
// title of a window.
const hostileName = "evil\x1b[2J\x1b]0;owned\x07.example"

func TestNetworkTextIsEscaped(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{hostileName}, NotAfter: time.Now().Add(time.Hour),
	}, &x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	hostileTLS := httptest.NewUnstartedServer(http.NotFoundHandler())
	hostileTLS.Config.ErrorLog = log.New(io.Discard, "", 0)
	hostileTLS.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}
	hostileTLS.StartTLS()
	defer hostileTLS.Close()

	newS3(t)
	_, out, stderr := program(t, strings.Replace(hostileTLS.URL, "127.0.0.1", "localhost", 1)+"/x", target("key"))
	if out.Error == nil || !strings.Contains(stderr, "it is for another host") || strings.Contains(stderr, "evil") {
		t.Errorf("got %q, want the reason, without the server's words", stderr)
	}
	if i := strings.IndexFunc(stderr, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }); i >= 0 {
		t.Errorf("got %q, want no control character", stderr)
	}
}
