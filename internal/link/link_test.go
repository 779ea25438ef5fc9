package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"async-download/internal/failure"
	"async-download/internal/object"
)

const name = "0123456789abcdef0123456789abcdef"

func signer(t *testing.T, session time.Duration) (*Signer, *int, map[string]string) {
	t.Helper()
	status, head := 200, map[string]string{
		"Content-Length": "7", "Content-Type": "text/csv", "Content-Disposition": `attachment; filename="_.csv"; filename*=UTF-8''%C3%A4.csv`,
		"X-Amz-Checksum-Crc64nvme": "AAAAAAAAAAA=", "X-Amz-Checksum-Type": "FULL_OBJECT", "X-Amz-Meta-Verified": "true", "X-Amz-Meta-Ticket-Hash": "abc",
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead || r.URL.Path != "/bucket/downloads/"+name || r.Header.Get("X-Amz-Checksum-Mode") != "ENABLED" {
			t.Errorf("got %s %s, want a HEAD of the object with its checksum", r.Method, r.URL.Path)
		}
		for k, v := range head {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	client := s3.New(s3.Options{BaseEndpoint: &server.URL, Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("own", "own", "")})
	return &Signer{
		S3: client, Bucket: "bucket", Expiry: 10 * time.Minute, Presign: s3.NewPresignClient(client),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "assumed", SecretAccessKey: "x", SessionToken: "session", CanExpire: session != 0, Expires: time.Now().Add(session)}, nil
		}),
	}, &status, head
}

func TestSign(t *testing.T) {
	s, status, head := signer(t, time.Hour)
	l, err := s.Sign(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(l.URL)
	if q := u.Query(); q.Get("X-Amz-Expires") != "600" || q.Get("X-Amz-Security-Token") != "session" || q.Get("X-Amz-Credential")[:8] != "assumed/" {
		t.Errorf("got %s, want 600 s signed by the assumed role", l.URL)
	}
	if left := time.Until(l.ExpiresAt); left > 600*time.Second || left < 570*time.Second {
		t.Errorf("got a life of %s, want 600 s", left)
	}
	if l.Size != 7 || l.ContentType != "text/csv" || l.FileName != "ä.csv" || l.Checksum["crc64nvme"] != "AAAAAAAAAAA=" || !l.Verified {
		t.Errorf("got %+v", l)
	}
	if f, err := s.Describe(t.Context(), name); err != nil || !reflect.DeepEqual(f, l.File) {
		t.Errorf("got %+v, %v, want the description that the link has", f, err)
	}
	if hash, err := s.Record(t.Context(), name); hash.TicketHash != "abc" || err != nil {
		t.Errorf("ticket: got %q, %v", hash, err)
	}

	head["X-Amz-Checksum-Type"], head["X-Amz-Meta-Verified"] = "COMPOSITE", "false"
	if l, err := s.Sign(t.Context(), name); err != nil || len(l.Checksum) != 0 || l.Verified {
		t.Errorf("composite, not proven: got %+v, %v, want no checksum and not verified", l, err)
	}
	for _, missing := range []int{404, 403} { // 403 if S3 doesn't accept the permission to list
		*status = missing
		if _, err := s.Sign(t.Context(), name); failure.CodeOf(err) != failure.Expired || !errors.Is(err, object.ErrGone) {
			t.Errorf("no object, status %d: got %v, want EXPIRED", missing, err)
		}
		if _, err := s.Describe(t.Context(), name); !errors.Is(err, object.ErrGone) {
			t.Errorf("no object, status %d: description: got %v, want that it is gone", missing, err)
		}
		if _, err := s.Record(t.Context(), name); failure.CodeOf(err) != failure.Expired || !errors.Is(err, object.ErrGone) {
			t.Errorf("no object, status %d: record: got %v, want EXPIRED", missing, err)
		}
	}
	*status = 400
	if _, err := s.Sign(t.Context(), name); failure.CodeOf(err) != failure.Internal {
		t.Errorf("bad request: got %v, want INTERNAL", err)
	}
}

// TestSession checks that a link never claims to outlive its credentials, and that
// they don't shorten its lifetime.
func TestSession(t *testing.T) {
	for _, test := range []struct {
		session time.Duration
		want    time.Duration // 0: no link
	}{
		{0, 10 * time.Minute}, // expiry unknown
		{time.Hour, 10 * time.Minute},
		{10*time.Minute + time.Second, 10 * time.Minute},
		{10*time.Minute - 5*time.Second, 10*time.Minute - 5*time.Second},
		{5 * time.Minute, 0},
		{time.Minute, 0},
		{-time.Minute, 0},
	} {
		s, _, _ := signer(t, test.session)
		l, err := s.Sign(t.Context(), name)
		if test.want == 0 {
			if err == nil {
				t.Errorf("session of %s: got a link until %s, want none", test.session, l.ExpiresAt)
			}
			continue
		}
		if err != nil {
			t.Errorf("session of %s: %v", test.session, err)
			continue
		}
		if left := time.Until(l.ExpiresAt); left > test.want || left < test.want-30*time.Second {
			t.Errorf("session of %s: got %s, want %s", test.session, left, test.want)
		}
	}
	s, _, _ := signer(t, time.Hour)
	s.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("throttled") })
	if _, err := s.Sign(t.Context(), name); failure.CodeOf(err) != failure.Internal {
		t.Errorf("no session: got %v, want INTERNAL", err)
	}
}

type transport func(*http.Request) (status int, header map[string]string, body string)

func (do transport) Do(r *http.Request) (*http.Response, error) {
	status, header, body := do(r)
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r}
	for k, v := range header {
		resp.Header.Set(k, v)
	}
	return resp, nil
}

// TestSessionIsRenewed signs with one session as long as it outlives a link, and
// then assumes the next one: no link is shortened by a session that is about to
// expire.
func TestSessionIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := credentials.NewStaticCredentialsProvider("own", "own", "")
		assumed, begun := 0, time.Time{}
		client := sts.New(sts.Options{Region: "us-east-1", Credentials: own, HTTPClient: transport(func(*http.Request) (int, map[string]string, string) {
			assumed++
			return http.StatusOK, map[string]string{"Content-Type": "text/xml"}, fmt.Sprintf(`<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>session%d</AccessKeyId>`+
				`<SecretAccessKey>x</SecretAccessKey><SessionToken>y</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
				assumed, time.Now().Add(SessionLife).UTC().Format(time.RFC3339))
		})})
		object := s3.New(s3.Options{Region: "us-east-1", UsePathStyle: true, Credentials: own, HTTPClient: transport(func(*http.Request) (int, map[string]string, string) {
			return http.StatusOK, map[string]string{"Content-Length": "7"}, ""
		})})
		s := &Signer{S3: object, Bucket: "bucket", Presign: s3.NewPresignClient(object)}
		for _, test := range []struct {
			expiry  time.Duration // of a link
			left    time.Duration // of the first session
			session int
		}{
			{10 * time.Minute, SessionLife, 1},
			{10 * time.Minute, 15 * time.Minute, 1},
			{10 * time.Minute, 10*time.Minute + time.Second, 1},
			{10 * time.Minute, 9 * time.Minute, 2},
			{10 * time.Minute, time.Minute, 2},
			{40 * time.Minute, SessionLife, 1},
			{40 * time.Minute, time.Minute, 2},
			{SessionLife, SessionLife, 1},
			{SessionLife, time.Minute, 2},
		} {
			if test.left == SessionLife {
				s.Expiry, s.Credentials, assumed = test.expiry, AssumedRole(client, "arn:aws:iam::123456789012:role/signer", test.expiry), 0
				begun = time.Now()
			}
			time.Sleep(time.Until(begun.Add(SessionLife - test.left)))
			l, err := s.Sign(t.Context(), name)
			if err != nil {
				t.Errorf("links of %s, %s left: %v", test.expiry, test.left, err)
				continue
			}
			u, _ := url.Parse(l.URL)
			by, seconds := u.Query().Get("X-Amz-Credential"), u.Query().Get("X-Amz-Expires")
			if !strings.HasPrefix(by, fmt.Sprintf("session%d/", test.session)) || seconds != fmt.Sprint(test.expiry.Seconds()) || time.Until(l.ExpiresAt) != test.expiry {
				t.Errorf("links of %s, %s left: got one by %s for %s s until %s, want session%d and all of its life", test.expiry, test.left, by, seconds, l.ExpiresAt, test.session)
			}
		}
	})
}
