package metric

import (
	"strings"
	"testing"
	"time"

	"async-download/internal/meeting"
)

func TestAudit(t *testing.T) {
	asked := time.Date(2025, 11, 26, 14, 0, 0, 0, time.UTC)
	item := meeting.Item{
		ExecutionARN: "arn:aws:states:us-east-1:123456789012:execution:M:5f0c", Path: "a/b.pdf", AskedBy: "203.0.113.25 arn:aws:iam::123456789012:user/ana",
		Query: "planted-query", TicketHash: "planted-ticket", TaskToken: "planted-token", UploadID: "planted-upload",
		BytesCopied: 5, ExpiresAt: asked.Add(meeting.ItemLife).Unix(), CopiedAt: asked.Add(time.Minute).UnixMilli(),
	}
	const about = `"asked":"2025-11-26T14:00:00Z","askedBy":"203.0.113.25 arn:aws:iam::123456789012:user/ana","bytes":5,`
	for _, test := range []struct {
		title   string
		outcome Name
		code    string
		until   time.Duration // since the request
		want    []string
		not     string
	}{
		{"delivered to a client that came late", Delivered, "", 90 * time.Second, []string{about, `"outcome":"DELIVERED"`, `"Delivered":1`, `"WaitSeconds":30,`}, "code"},
		{"delivered to a client that was there", Delivered, "", time.Second, []string{`"WaitSeconds":0,`}, "code"},
		{"expired", Expired, "", time.Hour, []string{`"outcome":"EXPIRED"`, `"Expired":1`, `"WaitSeconds":3540,`}, "code"},
		{"failed", Failed, "ORIGIN_STATUS", time.Hour, []string{about, `"outcome":"FAILED"`, `"code":"ORIGIN_STATUS"`, `"Code":"ORIGIN_STATUS"`, `["Stack","Code"]`}, "WaitSeconds"},
		{"cancelled", Cancelled, "", time.Hour, []string{`"outcome":"CANCELLED"`, `"Cancelled":1`}, "WaitSeconds"},
	} {
		got := record(Audit(test.outcome, item, test.code, asked.Add(test.until)))
		for _, want := range append(test.want, `"message":"audit"`, `"execution":"5f0c"`, `"path":"a/b.pdf"`) {
			if !strings.Contains(got, want) {
				t.Errorf("%s: got %swant %s in it", test.title, got, want)
			}
		}
		for _, not := range []string{test.not, "planted"} {
			if strings.Contains(got, not) {
				t.Errorf("%s: got %s in %s", test.title, not, got)
			}
		}
	}
}
