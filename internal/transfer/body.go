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

// body is a request body of known length that is read from the origin while it
// is sent, with its checksum behind it: no part is held in memory, however
// large, and S3 still refuses one that was damaged on the way.
//
// The wire form is aws-chunked with one chunk and one trailer. The SDK does
// this only over HTTPS, and with a CRC-64 that costs more than the transfer;
// over HTTP it wants to read the body twice, for its SHA-256.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
//
// The payload is not part of the signature, as with every HTTPS upload of the
// SDK. Over plain HTTP that leaves the bytes to whoever is on the wire, as plain
// HTTP does with everything it returns; it is meant for a stack on loopback.
//
// Other stores may not know this form; they get the bytes as they are, and the
// checksum of the whole object at the end has to do.
//
// Transports may go on reading a body after the request has failed, so Read and
// end exclude each other.
type body struct {
	size  int64
	plain bool
	src   io.Reader
	last  func() // called when all bytes were read

	fate atomic.Int32 // undecided, sent or stopped

	mu    sync.Mutex
	read  int64
	sums  sums
	frame []byte // what goes before, then after the bytes
	state int
	err   error
}

// Whether the last byte goes out is decided once: a part whose sender has turned
// away must not arrive.
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

// newBody has a CRC-64 behind the bytes, or a CRC-32 for a composite upload.
func newBody(size int64, plan Plan) *body {
	b := &body{size: size, plain: plan.Plain, sums: sums{both: plan.Composite}}
	if !b.plain {
		b.frame = []byte(strconv.FormatInt(size, 16) + "\r\n")
	}
	return b
}

// Read gives the encoded body.
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

// decide reports whether f is what becomes of the body.
func (b *body) decide(f int32) bool {
	return b.fate.CompareAndSwap(undecided, f) || b.fate.Load() == f
}

func (b *body) trailer() string {
	if b.sums.both {
		return "x-amz-checksum-crc32"
	}
	return "x-amz-checksum-crc64nvme"
}

func (b *body) sum() string {
	if b.sums.both {
		return b.sums.base64CRC32()
	}
	return b.sums.base64CRC64()
}

// settling is how long a part that was sent is waited for when a copy ends.
const settling = time.Second

// context returns the context of a request with this body.
func (b *body) context(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	return outlasting(ctx, func() bool { return !b.decide(stopped) })
}

// outlasting returns the context of a request that stores a part. It ends with
// ctx, except for a part that was sent completely: S3 will most likely store that,
// so its answer is awaited a little. The part then counts, and an upload that is
// aborted next doesn't get a part afterwards, which would bring it back.
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

// encodedLength is how many bytes Read gives.
func (b *body) encodedLength() int64 {
	if b.plain {
		return b.size
	}
	return int64(len(strconv.FormatInt(b.size, 16))+2) + b.size +
		int64(len("\r\n0\r\n:\r\n\r\n")+len(b.trailer())+len(b.sum()))
}

// end stops further reads and returns the checksums of what was sent and the
// error of its source, if that is what ended it.
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

// attach makes an S3 call send b: give it as the call's option, and the size as
// the input's ContentLength. The call is tried once, as b can't be read twice.
func (b *body) attach(o *s3.Options) {
	withoutRetries(o)
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(b, "ComputePayloadHash", middleware.Before)
	})
}

// withoutRetries turns off what the SDK adds to a call that we do ourselves: tries and
// checksums.
func withoutRetries(o *s3.Options) {
	o.RetryMaxAttempts = 1
	o.Retryer = aws.NopRetryer{}
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
}

// ID names the middleware.
func (b *body) ID() string { return "TrailingChecksum" }

// HandleFinalize puts the encoded body in the place of the plain one, before the
// request is signed.
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
