// Package page serves what a browser loads from the API: the page at GET / and
// its protocol half at GET /client.js, a module that other pages import.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html"
	"net/http"
	"net/url"
	"strings"

	"async-download/internal/rest"
)

var (
	//go:embed index.html
	document string
	//go:embed client.js
	client string
	//go:embed page.js
	script string

	// index is the whole page: it loads nothing else.
	index = inline(document, client, script)

	scriptHash, styleHash = hashOf("script"), hashOf("style")
	clientTag             = `"` + digest(client) + `"`
)

// inline puts both modules into the document's one script element. Its policy
// allows that script by its hash and no other, and one request brings it all.
func inline(document, client, script string) string {
	_, script, _ = strings.Cut(script, `from "./client.js";`)
	code := "\n\"use strict\";\n" + strings.ReplaceAll(client, "\nexport ", "\n") + script
	return strings.Replace(document, `<script type="module" src="page.js"></script>`, "<script>"+code+"</script>", 1)
}

// hashOf returns the CSP source of the page's one inline element of this name,
// so that no other script or style runs, whatever gets into the page.
func hashOf(element string) string {
	_, rest, _ := strings.Cut(index, "<"+element+">")
	content, _, _ := strings.Cut(rest, "</"+element+">")
	return "'sha256-" + digest(content) + "'"
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Index answers GET /. auth is the stack's ApiAuth, by which the page asks for
// credentials. The page may connect to the origins of the two URLs, the socket's
// and the API's own, and to its own origin.
func Index(auth, webSocket, api string) rest.Answer {
	policy := []string{
		"default-src 'none'",
		"script-src " + scriptHash,
		"style-src " + styleHash,
		"img-src data:", // its icon; without one browsers ask for /favicon.ico
		// Behind a proxy or another domain the status URL is not 'self'.
		"connect-src 'self' " + originOf(webSocket) + " " + originOf(api),
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}
	body := strings.Replace(index, `data-auth="NONE"`, `data-auth="`+html.EscapeString(auth)+`"`, 1)
	return rest.Answer{Status: http.StatusOK, Body: body, Headers: map[string]string{
		"Content-Type":            "text/html; charset=utf-8",
		"Content-Security-Policy": strings.Join(policy, "; "),
		"Cache-Control":           "no-store",
		"Referrer-Policy":         "no-referrer",
		"X-Content-Type-Options":  "nosniff",
	}}
}

// Client answers GET /client.js, for pages of the origins that api allows.
// headers are the request's.
func Client(api rest.API, headers map[string]string) rest.Answer {
	h := map[string]string{
		"Content-Type":           "text/javascript; charset=utf-8",
		"Cache-Control":          "public, max-age=300", // then 304 while it is the same
		"ETag":                   clientTag,
		"Vary":                   "Origin",
		"X-Content-Type-Options": "nosniff",
	}
	if allowed := api.Allow(rest.Header(headers, "Origin")); allowed != "" {
		h["Access-Control-Allow-Origin"] = allowed
	}
	// A proxy that compresses makes the tag weak.
	for tag := range strings.SplitSeq(rest.Header(headers, "If-None-Match"), ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == clientTag {
			return rest.Answer{Status: http.StatusNotModified, Headers: h}
		}
	}
	return rest.Answer{Status: http.StatusOK, Headers: h, Body: client}
}

// originOf returns scheme://host of one of the stack's own URLs.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
