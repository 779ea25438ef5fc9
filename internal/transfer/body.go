package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"async-download/internal/failure"
)

// body is a request body of known length that is read from the origin while it is sent,
// with its checksum as a trailer. No part is held in memory, however large, and S3 still
// rejects a damaged one.
//
// The encoding is aws-chunked with one chunk and one trailer. The SDK uses it only over
// HTTPS, and with a CRC-64 that costs more than the transfer; over HTTP it reads the body
// twice, for its SHA-256.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
//
// The payload is not part of the signature, as in every HTTPS upload of the SDK. Over
// plain HTTP, the bytes are unprotected, as is everything else; that is meant for a stack
// on loopback.
//
// Other stores may not support this encoding. They get the plain bytes, and only the
// checksum of the whole object is compared.
//
// A transport may keep reading a body after the request has failed, so Read and end
// exclude each other.
type body struct {
	size  int64
	plain bool
	src   io.Reader
	last  func() // called when all bytes were read

	fate atomic.Int32 // undecided, sent or stopped

	mu    sync.Mutex
	read  int64
	sums  sums
	frame []byte // the encoding before, then after the bytes
	state int
	err   error
}

// Whether the last byte is sent is decided once: a part whose request has ended must not
// arrive.
const (
	undecided = iota
	sent      // all of it was given to the transport
	stopped   // its request ended before
)

const (
	inHead = iota
	inBytes
	inTail
	atEnd
)

var errEnded = errors.New("the request is over")

// newBody returns a body with a CRC-64 as trailer, or a CRC-32 for a composite upload.
func newBody(size int64, plan Plan) *body {
	b := &body{size: size, plain: plan.Plain, sums: sums{with32: plan.Composite}}
	if !b.plain {
		b.frame = []byte(strconv.FormatInt(size, 16) + "\r\n")
	}
	return b
}

// Read reads the encoded body.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	total := 0
	for total < len(p) {
		switch b.state {
		case inHead, inTail:
			n := copy(p[total:], b.frame)
			total += n
			if b.frame = b.frame[n:]; len(b.frame) == 0 {
				b.state++
			}
		case inBytes:
			n, err := b.src.Read(p[total:min(int64(len(p)), int64(total)+b.size-b.read)])
			b.read += int64(n)
			_, _ = b.sums.Write(p[total : total+n])
			total += n
			if b.read == b.size {
				if !b.decide(sent) {
					b.err = errEnded
					return 0, b.err
				}
				if !b.plain {
					b.frame = fmt.Appendf(nil, "\r\n0\r\n%s:%s\r\n\r\n", b.trailer(), b.sum())
				}
				b.state = inTail
				b.last()
				continue
			}
			if err != nil {
				if err == io.EOF {
					err = failure.New(failure.OriginTruncated, "the origin sent %d of %d bytes", b.read, b.size)
				}
				b.err = err
			}
			return total, b.err
		default:
			if total > 0 {
				return total, nil
			}
			return 0, io.EOF
		}
	}
	return total, nil
}

// decide sets the body's fate to f, unless it is decided, and reports whether it is f.
func (b *body) decide(f int32) bool {
	return b.fate.CompareAndSwap(undecided, f) || b.fate.Load() == f
}

func (b *body) trailer() string {
	if b.sums.with32 {
		return "x-amz-checksum-crc32"
	}
	return "x-amz-checksum-crc64nvme"
}

func (b *body) sum() string {
	if b.sums.with32 {
		return b.sums.base64CRC32()
	}
	return b.sums.base64CRC64()
}

// settling is how long the answer to a completely sent part is awaited when a copy ends.
const settling = time.Second

// context returns the context of a request with this body.
func (b *body) context(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	return outlasting(ctx, func() bool { return !b.decide(stopped) })
}

// outlasting returns the context of a request that stores a part. It ends with ctx,
// except for a part that was sent completely: S3 will most likely store that, so its
// answer is awaited for a short time. Then the part counts, and an upload that is aborted
// next doesn't get a part afterwards, which would reopen it.
func outlasting(ctx context.Context, sent func() bool) (context.Context, context.CancelCauseFunc) {
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if sent() {
			select {
			case <-time.After(settling):
			case <-inner.Done():
			}
		}
		cancel(context.Cause(ctx))
	})
	return inner, func(cause error) {
		stop()
		cancel(cause)
	}
}

// encodedLength returns the number of bytes that Read returns.
func (b *body) encodedLength() int64 {
	if b.plain {
		return b.size
	}
	return int64(len(strconv.FormatInt(b.size, 16))+2) + b.size +
		int64(len("\r\n0\r\n:\r\n\r\n")+len(b.trailer())+len(b.sum()))
}

// end stops further reads. It returns the checksums of what was sent, and the source's
// error if there was one.
func (b *body) end() (sums, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.err
	b.err = errEnded
	if errors.Is(err, errEnded) {
		err = nil
	}
	return b.sums, err
}

// attach is an option that makes an S3 call send b. The input's ContentLength must be b's
// size. The call is tried once, since b can't be read twice.
func (b *body) attach(o *s3.Options) {
	withoutRetries(o)
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(b, "ComputePayloadHash", middleware.Before)
	})
}

// withoutRetries turns off the SDK's retries and checksums, which this package implements
// itself.
func withoutRetries(o *s3.Options) {
	o.RetryMaxAttempts = 1
	o.Retryer = aws.NopRetryer{}
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
}

// ID names the middleware.
func (b *body) ID() string { return "TrailingChecksum" }

// HandleFinalize replaces the plain body with the encoded one, before the request is
// signed.
func (b *body) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	req, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return middleware.FinalizeOutput{}, middleware.Metadata{}, fmt.Errorf("unknown request type %T", in.Request)
	}
	req, err := req.SetStream(b)
	if err != nil {
		return middleware.FinalizeOutput{}, middleware.Metadata{}, fmt.Errorf("set the body: %w", err)
	}
	req.ContentLength = b.encodedLength()
	in.Request = req
	if b.plain {
		return next.HandleFinalize(v4.SetPayloadHash(ctx, "UNSIGNED-PAYLOAD"), in)
	}
	req.Header.Add("Content-Encoding", "aws-chunked")
	req.Header.Set("X-Amz-Decoded-Content-Length", strconv.FormatInt(b.size, 10))
	req.Header.Set("X-Amz-Trailer", b.trailer())
	return next.HandleFinalize(v4.SetPayloadHash(ctx, "STREAMING-UNSIGNED-PAYLOAD-TRAILER"), in)
}
