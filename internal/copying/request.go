package copying

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/origin"
)

// request returns the request for the file of a download. A plain GET has no item of its
// request to read. The error is [meeting.ErrUnknown] if item is out of date: the copy has
// ended.
func (w *Worker) request(ctx context.Context, item meeting.Item) (*origin.Request, error) {
	u, err := origin.Join(w.Origin.Base, w.Origin.AllowedPaths, item.Path, item.Query)
	if err != nil {
		return nil, err
	}
	r := &origin.Request{URL: u, Record: &record{table: w.Table, item: item, run: rand.Text()}}
	if !item.HasRequest || item.Status == meeting.Ready { // the file is stored, and the request item is gone
		return r, nil
	}
	kept, err := w.Table.Request(ctx, item.ExecutionARN)
	if err != nil {
		return nil, err
	}
	r.Method, r.ContentType, r.Body = kept.Method, kept.ContentType, kept.Body
	r.Place = origin.Place{URL: kept.Place, Away: kept.Away, Cookies: kept.Cookies}
	if len(kept.Header) > 0 {
		r.Header = http.Header{}
		for name, value := range kept.Header {
			r.Header.Set(name, value)
		}
	}
	return r, nil
}

// record is the [origin.Record] of a run. It keeps in the table, for later runs, whether
// the request was sent and where it has led.
type record struct {
	table *meeting.Table
	item  meeting.Item
	run   string // identifies this run
}

func (r *record) Sending(ctx context.Context) error {
	err := r.table.MarkSent(ctx, r.item.ExecutionARN, r.run)
	if errors.Is(err, meeting.ErrSent) {
		return origin.ErrSent
	}
	return cancelledIfEnded(err)
}

func (r *record) Unsent(ctx context.Context) error {
	return cancelledIfEnded(r.table.ClearSent(ctx, r.item.ExecutionARN, r.run))
}

func (r *record) Moved(ctx context.Context, to origin.Place) error {
	return cancelledIfEnded(r.table.SetPlace(ctx, r.item, to.URL, to.Away, to.Cookies))
}

// credentialsRefused returns what a refusal of a forwarded credential means after some
// of a file was copied: it has expired.
func credentialsRefused(err error, r *origin.Request, copied int64, total *int64) error {
	if r == nil || len(r.Header) == 0 || copied == 0 || total == nil || !errors.Is(err, origin.ErrCredentials) {
		return err
	}
	return failure.Wrap(err, failure.OriginStatus, "the caller's credentials were refused after %d of %d bytes", copied, *total)
}
