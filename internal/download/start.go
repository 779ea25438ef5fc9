package download

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/origin"
	"async-download/internal/ticket"
)

// Starter starts downloads. Its Protocol needs Table, Executions, StateMachine,
// RequireTicket and Metrics.
type Starter struct {
	Protocol
	Origin       *url.URL // base of what may be asked for
	AllowedPaths []string // prefixes of paths that may be asked for; none: any
	Input        Input
	Describer    Describer // for requests with a key
	CallerHeader string    // header in which the origin receives the caller's principal; "" for none
}

// Input is the execution's input: the two numbers its states read.
type Input struct {
	ClientTimeoutSeconds  int64 `json:"clientTimeoutSeconds"`
	MaxConcurrentSegments int64 `json:"maxConcurrentSegments"`
}

// ConcurrentSegments returns how many segments of one file are copied at once:
// limit, or fewer if the copying function's concurrency is not larger than that.
// Then one large file would hold every slot, and other downloads would wait for it.
func ConcurrentSegments(limit, concurrency int64) int64 {
	return max(1, min(limit, concurrency-1))
}

// Request is what a caller asks for.
type Request struct {
	Method  string     // GET or POST
	Path    string     // below the origin's base, percent-encoded as the client sent it
	Query   url.Values // decoded, as API Gateway hands it over
	AskedBy string     // the caller's address and principal, for the audit line and the events
	Caller  string     // the principal alone, "" if there is none
	Key     string     // the caller's Idempotency-Key, "" for none

	Header      map[string]string // forwarded to the origin, by canonical names
	ContentType string            // of the body of a POST
	Body        []byte
}

// origin returns what the request sends to the origin beyond path and query; nil if that is
// nothing. callerHeader is as in [Starter].
func (r Request) origin(callerHeader string) (*meeting.OriginRequest, error) {
	header := maps.Clone(r.Header)
	if callerHeader != "" {
		if r.Caller == "" || r.Caller != strings.TrimSpace(r.Caller) || strings.ContainsFunc(r.Caller, unicode.IsControl) {
			return nil, errors.New("the caller has no principal that can be sent to the origin")
		}
		if header == nil {
			header = map[string]string{}
		}
		header[http.CanonicalHeaderKey(callerHeader)] = r.Caller
	}
	if r.Method != http.MethodPost && len(header) == 0 {
		return nil, nil
	}
	o := &meeting.OriginRequest{Method: r.Method, Header: header}
	if r.Method == http.MethodPost {
		o.ContentType, o.Body = r.ContentType, r.Body
	}
	return o, nil
}

// Started is a download that has begun.
type Started struct {
	Name         string // of the execution
	ExecutionARN string
	// Ticket is returned this once, or again for the same Idempotency-Key; "" where
	// none is required.
	Ticket string
}

// Start writes the item of a new download and starts the execution that copies
// the file. The error is [failure.InvalidPath] for a path that the origin must not
// be asked for and [failure.Throttled] where AWS is too busy.
//
// A request with a key starts at most one download, however often it is repeated;
// see [Starter.startOnce] for its errors.
func (s *Starter) Start(ctx context.Context, r Request) (Started, error) {
	query, err := origin.EncodeQuery(r.Query)
	if err != nil {
		return Started{}, err
	}
	if _, err := origin.Join(s.Origin, s.AllowedPaths, r.Path, query); err != nil {
		return Started{}, err
	}
	sent, err := r.origin(s.CallerHeader)
	if err != nil {
		return Started{}, err
	}
	if r.Key != "" {
		return s.startOnce(ctx, r, query, sent)
	}
	started := Started{Name: execution.NewName()}
	started.ExecutionARN = execution.ARN(s.StateMachine, started.Name)
	item := meeting.Item{ExecutionARN: started.ExecutionARN, Path: r.Path, Query: query, AskedBy: r.AskedBy, HasRequest: sent != nil}
	if s.RequireTicket {
		started.Ticket, item.TicketHash = ticket.New()
	}
	if err := s.Table.Create(ctx, item, sent); err != nil {
		return Started{}, throttled(err)
	}
	if err := s.startExecution(ctx, started.Name); err != nil {
		return Started{}, errors.Join(throttled(err), s.Table.Discard(ctx, item))
	}
	s.recordStart(started.Name, r)
	return started, nil
}

func (s *Starter) recordStart(name string, r Request) {
	s.Metrics.Record(metric.Line{
		Message: "started", Execution: name, Values: map[metric.Name]float64{metric.Started: 1},
		About: map[string]any{"path": r.Path, "askedBy": r.AskedBy},
	})
}

// startExecution starts the execution called name. One of that name that runs
// already is no error.
func (s *Starter) startExecution(ctx context.Context, name string) error {
	if err := s.tryExecution(ctx, name); !errors.As(err, new(*sfntypes.ExecutionAlreadyExists)) {
		return err
	}
	return nil
}

func (s *Starter) tryExecution(ctx context.Context, name string) error {
	input, err := json.Marshal(s.Input)
	if err != nil {
		return fmt.Errorf("encode input: %w", err)
	}
	_, err = s.Executions.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: &s.StateMachine, Name: &name, Input: aws.String(string(input)),
	})
	// A call repeated after a lost reply has the same name and input, which Step
	// Functions takes for the same execution while that runs. One that has ended
	// already, as when the origin answers 404, exists: nobody else has its name.
	// https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
	if err != nil {
		return fmt.Errorf("start execution: %w", err)
	}
	return nil
}

// throttled turns the throttling of an AWS API into a failure that asks the client
// to try again.
func throttled(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "ThrottlingException", "RequestLimitExceeded", "ProvisionedThroughputExceededException", "ExecutionLimitExceeded", "TooManyRequestsException", "TransactionCanceledException":
			return failure.Wrap(err, failure.Throttled, "too many downloads are being started; try again in a second")
		}
	}
	return err
}
