package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"

	"async-download/internal/escape"
)

// signer signs requests with Signature Version 4 for an API whose ApiAuth is IAM.
// The socket needs no signature.
type signer struct {
	next        http.RoundTripper
	credentials aws.CredentialsProvider
	region      string
}

// gatewayRegion finds the region in the name of an API Gateway.
var gatewayRegion = regexp.MustCompile(`\.execute-api\.([a-z0-9-]+)\.`)

// newSigner takes credentials and, for an API with a custom name, the region
// from where the AWS tools take them.
func newSigner(ctx context.Context, host string, next http.RoundTripper) (http.RoundTripper, error) {
	// The SDK's warnings, such as those of a machine that isn't EC2, don't help here.
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}))
	if err != nil {
		return nil, exitError(exitLocal, "-sign: read the AWS configuration: %s", escape.Text(err.Error()))
	}
	s := &signer{next: next, credentials: cfg.Credentials, region: cfg.Region}
	if m := gatewayRegion.FindStringSubmatch(host); m != nil {
		s.region = m[1]
	}
	if s.region == "" {
		return nil, exitError(exitUsage, "-sign: the API's name has no region; set AWS_REGION")
	}
	if s.credentials != nil {
		_, err = s.credentials.Retrieve(ctx)
	}
	if s.credentials == nil || err != nil {
		return nil, exitError(exitLocal, "-sign: no AWS credentials; see aws configure, AWS_PROFILE, AWS_ACCESS_KEY_ID")
	}
	return s, nil
}

// RoundTrip signs the method, the URL, the host and the body. Other headers are
// left out of the signature: proxies may change them.
func (s *signer) RoundTrip(req *http.Request) (*http.Response, error) {
	sum := sha256.New()
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(sum, body); err != nil {
			return nil, err
		}
	}
	credentials, err := s.credentials.Retrieve(req.Context())
	if err != nil {
		return nil, fmt.Errorf("no AWS credentials: %w", err)
	}
	u := *req.URL // the signer sorts the query
	signed := &http.Request{Method: req.Method, URL: &u, Host: req.Host, Header: make(http.Header)}
	if err := v4.NewSigner().SignHTTP(req.Context(), credentials, signed, fmt.Sprintf("%x", sum.Sum(nil)), "execute-api", s.region, time.Now()); err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	for name, values := range signed.Header {
		req.Header[name] = values
	}
	return s.next.RoundTrip(req)
}
