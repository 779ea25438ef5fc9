package failure

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambda/messages"
)

func TestToStepFunctions(t *testing.T) {
	secret := errors.New("GET https://origin/?key=planted: refused")
	tests := []struct {
		name          string
		err           error
		code, message string
	}{
		{"a failure", New(OriginStatus, "the origin answered %d", 404), "ORIGIN_STATUS", "the origin answered 404"},
		{"with a cause", Wrap(secret, OriginUnreachable, "refused"), "ORIGIN_UNREACHABLE", "refused"},
		{"wrapped", fmt.Errorf("copy: %w", New(TooLarge, "too large")), "TOO_LARGE", "too large"},
		{"joined", errors.Join(New(Cancelled, "cancelled"), secret), "CANCELLED", "cancelled"},
		{"anything else", secret, "INTERNAL", known[Internal]},
	}
	for _, test := range tests {
		got, ok := ToStepFunctions(test.err).(messages.InvokeResponse_Error)
		if !ok || got.Type != test.code || got.Message != test.message {
			t.Errorf("%s: got %#v, want %s %q", test.name, got, test.code, test.message)
		}
		if strings.Contains(got.Message, "planted") {
			t.Errorf("%s: the cause is in the message: %q", test.name, got.Message)
		}
	}
	if got := ToStepFunctions(nil); got != nil {
		t.Errorf("nil: got %v, want nil", got)
	}
}

func TestFromStepFunctions(t *testing.T) {
	tests := []struct {
		name, error, cause string
		code               Code
		message            string
	}{
		{"a function's report", "ORIGIN_STATUS", `{"errorMessage":"the origin answered 404","errorType":"ORIGIN_STATUS"}`, OriginStatus, "the origin answered 404"},
		{"no cause", "CANCELLED", "", Cancelled, known[Cancelled]},
		{"a sentence", "CANCELLED", "cancelled by the client", Cancelled, known[Cancelled]},
		{"an empty report", "STORAGE", "{}", Storage, known[Storage]},
		{"a time-out", "States.Timeout", "", Internal, known[Internal]},
		{"another's report", "Sandbox.Timedout", `{"errorMessage":"RequestId: x Task timed out, arn:secret"}`, Internal, known[Internal]},
		{"a REST code", "NOT_FOUND", `{"errorMessage":"x"}`, Internal, known[Internal]},
		{"nothing", "", "", Internal, known[Internal]},
	}
	for _, test := range tests {
		got := FromStepFunctions(test.error, test.cause)
		if got.Code != test.code || got.Message != test.message {
			t.Errorf("%s: got %s %q, want %s %q", test.name, got.Code, got.Message, test.code, test.message)
		}
	}
	for _, code := range Codes() {
		if got := FromStepFunctions(string(code), ""); got.Code != code || got.Message == "" {
			t.Errorf("%s: got %s %q, want the code and a message", code, got.Code, got.Message)
		}
	}
}

// A code that isn't known would turn into INTERNAL on its way through Step Functions. The
// first block of constants has the codes of downloads. Clients find all codes in the API's
// documentation, and operators those of downloads in the runbook.
func TestEveryCodeIsKnown(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "failure.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var blocks [][]string
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST || !g.Lparen.IsValid() {
			continue
		}
		var block []string
		for _, spec := range g.Specs {
			block = append(block, strings.Trim(spec.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value, `"`))
		}
		blocks = append(blocks, block)
	}
	if len(blocks) != 2 {
		t.Fatalf("got %d blocks of codes, want those of downloads and those of REST", len(blocks))
	}
	has := func(document, code string) bool {
		text, err := os.ReadFile("../../docs/" + document)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(text, []byte("`"+code+"`"))
	}
	for i, block := range blocks {
		for _, code := range block {
			if !has("api.md", code) {
				t.Errorf("%s isn't in docs/api.md", code)
			}
			if i == 0 && !has("operations.md", code) {
				t.Errorf("%s isn't in docs/operations.md", code)
			}
			if got, want := slices.Contains(Codes(), Code(code)), i == 0; got != want {
				t.Errorf("%s: got known %v, want %v", code, got, want)
			}
		}
	}
}

// The log has the cause, which the message doesn't.
func TestLog(t *testing.T) {
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Error("not copied", "error", Wrap(io.ErrUnexpectedEOF, OriginTruncated, "cut"))
	if got := b.String(); !strings.Contains(got, `"error":{"code":"ORIGIN_TRUNCATED","message":"cut","cause":"unexpected EOF"}`) {
		t.Errorf("got %s, want code, message and cause", got)
	}
	if !errors.Is(Wrap(io.EOF, Storage, "x"), io.EOF) || CodeOf(nil) != "" || As(nil) != nil {
		t.Error("got a broken chain, or a failure for nil")
	}
}
