package main

import (
	"context"
	"errors"
	"net/http"
)

// clients makes the three HTTP clients. A redirect by the API would carry the
// user's headers to where the user didn't send them, so it isn't followed.
func (j *job) clients(ctx context.Context) error {
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Protocols = http1 // a WebSocket begins as HTTP/1.1
	rest := &http.Client{Transport: transport, CheckRedirect: stay}
	if !j.noSocket {
		j.socket = &http.Client{Transport: transport, CheckRedirect: stay}
	}
	if j.sign {
		var err error
		if rest.Transport, err = newSigner(ctx, j.api.request.ask.Hostname(), transport); err != nil {
			return err
		}
	}
	j.api.http = rest

	// No time-out here would be right for every size; the fetcher watches for
	// standstill instead.
	transport = http.DefaultTransport.(*http.Transport).Clone()
	transport.Protocols = http1 // ranges on one HTTP/2 connection share its window
	transport.MaxIdleConnsPerHost = j.concurrency
	transport.DisableCompression = true
	transport.ReadBufferSize = 64 << 10
	j.storage = &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		// S3 redirects requests for a new bucket to its region.
		if len(via) > 3 || via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return errors.New("the storage redirects too often or to an unencrypted address")
		}
		req.Header.Del("Referer") // it would be the signed URL
		return nil
	}}
	return nil
}
