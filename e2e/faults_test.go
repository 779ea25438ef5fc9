package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// fault is what happens to a function's call to AWS.
type fault int

const (
	none      fault = iota
	throttled       // refused, not applied
	lost            // applied, and the connection is reset instead of a reply
)

func (f fault) String() string { return [...]string{"", "throttled", "lost"}[f] }

// call is one try of a call.
type call struct {
	operation string // such as DynamoDB.UpdateItem; for S3, the method
	execution string // name of the execution it is about, if it has one
	body      string
	try       int // 1 is the first
}

// proxy sits between the functions and the local stack. Calls of the state
// machines don't pass through it, since the emulator makes them internally; the
// tests of package meeting inject faults into those.
type proxy struct {
	*httptest.Server
	forward http.Handler

	mu       sync.Mutex
	choose   func(call) fault // nil for no faults
	tries    map[string]int   // by call
	injected map[string]map[fault]int
	doubled  map[string]int // by execution: how many additional posts of its link are expected
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	to, err := url.Parse(stack.env["AWS_ENDPOINT_URL"])
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{tries: map[string]int{}, injected: map[string]map[fault]int{}, doubled: map[string]int{}}
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // the signature covers it
			r.Out.Header.Del("Expect")
		},
		// A function that is stopped for its new environment leaves a call unfinished.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// intercept directs the functions' calls to the proxy until the test ends. The
// emulator gives each function its AWS_ENDPOINT_URL; the SDK prefers the variable
// of a service: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
func (p *proxy) intercept(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	for _, id := range []string{"DownloadFunction", "ExecutionsFunction", "OnConnectFunction", "OnDisconnectFunction", "MessageFunction",
		"FetchFunction", "FinishFunction", "SendMessageFunction", "CleanUpFunction"} {
		name := function(t, id)
		now, err := stack.lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil {
			t.Fatal(err)
		}
		variables := map[string]string{}
		for k, v := range now.Environment.Variables {
			if variables[k] = v; k == "WEBSOCKET_API" && id != "DownloadFunction" { // its answer goes to clients, which don't use the proxy
				variables[k] = strings.Replace(v, stack.env["AWS_ENDPOINT_URL"], p.URL, 1)
			}
		}
		for _, service := range []string{"DYNAMODB", "SFN", "STS", "S3"} {
			variables["AWS_ENDPOINT_URL_"+service] = p.URL
		}
		configure := func(variables map[string]string) {
			if _, err := stack.lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
				FunctionName: &name, Environment: &types.Environment{Variables: variables},
			}); err != nil {
				t.Fatal(err)
			}
		}
		configure(variables)
		t.Cleanup(func() { configure(now.Environment.Variables) })
	}
}

// inject has choose decide the fault of each call from now on.
func (p *proxy) inject(choose func(call) fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.choose = choose
}

// count returns how often a fault was injected.
func (p *proxy) count(operation string, f fault) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.injected[operation][f]
}

// reset removes the faults and resets the counts.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.choose = nil
	clear(p.injected)
}

// maxLinks returns how often the link of an execution may be posted.
func (p *proxy) maxLinks(arn string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 1 + p.doubled[arn[strings.LastIndexByte(arn, ':')+1:]]
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	c, id := parseCall(r, body)
	if c.operation == "" {
		p.forward.ServeHTTP(w, r)
		return
	}
	switch p.decide(c, id) {
	case throttled:
		refuse(w, c.operation)
	case lost:
		p.forward.ServeHTTP(httptest.NewRecorder(), r)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0) // a reset, not a FIN
		}
		conn.Close()
	default:
		p.forward.ServeHTTP(w, r)
	}
}

var executionName = regexp.MustCompile(`(?:downloads/|:)([0-9a-f]{32})\b`)

// parseCall returns the call that a request makes, and an id that all its tries share.
// A client that follows a link makes no call.
func parseCall(r *http.Request, body []byte) (call, string) {
	c, id := call{body: string(body)}, r.Header.Get("amz-sdk-invocation-id")
	_, target, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch form, _ := url.ParseQuery(string(body)); {
	case r.URL.Query().Has("X-Amz-Signature"):
		return call{}, ""
	case strings.HasPrefix(r.Header.Get("X-Amz-Target"), "DynamoDB_"):
		c.operation = "DynamoDB." + target
	case target != "":
		c.operation = "StepFunctions." + target
	case strings.Contains(r.URL.Path, "/@connections/"):
		c.operation = "Connections.Post"
	case r.URL.Path == "/" && form.Get("Action") != "":
		c.operation = "STS." + form.Get("Action")
	default:
		c.operation, id = "S3."+r.Method, r.Method+r.URL.String() // the copier's tries of a part are separate calls
	}
	if name := executionName.FindStringSubmatch(r.URL.Path + c.body); name != nil {
		c.execution = name[1]
	}
	return c, id
}

func (p *proxy) decide(c call, id string) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries[id]++
	if c.try = p.tries[id]; p.choose == nil {
		return none
	}
	f := p.choose(c)
	if f == none {
		return f
	}
	if p.injected[c.operation] == nil {
		p.injected[c.operation] = map[fault]int{}
	}
	p.injected[c.operation][f]++
	// A post that was accepted is repeated if its reply is lost. So is the start of an
	// Express execution, since it has no name that would make it idempotent:
	// https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
	repeated := c.operation == "Connections.Post" && strings.Contains(c.body, "X-Amz-Signature") ||
		c.operation == "StepFunctions.StartExecution" && strings.Contains(c.body, "executionArn")
	if f == lost && repeated {
		p.doubled[c.execution]++
	}
	return f
}

// refuse answers as the service does when it throttles.
func refuse(w http.ResponseWriter, operation string) {
	service, _, _ := strings.Cut(operation, ".")
	answer := map[string]struct {
		status     int
		kind, body string
	}{
		"DynamoDB":      {http.StatusBadRequest, "application/x-amz-json-1.0", `{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"Rate exceeded"}`},
		"StepFunctions": {http.StatusBadRequest, "application/x-amz-json-1.0", `{"__type":"ThrottlingException","message":"Rate exceeded"}`},
		"STS":           {http.StatusBadRequest, "text/xml", `<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>`},
		"Connections":   {http.StatusTooManyRequests, "application/json", `{"message":"Rate exceeded"}`},
		"S3":            {http.StatusServiceUnavailable, "application/xml", `<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`},
	}[service]
	w.Header().Set("Content-Type", answer.kind)
	if service == "Connections" {
		w.Header().Set("X-Amzn-Errortype", "LimitExceededException")
	}
	w.WriteHeader(answer.status)
	io.WriteString(w, answer.body)
}

// dialWithRetry opens a socket, and repeats a refused handshake as a client would.
func dialWithRetry(t *testing.T, arn string) (*client, error) {
	t.Helper()
	status := 0
	for range 10 {
		var c *client
		if c, status = tryDial(t, http.Header{"X-StateMachine-ExecutionArn": {arn}, "X-Download-Format": {"json"}}, ""); c != nil {
			return c, nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return nil, fmt.Errorf("handshake: status %d, 10 times", status)
}

// orders are the ways in which a client can get its link. Each returns the
// execution and the sockets that got a link.
var orders = map[string]func(t *testing.T, path string) (string, []*client, error){
	"first": func(t *testing.T, path string) (string, []*client, error) {
		arn := ask(t, path+"?delay=500ms")
		return dialForLink(t, arn)
	},
	"late": func(t *testing.T, path string) (string, []*client, error) {
		arn := ask(t, path)
		awaitToken(t, arn)
		return dialForLink(t, arn)
	},
	"back": func(t *testing.T, path string) (string, []*client, error) {
		arn := ask(t, path+"?delay=500ms")
		for range 2 {
			c, err := dialWithRetry(t, arn)
			if err != nil {
				return arn, nil, err
			}
			time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
			c.conn.CloseNow()
		}
		return dialForLink(t, arn)
	},
	"again": func(t *testing.T, path string) (string, []*client, error) { // after the end
		arn := ask(t, path)
		_, first, err := dialForLink(t, arn)
		if err != nil {
			return arn, nil, err
		}
		ended(t, arn)
		_, second, err := dialForLink(t, arn)
		return arn, append(first, second...), err
	},
	"by request": func(t *testing.T, path string) (string, []*client, error) {
		_, a := get(t, path)
		var err error
		waitUntil(t, "a link", func() bool {
			var resp *http.Response
			if resp, err = http.Get(a.StatusURL); err != nil {
				return true
			}
			defer resp.Body.Close()
			var body struct{ Status, URL string }
			err = json.NewDecoder(resp.Body).Decode(&body)
			return err != nil || resp.StatusCode == http.StatusOK && body.Status == "READY" && body.URL != ""
		})
		return a.ExecutionARN, nil, err
	},
	"cancelled": func(t *testing.T, path string) (string, []*client, error) {
		_, a := get(t, path)
		awaitToken(t, a.ExecutionARN)
		r, _ := http.NewRequest(http.MethodDelete, a.StatusURL, nil)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return a.ExecutionARN, nil, err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusOK {
			return a.ExecutionARN, nil, fmt.Errorf("DELETE: status %d", resp.StatusCode)
		}
		if out := ended(t, a.ExecutionARN); *out.Error != "CANCELLED" {
			return a.ExecutionARN, nil, fmt.Errorf("ended as %s", *out.Error)
		}
		return a.ExecutionARN, nil, nil
	},
}

// dialForLink connects and waits for the link.
func dialForLink(t *testing.T, arn string) (string, []*client, error) {
	t.Helper()
	c, err := dialWithRetry(t, arn)
	if err == nil {
		_, err = awaitLink(c)
	}
	return arn, []*client{c}, err
}

// runClient runs a client in one of the orders and returns the number of links it got:
// one, and another for each post whose reply was lost.
func (p *proxy) runClient(t *testing.T, order, path string) (links int, err error) {
	arn, clients, err := orders[order](t, path)
	if err != nil {
		return 0, fmt.Errorf("%s, %s: %w", order, arn, err)
	}
	out := ended(t, arn)
	if order != "cancelled" && out.Status != "SUCCEEDED" && (out.Error == nil || *out.Error != "EXPIRED") {
		return 0, fmt.Errorf("%s, %s: ended as %s", order, arn, out.Status)
	}
	time.Sleep(300 * time.Millisecond) // for a message that should not be there
	for _, c := range clients {
		n := 1 + strings.Count(strings.Join(c.received(), ""), `{"type":"ready"`)
		if links += n; n > p.maxLinks(arn) {
			return links, fmt.Errorf("%s, %s: got %d links, want at most %d", order, arn, n, p.maxLinks(arn))
		}
		c.close()
	}
	return links, nil
}

// kinds are the functions' calls, grouped by what a fault may break: an operation, and a
// part of its body.
var kinds = []struct{ operation, about string }{
	{"DynamoDB.PutItem", ""},
	{"DynamoDB.GetItem", ""},
	{"DynamoDB.Query", ""},
	{"DynamoDB.DeleteItem", ""}, // the delivered item's end
	{"DynamoDB.UpdateItem", "SET connectionId"},
	{"DynamoDB.UpdateItem", "SET #status = :delivered"},
	{"DynamoDB.UpdateItem", "REMOVE taskToken"},
	{"DynamoDB.UpdateItem", ""}, // all others
	{"StepFunctions.StartExecution", "clientTimeoutSeconds"},
	{"StepFunctions.StartExecution", "executionArn"}, // the delivery to a client that returns
	{"StepFunctions.SendTaskSuccess", ""},
	{"StepFunctions.SendTaskFailure", ""},
	{"STS.AssumeRole", ""},
	{"Connections.Post", "X-Amz-Signature"},
	{"Connections.Post", ""},
	{"S3.HEAD", ""},
	{"S3.PUT", ""},
}

// kind returns the index of the first kind that a call is of, -1 for none.
func kind(c call) int {
	for i, k := range kinds {
		if k.operation == c.operation && strings.Contains(c.body, k.about) {
			return i
		}
	}
	return -1
}

// TestAWSFaults throttles the functions' calls to AWS and loses replies to calls
// that were applied. Every client still gets its link once, and again for each
// post whose reply was lost. No call is tried more than five times, and nothing is
// left waiting at the end.
func TestAWSFaults(t *testing.T) {
	p := newProxy(t)
	nothingWaits(t) // changing the environment would kill functions that still run
	p.intercept(t)

	// Calls that fail in all of the SDK's three tries: the client, or a Retry of the state
	// machine, makes them again.
	for _, test := range []struct {
		name, operation string
		fault           fault
		order           string
	}{
		{"the signing role throttled for good", "STS.AssumeRole", throttled, "first"}, // first, as no instance has a session yet
		{"the token's answer lost for good", "StepFunctions.SendTaskSuccess", lost, "late"},
	} {
		t.Run(test.name, func(t *testing.T) {
			left := 3
			p.inject(func(c call) fault {
				if left == 0 || c.operation != test.operation {
					return none
				}
				left--
				return test.fault
			})
			links, err := p.runClient(t, test.order, "/file/64KiB/fault.bin")
			if err != nil || links != 1 {
				t.Errorf("got %d links, %v, want one", links, err)
			}
			if got := p.count(test.operation, test.fault); got != 3 {
				t.Errorf("%d faults were injected, want 3", got)
			}
			p.reset()
		})
	}

	t.Run("at random", func(t *testing.T) {
		const seed, each = 11, 0.15
		dice, met := rand.New(rand.NewPCG(seed, seed)), make([]int, len(kinds))
		seen := map[string]int{} // faults by kind
		p.inject(func(c call) fault {
			// One fault per call: with three, the call fails.
			k := kind(c)
			if c.try > 1 || k < 0 {
				return none
			}
			f := none
			if met[k]++; met[k] < 3 { // the first two calls of a kind get one fault each
				f = fault(met[k])
			} else if d := dice.Float64(); d < each {
				f = throttled
			} else if d < 2*each {
				f = lost
			}
			seen[fmt.Sprint(k, f)]++
			return f
		})
		turns := []string{"first", "late", "back", "again", "by request", "cancelled"}
		var mu sync.Mutex
		total := 0
		crowd(t, 42, 25, func(t *testing.T, i int) error {
			links, err := p.runClient(t, turns[i%len(turns)], "/file/64KiB/faults.bin")
			mu.Lock()
			defer mu.Unlock()
			total += links
			return err
		})
		p.inject(nil)
		for i, k := range kinds {
			refused, reset := seen[fmt.Sprint(i, throttled)], seen[fmt.Sprint(i, lost)]
			t.Logf("%-29s %-24s %3d calls: %2d throttled, %2d lost", k.operation, k.about, met[i], refused, reset)
			if refused == 0 || reset == 0 {
				t.Errorf("%s %s: got %d throttled and %d lost, want some of each", k.operation, k.about, refused, reset)
			}
		}
		t.Logf("seed %d: %d links", seed, total)
	})
	nothingWaits(t)
	most := 0
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, n := range p.tries {
		if !strings.Contains(id, "/") { // S3 calls are identified by their URL, which may be requested again
			most = max(most, n)
		}
	}
	if most < 2 || most > 5 {
		t.Errorf("a call was tried %d times at most, want some twice and none more than 5 times", most)
	}
}
