package download

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/object"
	"async-download/internal/ticket"
)

// Lengths of an Idempotency-Key, in characters. Anyone who knows the key and has
// the caller's credentials finds the download, so a key should be as hard to guess
// as a UUID.
const (
	minKey = 16
	maxKey = 255
)

// Describer is the part of Step Functions that describes executions.
type Describer interface {
	DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error)
}

var errKeyReused = failure.New(failure.KeyReused, "this Idempotency-Key was used for another request; use a new one")

// startOnce starts the download that belongs to the caller's key, or returns the
// one that was started for it. The name of the execution, and the ticket, are made
// from the caller and the key, so that a second answer is the same as the first.
//
// The error is [failure.InvalidPath] for a malformed key, [failure.KeyReused] for
// the key of another request, and [failure.Expired] where the download of this key
// has ended and its file is no longer kept.
func (s *Starter) startOnce(ctx context.Context, r Request, query string, sent *meeting.OriginRequest) (Started, error) {
	if len(r.Key) < minKey || len(r.Key) > maxKey || strings.ContainsFunc(r.Key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return Started{}, failure.New(failure.InvalidPath, "an Idempotency-Key has %d to %d visible ASCII characters", minKey, maxKey)
	}
	started := Started{Name: execution.NameFor(r.Caller, r.Key)}
	started.ExecutionARN = execution.ARN(s.StateMachine, started.Name)
	item := meeting.Item{ExecutionARN: started.ExecutionARN, Path: r.Path, Query: query, AskedBy: r.AskedBy, RequestHash: r.hash(query)}
	if s.RequireTicket {
		started.Ticket, item.TicketHash = ticket.For(r.Caller, r.Key)
	}

	found, err := s.startedBefore(ctx, started.Name, item, sent)
	if err != nil {
		return Started{}, throttled(err)
	}
	if found == fileKept {
		return started, nil
	}
	// The item may exist while the execution does not: the function that wrote it was
	// killed, or Step Functions refused it. So the execution is started each time; a
	// second start has no effect while the first one runs.
	switch err := s.tryExecution(ctx, started.Name); {
	case errors.As(err, new(*sfntypes.ExecutionAlreadyExists)):
		if err := s.checkExisting(ctx, item); err != nil {
			return Started{}, throttled(err)
		}
	case err != nil:
		// The item stays, since the same request may have been repeated meanwhile and
		// have started the execution. If the client doesn't repeat it, TTL removes it.
		return Started{}, throttled(err)
	}
	if found == nothingFound {
		s.recordStart(started.Name, r)
	}
	return started, nil
}

// hash identifies what is asked for: the method, path, query, content type, and body, and
// the names of the forwarded headers. Their values may change: a request that is repeated
// with a renewed token is the same one. The key is hashed with a body, so that nobody can
// guess the body from the hash, which the file keeps.
func (r Request) hash(query string) string {
	parts := []string{cmp.Or(r.Method, http.MethodGet), r.Path, query}
	if len(r.Header) > 0 || r.Method == http.MethodPost {
		body := sha256.Sum256(append([]byte(r.Key+"\x00"), r.Body...))
		parts = append(parts, strings.Join(slices.Sorted(maps.Keys(r.Header)), ","), r.ContentType, hex.EncodeToString(body[:]))
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// found is what there was of a download before a request.
type found int

const (
	nothingFound found = iota // and its item was created
	itemFound
	fileKept // its link was delivered, and its item is gone
)

// startedBefore looks for an earlier request with the key of item, and creates the
// item, with what is sent to the origin, where there was none.
func (s *Starter) startedBefore(ctx context.Context, name string, item meeting.Item, sent *meeting.OriginRequest) (found, error) {
	for {
		earlier, err := s.Table.Current(ctx, item.ExecutionARN)
		if err == nil {
			return itemFound, sameRequest(earlier.RequestHash, item.RequestHash)
		}
		if !errors.Is(err, meeting.ErrUnknown) {
			return 0, err
		}
		record, err := s.Objects.Record(ctx, name)
		if err == nil {
			return fileKept, sameRequest(record.RequestHash, item.RequestHash)
		}
		if !errors.Is(err, object.ErrGone) {
			return 0, err
		}
		// The same request may be served at the same time: one of the two creates the item.
		if err := s.Table.Create(ctx, item, sent); !errors.Is(err, meeting.ErrExists) {
			return nothingFound, err
		}
	}
}

func sameRequest(earlier, now string) error {
	if earlier != now {
		return errKeyReused
	}
	return nil
}

// checkExisting decides what an execution is whose name was taken: the one of this
// download, running with an input from before an update of the stack, or ended at
// once; or one whose item and file are gone. Names are unique for 90 days.
func (s *Starter) checkExisting(ctx context.Context, asked meeting.Item) error {
	arn := asked.ExecutionARN
	existing, err := s.Describer.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &arn})
	if err != nil {
		return fmt.Errorf("describe execution: %w", err)
	}
	if existing.Status == sfntypes.ExecutionStatusRunning {
		return nil
	}
	item, err := s.Table.Current(ctx, arn)
	switch {
	case err == nil && item.Status != meeting.Copying:
		return sameRequest(item.RequestHash, asked.RequestHash) // the execution has noted in it how it ended
	case err == nil && existing.Status != sfntypes.ExecutionStatusSucceeded && !item.Asked().After(aws.ToTime(existing.StopDate)):
		return sameRequest(item.RequestHash, asked.RequestHash) // the execution was stopped or broke; clean-up is about to end it
	case err == nil: // created after the execution had ended, by this request or by one that was interrupted here
		err = s.Table.Discard(ctx, item)
	}
	if err != nil && !errors.Is(err, meeting.ErrUnknown) && !errors.Is(err, meeting.ErrEnded) {
		return err
	}
	// The link may have been delivered since startedBefore looked.
	record, err := s.Objects.Record(ctx, execution.NameFromARN(arn))
	if err == nil {
		return sameRequest(record.RequestHash, asked.RequestHash)
	}
	if !errors.Is(err, object.ErrGone) {
		return err
	}
	return failure.New(failure.Expired, "the file of this Idempotency-Key is no longer kept; use a new key to ask for it again")
}
