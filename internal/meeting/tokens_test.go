package meeting_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"async-download/internal/meeting"
)

// fault is the outcome of a call.
type fault int

const (
	none      fault = iota
	lost            // applied, and the reply is lost: the caller tries again
	throttled       // not applied; the caller gets an error
	killed          // not applied; the calling function is killed
)

// tokens behaves as Step Functions documents it, stricter than any emulator: the first
// answer to a token is accepted, and every other one gets TaskTimedOut, as after a
// time-out. A token that was never issued is InvalidToken, and a forgotten one
// TaskDoesNotExist.
type tokens struct {
	// pass, if set, decides the outcome of each call.
	pass func(ctx context.Context, operation string) fault
	// stop, if set, stops the execution; false if there is none.
	stop func() bool

	mu    sync.Mutex
	n     int
	tasks map[string]*task
}

type task struct {
	done      chan struct{} // closed with the task
	closed    bool
	forgotten bool

	output      string // of a success
	err, cause  string // of a failure
	acceptances int
}

var _ meeting.Tokens = (*tokens)(nil)

// issue creates a task and returns its token.
func (s *tokens) issue() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tasks == nil {
		s.tasks = map[string]*task{}
	}
	s.n++
	token := fmt.Sprintf("token-%d", s.n)
	s.tasks[token] = &task{done: make(chan struct{})}
	return token
}

func (s *tokens) task(token string) *task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tasks[token]
}

// close ends a task without an answer, as its time-out or the end of its execution does.
// It returns false if the task was answered before.
func (s *tokens) close(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[token]
	if t.closed {
		return false
	}
	t.closed = true
	close(t.done)
	return true
}

func (s *tokens) open(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[token]
	return t != nil && !t.closed
}

func (s *tokens) forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks[token].forgotten = true
}

func (s *tokens) answer(token *string, take func(*task)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token == nil || *token == "" || len(*token) > 2048 {
		return &types.InvalidToken{Message: aws.String("Invalid Token: 'Invalid token'")}
	}
	t := s.tasks[*token]
	switch {
	case t == nil:
		return &types.InvalidToken{Message: aws.String("Invalid Token: 'Invalid token'")}
	case t.forgotten:
		return &types.TaskDoesNotExist{Message: aws.String("Task does not exist")}
	case t.closed:
		return &types.TaskTimedOut{Message: aws.String("Task Timed Out: 'Provided task does not exist anymore'")}
	}
	take(t)
	t.closed = true
	t.acceptances++
	close(t.done)
	return nil
}

// call makes a call as the SDK does: up to three times.
func (s *tokens) call(ctx context.Context, operation string, do func() error) error {
	var err error
	for range 3 {
		what := none
		if s.pass != nil {
			what = s.pass(ctx, operation)
		}
		switch what {
		case none:
			return do()
		case lost:
			if err = do(); err != nil {
				return err
			}
			err = errors.New("connection reset by peer")
		case throttled:
			err = errors.New("ThrottlingException: Rate exceeded")
		case killed:
			return errKilled
		}
	}
	return err
}

func (s *tokens) SendTaskSuccess(ctx context.Context, in *sfn.SendTaskSuccessInput, _ ...func(*sfn.Options)) (*sfn.SendTaskSuccessOutput, error) {
	err := s.call(ctx, "SendTaskSuccess", func() error {
		if in.Output == nil || len(*in.Output) > 262144 || !json.Valid([]byte(*in.Output)) {
			return &types.InvalidOutput{Message: aws.String("Invalid Output")}
		}
		return s.answer(in.TaskToken, func(t *task) { t.output = *in.Output })
	})
	if err != nil {
		return nil, err
	}
	return &sfn.SendTaskSuccessOutput{}, nil
}

func (s *tokens) SendTaskFailure(ctx context.Context, in *sfn.SendTaskFailureInput, _ ...func(*sfn.Options)) (*sfn.SendTaskFailureOutput, error) {
	err := s.call(ctx, "SendTaskFailure", func() error {
		return s.answer(in.TaskToken, func(t *task) { t.err, t.cause = aws.ToString(in.Error), aws.ToString(in.Cause) })
	})
	if err != nil {
		return nil, err
	}
	return &sfn.SendTaskFailureOutput{}, nil
}

func (s *tokens) StopExecution(ctx context.Context, in *sfn.StopExecutionInput, _ ...func(*sfn.Options)) (*sfn.StopExecutionOutput, error) {
	err := s.call(ctx, "StopExecution", func() error {
		if *in.ExecutionArn != arn || s.stop == nil || !s.stop() {
			return &types.ExecutionDoesNotExist{Message: aws.String("Execution Does Not Exist")}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sfn.StopExecutionOutput{}, nil
}

func TestTokensAreStrict(t *testing.T) {
	ctx := context.Background()
	success := func(s *tokens, token, output string) error {
		_, err := s.SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{TaskToken: &token, Output: &output})
		return err
	}
	failure := func(s *tokens, token string) error {
		_, err := s.SendTaskFailure(ctx, &sfn.SendTaskFailureInput{TaskToken: &token, Error: aws.String("CANCELLED")})
		return err
	}
	is := func(t *testing.T, got error, want any) {
		t.Helper()
		if want == nil && got != nil || want != nil && !errors.As(got, want) {
			t.Errorf("got %v, want %T", got, want)
		}
	}
	s := &tokens{}
	one, two, three := s.issue(), s.issue(), s.issue()
	is(t, success(s, one, "not JSON"), new(*types.InvalidOutput))
	is(t, success(s, one, "{}"), nil)
	is(t, success(s, one, "{}"), new(*types.TaskTimedOut))
	is(t, failure(s, one), new(*types.TaskTimedOut))
	is(t, failure(s, two), nil)
	is(t, success(s, two, "{}"), new(*types.TaskTimedOut))
	if s.close(two) {
		t.Error("closed a task that had its answer")
	}
	if !s.close(three) {
		t.Error("a task without an answer can't be closed")
	}
	is(t, success(s, three, "{}"), new(*types.TaskTimedOut))
	s.forget(three)
	is(t, success(s, three, "{}"), new(*types.TaskDoesNotExist))
	is(t, success(s, "rubbish", "{}"), new(*types.InvalidToken))
	is(t, success(s, "", "{}"), new(*types.InvalidToken))

	four := s.issue()
	s.pass = func(context.Context, string) fault { s.pass = nil; return lost }
	is(t, success(s, four, "{}"), new(*types.TaskTimedOut)) // the SDK's second try after the first was applied
	if got := s.task(four); got.acceptances != 1 || got.output != "{}" {
		t.Errorf("got %d acceptances with %q, want 1 with {}", got.acceptances, got.output)
	}
	five := s.issue()
	s.pass = func(context.Context, string) fault { return throttled }
	if err := success(s, five, "{}"); err == nil || !s.open(five) {
		t.Errorf("throttled: got %v and open %v, want an error and an open task", err, s.open(five))
	}
}
