// Package e2e tests the deployed app: the template on the local stack, real
// origins, and real sockets. The stack uses a different port and folder from the
// one of `make up`.
//
// ORIGINS_LARGE=1 adds a file of 1 GiB to TestOrigins; the emulator keeps several
// copies of it in memory.
package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/coder/websocket"

	"async-download/internal/execution"
	"async-download/internal/meeting"
)

const (
	state         = ".local/e2e"
	port          = "4576"
	clientTimeout = 10 * time.Second // ClientTimeoutSeconds of this stack
	linkExpiry    = 20 * time.Minute // LinkExpirySeconds of this stack
	// patience is how long a test waits for anything before it fails: on a busy machine, the local stack
	// may do nothing for many seconds.
	patience     = 3 * time.Minute
	maxFileBytes = 2 << 30
)

var stack struct {
	env          map[string]string // the contents of .local/e2e/env
	originURL    string            // the demo origin
	s3           *s3.Client
	stepFuncs    *sfn.Client
	lambda       *lambda.Client
	logs         *cloudwatchlogs.Client
	connections  *apigatewaymanagementapi.Client
	meeting      *meeting.Table
	stateMachine string
}

func TestMain(m *testing.M) {
	code := 1
	defer func() { os.Exit(code) }()
	if err := os.Chdir(".."); err != nil {
		fmt.Println(err)
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // the parallel tests mostly wait
		fmt.Println(err)
		return
	}
	defer local("down")
	if err := local("up"); err != nil {
		fmt.Println("the local stack did not start:", err)
		return
	}
	if err := connect(); err != nil {
		fmt.Println(err)
		return
	}
	code = m.Run()
	keepLogs()
	found, err := leaks()
	for _, where := range found {
		fmt.Println("a secret is in", where)
	}
	if err != nil || len(found) > 0 {
		fmt.Println("--- FAIL: secrets:", len(found), "found,", err)
		code = 1
	}
}

// local starts this package's stack or stops it.
func local(command string) error {
	c := exec.Command("python3", "scripts/local", command)
	parameters := fmt.Sprintf("ClientTimeoutSeconds=%d LinkExpirySeconds=%d MaxFileBytes=%d OriginAnswerSeconds=60 "+
		"AllowedMethods=GET,POST ForwardedHeaders=Authorization EventBusName=downloads",
		int(clientTimeout.Seconds()), int(linkExpiry.Seconds()), maxFileBytes)
	c.Env = append(os.Environ(), "STATE="+state, "PORT="+port, "STACK_NAME=e2e", "PARAMETERS="+parameters)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}

// keepLogs saves the functions' logs, for debugging a failure.
func keepLogs() {
	if stack.logs == nil {
		return
	}
	lines, err := functionLogs("e2e")
	if err == nil {
		err = os.WriteFile(filepath.Join(state, "functions.log"), []byte(strings.Join(lines, "\n")), 0o644)
	}
	if err != nil {
		fmt.Println("the functions' logs:", err)
	}
}

// functionLogs returns the lines that the functions of a stack logged.
func functionLogs(stackName string) (lines []string, err error) {
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(stack.logs, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("/aws/lambda/" + stackName)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			return nil, err
		}
		for _, e := range page.Events {
			lines = append(lines, strings.TrimSpace(*e.Message))
		}
	}
	return lines, nil
}

func connect() error {
	b, err := os.ReadFile(filepath.Join(state, "env"))
	if err != nil {
		return err
	}
	stack.env = map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(strings.TrimPrefix(line, "export "), "="); ok && k != "PATH" { // which is for people
			v = strings.Trim(v, "'")
			stack.env[k] = v
			os.Setenv(k, v)
		}
	}
	addr, err := os.ReadFile(filepath.Join(state, "origin.addr"))
	if err != nil {
		return err
	}
	stack.originURL = "http://" + strings.TrimSpace(string(addr))
	stack.stateMachine = stack.env["STATE_MACHINE_ARN"]
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		return err
	}
	stack.s3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	stack.stepFuncs = sfn.NewFromConfig(cfg)
	stack.lambda = lambda.NewFromConfig(cfg)
	stack.logs = cloudwatchlogs.NewFromConfig(cfg)
	stack.connections = apigatewaymanagementapi.NewFromConfig(cfg, func(o *apigatewaymanagementapi.Options) {
		o.BaseEndpoint = aws.String("http" + strings.TrimPrefix(stack.env["WEBSOCKET_ENDPOINT"], "ws"))
	})
	stack.meeting = &meeting.Table{DynamoDB: dynamodb.NewFromConfig(cfg), Name: stack.env["TABLE"], Tokens: stack.stepFuncs}
	return nil
}

// useOrigin makes url the functions' origin until the test ends.
func useOrigin(t *testing.T, url string) {
	t.Helper()
	before := setOrigin(t, url)
	t.Cleanup(func() { setOrigin(t, before) })
}

func setOrigin(t *testing.T, url string) (before string) {
	t.Helper()
	for _, id := range []string{"DownloadFunction", "FetchFunction", "FinishFunction"} {
		before = setEnv(t, id, "ORIGIN_URL", url)
	}
	return before
}

// setEnv changes an environment variable of a function and returns its previous value.
func setEnv(t *testing.T, logicalID, variable, value string) (before string) {
	t.Helper()
	ctx, name := context.Background(), function(t, logicalID)
	now, err := stack.lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
	if err != nil {
		t.Fatal(err)
	}
	variables := now.Environment.Variables
	before, variables[variable] = variables[variable], value
	if _, err := stack.lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: &name, Environment: &types.Environment{Variables: variables},
	}); err != nil {
		t.Fatal(err)
	}
	return before
}

// function returns the name of a function in this stack.
func function(t *testing.T, logicalID string) string {
	t.Helper()
	pages := lambda.NewListFunctionsPaginator(stack.lambda, &lambda.ListFunctionsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Functions {
			if strings.HasPrefix(*f.FunctionName, "e2e-"+logicalID) {
				return *f.FunctionName
			}
		}
	}
	t.Fatalf("no function %s", logicalID)
	return ""
}

// answer is the body of the answer to GET /download.
type answer struct {
	ExecutionARN, WebSocketEndpoint, WebSocketURL, StatusURL string
	Ticket                                                   string
	Error                                                    *struct{ Code, Message string }
}

// get requests a path with its query and returns the status and the answer.
func get(t *testing.T, path string) (int, answer) {
	t.Helper()
	// Written by hand, so that the path is sent unchanged.
	host := strings.TrimPrefix(stack.env["AWS_ENDPOINT_URL"], "http://")
	_, api, _ := strings.Cut(stack.env["API_URL"], host)
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s/download%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", api, path, host)
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(b), "\r\n\r\n")
	var status int
	fmt.Sscanf(head, "HTTP/1.1 %d", &status)
	var a answer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("GET /download%s: %s", path, b)
	}
	return status, a
}

// ask starts a download and returns the execution's ARN.
func ask(t *testing.T, path string) string {
	t.Helper()
	status, a := get(t, path)
	if status != http.StatusOK || a.ExecutionARN == "" {
		t.Fatalf("GET /download%s: status %d, %+v", path, status, a)
	}
	return a.ExecutionARN
}

// client is the client's side of a socket.
type client struct {
	t        *testing.T
	conn     *websocket.Conn
	messages chan string // closed when the socket is
}

// dial opens a socket for an execution; format is "" or "json".
func dial(t *testing.T, arn, format string) *client {
	t.Helper()
	c, status := tryDial(t, http.Header{"X-StateMachine-ExecutionArn": {arn}, "X-Download-Format": {format}}, "")
	if c == nil {
		t.Fatalf("handshake: status %d", status)
	}
	return c
}

func tryDial(t *testing.T, header http.Header, query string) (*client, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, stack.env["WEBSOCKET_ENDPOINT"]+query, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		if resp == nil {
			t.Fatal(err)
		}
		return nil, resp.StatusCode
	}
	c := &client{t, conn, make(chan string, 1000)}
	go func() {
		defer close(c.messages)
		for {
			_, b, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			c.messages <- string(b)
		}
	}()
	t.Cleanup(c.close)
	return c, http.StatusSwitchingProtocols
}

func (c *client) close() { c.conn.Close(websocket.StatusNormalClosure, "") }

// received returns the messages that have arrived and were not read yet.
func (c *client) received() (all []string) {
	for {
		select {
		case m, ok := <-c.messages:
			if !ok {
				return all
			}
			all = append(all, m)
		default:
			return all
		}
	}
}

// next returns the next message, or fails the test.
func (c *client) next() string {
	c.t.Helper()
	select {
	case m, ok := <-c.messages:
		if !ok {
			c.t.Fatal("the socket was closed")
		}
		return m
	case <-time.After(patience):
		c.t.Fatalf("no message in %s", patience)
	}
	return ""
}

// ended waits until the execution has ended and returns its description.
func ended(t *testing.T, arn string) *sfn.DescribeExecutionOutput {
	t.Helper()
	var out *sfn.DescribeExecutionOutput
	waitUntil(t, "the execution to end", func() bool {
		var err error
		out, err = stack.stepFuncs.DescribeExecution(context.Background(), &sfn.DescribeExecutionInput{ExecutionArn: &arn})
		return err == nil && out.Status != "RUNNING"
	})

	return out
}

func item(t *testing.T, arn string) (meeting.Item, bool) {
	t.Helper()
	i, err := stack.meeting.Current(context.Background(), arn)
	if err != nil && err != meeting.ErrUnknown {
		t.Fatal(err)
	}
	return i, err == nil
}

func items(t *testing.T) int { return len(scan(t)) }

// scan reads the whole table.
func scan(t *testing.T) []meeting.Item {
	t.Helper()
	var all []meeting.Item
	pages := dynamodb.NewScanPaginator(stack.meeting.DynamoDB, &dynamodb.ScanInput{TableName: &stack.meeting.Name, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		var items []meeting.Item
		if err := attributevalue.UnmarshalListOfMaps(page.Items, &items); err != nil {
			t.Fatal(err)
		}
		all = append(all, items...)
	}
	return all
}

// waitUntil waits until f returns true, or fails the test.
func waitUntil(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if f() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// awaitToken waits until the workflow waits for its client.
func awaitToken(t *testing.T, arn string) {
	t.Helper()
	waitUntil(t, "the task token", func() bool { i, _ := item(t, arn); return i.TaskToken != "" })
}

// awaitNoItem waits until a delivered download's item is removed.
func awaitNoItem(t *testing.T, arn string) {
	t.Helper()
	waitUntil(t, "the item to go", func() bool { _, known := item(t, arn); return !known })
}

// nothingStored fails unless the execution has neither an object nor an upload.
func nothingStored(t *testing.T, arn string) {
	t.Helper()
	if n := stored(t, arn); n > 0 {
		t.Errorf("%d objects and uploads are left of %s", n, arn)
	}
}

// stored counts the objects and uploads of an execution.
func stored(t *testing.T, arn string) int {
	t.Helper()
	bucket, key := stack.env["BUCKET"], "downloads/"+execution.NameFromARN(arn)
	objects, err := stack.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &key})
	if err != nil {
		t.Fatal(err)
	}
	uploads, err := stack.s3.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &bucket, Prefix: &key})
	if err != nil {
		t.Fatal(err)
	}
	return len(objects.Contents) + len(uploads.Uploads)
}

// fetch downloads a link and returns the response's header and the body's SHA-256 and length.
func fetch(t *testing.T, url string) (http.Header, string, int64) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	h := sha256.New()
	n, err := io.Copy(h, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET link: status %d, error %v", resp.StatusCode, err)
	}
	return resp.Header, hex.EncodeToString(h.Sum(nil)), n
}

// states returns the names of the states that an execution entered.
func states(t *testing.T, arn string) []string {
	t.Helper()
	out, err := stack.stepFuncs.GetExecutionHistory(context.Background(), &sfn.GetExecutionHistoryInput{ExecutionArn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range out.Events {
		if e.StateEnteredEventDetails != nil {
			names = append(names, *e.StateEnteredEventDetails.Name)
		}
	}
	return names
}

// entered returns when an execution entered a state for the first time.
func entered(t *testing.T, arn, state string) time.Time {
	t.Helper()
	out, err := stack.stepFuncs.GetExecutionHistory(context.Background(), &sfn.GetExecutionHistoryInput{ExecutionArn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range out.Events {
		if e.StateEnteredEventDetails != nil && *e.StateEnteredEventDetails.Name == state {
			return *e.Timestamp
		}
	}
	t.Fatalf("%s was not entered", state)
	return time.Time{}
}
