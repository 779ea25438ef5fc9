package rest

import (
	"errors"
	"testing"

	"async-download/internal/failure"
)

func TestAllow(t *testing.T) {
	const page, other = "https://app.example", "https://app.example.evil"
	tests := []struct{ allowed, origin, want string }{
		{"*", "", "*"},
		{"*", page, "*"},
		{page, page, page},
		{page, "", ""},
		{page, other, ""},
		{page, "https://app.exampl", ""},
		{page, "HTTPS://APP.EXAMPLE", ""},
		{page, "null", ""},
		{page + "," + other, other, other},
		{"*," + page, other, "*"},
		{page + "," + other, page + "," + other, ""},
	}
	for _, test := range tests {
		if got := (API{test.allowed}).Allow(test.origin); got != test.want {
			t.Errorf("%s asked by %q: got %q, want %q", test.allowed, test.origin, got, test.want)
		}
	}
}

func TestForeign(t *testing.T) {
	const page, own = "https://app.example", "https://a1b2.execute-api.us-east-1.amazonaws.com/dev"
	h := func(pairs ...string) map[string]string {
		m := map[string]string{"Accept": "*/*"}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for title, test := range map[string]struct {
		allowed string
		headers map[string]string
		foreign bool
	}{
		"curl":                                 {page, h(), false},
		"the page that is allowed":             {page, h("Origin", page, "Sec-Fetch-Site", "cross-site"), false},
		"one of two":                           {"https://other.example," + page, h("Origin", page), false},
		"another page":                         {page, h("Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), true},
		"another page, header in lower case":   {page, h("origin", "https://evil.example"), true},
		"another page, header in capitals":     {page, h("ORIGIN", "https://evil.example"), true},
		"another page's host begins alike":     {page, h("Origin", page+".evil.example"), true},
		"another scheme":                       {page, h("Origin", "http://app.example"), true},
		"another port":                         {page, h("Origin", page+":8443"), true},
		"a frame without an origin":            {page, h("Origin", "null", "Sec-Fetch-Site", "cross-site"), true},
		"an image on another page":             {page, h("Sec-Fetch-Site", "cross-site"), true},
		"an image, header in lower case":       {page, h("sec-fetch-site", "cross-site"), true},
		"an image on another host of the site": {page, h("Sec-Fetch-Site", "same-site"), true},
		"a site that isn't known yet":          {page, h("Sec-Fetch-Site", "elsewhere"), true},
		"the API's own page":                   {page, h("Sec-Fetch-Site", "same-origin"), false},
		"the API's own page, DELETE":           {page, h("Origin", "https://a1b2.execute-api.us-east-1.amazonaws.com", "Sec-Fetch-Site", "same-origin"), false},
		"another API's page":                   {page, h("Origin", "https://c3d4.execute-api.us-east-1.amazonaws.com"), true},
		"an address typed into the browser":    {page, h("Sec-Fetch-Site", "none"), false},
		"any page is allowed":                  {"*", h("Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), false},
		"any page is allowed, an image":        {"*", h("Sec-Fetch-Site", "cross-site"), false},
		"an allowed page and another in one":   {page, h("Origin", page+","+"https://evil.example"), true},
		"a link that was followed":             {page, h("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-User", "?1"), true},
	} {
		err := API{test.allowed}.Foreign(test.headers, own)
		if got := failure.CodeOf(err) == failure.AccessDenied; got != test.foreign || !got && err != nil {
			t.Errorf("%s: got %v, want foreign: %v", title, err, test.foreign)
		}
	}
}

func TestError(t *testing.T) {
	a := API{"https://app.example"}.Error("https://app.example", errors.New("GET https://x/?key=planted"))
	if a.Status != 500 || a.Body != `{"error":{"code":"INTERNAL","message":"an unexpected error; the logs have it under this execution's name"}}` {
		t.Errorf("got %d %s, want 500 and nothing of the cause", a.Status, a.Body)
	}
	if a.Headers["Cache-Control"] != "no-store" || a.Headers["Access-Control-Allow-Origin"] != "https://app.example" || a.Headers["Vary"] != "Origin" {
		t.Errorf("got headers %v", a.Headers)
	}
	for code, want := range map[failure.Code]int{failure.InvalidPath: 400, failure.AccessDenied: 403, failure.NotFound: 404, failure.Conflict: 409, failure.Throttled: 429, failure.Internal: 500,
		failure.MethodNotAllowed: 405, failure.Expired: 410, failure.TooLarge: 413, failure.KeyReused: 422} {
		if a := (API{"*"}).Error("", failure.New(code, "x")); a.Status != want {
			t.Errorf("%s: got %d, want %d", code, a.Status, want)
		} else if (a.Headers["Retry-After"] != "") != (code == failure.Throttled) {
			t.Errorf("%s: got Retry-After %q", code, a.Headers["Retry-After"])
		}
	}
	for _, spelling := range []string{"X-Download-Ticket", "x-download-ticket", "X-DOWNLOAD-TICKET"} {
		if got := Header(map[string]string{spelling: "t"}, "X-Download-Ticket"); got != "t" {
			t.Errorf("%s: got %q, want t", spelling, got)
		}
	}
}
