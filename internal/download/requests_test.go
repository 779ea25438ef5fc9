package download_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"

	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/ticket"
)

func TestStart(t *testing.T) {
	throttled := &smithy.GenericAPIError{Code: "ThrottlingException"}
	for title, test := range map[string]struct {
		request      download.Request
		caller       string // header
		ticket       bool
		fails        error // of StartExecution
		code         failure.Code
		body, header string // of the request to the origin
	}{
		"plain":                           {},
		"with a ticket":                   {ticket: true},
		"forwarded":                       {request: download.Request{Header: map[string]string{"Accept-Language": "de"}}, header: "de"},
		"the caller":                      {request: download.Request{Caller: "ana"}, caller: "x-caller", header: "ana"},
		"POST":                            {request: download.Request{Method: http.MethodPost, Body: []byte("q"), ContentType: "text/x"}, body: "cQ=="},
		"no caller":                       {caller: "x-caller", code: failure.Internal},
		"a caller with a space behind":    {request: download.Request{Caller: "ana "}, caller: "x-caller", code: failure.Internal},
		"a caller with a control byte":    {request: download.Request{Caller: "a\nb"}, caller: "x-caller", code: failure.Internal},
		"a path outside of the base":      {request: download.Request{Path: "../x"}, code: failure.InvalidPath},
		"a query that isn't UTF-8":        {request: download.Request{Query: url.Values{"a": {"\ufffd"}}}, code: failure.InvalidPath},
		"reply lost, and ended meanwhile": {fails: &sfntypes.ExecutionAlreadyExists{}},
		"throttled":                       {fails: throttled, code: failure.Throttled},
		"throttled POST":                  {request: download.Request{Method: http.MethodPost}, fails: throttled, code: failure.Throttled},
		"not startable":                   {fails: errors.New("no"), code: failure.Internal},
	} {
		t.Run(title, func(t *testing.T) {
			s := newStack()
			s.startFails, s.RequireTicket = test.fails, test.ticket
			starter := download.Starter{Protocol: s.Protocol, Origin: &url.URL{Scheme: "https", Host: "origin.example", Path: "/"}, CallerHeader: test.caller}
			r := test.request
			r.AskedBy = asker
			started, err := starter.Start(t.Context(), r)
			if failure.CodeOf(err) != test.code {
				t.Fatalf("got %v, want code %q", err, test.code)
			}
			if test.code != "" {
				if len(s.table.Items) > 0 {
					t.Errorf("got %v, want no item left", s.table.Items)
				}
				return
			}
			item, sent := s.table.Get(started.ExecutionARN), s.table.Get(started.ExecutionARN+"#request")
			if item["status"]["S"] != "COPYING" || started.ExecutionARN != execution.ARN(machine, started.Name) || !execution.IsName(started.Name) {
				t.Errorf("got %+v and item %v", started, item)
			}
			if hash, _ := item["ticketHash"]["S"].(string); (hash != "") != test.ticket || test.ticket && !ticket.Opens(started.Ticket, hash, true) {
				t.Errorf("got ticket %q and hash %q, want a pair: %v", started.Ticket, hash, test.ticket)
			}
			if len(s.starts) != 1 || s.starts[0] != started.Name {
				t.Errorf("got executions %q, want %s", s.starts, started.Name)
			}
			if (sent != nil) != (test.body+test.header != "") || (item["hasRequest"] != nil) != (sent != nil) {
				t.Errorf("got request %v of item %v", sent, item)
			}
			header, _ := sent["header"]["M"].(map[string]any)
			text := ""
			for _, v := range header {
				text, _ = v.(map[string]any)["S"].(string)
			}
			if body, _ := sent["body"]["B"].(string); body != test.body || text != test.header {
				t.Errorf("got body %q and header %q, want %q and %q", body, text, test.body, test.header)
			}
		})
	}
}

// A request that is repeated with its key counts once.
func TestKeyIsCountedOnce(t *testing.T) {
	s := newStack()
	s.file = false
	starter := download.Starter{Protocol: s.Protocol, Origin: &url.URL{Scheme: "https", Host: "origin.example", Path: "/"}}
	for range 2 {
		if _, err := starter.Start(t.Context(), download.Request{Key: "5f0c3b1e-9a7d-4c62-88e1-f2a3b4c5d6e7", AskedBy: asker, Path: "a"}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(s.lines.String(), `"message":"started"`); n != 1 {
			t.Errorf("got %d lines, want one: %s", n, s.lines.String())
		}
	}
	if len(s.starts) != 2 || s.starts[0] != s.starts[1] {
		t.Errorf("got the executions %q, want the same one twice", s.starts)
	}
}

func TestMessage(t *testing.T) {
	const cancel = `{"action":"cancel"}`
	down := errors.New("the table is out of order")
	for title, test := range map[string]struct {
		body      string
		status    meeting.Status // "" for no item
		json      bool
		refused   string // operation
		post      error
		cancelled bool
		answer    string // prefix
		err       bool
	}{
		"ping":                        {body: `{"action":"ping"}`, status: meeting.Copying, refused: "Query"},
		"cancel":                      {body: cancel, status: meeting.Copying, cancelled: true},
		"cancel when ready":           {body: cancel, status: meeting.Ready, cancelled: true},
		"cancel after the end":        {body: cancel, status: meeting.Failed, answer: "c1 error: CONFLICT "},
		"cancel, item gone":           {body: cancel, answer: "c1 error: CONFLICT "},
		"no action":                   {body: "{", status: meeting.Copying, answer: "c1 error: NOT_FOUND "},
		"no action, client with JSON": {body: `{"action":"x"}`, status: meeting.Copying, json: true, answer: `c1 {"type":"error","code":"NOT_FOUND"`},
		"no action, client gone":      {body: "x", status: meeting.Copying, post: meeting.ErrGone, answer: "c1 error: NOT_FOUND "},
		"no action, post fails":       {body: "x", status: meeting.Copying, post: down, answer: "c1 error: NOT_FOUND ", err: true},
		"cancel, index not readable":  {body: cancel, status: meeting.Copying, refused: "Query", err: true},
		"cancel, item not writable":   {body: cancel, status: meeting.Copying, refused: "UpdateItem", err: true},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStack()
				s.refused, s.postFails = test.refused, test.post
				if test.status != "" {
					more := connectedAt(time.Now())
					if test.json {
						more["format"] = dynamodbtest.Value{"S": "json"}
					}
					s.item(test.status, more)
					s.table.CatchUp()
				}
				got, refused, err := s.Message(t.Context(), "c1", test.body)
				if (err != nil) != test.err || test.err == false && (refused != nil) != (test.answer != "") {
					t.Errorf("got %v, %v, want error %v", refused, err, test.err)
				}
				if marked := s.table.Get(arn)["cancelled"] != nil; marked != test.cancelled || marked && got != arn {
					t.Errorf("got mark %v of %q, want %v", marked, got, test.cancelled)
				}
				if all := strings.Join(s.sent, "\n"); (test.answer == "") != (all == "") || !strings.HasPrefix(all, test.answer) {
					t.Errorf("got %q, want %q", all, test.answer)
				}
			})
		})
	}
}

// A wrong name, a wrong ARN and a wrong ticket are all the same failure, and write nothing.
func TestRefused(t *testing.T) {
	secret, hash := ticket.New()
	for title, test := range map[string]struct {
		name, secret string
		required     bool
		hash         string
		want         failure.Code
	}{
		"right":                       {name: name, secret: secret, hash: hash},
		"without a ticket":            {name: name, hash: hash, want: failure.NotFound},
		"another ticket":              {name: name, secret: strings.ToUpper(secret), hash: hash, want: failure.NotFound},
		"the hash":                    {name: name, secret: hash, hash: hash, want: failure.NotFound},
		"none given out, none needed": {name: name},
		"none given out, one needed":  {name: name, required: true, want: failure.NotFound},
		"another name":                {name: strings.Repeat("0", 32), secret: secret, hash: hash, want: failure.NotFound},
		"no name":                     {name: "../" + name, secret: secret, hash: hash, want: failure.NotFound},
	} {
		for verb, do := range map[string]func(*stack) error{
			"status": func(s *stack) error { _, err := s.Status(t.Context(), test.name, test.secret); return err },
			"delete": func(s *stack) error { _, err := s.Delete(t.Context(), test.name, test.secret); return err },
			"connect": func(s *stack) error {
				_, err := s.Connect(t.Context(), execution.ARN(machine, test.name), test.secret, meeting.Connection{ID: "c1", At: time.Now()})
				return err
			},
		} {
			s := newStack()
			s.RequireTicket, s.file = test.required, false
			s.item(meeting.Copying, nil)
			if test.hash != "" {
				s.table.Items[arn]["ticketHash"] = dynamodbtest.Value{"S": test.hash}
			}
			changed := false
			s.table.Changed = func(_, _ dynamodbtest.Item) { changed = true }
			if err := do(s); failure.CodeOf(err) != test.want {
				t.Errorf("%s, %s: got %v, want code %q", verb, title, err, test.want)
			}
			if test.want != "" && changed {
				t.Errorf("%s, %s: the item was changed", verb, title)
			}
		}
	}
	s := newStack()
	s.item(meeting.Copying, nil)
	other := strings.Replace(arn, ":download:", ":other:", 1)
	if _, err := s.Connect(t.Context(), other, "", meeting.Connection{ID: "c1"}); failure.CodeOf(err) != failure.NotFound {
		t.Errorf("another machine: got %v, want NOT_FOUND", err)
	}
}

// A link that can't be signed is an error, and no end of the download.
func TestNotSigned(t *testing.T) {
	s := newStack()
	s.item(meeting.Ready, connectedAt(time.Now()))
	s.signFails = errors.New("no credentials")
	if err := s.Deliver(t.Context(), meeting.Delivery{ExecutionARN: arn}); !errors.Is(err, s.signFails) {
		t.Errorf("delivery: got %v, want the reason", err)
	}
	if _, err := s.Status(t.Context(), name, ""); !errors.Is(err, s.signFails) {
		t.Errorf("status: got %v, want the reason", err)
	}
	if got := s.table.Get(arn)["status"]["S"]; got != "READY" || s.lines.Len() > 0 {
		t.Errorf("got %v and metrics %s, want READY and none", got, s.lines.String())
	}
}

// A client whose file is gone gets that as the reason.
func TestFileGone(t *testing.T) {
	s := newStack()
	s.item(meeting.Expired, connectedAt(time.Now()))
	s.file = false
	if err := s.Deliver(t.Context(), meeting.Delivery{ExecutionARN: arn}); err != nil || len(s.sent) != 1 || !strings.HasPrefix(s.sent[0], "c1 error: EXPIRED ") {
		t.Errorf("got %v and %q, want EXPIRED", err, s.sent)
	}
	if _, err := s.Status(t.Context(), name, ""); failure.CodeOf(err) != failure.Expired {
		t.Errorf("status: got %v, want EXPIRED", err)
	}
}
