// Package link signs URLs of copied files, and reports correctly when they expire.
//
// File name, content type, checksum, and whether the copy was verified are read from
// the object. So a link can be signed as long as the object exists, without any
// other record of the download.
package link

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"async-download/internal/object"
)

// Link is a signed URL and a description of its file.
type Link struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expiresAt"`
	object.File
}

// SessionLife is the duration of a session of the signing role: the maximum for
// role chaining.
const SessionLife = time.Hour

// Signer signs links to the objects of one bucket.
type Signer struct {
	S3     *s3.Client // reads the objects' heads
	Bucket string
	Expiry time.Duration // of a link, at most [SessionLife]

	// Presign signs with Credentials, whose expiry is known: a link stops working with
	// the credentials that signed it, regardless of its own expiry.
	Presign     *s3.PresignClient
	Credentials aws.CredentialsProvider
}

// NewSigner returns a signer that assumes role. Without a role it can only read what
// the objects keep.
func NewSigner(cfg aws.Config, bucket, role string, expiry time.Duration) *Signer {
	s := &Signer{S3: s3.NewFromConfig(cfg, object.PathStyle), Bucket: bucket, Expiry: expiry}
	if role != "" {
		s.Presign = s3.NewPresignClient(s.S3)
		s.Credentials = AssumedRole(sts.NewFromConfig(cfg), role, expiry)
	}
	return s
}

// AssumedRole returns credentials of an assumed role for signing. A session is
// reused as long as it outlives a link of the given expiry.
func AssumedRole(client *sts.Client, roleARN string, expiry time.Duration) aws.CredentialsProvider {
	provider := stscreds.NewAssumeRoleProvider(client, roleARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = "links"
		o.Duration = SessionLife
	})
	cache := aws.NewCredentialsCache(provider, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiry })
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		session, err := cache.Retrieve(ctx)
		session.Expires = session.Expires.Add(expiry) // the cache reports when it renews them, not when they expire
		return session, err
	})
}

// Describe returns the description of the file of the execution called name. The
// error is [object.ErrGone] if it doesn't exist.
func (s *Signer) Describe(ctx context.Context, name string) (object.File, error) {
	head, err := s.head(ctx, name)
	if err != nil {
		return object.File{}, err
	}
	return object.Describe(head), nil
}

// Record returns what the object of the execution called name keeps. The error is
// [object.ErrGone] if the file doesn't exist.
func (s *Signer) Record(ctx context.Context, name string) (object.Record, error) {
	head, err := s.head(ctx, name)
	if err != nil {
		return object.Record{}, err
	}
	return object.RecordOf(head), nil
}

func (s *Signer) head(ctx context.Context, name string) (*s3.HeadObjectOutput, error) {
	head, err := s.S3.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &s.Bucket, Key: aws.String(object.Key(name)), ChecksumMode: types.ChecksumModeEnabled,
	})
	var response *smithyhttp.ResponseError
	// S3 answers 403 for an object that doesn't exist if the caller may not list the bucket. That
	// s3:ListBucket with a condition on the prefix is enough for HeadObject is documented nowhere.
	if errors.As(err, &response) && (response.HTTPStatusCode() == http.StatusNotFound || response.HTTPStatusCode() == http.StatusForbidden) {
		return nil, object.Gone(err)
	}
	if err != nil {
		return nil, fmt.Errorf("read object's head: %w", err)
	}
	return head, nil
}

// Sign returns a link to the file of the execution called name. The error is
// [object.ErrGone] if the file no longer exists.
func (s *Signer) Sign(ctx context.Context, name string) (Link, error) {
	head, err := s.head(ctx, name)
	if err != nil {
		return Link{}, err
	}
	credentials, err := s.Credentials.Retrieve(ctx)
	if err != nil {
		return Link{}, fmt.Errorf("assume signing role: %w", err)
	}
	now := time.Now()
	life := s.Expiry
	if credentials.CanExpire {
		life = min(life, credentials.Expires.Sub(now)).Truncate(time.Second)
	}
	// A session is renewed before it is too short for a link. Only a link of the full
	// hour loses the second or two that assuming the role took.
	if life < s.Expiry*9/10 {
		return Link{}, fmt.Errorf("sign link: credentials end in %s, a link takes %s", life, s.Expiry)
	}
	request, err := s.Presign.PresignGetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.Bucket, Key: aws.String(object.Key(name)),
	}, s3.WithPresignExpires(life), func(o *s3.PresignOptions) {
		o.ClientOptions = append(o.ClientOptions, func(o *s3.Options) {
			o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil })
		})
	})
	if err != nil {
		return Link{}, fmt.Errorf("sign link: %w", err)
	}
	return Link{URL: request.URL, ExpiresAt: now.Add(life).UTC().Truncate(time.Second), File: object.Describe(head)}, nil
}
