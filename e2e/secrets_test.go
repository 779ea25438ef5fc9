package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
)

// TestSecrets plants a ticket, a secret query, and a query of the base URL, and
// fetches links. After all tests, TestMain looks for them: none may be in any log,
// input, output, cause, or error of the whole run.
func TestSecrets(t *testing.T) {
	useOrigin(t, stack.originURL+"/file/1MiB/base.bin?key=planted-base")
	setEnv(t, "DownloadFunction", "REQUIRE_TICKET", "true")
	t.Cleanup(func() { setEnv(t, "DownloadFunction", "REQUIRE_TICKET", "false") })
	planted := []string{"planted-base", "planted-query", "planted-value"}
	run := func(path string) (string, answer) {
		_, a := get(t, path)
		planted = append(planted, a.Ticket)
		return a.ExecutionARN, a
	}
	// The socket connects late, so that there is a token in the item.
	arn, a := run("/x.bin?token=planted-query&status=200")
	awaitToken(t, arn)
	i, _ := item(t, arn)
	planted = append(planted, i.TaskToken)
	c, status := tryDial(t, http.Header{"X-StateMachine-ExecutionArn": {arn}, "X-Download-Ticket": {a.Ticket}}, "")
	if c == nil {
		t.Fatalf("handshake: status %d", status)
	}
	link, err := url.Parse(c.next())
	if err != nil {
		t.Fatal(err)
	}
	planted = append(planted, link.Query().Get("X-Amz-Signature"), link.Query().Get("X-Amz-Security-Token"))
	// Failed, refused, cancelled, and requested without a socket.
	failed, _ := run("/file/1MiB?status=404&token=planted-query")
	ended(t, failed)
	get(t, "/a/../b?token=planted-value")
	_, b := run("/y.bin?delay=3s&token=planted-query")
	for _, method := range []string{"GET", "DELETE"} {
		r, _ := http.NewRequest(method, b.StatusURL+"?ticket="+b.Ticket, nil)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	ended(t, b.ExecutionARN)

	for _, p := range planted {
		if len(p) < 12 {
			t.Fatalf("a secret was not planted: %q", planted)
		}
	}
	plantedSecrets = append(plantedSecrets, planted...)
}

// plantedSecrets are those of TestSecrets, the names of a signed URL's parameters, which
// find any link of the run, and the bodies, headers and places of the tests of backends.
var plantedSecrets = []string{"X-Amz-Signature", "X-Amz-Security-Token", "planted-body", "planted-token", "planted-place"}

// leaks returns the places where a secret is found in the functions' logs and in
// the histories of all executions of this run, and the request items that are left.
func leaks() ([]string, error) {
	log, err := os.ReadFile(filepath.Join(state, "functions.log"))
	if err != nil {
		return nil, err
	}
	texts, err := histories("")
	if err != nil {
		return nil, err
	}
	if len(log) == 0 || len(texts) == 0 {
		return nil, errors.New("no logs or no histories to search")
	}
	texts["the functions' logs"] = string(log)
	left, err := requestItems()
	return append(findSecrets(texts, plantedSecrets), left...), err
}

// requestItems returns the request items that are left of downloads that have ended.
func requestItems() (left []string, err error) {
	ctx := context.Background()
	pages := dynamodb.NewScanPaginator(stack.meeting.DynamoDB, &dynamodb.ScanInput{TableName: &stack.meeting.Name, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, i := range page.Items {
			key, _ := i["executionArn"].(*types.AttributeValueMemberS)
			arn, isRequest := strings.CutSuffix(key.Value, "#request")
			if !isRequest {
				continue
			}
			out, err := stack.stepFuncs.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &arn})
			if err != nil || out.Status != "RUNNING" {
				left = append(left, "a request item of an ended download: "+arn)
			}
		}
	}
	return left, nil
}

// histories returns the history of every execution of the machines whose names
// have the prefix, by ARN. The emulator keeps those of Express executions, too.
func histories(prefix string) (map[string]string, error) {
	ctx := context.Background()
	texts := map[string]string{}
	machines, err := stack.stepFuncs.ListStateMachines(ctx, &sfn.ListStateMachinesInput{})
	if err != nil {
		return nil, err
	}
	for _, m := range machines.StateMachines {
		if !strings.HasPrefix(*m.Name, prefix) {
			continue
		}
		before := len(texts)
		pages := sfn.NewListExecutionsPaginator(stack.stepFuncs, &sfn.ListExecutionsInput{StateMachineArn: m.StateMachineArn})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, e := range page.Executions {
				history, err := stack.stepFuncs.GetExecutionHistory(ctx, &sfn.GetExecutionHistoryInput{ExecutionArn: e.ExecutionArn})
				if err != nil {
					return nil, err
				}
				b, err := json.Marshal(history.Events)
				if err != nil {
					return nil, err
				}
				texts[*e.ExecutionArn] = string(b)
			}
		}
		fmt.Println("searched", len(texts)-before, "executions of", *m.Name, "for secrets")
	}
	return texts, nil
}

// findSecrets returns the places in texts where a secret is found.
func findSecrets(texts map[string]string, secrets []string) (found []string) {
	for where, text := range texts {
		for _, secret := range secrets {
			if at := strings.Index(text, secret); at >= 0 {
				found = append(found, fmt.Sprintf("%s: …%s…", where, text[max(0, at-80):at]))
			}
		}
	}
	return found
}
