// Package link gives out a copied file: where its object lies, and a signed URL
// to it that is true about how long it works.
//
// File name, content type, checksum and whether the copy was verified are read
// from the object, so a link can be made for as long as the object lives, with
// no other record of the download.
package link

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"async-download/internal/failure"
	"async-download/internal/ticket"
)

// Key is the object's key of the execution called name.
func Key(name string) string { return "downloads/" + name }

// Link is a signed URL and what it leads to.
type Link struct {
	URL         string            `json:"url"`
	ExpiresAt   time.Time         `json:"expiresAt"`
	Size        int64             `json:"size"` // bytes
	ContentType string            `json:"contentType"`
	FileName    string            `json:"fileName"`
	Checksum    map[string]string `json:"checksum"` // algorithm: base64, of the whole object
	Verified    bool              `json:"verified"` // whether the end of the origin's file was proven
}

// SessionLife is how long the signing role is assumed for: the longest that
// role chaining allows.
const SessionLife = time.Hour

// Signer makes links to the objects of one bucket.
type Signer struct {
	S3     *s3.Client // reads the objects' heads
	Bucket string
	Expiry time.Duration // of a link, at most [SessionLife]

	// Presign signs with Credentials, whose end is known: a link dies with the
	// credentials that signed it, whatever its own expiry says.
	Presign     *s3.PresignClient
	Credentials aws.CredentialsProvider
}

// AssumedRole returns credentials of a session assumed for signing, used again
// as long as they outlive a link of the given expiry.
func AssumedRole(client *sts.Client, roleARN string, expiry time.Duration) aws.CredentialsProvider {
	provider := stscreds.NewAssumeRoleProvider(client, roleARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = "links"
		o.Duration = SessionLife
	})
	cache := aws.NewCredentialsCache(provider, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiry })
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		session, err := cache.Retrieve(ctx)
		session.Expires = session.Expires.Add(expiry) // the cache says when it will renew them, not when they end
		return session, err
	})
}

// TicketHash returns the hash of the ticket that the file of the execution
// called name was copied for, "" if for none; [failure.Expired] if the file isn't
// there.
func (s *Signer) TicketHash(ctx context.Context, name string) (string, error) {
	head, err := s.head(ctx, name)
	if err != nil {
		return "", err
	}
	return head.Metadata[ticket.Meta], nil
}

func (s *Signer) head(ctx context.Context, name string) (*s3.HeadObjectOutput, error) {
	head, err := s.S3.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &s.Bucket, Key: aws.String(Key(name)), ChecksumMode: types.ChecksumModeEnabled,
	})
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.HTTPStatusCode() == http.StatusNotFound {
		return nil, failure.Wrap(err, failure.Expired, "the file is no longer kept; ask for it again")
	}
	if err != nil {
		return nil, fmt.Errorf("read object's head: %w", err)
	}
	return head, nil
}

// Sign makes a link to the file of the execution called name. A file that is no
// longer there is [failure.Expired].
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
	// A session is renewed before it is too short for a link, so little is lost
	// here but the second or two it took to assume it for a link of the full hour.
	if life < s.Expiry*9/10 {
		return Link{}, fmt.Errorf("sign link: credentials end in %s, a link takes %s", life, s.Expiry)
	}
	request, err := s.Presign.PresignGetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.Bucket, Key: aws.String(Key(name)),
	}, s3.WithPresignExpires(life), func(o *s3.PresignOptions) {
		o.ClientOptions = append(o.ClientOptions, func(o *s3.Options) {
			o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil })
		})
	})
	if err != nil {
		return Link{}, fmt.Errorf("sign link: %w", err)
	}
	link := Link{
		URL:         request.URL,
		ExpiresAt:   now.Add(life).UTC().Truncate(time.Second),
		Size:        aws.ToInt64(head.ContentLength),
		ContentType: aws.ToString(head.ContentType),
		Checksum:    map[string]string{},
		Verified:    head.Metadata["verified"] == "true",
	}
	if _, parameters, err := mime.ParseMediaType(aws.ToString(head.ContentDisposition)); err == nil {
		link.FileName = parameters["filename"]
	}
	if head.ChecksumCRC64NVME != nil && head.ChecksumType == types.ChecksumTypeFullObject {
		link.Checksum["crc64nvme"] = *head.ChecksumCRC64NVME
	}
	return link, nil
}
