package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxRequestBody is the largest body of a request that is read.
const maxRequestBody = 1 << 20

// report is how /report answers, from its query.
type report struct {
	accepted   int    // answers 202 before the report is ready
	noLocation bool   // and they have no Location
	then       int    // the status of the place after that
	redirect   int    // a redirect's status, to its Location to
	to         string // "" is a file of the report's size
	token      string // the Authorization that is demanded, "" for none
	caller     string // the header whose value is reported
}

// set sets a field from a name of the query, and reports whether there is one.
func (r *report) set(name, value string) (known bool, err error) {
	status := func(text string, allowed ...int) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || !slices.Contains(allowed, n) {
			return 0, fmt.Errorf("want one of %d", allowed)
		}
		return n, nil
	}
	switch name {
	case "accepted":
		r.accepted, err = strconv.Atoi(value)
	case "nolocation":
		r.noLocation = true
	case "then":
		r.then, err = status(value, 200, 303, 404)
	case "redirect":
		r.redirect, err = status(value, 301, 302, 303, 307, 308)
	case "to":
		r.to = value
	case "token":
		r.token = value
	case "caller":
		r.caller = value
	default:
		return false, nil
	}
	return true, err
}

// job is a report that is being made.
type job struct {
	file *file
	left int // answers 202 that are left
	doc  []byte
}

// reports are the jobs, by number, and the requests of all of them.
type reports struct {
	mu   sync.Mutex
	jobs []*job
	log  []logged
}

// logged is a request as /_requests shows it.
type logged struct {
	Time          time.Time   `json:"time"`
	Method        string      `json:"method"`
	Host          string      `json:"host"`
	URI           string      `json:"uri"`
	Header        http.Header `json:"header"`
	Body          string      `json:"body"`
	ContentLength int64       `json:"contentLength"`
}

// maxLogged is how many requests are kept, the latest.
const maxLogged = 4000

// note keeps a request for /_requests and returns its body.
func (s *reports) note(r *http.Request) []byte {
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxRequestBody)) // what arrived
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.log) == maxLogged {
		s.log = s.log[1:]
	}
	s.log = append(s.log, logged{time.Now(), r.Method, r.Host, r.RequestURI, r.Header.Clone(), string(body), r.ContentLength})
	return body
}

// serveLog answers with the requests whose URI contains the query's "contains". They
// have credentials: only programs of this machine get them, not a page whose host name
// was made to lead here.
func (s *reports) serveLog(w http.ResponseWriter, r *http.Request) {
	if !isLoopback(r.RemoteAddr) || !isLoopback(r.Host) || r.Header.Get("Sec-Fetch-Site") != "" {
		http.Error(w, "only by a loopback address", http.StatusForbidden)
		return
	}
	s.mu.Lock()
	found := []logged{}
	for _, l := range s.log {
		if strings.Contains(l.URI, r.URL.Query().Get("contains")) {
			found = append(found, l)
		}
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(found)
}

// isLoopback reports whether host:port is of this machine.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// serveReport answers /report and the places of its jobs. It returns false where the
// file has to be served as /file is.
func (o *origin) serveReport(w *answer, r *http.Request, f *file) bool {
	p := f.report
	if p.token != "" && r.Header.Get("Authorization") != "Bearer "+p.token {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "want Authorization: Bearer TOKEN", http.StatusUnauthorized)
		return true
	}
	if p.redirect != 0 {
		if w.Header().Set("Location", p.to); p.to == "" {
			w.Header().Set("Location", "/file/"+strconv.FormatInt(f.size, 10)+"/report.bin")
		}
		w.WriteHeader(p.redirect)
		return true
	}
	if p.accepted > 0 && !p.noLocation {
		o.reports.mu.Lock()
		o.reports.jobs = append(o.reports.jobs, &job{f, p.accepted - 1, document(r, p, w.body)})
		place := fmt.Sprintf("/report/jobs/%d?secret=planted-place", len(o.reports.jobs))
		o.reports.mu.Unlock()
		w.Header().Set("Location", place)
		f.accept(w)
		return true
	}
	if p.accepted > 0 && o.count(r.RequestURI+" accepted") <= p.accepted {
		f.accept(w)
		return true
	}
	if f.size < 0 {
		serveDocument(w, document(r, p, w.body))
		return true
	}
	return false
}

// accept answers 202.
func (f *file) accept(w http.ResponseWriter) {
	if f.retryAfter != "" {
		w.Header().Set("Retry-After", f.retryAfter)
	}
	w.WriteHeader(http.StatusAccepted)
}

// serveJob answers at a job's place.
func (o *origin) serveJob(w *answer, r *http.Request, number string) {
	n, err := strconv.Atoi(number)
	o.reports.mu.Lock()
	if err != nil || n < 1 || n > len(o.reports.jobs) {
		o.reports.mu.Unlock()
		http.NotFound(w, r)
		return
	}
	j := o.reports.jobs[n-1]
	if j.left--; j.left >= 0 {
		o.reports.mu.Unlock()
		j.file.accept(w)
		return
	}
	o.reports.mu.Unlock()
	switch {
	case j.file.report.then == http.StatusNotFound:
		http.NotFound(w, r)
	case j.file.size < 0:
		serveDocument(w, j.doc)
	case j.file.report.then == http.StatusSeeOther:
		w.Header().Set("Location", "/file/"+strconv.FormatInt(j.file.size, 10)+"/report.bin")
		w.WriteHeader(http.StatusSeeOther)
	default:
		made := *j.file
		made.report, made.delay, made.status = nil, 0, 0
		o.serveFile(w, r, &made)
	}
}

// document is a report about the request it was asked for with. A GraphQL query is
// answered with data.
func document(r *http.Request, p *report, body []byte) []byte {
	doc := map[string]any{"method": r.Method, "uri": r.RequestURI, "contentType": r.Header.Get("Content-Type"), "body": string(body)}
	if p.caller != "" {
		doc["caller"] = r.Header.Get(p.caller)
	}
	var graphQL struct {
		Query     string          `json:"query"`
		Variables json.RawMessage `json:"variables,omitempty"`
	}
	if json.Unmarshal(body, &graphQL) == nil && graphQL.Query != "" {
		doc = map[string]any{"data": graphQL}
	}
	b, _ := json.Marshal(doc) // strings
	return append(b, '\n')
}

func serveDocument(w http.ResponseWriter, doc []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="report.json"`)
	_, _ = w.Write(doc)
}

// parseReport reads the path and the query of /report[/SIZE[/name.ext]].
func parseReport(rest string, query url.Values) (*file, error) {
	f := &file{size: -1, cut: -1, times: -1, changeAfter: -1, report: &report{then: http.StatusOK}}
	if size, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/"); size != "" {
		n, err := parseSize(size)
		if err != nil {
			return nil, err
		}
		f.size = n
	}
	for name, values := range query {
		if known, err := f.report.set(name, values[0]); err != nil {
			return nil, fmt.Errorf("%s=%s: %w", name, values[0], err)
		} else if known {
			query.Del(name)
		}
	}
	return f, nil
}
