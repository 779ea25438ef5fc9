package main

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/rest"
)

// page is the whole of what GET / gives: it loads nothing else.
//
//go:embed page.html
var page string

var scriptHash, styleHash = hashOf("script"), hashOf("style")

// hashOf returns the CSP source of the page's one inline element of this name,
// so that no other script or style runs, whatever got into the page.
func hashOf(element string) string {
	_, rest, _ := strings.Cut(page, "<"+element+">")
	content, _, _ := strings.Cut(rest, "</"+element+">")
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// page answers GET /.
func (f *function) page(r events.APIGatewayProxyRequest) rest.Answer {
	policy := []string{
		"default-src 'none'",
		"script-src " + scriptHash,
		"style-src " + styleHash,
		"img-src data:", // its icon; without one browsers ask for /favicon.ico
		// Behind a proxy or another domain the status URL is not 'self'.
		"connect-src 'self' " + originOf(f.webSocket) + " " + originOf(f.baseURL(r)),
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}
	return rest.Answer{Status: http.StatusOK, Body: page, Headers: map[string]string{
		"Content-Type":            "text/html; charset=utf-8",
		"Content-Security-Policy": strings.Join(policy, "; "),
		"Cache-Control":           "no-store",
		"Referrer-Policy":         "no-referrer",
		"X-Content-Type-Options":  "nosniff",
	}}
}

// originOf returns scheme://host of a URL of the stack's own.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
